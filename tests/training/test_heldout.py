"""The held-out loss: the same for all arms, never of what was trained on, and without a trace in the training."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from curriculum_ray.config import ConfigError
from curriculum_ray.data import Dataset, DataSpec, load_data
from curriculum_ray.splitmix import mix
from curriculum_ray.training import checkpoint as checkpoints
from curriculum_ray.training.config import TrainConfig
from curriculum_ray.training.heldout import COST, check_heldout
from curriculum_ray.training.heldout_spec import HeldoutSpec
from curriculum_ray.training.loop import train, train_together
from curriculum_ray.training.packed import PackedTrainer
from curriculum_ray.training.trainer import Trainer
from tests.training.calls import calling

SMALL: dict[str, Any] = {
    "batch_size": 16,
    "images": 16 * 12,
    "window": 2,
    "log_every_images": 32,
    "checkpoint": {"every_images": 64},
    "model": {"base_channels": 8},
    "heldout": {"levels": 4, "every_images": 48, "items": 5},
}
CURRICULUM: dict[str, Any] = {
    "version": 1,
    "base": {"kind": "logit_normal"},
    "clusters": {"by": "uniform", "count": 3},
    "order": {"direction": "hard_to_easy"},
    "pacing": {"rule": "linear", "full_share": 0.5},
}
Measured = list[tuple[int, list[float]]]


@pytest.fixture(scope="module")
def data() -> Dataset:
    return load_data(DataSpec())


def _config(**changes: Any) -> TrainConfig:
    return TrainConfig.model_validate({**SMALL, **changes})


def _train(trainer: Trainer, folder: Path | None = None) -> Measured:
    found: Measured = []

    def measure(trainer: Trainer) -> None:
        assert trainer.heldout is not None
        found.append((trainer.images, trainer.heldout.measure(trainer)))

    def keep(trainer: Trainer) -> None:
        if folder is not None:
            checkpoints.write(
                folder / checkpoints.checkpoint_name("run", trainer.images), trainer.checkpoint()
            )

    assert train(trainer, calling(on_checkpoint=keep, on_heldout=measure))
    return found


def test_it_is_the_error_of_the_average_at_fixed_levels_whatever_the_schedule(data: Dataset) -> None:
    """Worked out here row by row, from the DDPM's formula."""
    assert data.heldout is not None
    for schedule in ({"version": 1}, CURRICULUM):
        trainer = Trainer(_config(schedule=schedule, weighting={"kind": "min_snr"}), data)
        _train(trainer)
        assert trainer.heldout is not None
        for level, loss in enumerate(trainer.heldout.measure(trainer)):
            t = int((level + 0.5) / 4 * 1000)
            alpha = trainer.process.levels.alphas_cumprod[t].item()  # type: ignore[attr-defined]
            errors = []
            for row in range(5 * level, 5 * level + 5):
                x0 = data.heldout.items[row]
                noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(mix(0, row)))
                x = alpha**0.5 * x0 + (1 - alpha) ** 0.5 * noise
                label = data.heldout.condition[row : row + 1]  # type: ignore[index]
                with torch.no_grad():
                    output = trainer.ema.model(x[None], torch.tensor([float(t)]), label)
                errors.append((output[0] - noise).square().mean().item())
            assert loss == pytest.approx(sum(errors) / 5, rel=1e-4)


def test_levels_are_even_in_the_base_of_the_process_itself(data: Dataset) -> None:
    edm = Trainer(
        _config(process={"kind": "edm"}, schedule={"base": {"kind": "laplace_logsnr"}, "version": 1}), data
    )
    assert edm.heldout is not None
    log_sigma = torch.distributions.Normal(-1.2, 1.2).icdf(torch.tensor([0.125, 0.375, 0.625, 0.875]))
    torch.testing.assert_close(edm.heldout._levels, log_sigma.exp())


@pytest.mark.parametrize("name", ["digits", "mixture2d"])
def test_training_is_the_same_to_the_bit_with_and_without_it(name: str) -> None:
    model = {} if name == "digits" else {"model": {"kind": "mlp", "width": 16}}
    values = {"data": {"name": name}, "schedule": CURRICULUM, **model}
    data = load_data(DataSpec(name=name))
    measured, plain = Trainer(_config(**values), data), Trainer(_config(**values, heldout=None), data)
    assert [images for images, _ in _train(measured)] == [48, 96, 144, 192]
    assert plain.heldout is None
    train(plain)
    for name, value in plain.model.state_dict().items():
        assert torch.equal(value, measured.model.state_dict()[name]), name
    for name, value in plain.ema.model.state_dict().items():
        assert torch.equal(value, measured.ema.model.state_dict()[name]), name
    assert torch.equal(plain.histogram.counts, measured.histogram.counts)


