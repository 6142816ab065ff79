"""What a further trial costs: this project's slots beside the plain documented Ray pattern, in one run.

`make bench-search`. The plain pattern is the one of Ray's user guide: a Tune function that starts a TorchTrainer
(Ray 2.60, "Hyperparameter tuning with Ray Tune"). Rows:

  fixed cost       one optimiser step on digits without evaluation, so that nearly all of a trial's time is fixed cost;
                   one trial at a time, with one worker and with two (DDP)
  default study    uniform sampling as the default study trains and scores it: its whole budget and evaluation, one
                   worker, as many trials at a time as CPUs, two at most

The trials that start first are left out. The last line is JSON: seconds of fixed cost per further trial, and trials of
the default study per hour.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from curriculum_ray.distributed.capacity import available_cpus
from curriculum_ray.distributed.connection import connected
from curriculum_ray.distributed.resources import ResourceSpec
from curriculum_ray.runs.config import RunConfig
from tuning.study.config import StudyConfig

ONE_STEP = RunConfig.model_validate({"images": 128, "evaluation": None})


def _tune(trainable: Any, configs: list[Any], folder: Path, concurrent: int, reuse: bool) -> float:
    """Run trials under Tune, `concurrent` at a time; returns the seconds per trial after the first `concurrent`."""
    from ray import tune

    ends: list[float] = []

    class Clock(tune.Callback):
        def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            ends.append(time.perf_counter())

        def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            raise RuntimeError(f"a trial failed; see {folder}")

    tune.Tuner(
        trainable,
        param_space={"trial": tune.grid_search(configs)},
        tune_config=tune.TuneConfig(max_concurrent_trials=concurrent, reuse_actors=reuse),
        run_config=tune.RunConfig(name="tune", storage_path=str(folder), callbacks=[Clock()], verbose=0),
    ).fit()
    assert len(ends) == len(configs)
    return (ends[-1] - ends[concurrent - 1]) / (len(ends) - concurrent)


def slots(run: RunConfig, workers: int, trials: int, concurrent: int = 1) -> float:
    """This project's pattern: trials are handed to slots that are already running."""
    from ray import tune

    from curriculum_ray.distributed.board import create_board
    from curriculum_ray.distributed.slots import Slots
    from curriculum_ray.runs.jobs import Job
    from tuning.search.ray_tune.board_trial import BoardTrial

    class OneOf(BoardTrial):
        def _begin(self, config: dict[str, Any]) -> None:
            super()._begin(config["trial"])

    resources = ResourceSpec(num_workers=workers)
    with tempfile.TemporaryDirectory() as name, connected(concurrent, resources):
        folder = Path(name)
        board = create_board("bench")
        running = Slots(board, [folder / f"slot-{i}" for i in range(concurrent)], resources)
        jobs = [Job.of(f"trial-{i}", run, folder / f"trial-{i}") for i in range(trials)]
        try:
            trainable = tune.with_resources(OneOf, tune.PlacementGroupFactory([{"memory": 1.0}]))
            configs = [{"board": "bench", "job": job} for job in jobs]
            return _tune(trainable, configs, folder, concurrent, reuse=True)
        finally:
            running.close()


def plain_loop(config: dict[str, Any]) -> None:
    """The train loop of the plain pattern: the same steps of the same model, and the same evaluation."""
    import ray.train
    import ray.train.torch

    from curriculum_ray.config import parse
    from curriculum_ray.runs.prepared import cached_data, cached_evaluator
    from curriculum_ray.training.hooks import NoHooks
    from curriculum_ray.training.loop import train
    from curriculum_ray.training.trainer import LogLine, Trainer
    from curriculum_ray.training.world import World

    run = parse(RunConfig, config, "bench")
    context = ray.train.get_context()
    world = World(context.get_world_rank(), context.get_world_size(), wrap=ray.train.torch.prepare_model)
    trainer = Trainer(run.train, cached_data(run.data), world)

    class Reporting(NoHooks):
        def on_log(self, line: LogLine) -> bool:
            ray.train.report({"loss": line.loss})
            return False

    train(trainer, Reporting())
    evaluator = cached_evaluator(run)
    if evaluator is not None and world.rank == 0:
        metrics, _ = evaluator.evaluate(trainer.process, trainer.ema.model, trainer.conditioning)
        ray.train.report(metrics)


def plain(run: RunConfig, workers: int, trials: int, concurrent: int = 1) -> float:
    """The documented pattern: each trial starts a TorchTrainer of its own."""
    from ray import tune

    resources = ResourceSpec(num_workers=workers)
    with tempfile.TemporaryDirectory() as name, connected(concurrent, resources):
        folder, told = Path(name), run.model_dump(mode="json")

        def trial(config: dict[str, Any]) -> None:
            import ray.train
            from ray.train.torch import TorchTrainer

            TorchTrainer(
                plain_loop,
                train_loop_config=told,
                scaling_config=ray.train.ScalingConfig(num_workers=workers),
                run_config=ray.train.RunConfig(name=f"trial-{config['trial']}", storage_path=str(folder)),
            ).fit()

        # No CPU for the Tune function itself: two workers need all that a machine of two has.
        trainable = tune.with_resources(trial, tune.PlacementGroupFactory([{"memory": 1.0}]))
        return _tune(trainable, list(range(trials)), folder, concurrent, reuse=False)


def main() -> None:
    """Print the table, and the JSON line."""
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument(
        "--trials", type=int, default=8, help="trials of our pattern; the plain one runs 3"
    )
    arguments.add_argument(
        "--workers", type=int, nargs="+", default=[1, 2], help="numbers of workers to measure"
    )
    options = arguments.parse_args()
    os.environ.pop("RAY_ADDRESS", None)
    figures: dict[str, float] = {}
    print(f"{'fixed cost':24} {'slots, s/trial':>16} {'plain Ray, s/trial':>20} {'ratio':>8}")
    for workers in options.workers:
        ours, theirs = slots(ONE_STEP, workers, options.trials), plain(ONE_STEP, workers, 3)
        figures[f"fixed_cost_s_{workers}"] = round(ours, 3)
        figures[f"plain_ray_s_{workers}"] = round(theirs, 2)
        print(f"{f'{workers} workers':24} {ours:16.3f} {theirs:20.2f} {theirs / ours:7.0f}x", flush=True)
    run, wide = StudyConfig().run, min(2, available_cpus())
    ours, theirs = (
        3600 / seconds for seconds in (slots(run, 1, 3 * wide, wide), plain(run, 1, 2 * wide, wide))
    )
    figures.update(trials_per_hour=round(ours, 1), plain_ray_trials_per_hour=round(theirs, 1))
    print(f"{'default study':24} {'slots, trials/h':>16} {'plain Ray, trials/h':>20} {'ratio':>8}")
    print(f"{f'{wide} at a time':24} {ours:16.1f} {theirs:20.1f} {ours / theirs:7.1f}x")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
