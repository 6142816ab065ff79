"""Settings laid over settings: a group whose kind changes is replaced whole, since its other keys do not apply."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from curriculum_ray.config import with_key

__all__ = ["lay_over", "merge"]


# Keys that say which other keys a group may have.
_KINDS = {"kind", "rule", "by", "set", "direction"}
# Kinds with the same keys, so that a change from one to another keeps them.
_ALIKE = (
    {"easy_to_hard", "hard_to_easy"},
    {"root", "linear", "quad", "exp", "log", "step"},
    {"uniform", "log_snr"},
    {"loss_second_moment", "gradient_norm"},
)


def _form(kind: Any) -> Any:
    """What stands for all kinds that have the same keys as `kind`."""
    alike = (number for number, kinds in enumerate(_ALIKE) if isinstance(kind, str) and kind in kinds)
    return next(alike, kind)


def lay_over(config: Mapping[str, Any], point: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Nested settings with dotted keys laid over them; keys of a kind that no longer holds are dropped."""
    nested: dict[str, Any] = {}
    for key, value in point.items():
        nested = with_key(nested, key, value, f"{source}.{key}")
    return merge(config, nested)


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Lay `above` over `below`; a group whose kind changes is replaced whole, since its other keys do not apply."""
    result: dict[str, Any] = merge({}, below) if below else {}
    for key, value in above.items():
        old = result.get(key)
        if isinstance(value, Mapping):
            alike = isinstance(old, Mapping) and all(
                _form(old.get(tag)) == _form(value[tag]) for tag in _KINDS & value.keys()
            )
            result[key] = merge(old if alike and old is not None else {}, value)
        else:
            result[key] = value
    return result
