"""Every epoch shows every image once, and all ranks together see what a single worker would."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from curriculum_ray.data.order import DataOrder
from curriculum_ray.training.seeds import seed_step


@given(st.integers(1, 40), st.integers(1, 8), st.integers(0, 5))
def test_an_epoch_holds_each_image_once(count: int, batch_size: int, seed: int) -> None:
    order = DataOrder(count, seed)
    steps = -(-2 * count // batch_size)
    seen = torch.cat([order.indices(step * batch_size, batch_size) for step in range(steps)])
    assert sorted(seen[:count].tolist()) == list(range(count))
    assert sorted(seen[count : 2 * count].tolist()) == list(range(count))


@given(st.integers(1, 50), st.integers(0, 200), st.integers(1, 4), st.integers(1, 4))
def test_ranks_share_out_the_single_workers_batch(
    count: int, images: int, world_size: int, local: int
) -> None:
    batch = local * world_size
    whole = DataOrder(count, 3).indices(images, batch)
    shares = [DataOrder(count, 3).indices(images, batch, rank, world_size) for rank in range(world_size)]
    assert torch.equal(torch.stack(shares, dim=1).flatten(), whole)


def test_the_order_is_a_function_of_seed_and_position() -> None:
    straight, jump = DataOrder(10, 1), DataOrder(10, 1)
    for step in range(7):
        expected = straight.indices(step * 4, 4)
    assert torch.equal(jump.indices(24, 4), expected)
    assert not torch.equal(DataOrder(10, 2).indices(0, 10), DataOrder(10, 1).indices(0, 10))


def test_epochs_differ() -> None:
    order = DataOrder(20, 0)
    assert not torch.equal(order.indices(0, 20), order.indices(20, 20))


def test_a_step_is_seeded_by_where_it_stands() -> None:
    draws = []
    for place in ((0, 0, 0), (0, 0, 128), (0, 1, 128), (0, 0, 128)):
        seed_step(*place, torch.device("cpu"))
        draws.append(torch.randn(3))
    assert torch.equal(draws[1], draws[3])
    assert not torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[1], draws[2])
