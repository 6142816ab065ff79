"""The base distribution follows the process where the settings name none, and studies' controls follow it too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from curriculum_ray.config import ConfigError, parse
from curriculum_ray.curriculum import EDM, CurriculumSchedule, Uniform
from curriculum_ray.data import load_data
from curriculum_ray.runs.config import RunConfig
from curriculum_ray.runs.written import write_files
from curriculum_ray.training.config import TrainConfig
from curriculum_ray.training.trainer import Trainer
from tuning.search.preflight import check_study
from tuning.study.config import StudyConfig
from tuning.study.plan import StudyPlan
from tuning.study.space import SearchSpace

PACED = {
    "version": 1,
    "clusters": {"by": "uniform", "count": 3},
    "order": {"direction": "easy_to_hard"},
    "pacing": {"rule": "linear", "full_share": 0.5},
}
EDM_RUN: dict[str, Any] = {"process": {"kind": "edm"}}


@pytest.mark.parametrize("schedule", [{}, {"schedule": PACED}])
@pytest.mark.parametrize(("process", "base"), [("ddpm", Uniform()), ("edm", EDM), ("flow", Uniform())])
def test_the_base_follows_the_process(schedule: dict[str, Any], process: str, base: Any) -> None:
    config = parse(TrainConfig, {"process": {"kind": process}, **schedule}, "settings")
    assert config.schedule.base == base
    assert config.schedule.clusters.count == (3 if schedule else 1)
    given = {**schedule.get("schedule", {}), "base": {"kind": "laplace_logsnr"}}
    told = parse(TrainConfig, {"process": {"kind": process}, "schedule": given}, "settings")
    assert told.schedule.base.kind == "laplace_logsnr"


def test_schedules_of_ddpm_keep_their_ids() -> None:
    assert parse(TrainConfig, {}, "settings").schedule.schedule_id == CurriculumSchedule.uniform().schedule_id
    paced = parse(TrainConfig, {"schedule": PACED}, "settings").schedule
    assert paced.schedule_id == CurriculumSchedule.from_dict(PACED).schedule_id


def test_edm_trains_without_a_word_on_its_base_which_is_written_out(tmp_path: Path) -> None:
    config = parse(RunConfig, {**EDM_RUN, "images": 32, "batch_size": 16, "evaluation": None}, "settings")
    trainer = Trainer(config.train, load_data(config.data))
    trainer.step()
    write_files(tmp_path, config)
    for path, keys in ((tmp_path / "config.yaml", ("schedule",)), (tmp_path / "schedule.yaml", ())):
        content = yaml.safe_load(path.read_text())
        for key in keys:
            content = content[key]
        assert content["base"] == {"kind": "log_normal_sigma", "mean": -1.2, "std": 1.2}
    assert CurriculumSchedule.from_file(tmp_path / "schedule.yaml") == config.schedule


def test_the_default_space_and_its_controls_fit_edm() -> None:
    evaluation = {"num_samples": 16, "steps": 2}
    config = parse(
        StudyConfig, {"run": {**EDM_RUN, "evaluation": evaluation}, "space": "default"}, "settings"
    )
    run, _, _ = check_study(config, SearchSpace.load("default"))
    assert run.schedule.base == EDM
    first = StudyPlan(config, {}).next()
    assert first is not None
    assert first.control == "uniform"
    assert first.schedule == CurriculumSchedule(base=EDM)


def test_a_rival_over_times_is_refused_for_edm_by_its_name() -> None:
    evaluation = {"num_samples": 16, "steps": 2}
    config = parse(StudyConfig, {"run": {**EDM_RUN, "evaluation": evaluation}, "space": "paper"}, "settings")
    with pytest.raises(
        ConfigError, match=r"^rivals\.logit_normal: base logit_normal does not apply to sigma"
    ):
        check_study(config, SearchSpace.load("paper"))
