"""Fixed cost of a further trial: this project's slots beside the plain documented Ray pattern, in one run.

`make bench-search`. Each trial is one optimiser step on digits without evaluation, so nearly all of its time is
fixed cost; trials run one at a time, and the first of each pattern is left out. The plain pattern is the one of
Ray's user guide: a Tune function that starts a TorchTrainer (Ray 2.60, "Hyperparameter tuning with Ray Tune").
The last line is JSON: seconds of fixed cost per further trial, with one worker and with two workers (DDP).
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from curriculum_ray.distributed.cluster import connected
from curriculum_ray.distributed.config import RunConfig
from curriculum_ray.distributed.slots import ResourceSpec

CONFIG = RunConfig.model_validate({"images": 128, "evaluation": None}).model_dump(mode="json")


def _tune(trainable: Any, configs: list[Any], folder: Path, reuse: bool) -> float:
    """Run one trial after another under Tune, and return the seconds of each further one."""
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
        tune_config=tune.TuneConfig(max_concurrent_trials=1, reuse_actors=reuse),
        run_config=tune.RunConfig(name="tune", storage_path=str(folder), callbacks=[Clock()], verbose=0),
    ).fit()
    assert len(ends) == len(configs)
    return (ends[-1] - ends[0]) / (len(ends) - 1)


def slots(workers: int, trials: int) -> float:
    """This project's pattern: trials are handed to a slot that is already running."""
    from ray import tune

    from curriculum_ray.distributed.board import create_board
    from curriculum_ray.distributed.slots import Slots
    from tuning.trial import BoardTrial

    class OneOf(BoardTrial):
        def _begin(self, config: dict[str, Any]) -> None:
            super()._begin(config["trial"])

    resources = ResourceSpec(num_workers=workers)
    with tempfile.TemporaryDirectory() as name, connected(1, resources):
        folder = Path(name)
        board = create_board("bench")
        running = Slots(board, [folder / "slot-0"], resources)
        jobs = [
            {"key": f"trial-{i}", "config": CONFIG, "folder": str(folder / f"trial-{i}"), "resume_from": []}
            for i in range(trials)
        ]
        try:
            trainable = tune.with_resources(OneOf, tune.PlacementGroupFactory([{"memory": 1.0}]))
            return _tune(trainable, [{"board": "bench", "job": job} for job in jobs], folder, reuse=True)
        finally:
            running.close()


def plain_loop(config: dict[str, Any]) -> None:
    """The train loop of the plain pattern: the same step of the same model."""
    import ray.train
    import ray.train.torch

    from curriculum_ray.config import parse
    from curriculum_ray.distributed.prepared import cached_data
    from curriculum_ray.training.loop import Trainer, World

    run = parse(RunConfig, CONFIG, "bench")
    context = ray.train.get_context()
    world = World(context.get_world_rank(), context.get_world_size(), wrap=ray.train.torch.prepare_model)
    Trainer(run.train, cached_data(run.data), world).run(
        on_log=lambda progress: bool(ray.train.report({"loss": progress.loss}))
    )


def plain(workers: int, trials: int) -> float:
    """The documented pattern: each trial starts a TorchTrainer of its own."""
    from ray import tune

    resources = ResourceSpec(num_workers=workers)
    with tempfile.TemporaryDirectory() as name, connected(1, resources):
        folder = Path(name)

        def trial(config: dict[str, Any]) -> None:
            import ray.train
            from ray.train.torch import TorchTrainer

            TorchTrainer(
                plain_loop,
                train_loop_config={},
                scaling_config=ray.train.ScalingConfig(num_workers=workers),
                run_config=ray.train.RunConfig(name=f"trial-{config['trial']}", storage_path=str(folder)),
            ).fit()

        # No CPU for the Tune function itself: two workers need all that a machine of two has.
        trainable = tune.with_resources(trial, tune.PlacementGroupFactory([{"memory": 1.0}]))
        return _tune(trainable, list(range(trials)), folder, reuse=False)


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
    print(f"{'workers':8} {'slots, s/trial':>16} {'plain Ray, s/trial':>20} {'ratio':>8}")
    for workers in options.workers:
        ours, theirs = slots(workers, options.trials), plain(workers, 3)
        figures[f"fixed_cost_s_{workers}"] = round(ours, 3)
        figures[f"plain_ray_s_{workers}"] = round(theirs, 2)
        print(f"{workers:<8} {ours:16.3f} {theirs:20.2f} {theirs / ours:7.0f}x", flush=True)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
