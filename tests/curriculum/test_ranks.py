"""Two real ranks share one schedule: they switch together, draw together and resume exactly."""

import json
import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

SCRIPT = Path(__file__).with_name("two_ranks.py")
two_ranks = SimpleNamespace(**runpy.run_path(str(SCRIPT)))


@pytest.fixture(scope="module")
def ranks(tmp_path_factory) -> list[dict]:
    store = tmp_path_factory.mktemp("store") / "rendezvous"
    command = [sys.executable, str(SCRIPT)]
    processes = [
        subprocess.Popen(
            [*command, str(rank), str(store)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for rank in range(2)
    ]
    outputs = [process.communicate(timeout=120) for process in processes]
    for process, (_, errors) in zip(processes, outputs, strict=True):
        assert process.returncode == 0, errors
    return [json.loads(out.splitlines()[-1]) for out, _ in outputs]


def alone(pacing: dict) -> list:
    """One worker with the whole batch and the losses of both ranks."""
    sampler = two_ranks.make(pacing)
    history = []
    for step in range(two_ranks.STEPS):
        draws = sampler.sample(2 * two_ranks.BATCH)
        history.append((sampler.images, sampler.stage, draws.tolist()))
        # Places alternate between the ranks.
        sampler.update(torch.stack([two_ranks.losses(step, rank) for rank in range(2)], 1).flatten())
    return history


def switches(history: list) -> list[int]:
    return [
        images for (images, stage, _), before in zip(history[1:], history, strict=False) if stage != before[1]
    ]


def test_ranks_switch_at_the_same_images_although_one_alone_sees_a_plateau(ranks):
    # Rank 0's own loss stands still from the first step: by itself it would move on after two windows.
    by_itself = two_ranks.make({})
    for step in range(two_ranks.STEPS):
        by_itself.sample(two_ranks.BATCH)
        by_itself.update(two_ranks.losses(step, 0))
        if by_itself.stage:
            break
    first, second = (switches(rank["plain"]) for rank in ranks)
    assert first == second
    assert len(first) == 3
    assert first[0] > 40 * 2 * two_ranks.BATCH > 2 * by_itself.images


@pytest.mark.parametrize(("name", "pacing"), [("plain", {}), ("normalized", {"normalize": True})])
def test_two_ranks_draw_and_decide_as_one_worker_does(ranks, name, pacing):
    expected = alone(pacing)
    for step, (images, stage, draws) in enumerate(expected):
        seen = [rank[name][step] for rank in ranks]
        assert [(i, s) for i, s, _ in seen] == [(images, stage)] * 2
        assert sorted(seen[0][2] + seen[1][2]) == sorted(draws)


@pytest.mark.parametrize("name", ["plain", "normalized"])
def test_a_resume_from_rank_zeros_checkpoint_repeats_both_ranks(ranks, name):
    assert ranks[0][f"{name}_state"] == ranks[1][f"{name}_state"]
    for rank in ranks:
        assert rank[f"{name}_resumed"] == rank[name][8 * two_ranks.WINDOW :]


def test_two_ranks_draw_and_weigh_by_importance_as_one_worker_does(ranks):
    expected = two_ranks.follow(two_ranks.by_importance(), 2 * two_ranks.BATCH, 8 * two_ranks.WINDOW)
    weighed = 0
    for wanted, *seen in zip(expected, *(rank["importance"] for rank in ranks), strict=True):
        both = sorted(tuple(pair) for pair in (*seen[0], *seen[1]))
        assert [level for level, _ in both] == [level for level, _ in wanted]
        assert [weight for _, weight in both] == pytest.approx([weight for _, weight in wanted], rel=1e-6)
        weighed += any(weight != 1 for _, weight in wanted)
    assert weighed > 20


def test_importance_resumes_on_both_ranks_from_rank_zeros_checkpoint(ranks):
    assert ranks[0]["importance_state"] == ranks[1]["importance_state"]
    for rank in ranks:
        assert rank["importance_resumed"] == rank["importance_rest"]


def test_ranks_with_unequal_batches_are_told_so(ranks):
    for rank in ranks:
        assert "all ranks must see equally many images" in rank["uneven"]
