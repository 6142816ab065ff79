"""The settings in which trials of a study may differ: a study compares like with like, or does not start."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from curriculum_ray.config import ConfigError, flatten, parse
from curriculum_ray.config.shown import shown
from curriculum_ray.runs.config import RunConfig
from tuning.evidence.short_names import UNIFORM
from tuning.study.config import StudyConfig
from tuning.study.overlay import lay_over, leaves
from tuning.study.space import SearchSpace

__all__ = ["Place", "check_comparable", "check_distinct", "check_may_differ", "check_name", "place_of"]


@dataclass(frozen=True)
class Place:
    """The use that a space may make of a group of a run's settings."""

    differs: bool
    """Whether trials, and rivals, may differ in it."""
    fixed: bool
    """Whether a space may fix it for all trials."""
    reason: str = ""
    """Why they may not differ."""


_ARM = Place(differs=True, fixed=True)
_BUDGET = "it changes the budget, which is equal for all trials"
_ARITHMETIC = "it says how a run is computed, not what is trained"
_WATCHED = "it says how a run is kept and watched, not what is trained"

# A key of a run's settings belongs to the longest of these that is a prefix of it.
PLACES: dict[str, Place] = {
    "schedule": _ARM,
    "schedule.version": Place(False, False, "it is the version of a file's format"),
    "weighting": _ARM,
    "optimizer": _ARM,
    "stability": _ARM,
    "ema": _ARM,
    "ema.power": Place(False, False, _WATCHED),
    "model": Place(False, True, "it changes what an image costs, and the budget is counted in images"),
    "model.label_dropout": _ARM,
    "init_from": Place(False, False, "all trials of a study start from the same weights"),
    "lora": Place(False, True, "it changes what an image costs, and the budget is counted in images"),
    "lora.alpha": _ARM,
    "lora.dropout": _ARM,
    "process": Place(False, False, "a study is of one process, by which its trials are filed and scored"),
    "data": Place(False, False, "it changes the data, of which a study has one set"),
    "evaluation": Place(False, False, "it changes the protocol by which all trials are scored"),
    "seed": Place(False, False, "trials share the study's seed, so that they are paired"),
    "images": Place(False, False, _BUDGET),
    "batch_size": Place(False, False, f"{_BUDGET}: images are rounded up to whole steps"),
    "stratified": _ARM,
    "window": Place(False, False, "it changes the steps at which all trials are logged and looked at"),
    "log_every_images": Place(False, False, _WATCHED),
    "checkpoint": Place(False, False, _WATCHED),
    "preview": Place(False, False, _WATCHED),
    "heldout": Place(False, False, "it changes the images that are held out, and the others are trained on"),
    "precision": Place(False, False, _ARITHMETIC),
    "tf32": Place(False, False, _ARITHMETIC),
    "compile": Place(False, False, _ARITHMETIC),
    "accumulate": Place(False, False, _ARITHMETIC),
    "gradient_checkpointing": Place(False, False, _ARITHMETIC),
    "parallel": Place(False, False, _ARITHMETIC),
}
# Groups of a schedule that make a curriculum; a rival sets none of them.
_CURRICULUM = ("clusters", "order", "pacing", "active")


def place_of(key: str) -> Place | None:
    """The place of a dotted key of a run's settings, None for a key that no run has."""
    leads = [lead for lead in PLACES if key == lead or key.startswith(f"{lead}.")]
    return PLACES[max(leads, key=len)] if leads else None


