"""Whatever stands in a file of settings is refused in one line, or accepted and then true: thousands of inputs."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from curriculum_ray.config import Spec, apply_overrides, load_json, load_yaml, parse
from curriculum_ray.curriculum import CurriculumSchedule, DifficultyCurve, TimestepSampler
from curriculum_ray.data.autoencoder import CacheSpec
from curriculum_ray.diffusion import build_process
from curriculum_ray.diffusion.levels import NoiseLevels
from curriculum_ray.distributed.config import RunConfig
from curriculum_ray.distributed.slots import ResourceSpec
from curriculum_ray.evaluation import EvaluationSpec
from curriculum_ray.plain_yaml import TextFault, read_yaml, write_yaml
from tests.grammar import LAUGHS, TOKENS, Grammar, accepted

BATCH, IMAGES = 64, 64 * 120
_PROCESSES = [
    build_process(RunConfig.model_validate({"process": {"kind": kind}}).process)
    for kind in ("ddpm", "edm", "flow")
]
LEVELS: list[NoiseLevels] = [process.levels for process in _PROCESSES]


def _sampler(schedule: CurriculumSchedule, levels: NoiseLevels) -> TimestepSampler:
    return TimestepSampler(schedule, levels=levels, total_images=IMAGES, rank=0, world_size=1, seed=3)


def _step(sampler: TimestepSampler) -> torch.Tensor:
    level, u = sampler.sample(BATCH), sampler.last_u
    assert bool(((u >= 0) & (u < 1)).all()), "draws lie in [0, 1)"
    assert bool(level.double().isfinite().all())
    if sampler.levels.count is not None:
        assert 0 <= int(level.min()) and int(level.max()) < sampler.levels.count
    losses = torch.full((BATCH,), 0.5, dtype=torch.float64)
    sampler.update(losses)
    return u


def _conserves_probability(sampler: TimestepSampler) -> None:
    """Of evenly spaced positions, each interval gets its density's share of the draws, to a draw at each end."""
    many = 4001
    sampler.sample(many)
    u = sampler.last_u
    intervals = sampler.snapshot()["active"]
    masses = [density * (high - low) for low, high, density in intervals]
    assert bool((torch.sort(u).values.diff() >= 0).all())
    inside = 0
    for (low, high, _), mass in zip(intervals, masses, strict=True):
        found = int(((u >= low) & (u < high)).sum())
        inside += found
        assert abs(found / many - mass / math.fsum(masses)) <= 2 / many, (low, high, found, mass)
    assert inside == many


def _is_true(schedule: CurriculumSchedule, folder: Path) -> bool:
    """Check all that an accepted schedule promises; whether some process takes it and its ladder can be walked."""
    path = folder / "again.yaml"
    schedule.to_file(path)
    again = CurriculumSchedule.from_file(path)
    assert (again, again.schedule_id) == (schedule, schedule.schedule_id)
    assert schedule.describe().isprintable()
    if accepted(lambda: schedule.check_ladder(BATCH, IMAGES) or True) is None:
        return False
    samplers = [
        sampler for levels in LEVELS if (sampler := accepted(lambda at=levels: _sampler(schedule, at)))
    ]
    for sampler in samplers[:1]:
        edges = sampler.edges
        assert (edges[0], edges[-1]) == (0.0, 1.0)
        assert all(a < b for a, b in itertools.pairwise(edges))
        middle, stages = 0, set()
        for step in range(IMAGES // BATCH):
            if sampler.stage not in stages:
                _conserves_probability(sampler)
            stages.add(sampler.stage)
            _step(sampler)
            if step == 5:
                state = json.loads(json.dumps(sampler.state_dict(), allow_nan=False))
                resumed = _sampler(schedule, sampler.levels)
                resumed.load_state_dict(state)
                middle = sampler.stage
            if 5 <= step < 12:
                assert resumed.stage == sampler.stage
                if step > 5:
                    assert torch.equal(_step(resumed), sampler.last_u), (step, middle)
                    assert resumed.stage == sampler.stage
        assert sampler.stage == sampler.num_stages - 1, (schedule, sampler.stage)
    return bool(samplers)


def _note(text: str) -> str:
    return f"\n--- the input ---\n{text[:3000]}"


def _try(text: str, act: Callable[[], Any]) -> Any:
    """`accepted(act)`, with the text beside whatever goes wrong."""
    try:
        return accepted(act)
    except Exception as error:
        error.add_note(_note(text))
        raise


@pytest.mark.parametrize("seed", range(4))
def test_a_schedule_is_refused_in_one_line_or_true(seed: int, tmp_path: Path) -> None:
    grammar, true = Grammar(seed), 0
    path = tmp_path / "schedule.yaml"
    for number in range(250):
        data = {"version": 1, **grammar.settings(CurriculumSchedule, strange=0.01)}
        text = grammar.text(data, changes=number % 3 == 0)
        path.write_text(text)
        schedule = _try(text, lambda: CurriculumSchedule.from_file(path))
        if schedule is not None:
            true += _try(text, lambda found=schedule: _is_true(found, tmp_path)) is True
    assert true > 25
