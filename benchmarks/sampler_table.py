"""Computes a table of the `wide` space on the digits, on which `bench_sampler_choice.py` replays searches.

    python benchmarks/sampler_table.py                   # goes on where the table ends, until interrupted
    python benchmarks/sampler_table.py --schedules 200
    python benchmarks/sampler_table.py --hours 2 --part 1/2     # one of two processes at the same time
    python benchmarks/sampler_table.py --pack            # only packs the rows that are there

Schedules 0, 1, 2, ... are those that a study with the random sampler and seed 0 tries. Each is run, at the default
study's budget and protocol and as the study would run it,

  at seed 0 with the looks of `after_last_stage` and the held-out loss,
  at seed 1, which a race compares,
  at a quarter of the budget, the rung of `compressed` with a reduction of 4, at seed 0,
  at seed 2, which no replayed search looks at, if the mean of the first two seeds is at most three quarters of uniform
      sampling's: only such a schedule is the answer of a search, so the others need no independent score.

Uniform sampling, first, and the rivals of the space, one after each schedule from the 24th on, are run at the three
seeds. One torch thread computes each run, about 40 s at the full budget. A row is on disk when its run ends, in
runs/sampler-table, and schedule follows schedule, so that any beginning of the table can be used. When the command
ends, however that comes, it packs the table into benchmarks/tables/digits_wide.json.gz, from where another machine can
go on. The last line is JSON.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import itertools
import json
import math
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import nullcontext
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any

import click
import optuna
import torch
from search_table import PACKED, Key, Row, append, by_key, pack, read_lines, read_packed
from table_world import JUDGE_SEED, RACE_SEED, SEARCH_SEED

from curriculum_ray.config import ConfigError, parse
from curriculum_ray.distributed.job import run_job
from curriculum_ray.distributed.worker import reason_of
from curriculum_ray.runs.config import RunConfig
from curriculum_ray.runs.jobs import Job, Progress
from curriculum_ray.runs.prepared import cached_evaluator
from curriculum_ray.runs.result import RunResult
from curriculum_ray.training.trainer import NonFiniteLoss
from curriculum_ray.training.world import World
from tuning.evidence.keys import TrialKey
from tuning.folder.lock import held
from tuning.folder.versions import code_commit, package_versions
from tuning.search.suggestion import suggest
from tuning.study.config import StudyConfig
from tuning.study.halving import Compressed
from tuning.study.overlay import lay_over
from tuning.study.plan import StudyPlan
from tuning.study.ranges import with_batch_size
from tuning.study.space import SearchSpace
from tuning.study.trial_spec import TrialSpec

JUDGED_BELOW = 0.75
"""Of uniform sampling's mean."""
RIVALS_AFTER = 24
LINES = Path("runs/sampler-table/rows.jsonl")