def check_comparable(
    config: StudyConfig, space: SearchSpace, rivals: Mapping[str, Mapping[str, Any]]
) -> None:
    """Raise ConfigError, with the reason, for a space or rival whose trials are not comparable, or are ignored."""
    for key in space.search:
        check_may_differ(key, f"space {space.name}: search.{key}", "searched")
    for key in leaves(space.fixed):
        place = place_of(key)
        if place is not None and not place.fixed:
            raise ConfigError(
                f"space {space.name}: fixed.{key} must not be in a space, because {place.reason}: "
                f"set {_own(key)} for the whole study instead"
            )
    for name, keys in rivals.items():
        _check_rival(name, keys)
    twice = [
        name for name in config.rivals if config.rivals[name] != space.rivals.get(name, config.rivals[name])
    ]
    if twice:
        raise ConfigError(f"rivals.{twice[0]} differs from that of space {space.name}: give it another name")
    _check_overlaid(config.run, space)


def _own(key: str) -> str:
    """The study's own key for a key of a run."""
    return key if key == "seed" else f"run.{key}"


def check_may_differ(key: str, where: str, what: str) -> None:
    """Raise ConfigError for a key in which trials of a study may not differ. where, what: for the error."""
    place = place_of(key)
    if place is not None and not place.differs:
        raise ConfigError(
            f"{where} must not be {what}, because {place.reason}: set {_own(key)} for the whole study"
        )


def _check_rival(name: str, keys: Mapping[str, Any]) -> None:
    """Check that a rival can name a folder, changes settings in which trials may differ, and has no curriculum."""
    check_name("a rival", name, keys)
    for key in leaves(keys):
        parts = key.split(".")
        if parts[0] == "schedule" and (len(parts) == 1 or parts[1] in _CURRICULUM):
            raise ConfigError(f"rivals.{name} must have no curriculum, but sets {key}")
        check_may_differ(key, f"rivals.{name}: {key}", "changed by a rival")


def check_name(what: str, name: str, keys: Mapping[str, Any]) -> None:
    """Raise ConfigError where a rival or an arm cannot have its name, or changes nothing. what: "a rival" or so."""
    if not name.replace("_", "").replace("-", "").isalnum() or len(name) > 50:
        raise ConfigError(
            f"{what}'s name must hold letters, digits, - and _ only, 50 at most, but got {shown(name)}"
        )
    if name == UNIFORM:
        raise ConfigError(f"{what}'s name must not be {UNIFORM}, which is that of uniform sampling")
    if not keys:
        group = f"{what.partition(' ')[2]}s"
        raise ConfigError(
            f"{group}.{name} changes nothing: give it dotted keys, e.g. {{weighting.kind: min_snr}}"
        )


def check_distinct(group: str, arms: Mapping[str, Mapping[str, Any]], uniform: Mapping[str, Any]) -> None:
    """Raise ConfigError for an arm or rival that trains like uniform sampling, or like another one.

    group: "arms" or "rivals", whose keys are laid over `uniform`, the settings of a run with uniform sampling.
    """
    known = {_resolved(uniform, "uniform sampling"): "uniform sampling"}
    for name, keys in arms.items():
        source = f"{group}.{name}"
        same = known.setdefault(_resolved(lay_over(uniform, keys, source), source), name)
        if same != name:
            raise ConfigError(
                f"{source} trains like {same}: every {group.removesuffix('s')} must differ from all others"
            )


def _resolved(settings: Mapping[str, Any], source: str) -> str:
    """All settings of a run as text, equal for runs that train alike."""
    run = parse(RunConfig, settings, source)
    return json.dumps({**run.model_dump(mode="json"), "schedule": run.schedule.simplest().schedule_id})


def _check_overlaid(run: RunConfig, space: SearchSpace) -> None:
    """Refuse settings of the study that its space would override: they must not be ignored.

    Those of searched keys apply to the trials without a curriculum.
    """
    own = flatten(run.model_dump(mode="json"))
    usual = flatten(
        RunConfig.model_validate({"data": run.data, "process": run.process}).model_dump(mode="json")
    )
    for key, value in leaves(space.fixed).items():
        if key in own and own[key] != usual.get(key) and own[key] != value:
            raise ConfigError(
                f"run.{key} is {shown(own[key])}, but space {space.name} fixes it at {shown(value)}: "
                "leave one of them out"
            )
