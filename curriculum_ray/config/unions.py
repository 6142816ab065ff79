"""Unions of settings, as the annotations of the settings say them: the key that tells their members apart."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, get_args

from pydantic.fields import FieldInfo

from curriculum_ray.config.spec import Spec

__all__ = ["TaggedUnion", "spec_at", "specs_in", "union_at"]


@dataclass(frozen=True)
class TaggedUnion:
    """Settings of one of several kinds."""

    tag: str
    """The key whose value is the kind, e.g. "rule"."""
    members: dict[str, type[Spec]]
    """The settings of each kind."""

    def alike(self, one: Any, other: Any) -> bool:
        """Whether two kinds have the same settings, which they share by one class: a change of kind keeps them.

        Settings of one name in two classes may mean different things.
        """
        if one == other:
            return True
        a, b = (self.members.get(kind) if isinstance(kind, str) else None for kind in (one, other))
        if a is None or b is None:
            return False
        shared = next(base for base in a.__mro__ if issubclass(b, base) and issubclass(base, Spec))
        own = [set(member.model_fields) - {self.tag} for member in (a, b)]
        return own[0] == own[1] == set(shared.model_fields) - {self.tag}


@cache
def union_at(spec: type[Spec], key: str) -> TaggedUnion | None:
    """The union that the settings `spec` hold at `key`; None where there is another value, or no such key."""
    field = spec.model_fields.get(key)
    if field is None:
        return None
    tag = field.discriminator or next(_discriminators(field.annotation), None)
    if not isinstance(tag, str):
        return None
    members = {
        kind: member
        for member in specs_in(field.annotation)
        for kind in get_args(member.model_fields[tag].annotation)
    }
    return TaggedUnion(tag, members)


def spec_at(spec: type[Spec], key: str) -> type[Spec] | None:
    """The settings of one kind that `spec` holds at `key`, or None; see `union_at` for those of several."""
    field = spec.model_fields.get(key)
    found = [] if field is None else list(specs_in(field.annotation))
    return found[0] if len(found) == 1 else None


def specs_in(annotation: Any) -> Iterator[type[Spec]]:
    """The settings that an annotation names, at any depth of containers and unions."""
    if isinstance(annotation, type) and issubclass(annotation, Spec):
        yield annotation
    for part in get_args(annotation):
        yield from specs_in(part)


def _discriminators(annotation: Any) -> Iterator[Any]:
    """What tells apart the members of an annotated union that is one part of `annotation`, e.g. beside None."""
    for part in get_args(annotation):
        if isinstance(part, FieldInfo) and part.discriminator is not None:
            yield part.discriminator
        yield from _discriminators(part)
