"""What is checked of a study before anything is started."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

from curriculum_ray.config import ConfigError, Spec, parse
from curriculum_ray.curriculum import TimestepSampler
from curriculum_ray.data import DataInfo, Dataset
from curriculum_ray.diffusion import build_process
from curriculum_ray.evaluation import Evaluator
from curriculum_ray.models import check_model, check_named_code, code_named
from curriculum_ray.runs.config import RunConfig
from curriculum_ray.training.optimizers import check_optimizer
from curriculum_ray.training.packed import check_packable
from tuning.search.samplers import check_sampler
from tuning.study.check_run import check_run
from tuning.study.comparable import check_comparable, check_distinct
from tuning.study.config import StudyConfig
from tuning.study.named_arms import check_arms
from tuning.study.overlay import lay_over
from tuning.study.plan import plain_schedule
from tuning.study.ranges import check_ranges
from tuning.study.space import SearchSpace

__all__ = ["check_code_of", "check_study", "study_rivals"]


def check_study(config: StudyConfig, space: SearchSpace) -> tuple[RunConfig, Dataset | DataInfo, Evaluator]:
    """Check everything that can be wrong with a study, before anything is started.

    The fixed settings, every start point, every choice, both ends of every range and every rival must give a run that
    can be trained and evaluated; otherwise raises ConfigError.
    """
    rivals, plain = study_rivals(config, space), plain_schedule(config)
    check_comparable(config, space, rivals)
    check_arms(config, plain)
    base = config.run.model_dump(mode="json")
    fixed = parse(RunConfig, {**space.apply(base, {}), "seed": config.seed}, f"space {space.name}, fixed")
    if fixed.evaluation is None:
        raise ConfigError("a search compares schedules by their evaluation, but run.evaluation is null")
    data, evaluator = check_run(fixed, config.resources)
    assert evaluator is not None
    if config.metric not in evaluator.names:
        raise ConfigError(
            f"metric must be one that the evaluation gives, {', '.join(evaluator.names)}, but got {config.metric}"
        )
    checked: list[Spec] = [fixed.model, fixed.optimizer]
    for point in itertools.chain(space.start, space.probes()):
        shown = ", ".join(f"{key} = {value}" for key, value in point.items())
        _check_point(config, space.apply(base, point), data, f"space {space.name} with {shown}", checked)
    check_ranges(space, fixed, config.halving.budgets(fixed.total_images))
    uniform = {**space.apply(base, {}), "schedule": plain.model_dump(mode="json")}
    for name, keys in rivals.items():
        _check_point(config, lay_over(uniform, keys, f"rivals.{name}"), data, f"rivals.{name}", checked)
    check_distinct("rivals", rivals, uniform)
    for name, keys in config.arms.items():
        settings = lay_over(uniform, keys, f"arms.{name}")
        _check_point(config, settings, data, f"arms.{name}", checked)
    check_sampler(config, space)
    _check_looks(config, fixed)
    return fixed, data, evaluator


def check_code_of(space: SearchSpace, config: StudyConfig, trusted: bool) -> None:
    """Refuse code that the space's file names, unless the study's own settings name it too, or it is `trusted`."""
    own = code_named(config.run.model_dump(mode="json"))
    check_named_code(space.model_dump(mode="json"), f"space {config.space}", trusted=trusted, allowed=own)


def _check_looks(config: StudyConfig, run: RunConfig) -> None:
    """Refuse looks too late to stop a run: with several workers it stops at the log line after a look."""
    rule = config.halving
    if rule.rule != "after_last_stage":
        return
    looks = parse(
        RunConfig, {**run.model_dump(mode="json"), "preview": rule.preview(run.total_images)}, "run"
    )
    assert looks.preview_steps is not None
    if looks.preview_steps + looks.log_steps >= looks.total_steps:
        raise ConfigError(
            f"halving: no look of after_last_stage comes early enough to stop a run of {run.total_images:,} images: "
            f"lower run.log_every_images, which is {run.log_every_images}"
        )


def study_rivals(config: StudyConfig, space: SearchSpace) -> dict[str, dict[str, Any]]:
    """The one-line rivals of the space and of the settings, by name."""
    return {**space.rivals, **config.rivals}


def _check_point(
    config: StudyConfig,
    settings: Mapping[str, Any],
    data: Dataset | DataInfo,
    source: str,
    checked: list[Spec],
) -> None:
    """Check that the settings give a run whose schedule, process and model can be built.

    checked: networks and optimisers that need no check any more, to which those of these settings are added.
    """
    run = parse(RunConfig, settings, source)
    try:
        process = build_process(run.process, run.weighting)
        TimestepSampler(
            run.schedule, levels=process.levels, total_images=run.total_images, world_size=1, rank=0
        )
        if run.model not in checked:
            check_model(run.model, data.shape, data.conditioning)
        if run.optimizer not in checked:
            check_optimizer(run.optimizer)
        checked += [run.model, run.optimizer]
        if config.pack > 1:
            check_packable([run.train])
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from None
    parts = {"base": run.schedule.base, "pacing": run.schedule.pacing}
    given = [f"{name}.{key}" for name, part in parts.items() if part for key in part.absolute_lengths()]
    if config.halving.rule == "compressed" and given:
        raise ConfigError(f"{source}: schedule.{given[0]} cannot be compressed: give a share of the budget")