def test_no_batch_of_any_epoch_holds_a_held_out_item(data: Dataset) -> None:
    assert data.heldout is not None
    trainer = Trainer(_config(images=16 * 2, heldout=None), data)
    held = {item.numpy().tobytes() for item in data.heldout.items}
    seen = set()
    for position in range(0, 2 * 1797, 16):
        items, _ = trainer.batches.next(position, 16, 0, 1, torch.device("cpu"))
        seen |= {item.numpy().tobytes() for item in items}
    assert not seen & held
    assert len(seen) == len({item.numpy().tobytes() for item in data.items})


def test_a_resumed_run_measures_what_the_uninterrupted_one_does(tmp_path: Path, data: Dataset) -> None:
    config = _config(schedule=CURRICULUM)
    whole = _train(Trainer(config, data), tmp_path)
    for path in checkpoints.find_checkpoints(tmp_path, "run"):
        resumed = Trainer(config, data)
        resumed.restore(checkpoints.read(path))
        start = resumed.images
        assert _train(resumed) == [point for point in whole if point[0] > start]


def test_seeds_and_arms_are_measured_alike_and_anything_else_changes_the_fingerprint(data: Dataset) -> None:
    def fingerprint(**changes: Any) -> str:
        heldout = Trainer(_config(**changes), data).heldout
        assert heldout is not None
        return heldout.fingerprint

    first = fingerprint()
    assert fingerprint(seed=3, schedule=CURRICULUM, weighting={"kind": "p2"}) == first
    others = [
        fingerprint(heldout={**SMALL["heldout"], **change})
        for change in ({"levels": 5}, {"items": 6}, {"seed": 1})
    ]
    others += [
        fingerprint(process={"prediction": "v"}),
        fingerprint(model={"base_channels": 8, "conditional": False}),
    ]
    assert len({first, *others}) == 6


def test_the_labels_of_the_items_are_given_to_a_conditional_model(data: Dataset) -> None:
    trainer = Trainer(_config(), data)
    assert trainer.heldout is not None
    seen: list[torch.Tensor | None] = []
    trainer.ema.model.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[2]))
    trainer.heldout.measure(trainer)
    assert data.heldout is not None
    assert data.heldout.condition is not None
    assert torch.equal(torch.cat([part for part in seen if part is not None]), data.heldout.condition[:20])


def test_what_costs_little_of_the_budget_is_measured_unless_a_number_is_given(data: Dataset) -> None:
    assert data.heldout is not None
    for images in (44_800, 200_000):
        count = check_heldout(TrainConfig(images=images), data)
        forwards = 8 * 16 * count
        assert 0.9 * COST < forwards / (3 * images) <= COST
    assert check_heldout(TrainConfig(images=100_000_000), data) == len(data.heldout)
    assert check_heldout(TrainConfig(images=128), data) == 4
    assert check_heldout(TrainConfig(heldout=HeldoutSpec(items=99)), data) == 99


def test_what_cannot_be_measured_is_refused_where_it_was_asked_for(data: Dataset) -> None:
    with pytest.raises(ConfigError, match=r"heldout\.items must be at most \d+, the items that are held out"):
        Trainer(_config(heldout={"items": 5000}), data)
    whole = load_data(DataSpec(holdout_share=0))
    with pytest.raises(ConfigError, match="heldout is set, but digits holds nothing out"):
        Trainer(_config(), whole)
    assert Trainer(TrainConfig.model_validate({**SMALL, "heldout": {}}), whole).heldout is None


def test_packed_runs_measure_what_each_would_alone(data: Dataset) -> None:
    configs = [
        _config(seed=seed, schedule=schedule) for seed, schedule in ((0, {"version": 1}), (1, CURRICULUM))
    ]
    alone = [_train(Trainer(config, data)) for config in configs]
    packed = PackedTrainer(configs, data)
    together: list[Measured] = [[], []]

    def measure(trainer: Trainer, place: int) -> None:
        assert trainer.heldout is not None
        together[place].append((trainer.images, trainer.heldout.measure(trainer)))

    train_together(packed, [calling(on_heldout=partial(measure, place=place)) for place in range(2)])
    for one, other in zip(alone, together, strict=True):
        assert [images for images, _ in one] == [images for images, _ in other]
        for (_, a), (_, b) in zip(one, other, strict=True):
            assert a == pytest.approx(b, rel=2e-3)


@pytest.mark.parametrize("kind", ["edm2_uncertainty", "ant_uncertainty"])
def test_the_weights_of_a_learned_weighting_are_not_touched(data: Dataset, kind: str) -> None:
    """Where the training is sharded, each rank has but a part of them."""
    trainer, plain = (Trainer(_config(weighting={"kind": each}), data) for each in (kind, "none"))
    assert trainer.heldout is not None
    assert plain.heldout is not None

    def refused(*_: object) -> None:
        raise AssertionError("the weighting was asked")

    trainer.process.weighting.register_forward_pre_hook(refused)
    assert trainer.heldout.measure(trainer) == plain.heldout.measure(plain)
