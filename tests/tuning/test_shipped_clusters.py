"""No schedule that a shipped space can ask for trains on a sliver of the noise levels."""

from __future__ import annotations

import itertools
from functools import lru_cache
from typing import Any

import pytest
import torch

from curriculum_ray.curriculum import CurriculumSchedule, cluster_edges, clusters
from curriculum_ray.curriculum.base import default_base
from curriculum_ray.diffusion import DDPMSpec, EDMSpec, FlowSpec, ProcessSpec, build_process
from tuning.study.space import SearchSpace

PROCESSES: dict[str, ProcessSpec] = {
    "cosine": DDPMSpec(betas="cosine"),
    "linear": DDPMSpec(betas="linear"),
    "zero-terminal": DDPMSpec(prediction="v", zero_terminal_snr=True),
    "few": DDPMSpec(num_timesteps=100),
    "edm": EDMSpec(),
    "flow": FlowSpec(),
}


def schedules(space: SearchSpace, kind: str) -> list[CurriculumSchedule]:
    """Every count and rule of the space with every base distribution that it searches, at both ends of its settings."""
    probes = space.probes()
    bases = [
        {key: value for key, value in probe.items() if key.startswith("schedule.base.")} for probe in probes
    ]
    rules = [{key: probe[key] for key in ("schedule.clusters.by",) if key in probe} for probe in probes]
    counts = space.search["schedule.clusters.count"]
    found = []
    for base, rule in itertools.product(_distinct(bases), _distinct(rules)):
        for count in range(counts.low, counts.high + 1):
            point = probes[0] | base | rule | {"schedule.clusters.count": count}
            applied = space.apply({}, point)["schedule"]
            if "base" not in applied:
                applied["base"] = default_base(kind).model_dump()
            found.append(CurriculumSchedule.from_dict(applied))
    return found


def _distinct(points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [point for place, point in enumerate(points) if point not in points[:place]]


# The `wide` space has the most base distributions: with the 100 timesteps, where cells are widest, and without betas.
CASES = [
    pytest.param(
        name,
        process,
        marks=pytest.mark.slow if name == "wide" and process in ("cosine", "linear", "zero-terminal") else (),
    )
    for name in ("default", "paper", "wide")
    for process in PROCESSES
]


@pytest.mark.parametrize(("name", "process"), CASES)
def test_no_cluster_is_narrower_than_a_tenth_of_its_even_share(
    name: str, process: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The cells of a distribution are the same for every count.
    monkeypatch.setattr(clusters, "boundaries", lru_cache(clusters.boundaries))
    spec = PROCESSES[process]
    levels = build_process(spec).levels
    looked = 0
    for schedule in schedules(SearchSpace.load(name), spec.kind):
        if spec.kind == "edm" and schedule.base.distributions()[0].domain == "time":
            continue
        widths = cluster_edges(schedule.clusters, schedule.base, levels).diff()
        assert len(widths) == schedule.clusters.count
        assert float(widths.min()) >= 0.1 / len(widths) - 1e-12, schedule.describe()
        assert float(widths.sum()) == pytest.approx(1, abs=1e-12)
        looked += 1
    assert looked >= 15


def test_the_first_stage_of_the_paper_space_is_not_a_single_timestep() -> None:
    """With cosine betas the noisiest of 20 log-SNR clusters was one timestep of 1,000: the last beta is clipped."""
    schedule = next(
        schedule
        for schedule in schedules(SearchSpace.load("paper"), "ddpm")
        if schedule.clusters.by == "log_snr" and schedule.clusters.count == 20
    )
    levels = build_process(DDPMSpec()).levels
    timesteps = (cluster_edges(schedule.clusters, schedule.base, levels).diff() * 1000).round().long()
    assert timesteps.tolist() == [
        *(11, 10, 16, 26, 39, 62, 90, 122, 143, 138, 113, 80, 54, 34, 23, 14, 9, 6, 5, 5)
    ]
    assert torch.equal(timesteps.sum(), torch.tensor(1000))
