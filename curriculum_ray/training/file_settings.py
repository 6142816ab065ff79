"""Which settings of a run name files, by the types that they are declared with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any, get_args

from pydantic import AfterValidator

from curriculum_ray.config import FilePath, LocalPath, Spec, flatten
from curriculum_ray.config.spec import specs_in
from curriculum_ray.data.spec import EMBEDDED
from curriculum_ray.training.config import TrainConfig

__all__ = ["file_keys", "files_named"]

_CHECKS = tuple(
    mark for kind in (LocalPath, FilePath) for mark in get_args(kind) if isinstance(mark, AfterValidator)
)
"""What tells these types from other strings."""
_STRINGS = ("data.name",)
"""A string that is a path unless it is the name of a set that ships with the package."""
_NOT_FILES = {"data.name": EMBEDDED, "schedule.order.by": ("noise_level",)}


@cache
def file_keys(kind: type[TrainConfig]) -> frozenset[str]:
    """The dotted keys of such a run that name files, in every kind of its groups."""
    return frozenset({*_STRINGS, *_declared(kind)})


def files_named(config: TrainConfig) -> dict[str, str]:
    """What a run reads besides the files of the package: paths and addresses by dotted key.

    Shorthands have become settings by then, so that none of them can name a file that is not found here.
    """
    flat = flatten(config.model_dump(mode="json"))
    named = {key: flat.get(key) for key in sorted(file_keys(type(config)))}
    return {
        key: value
        for key, value in named.items()
        if value is not None and value not in _NOT_FILES.get(key, ())
    }


def _declared(spec: type[Spec], prefix: str = "") -> Iterator[str]:
    for name, field in spec.model_fields.items():
        if _is_path(field.annotation, field.metadata):
            yield f"{prefix}{name}"
        for inner in specs_in(field.annotation):
            yield from _declared(inner, f"{prefix}{name}.")


def _is_path(annotation: Any, marks: Iterable[Any] = ()) -> bool:
    """Whether an annotation, with the marks that pydantic took off it, is one of the types, or has one within it."""
    return any(mark in _CHECKS for mark in marks) or any(
        _is_path(part, get_args(part)) for part in get_args(annotation)
    )
