"""Lays settings over settings: a group whose kind changes is replaced whole, since its other keys do not apply."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from curriculum_ray.config import Spec, with_key
from curriculum_ray.config.spec import in_full, spec_at, union_at, written_out
from curriculum_ray.curriculum import CurriculumSchedule
from curriculum_ray.runs.config import RunConfig

__all__ = ["dotted", "lay_over", "leaves", "merge", "over_plain"]


def lay_over(config: Mapping[str, Any], point: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Lay settings, as `dotted` takes them, over a run's; keys that only an earlier kind has are dropped."""
    nested: dict[str, Any] = {}
    for key, value in dotted(point, source).items():
        nested = with_key(nested, key, value, f"{source}.{key}")
    return merge(config, nested)


def over_plain(
    keys: Mapping[str, Any], plain: CurriculumSchedule, source: str
) -> tuple[CurriculumSchedule, dict[str, Any]]:
    """The schedule of an arm that is declared by `keys`, dotted or nested, and its other settings, dotted.

    plain: the schedule of uniform sampling, over which they are laid. ConfigError where they give no schedule.
    """
    schedule = lay_over({"schedule": plain.model_dump(mode="json")}, keys, source)["schedule"]
    others = {key: value for key, value in dotted(keys, source).items() if not key.startswith("schedule.")}
    return CurriculumSchedule.from_dict(schedule, source), others


def dotted(settings: Mapping[str, Any], source: str) -> dict[str, Any]:
    """A run's settings, nested, dotted or in short, by dotted key, e.g. {weighting.kind: min_snr}."""
    result: dict[str, Any] = {}
    for key, value in leaves(settings).items():
        result |= leaves(in_full(RunConfig, with_key({}, key, value, f"{source}.{key}")))
    return result


def leaves(group: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted keys and values; a group without keys is kept as a value."""
    flat: dict[str, Any] = {}
    for key, value in group.items():
        inner = leaves(value) if isinstance(value, Mapping) and value else None
        flat |= {key: value} if inner is None else {f"{key}.{name}": leaf for name, leaf in inner.items()}
    return flat


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Lay a run's settings `above` over those `below`; a group whose kind changes is replaced whole.

    It is kept where both kinds have the same settings, e.g. easy_to_hard and hard_to_easy.
    """
    return _merge(below, above, RunConfig)


def _merge(below: Mapping[str, Any], above: Mapping[str, Any], spec: type[Spec] | None) -> dict[str, Any]:
    """`merge` for settings of the class `spec`; None where it is not known."""
    result: dict[str, Any] = _merge({}, below, None) if below else {}
    for key, value in (above if spec is None else written_out(spec, above)).items():
        if not isinstance(value, Mapping):
            result[key] = value
            continue
        old = result.get(key)
        kept = old if isinstance(old, Mapping) else {}
        union = None if spec is None else union_at(spec, key)
        if spec is None or union is None:
            inner = None if spec is None else spec_at(spec, key)
        else:
            before = kept.get(union.tag)
            kind = value.get(union.tag, before)
            if not union.alike(before, kind):
                kept = {}
            inner = union.member(kind)
        result[key] = _merge(kept, value, inner)
    return result
