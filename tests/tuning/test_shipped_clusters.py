"""No schedule that a shipped space can ask for trains on a sliver of the noise levels."""

from __future__ import annotations

import itertools

import pytest
import torch

from curriculum_ray.curriculum import CurriculumSchedule, cluster_edges
from curriculum_ray.curriculum.base import default_base
from curriculum_ray.diffusion import DDPMSpec, EDMSpec, FlowSpec, ProcessSpec, build_process
from tuning.space import SearchSpace

PROCESSES: dict[str, ProcessSpec] = {
    "cosine": DDPMSpec(betas="cosine"),
    "linear": DDPMSpec(betas="linear"),
    "zero-terminal": DDPMSpec(prediction="v", zero_terminal_snr=True),
    "few": DDPMSpec(num_timesteps=100),
    "edm": EDMSpec(),
    "flow": FlowSpec(),
}
KEYS = ("schedule.clusters.count", "schedule.clusters.by", "schedule.base.kind")


def schedules(space: SearchSpace, kind: str) -> list[CurriculumSchedule]:
    """Every combination of count, rule and base distribution of the space."""
    choices = []
    for key in KEYS:
        span = space.search.get(key)
        if span is not None:
            values = span.choices if span.type == "categorical" else range(span.low, span.high + 1)
            choices.append([{key: value} for value in values])
    found = []
    for chosen in itertools.product(*choices):
        point = space.probes()[0] | {key: value for one in chosen for key, value in one.items()}
        applied = space.apply({}, point)["schedule"]
        if "base" not in applied:
            applied["base"] = default_base(kind).model_dump()
        found.append(CurriculumSchedule.from_dict(applied))
    return found


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("name", ["default", "paper", "wide"])
def test_no_cluster_is_narrower_than_a_tenth_of_its_even_share(name: str, process: str) -> None:
    spec = PROCESSES[process]
    levels = build_process(spec).levels
    looked = 0
    for schedule in schedules(SearchSpace.load(name), spec.kind):
        if spec.kind == "edm" and schedule.base.domain == "time":
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