class Table:
    """The runs of the table, in their order, and their settings."""

    def __init__(self, space: str = "wide") -> None:
        self.space = SearchSpace.load(space)
        asked = {"space": space, "sampler": "random", "halving": {"rule": "after_last_stage"}}
        self.config, _ = with_batch_size(parse(StudyConfig, asked, "table"), self.space)
        self.full = self.config.run.total_images
        self.low = Compressed(rule="compressed", reduction=4).budgets(self.full)[0]

    @cached_property
    def controls(self) -> dict[str, TrialSpec]:
        """Uniform sampling and the rivals, by key, as a study plans them."""
        plan = StudyPlan(self.config, rivals=self.space.rivals)
        planned = (plan.next() for _ in range(1 + len(self.space.rivals)))
        return {str(trial.key): trial for trial in planned if trial is not None}

    def order(self, schedules: int | None) -> Iterator[list[str]]:
        """Arms that are run together, up to a number of schedules."""
        uniform, *rivals = self.controls
        yield [uniform]
        for index in itertools.count() if schedules is None else range(schedules):
            place = index - RIVALS_AFTER
            yield [str(TrialKey.search(index)), *(rivals[place : place + 1] if place >= 0 else [])]

    def due(self, arm: str, rows: dict[Key, Row]) -> Iterator[Key]:
        """The runs of an arm that the table lacks; the next one may be taken when the one before is in `rows`."""
        searched = TrialKey.searches(arm)
        keys = [(arm, SEARCH_SEED, self.full), (arm, RACE_SEED, self.full)]
        if searched:
            keys.append((arm, SEARCH_SEED, self.low))
        yield from (key for key in keys if key not in rows)
        judged = (arm, JUDGE_SEED, self.full)
        if judged not in rows and (not searched or self._can_win(arm, rows)):
            yield judged

    def _can_win(self, arm: str, rows: dict[Key, Row]) -> bool:
        """Whether the mean of the first two seeds is so good that a search may choose the schedule."""

        def mean(name: str) -> float:
            seeds = (rows.get((name, seed, self.full)) for seed in (SEARCH_SEED, RACE_SEED))
            return fmean(math.inf if row is None else row.metrics.get("fid", math.inf) for row in seeds)

        return mean(arm) <= JUDGED_BELOW * mean(str(TrialKey.uniform()))

    def params(self, arm: str) -> dict[str, Any]:
        """The searched keys of a schedule; none of a control."""
        if not TrialKey.searches(arm):
            return {}
        return suggest(self.config, self.space, TrialKey(arm).number, []).params

    def settings(self, key: Key) -> RunConfig:
        """The settings of a run, as those of the same trial in a study."""
        arm, seed, images = key
        base = self.config.run.model_dump(mode="json")
        if (control := self.controls.get(arm)) is None:
            values = self.space.apply(base, self.params(arm))
        else:
            assert control.schedule is not None
            values = {**self.space.apply(base, {}), "schedule": control.schedule.model_dump(mode="json")}
            values = lay_over(values, control.settings, arm)
        values |= {"seed": seed, "images": images}
        if (seed, images) == (SEARCH_SEED, self.full):
            values = self.config.with_previews(values, "searched", None)
        else:
            values["heldout"] = None  # Training is the same with and without.
        return parse(RunConfig, values, arm)

    def run(self, key: Key) -> Row:
        """Train and evaluate one run."""
        arm, seed, images = key
        config = self.settings(key)
        evaluator = cached_evaluator(config)
        assert evaluator is not None
        log: list[tuple[int, int, float | None]] = []
        stages: set[int] = set()

        def report(progress: Progress) -> bool:
            fid = None if progress.preview is None else _finite(progress.preview.metrics["fid"])
            log.append((progress.images, progress.stage, fid))
            stages.add(progress.num_stages)
            return False

        began, failure, result = time.process_time(), None, None
        with tempfile.TemporaryDirectory() as folder:
            job = Job.of(arm, config, Path(folder)).assigned(Path(folder))
            try:
                result = run_job(job, World(), report, lambda path, metrics: None)
            except (NonFiniteLoss, FloatingPointError) as error:
                failure = reason_of(error)
        measured = {} if result is None else {**result.metrics, "loss": result.loss}
        if failure is None and not all(_finite(value) is not None for value in measured.values()):
            failure, measured = "a metric is not finite", {}
        return Row(
            arm=arm,
            params=self.params(arm),
            seed=seed,
            images=images,
            fingerprint=evaluator.fingerprint,
            metrics={name: value for name, value in measured.items() if value is not None},
            failure=failure,
            num_stages=max(stages, default=None),
            last_stage_at=None if result is None else _last_stage_at(result),
            log=tuple(log),
            heldout=_heldout(result),
            seconds=round(time.process_time() - began, 1),
        )

    def header(self) -> dict[str, Any]:
        """What the table says about itself."""
        evaluator = cached_evaluator(self.config.run)
        assert evaluator is not None
        return {
            "fingerprint": evaluator.fingerprint,
            "protocol": evaluator.protocol,
            "packages": package_versions(),
            "commit": code_commit(),
            "threads": torch.get_num_threads(),
            "study_seed": self.config.seed,
            "settings": self.config.run.model_dump(mode="json"),
            "halving": self.config.halving.model_dump(mode="json"),
            "space": self.space.model_dump(mode="json"),
        }


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _last_stage_at(result: RunResult) -> int | None:
    last = result.stages_asked
    if last is None or last != result.stages_walked or not result.stage_starts:
        return None
    return result.stage_starts[-1][0]


