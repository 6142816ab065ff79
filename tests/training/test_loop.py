"""The training loop: a resumed run repeats the uninterrupted one to the bit, and a bad one ends in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from curriculum_ray.config import ConfigError, parse
from curriculum_ray.curriculum import Speed
from curriculum_ray.data import Dataset, load_data
from curriculum_ray.splitmix import mix
from curriculum_ray.training import checkpoint as checkpoints
from curriculum_ray.training.config import TrainConfig
from curriculum_ray.training.loop import train
from curriculum_ray.training.seeds import noise_in_pieces, seed_step
from curriculum_ray.training.trainer import LogLine, NonFiniteLoss, Trainer
from curriculum_ray.training.world import World
from tests.training.calls import calling

SMALL: dict[str, Any] = {
    "batch_size": 16,
    "images": 16 * 12,
    "window": 1,
    "log_every_images": 32,
    "checkpoint": {"every_images": 64},
    "model": {"base_channels": 8},
    "schedule": {
        "version": 1,
        "clusters": {"by": "uniform", "count": 3},
        "order": {"direction": "easy_to_hard"},
        "pacing": {"rule": "plateau", "patience": 1},
    },
}


@pytest.fixture(scope="module")
def data() -> Dataset:
    return load_data(TrainConfig().data)


def _config(**changes: Any) -> TrainConfig:
    return TrainConfig.model_validate({**SMALL, **changes})


def _train(trainer: Trainer, folder: Path | None = None) -> list[LogLine]:
    log: list[LogLine] = []

    def on_checkpoint(trainer: Trainer) -> None:
        if folder is not None:
            name = checkpoints.checkpoint_name("run", trainer.images)
            checkpoints.write(folder / name, trainer.checkpoint())

    hooks = calling(on_log=lambda line: bool(log.append(line)), on_checkpoint=on_checkpoint)
    assert train(trainer, hooks)
    return log


def _curve(log: list[LogLine]) -> list[tuple[int, float, int]]:
    return [(progress.images, progress.loss, progress.stage) for progress in log]


@pytest.mark.parametrize("kind", ["none", "edm2_uncertainty"])
def test_a_resumed_run_repeats_the_uninterrupted_one_to_the_bit(
    tmp_path: Path, data: Dataset, kind: str
) -> None:
    config = _config(weighting={"kind": kind})
    whole = Trainer(config, data)
    log = _curve(_train(whole, tmp_path))
    assert {stage for _, _, stage in log} == {0, 1, 2}, "the test needs a run that changes stage"
    for path in checkpoints.find_checkpoints(tmp_path, "run"):
        resumed = Trainer(config, data)
        resumed.restore(checkpoints.read(path))
        start = resumed.images
        rest = _curve(_train(resumed))
        assert rest == [line for line in log if line[0] > start]
        for name, value in whole.model.state_dict().items():
            assert torch.equal(value, resumed.model.state_dict()[name]), name
        for name, value in whole.ema.model.state_dict().items():
            assert torch.equal(value, resumed.ema.model.state_dict()[name]), name
        assert torch.equal(whole.histogram.counts, resumed.histogram.counts)
        assert whole.stage_starts == resumed.stage_starts
        assert whole.loss == resumed.loss


@pytest.mark.parametrize("accumulate", [1, 4])
@pytest.mark.parametrize("weighting", ["none", "min_snr"])
def test_the_gradient_is_that_of_the_weighed_mean_loss(
    data: Dataset, accumulate: int, weighting: str
) -> None:
    speed = {"version": 1, "base": {"kind": "speed"}}
    trainer = Trainer(_config(schedule=speed, accumulate=accumulate, weighting={"kind": weighting}), data)
    drawn = trainer.draw()
    raw, trained = trainer._backward(*drawn)
    got = [value.grad.clone() for value in trainer.parameters.values() if value.grad is not None]
    trainer.optimizer.zero_grad()
    losses, unweighted = trainer.objective(*drawn)
    weights = Speed().loss_weights(trainer.process.levels)
    assert weights is not None
    assert set((weights < 1).tolist()) == {True, False}
    (losses * weights[drawn[1]]).mean().backward()
    wanted = [value.grad for value in trainer.parameters.values() if value.grad is not None]
    torch.testing.assert_close(got, wanted, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close((raw, trained), (unweighted, losses.detach()), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rule", ["loss_second_moment", "gradient_norm"])
def test_a_run_by_importance_resumes_to_the_bit(tmp_path: Path, data: Dataset, rule: str) -> None:
    schedule = {
        "version": 1,
        "base": {"kind": "changing", "at_share": 0.25, "blend_share": 0.5},
        "importance": {"rule": rule, "bins": 4, "history": 2},
    }
    config = _config(schedule=schedule, weighting={"kind": "min_snr"})
    whole = Trainer(config, data)
    log = _curve(_train(whole, tmp_path))
    weights = whole.sampler.weights
    assert weights is not None
    assert len(weights.unique()) > 2
    for path in checkpoints.find_checkpoints(tmp_path, "run"):
        resumed = Trainer(config, data)
        resumed.restore(checkpoints.read(path))
        start = resumed.images
        assert _curve(_train(resumed)) == [line for line in log if line[0] > start]
        for name, value in whole.model.state_dict().items():
            assert torch.equal(value, resumed.model.state_dict()[name]), name
        assert resumed.sampler.state_dict() == whole.sampler.state_dict()


def test_what_is_logged_and_guarded_is_the_loss_without_importance(
    data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    importance = {"rule": "loss_second_moment", "bins": 10, "history": 20}
    config = _config(
        schedule={"version": 1, "importance": importance},
        images=16 * 200,
        log_every_images=16 * 100,
        stability={"spike_factor": 1.3, "spike_window": 8},
    )
    trainer = Trainer(config, data)

    def backward(*_: Any) -> tuple[torch.Tensor, torch.Tensor]:
        weights = trainer.sampler.weights
        losses = (0.02 + trainer.sampler.last_u**4).float()
        seen.append((float(losses.mean()), weights is not None))
        return losses, losses

    seen: list[tuple[float, bool]] = []
    monkeypatch.setattr(trainer, "_backward", backward)
    log = _train(trainer)
    drawn = [loss for loss, weighed in seen if weighed]
    assert len(drawn) > 150
    # The mean of u**4 is 0.2; importance draws levels whose loss is higher.
    assert sum(drawn) / len(drawn) > 0.4
    assert [line.loss for line in log] == pytest.approx([0.22, 0.22], rel=0.03)
    assert log[-1].skipped_updates == 0


@pytest.mark.parametrize("rule", ["loss_second_moment", "gradient_norm"])
def test_importance_cannot_be_read_off_a_learned_weighting(rule: str) -> None:
    schedule = {"version": 1, "importance": {"rule": rule}}
    said = rf"rule {rule} needs a weighting that is not learned, .* but weighting\.kind is edm2"
    with pytest.raises(ConfigError, match=said):
        parse(TrainConfig, {"schedule": schedule, "weighting": {"kind": "edm2_uncertainty"}}, "run")


def test_a_finished_run_resumes_with_its_last_loss(data: Dataset) -> None:
    whole = Trainer(_config(), data)
    _train(whole)
    resumed = Trainer(_config(), data)
    resumed.restore(whole.checkpoint())
    assert train(resumed) is True
    assert resumed.loss == whole.loss is not None


def test_equal_settings_give_equal_runs_and_another_seed_another(data: Dataset) -> None:
    first, second, other = (_curve(_train(Trainer(_config(seed=seed), data))) for seed in (0, 0, 1))
    assert first == second
    assert first != other


@pytest.mark.parametrize("weighting", ["none", "min_snr", "ant_uncertainty", "edm2_uncertainty"])
def test_arms_of_a_seed_start_alike_and_see_the_same_images_and_noise(data: Dataset, weighting: str) -> None:
    """Paired arms differ in the noise levels that their schedules choose, in how these count, and in nothing else."""
    schedules = [SMALL["schedule"], {**SMALL["schedule"], "order": {"direction": "hard_to_easy"}}]
    seen = []
    for schedule, kind in zip(schedules, ("none", weighting), strict=True):
        trainer = Trainer(_config(schedule=schedule, weighting={"kind": kind}), data)
        start = [value.clone() for value in trainer.model.state_dict().values()]
        batches: list[torch.Tensor] = []
        trainer.objective.register_forward_pre_hook(
            lambda _, inputs, batches=batches: batches.extend([inputs[0], inputs[2], inputs[1]])
        )
        trainer.step()
        seen.append((start, batches))
    (start_a, (x_a, noise_a, levels_a)), (start_b, (x_b, noise_b, levels_b)) = seen
    assert all(torch.equal(a, b) for a, b in zip(start_a, start_b, strict=True))
    assert torch.equal(x_a, x_b)
    assert torch.equal(noise_a, noise_b)
    assert not torch.equal(levels_a, levels_b)


def test_the_noise_of_a_range_of_workers_is_the_same_whatever_their_number() -> None:
    def drawn(size: int) -> torch.Tensor:
        """That of each item of the global batch, by `size` workers, whose generators were left in different states."""
        noise = torch.empty(24, 3, 5)
        for rank in range(size):
            torch.manual_seed(rank + size)
            x0 = torch.zeros(24 // size, 3, 5)
            noise[rank::size] = noise_in_pieces(x0, 3, 640, World(rank=rank, size=size, pieces=12))
        return noise

    noise = drawn(1)
    assert all(torch.equal(drawn(size), noise) for size in (2, 3, 4))
    assert len(noise.flatten(1).unique(dim=0)) == 24, "no item has another's"


def test_every_image_seen_is_counted_in_the_histogram(data: Dataset) -> None:
    trainer = Trainer(_config(), data)
    _train(trainer)
    counts = torch.tensor(trainer.histogram.as_json()["counts"])
    assert counts.sum() == trainer.config.total_images
    easy_first = counts[: len(counts) // 8].sum(0)
    assert easy_first[: 60 // 2].sum() == 0, "easy_to_hard begins with noisy levels alone"


def test_the_budget_is_rounded_up_to_whole_steps(data: Dataset) -> None:
    config = _config(images=97)
    assert config.total_images == 112
    trainer = Trainer(config, data)
    _train(trainer)
    assert trainer.images == 112


@pytest.mark.parametrize(("workers", "lines"), [(1, [32]), (2, [32, 64])])
def test_one_worker_stops_at_the_log_line_that_tells_it_to_and_several_at_the_next(
    data: Dataset, monkeypatch: pytest.MonkeyPatch, workers: int, lines: list[int]
) -> None:
    monkeypatch.setattr("torch.distributed.all_reduce", lambda tensor: None)
    trainer = Trainer(_config(schedule={"version": 1}), data, World(size=workers))
    seen: list[int] = []

    def on_log(progress: LogLine) -> bool:
        seen.append(progress.images)
        return True

    assert train(trainer, calling(on_log=on_log)) is False
    assert seen == lines
    assert trainer.images == lines[-1]


@pytest.mark.parametrize(
    ("workers", "told_by", "stops_at"),
    [(1, "on_preview", 32), (1, "on_log", 32), (2, "on_log", 64), (1, None, None)],
)
def test_what_is_due_comes_before_a_checkpoint_and_before_a_stop(
    data: Dataset,
    monkeypatch: pytest.MonkeyPatch,
    workers: int,
    told_by: str | None,
    stops_at: int | None,
) -> None:
    monkeypatch.setattr("torch.distributed.all_reduce", lambda tensor: None)
    config = _config(
        schedule={"version": 1},
        images=96,
        heldout={"every_images": 32},
        preview={"every_images": 32, "metric": False},
        ema={"power": {"every_images": 32}},
        checkpoint={"every_images": 96},
    )
    trainer = Trainer(config, data, World(size=workers))
    called: list[tuple[int, str]] = []

    def noting(name: str, answer: bool) -> Any:
        return lambda _=None: called.append((trainer.images, name)) or answer

    measured = ("on_heldout", "on_log", "on_preview", "on_snapshot")
    saved = ("wants_checkpoint", "on_checkpoint")
    hooks = calling(
        **{name: noting(name, name in (told_by, "wants_checkpoint")) for name in (*measured, *saved)}
    )
    assert train(trainer, hooks) is (stops_at is None)
    last = stops_at or 96
    expected = [
        (images, name)
        for images in range(32, last + 1, 32)
        for name in (*measured, *(saved if images < last else ()))
    ]
    assert called == expected


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_image_count(data: Dataset) -> None:
    trainer = Trainer(_config(), data)
    with torch.no_grad():
        next(trainer.model.parameters()).fill_(float("nan"))
    with pytest.raises(NonFiniteLoss, match="before 32 images"):
        train(trainer)


def test_other_settings_are_refused_on_resume(data: Dataset) -> None:
    checkpoint = Trainer(_config(), data).checkpoint()
    with pytest.raises(ConfigError, match="other settings \\(seed\\)"):
        Trainer(_config(seed=3), data).restore(checkpoint)


def test_another_way_of_spreading_the_weights_is_accepted_on_resume(data: Dataset) -> None:
    checkpoint = Trainer(_config(), data).checkpoint()
    Trainer(_config(parallel="fsdp"), data).restore(checkpoint)


def test_a_step_is_seeded_as_torch_manual_seed_would() -> None:
    seed_step(3, 1, 512, torch.device("cpu"))
    drawn = torch.randn(8)
    torch.manual_seed(mix(3, 1, 512))
    assert torch.equal(drawn, torch.randn(8))


def test_training_lowers_the_loss(data: Dataset) -> None:
    uniform = _train(
        Trainer(_config(schedule={"version": 1, "order": {"direction": "none"}}, images=16 * 60), data)
    )
    assert uniform[-1].loss < 0.7 * uniform[0].loss