def _heldout(result: RunResult | None) -> tuple[tuple[int, float], ...]:
    if result is None or result.heldout is None:
        return ()
    return tuple((images, round(fmean(losses), 6)) for images, losses in result.heldout.history)


def _known(lines: Path, packed: Path) -> dict[Key, Row]:
    return by_key([*(read_packed(packed) if packed.exists() else []), *read_lines(lines)])


def _part(text: str) -> tuple[int, int]:
    """Which process this is, from 1, and of how many."""
    mine, _, parts = text.partition("/")
    if not (mine.isdigit() and parts.isdigit() and 1 <= int(mine) <= int(parts)):
        raise ConfigError(f"--part must be like 1/2, and at most 2/2, but got {text!r}")
    return int(mine), int(parts)


def _interrupt(signum: int, frame: object) -> None:
    raise KeyboardInterrupt


@click.command()
@click.option("--schedules", type=click.IntRange(1), help="Stop after so many schedules; without it, go on.")
@click.option("--hours", type=click.FloatRange(0), help="Start no further run after so many hours.")
@click.option("--part", default="1/1", show_default=True, help="Of several processes, e.g. 1/2 and 2/2.")
@click.option("--pack", "only_pack", is_flag=True, help="Only pack the rows that are there.")
@click.option("--lines", type=click.Path(path_type=Path), default=LINES, show_default=True)
@click.option("--packed", type=click.Path(path_type=Path), default=PACKED, show_default=True)
def main(
    schedules: int | None, hours: float | None, part: str, only_pack: bool, lines: Path, packed: Path
) -> None:
    try:
        compute(schedules, hours, part, only_pack, lines, packed)
    except ConfigError as error:
        print(error, file=sys.stderr)
        sys.exit(2)


def compute(
    schedules: int | None, hours: float | None, part: str, only_pack: bool, lines: Path, packed: Path
) -> None:
    """Go on with the table, and pack it."""
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    signal.signal(signal.SIGTERM, _interrupt)
    table = Table()
    mine, parts = _part(part)
    header = table.header()
    for row in _known(lines, packed).values():
        if row.fingerprint != header["fingerprint"]:
            raise ConfigError(
                f"the rows there have protocol {row.fingerprint}, and new ones would have {header['fingerprint']}: "
                "choose other --lines and --packed"
            )
    until = math.inf if hours is None else time.monotonic() + 3600 * hours
    with nullcontext() if only_pack else held(lines.parent / f"part-{mine}-of-{parts}"):
        try:
            for place, arms in enumerate([] if only_pack else table.order(schedules)):
                if place % parts != mine - 1:
                    continue
                for arm in arms:
                    known = _known(lines, packed)
                    for key in table.due(arm, known):
                        if time.monotonic() > until:
                            raise KeyboardInterrupt
                        row = known[key] = table.run(key)
                        append(lines, row)
                        score = row.failure or f"FID {row.metrics['fid']:.2f}"
                        print(
                            f"{arm} seed {key[1]}, {key[2]:,} images: {score}, {row.seconds:.0f} s",
                            flush=True,
                        )
        except KeyboardInterrupt:
            pass
        known = _known(lines, packed)
        size = pack(packed, list(known.values()), header)
    searched = sum(TrialKey.searches(arm) for arm in {arm for arm, _, _ in known})
    hours_spent = sum(row.seconds for row in known.values()) / 3600
    told = {"rows": len(known), "schedules": searched, "cpu_hours": round(hours_spent, 2), "bytes": size}
    print(json.dumps(told))


if __name__ == "__main__":
    main()
