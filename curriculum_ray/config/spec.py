"""Settings: frozen pydantic models, groups of one of several kinds, and what may stand in short for a group."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, get_args, get_origin

import pydantic
from pydantic.fields import FieldInfo

from curriculum_ray.config.shown import one_line

__all__ = [
    "ConfigError",
    "Shorthand",
    "Spec",
    "TaggedUnion",
    "holds_mapping",
    "in_full",
    "spec_at",
    "specs_in",
    "union_at",
    "written_out",
]


class ConfigError(ValueError):
    """Bad user input: one line with the rule, the value, and the file and key it came from.

    Command-line programs print it and exit with code 2. The message is always one printable line of readable
    length.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(one_line(message))


class Spec(pydantic.BaseModel):
    """Base of all settings: immutable, keyword-only; unknown keys are refused, field docstrings are help."""

    model_config = pydantic.ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False, validate_default=True
    )

    def to_plain(self) -> dict[str, Any]:
        """JSON-safe values, without the nulls that are defaults."""
        plain = self.model_dump(mode="json")
        for key, field in type(self).model_fields.items():
            value = getattr(self, key)
            if isinstance(value, Spec):
                plain[key] = value.to_plain()
            elif value is None and field.default is None:
                del plain[key]
        return plain

    @classmethod
    def completed(cls, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """Fill in defaults that depend on other settings, before the types are checked; shorthands are written out.

        values: by key, mappings or settings, whatever was given. A ValueError says what is wrong.
        """
        return values

    @pydantic.model_validator(mode="before")
    @classmethod
    def _written_out(cls, values: Any) -> Any:
        return cls.completed(written_out(cls, values)) if isinstance(values, Mapping) else values


@dataclass(frozen=True)
class Shorthand:
    """In the annotation of a group of settings: what may stand in its place.

    Where a group is of one of several kinds, the kind alone stands for it without being declared.
    """

    group: Callable[[Any], Any]
    """The mapping that a value stands for; a value that stands for none is returned."""

    @classmethod
    def of(cls, key: str, kind: type) -> Shorthand:
        """A value of the type `kind` stands for {key: value}; true and false are no integers."""
        return cls(lambda value: {key: value} if type(value) is kind else value)


@dataclass(frozen=True)
class TaggedUnion:
    """Settings of one of several kinds."""

    tag: str
    """The key whose value is the kind, e.g. "rule"."""
    members: dict[str, type[Spec]]
    """The settings of each kind."""

    def member(self, kind: Any) -> type[Spec] | None:
        """The settings of a kind; None where there is no such kind."""
        return self.members.get(kind) if isinstance(kind, str) else None

    def group(self, kind: Any) -> Any:
        """The settings that a kind alone stands for; what is no text is returned."""
        return {self.tag: kind} if isinstance(kind, str) else kind

    def alike(self, one: Any, other: Any) -> bool:
        """Whether two kinds have the same settings, which they share by one class: a change of kind keeps them.

        Settings of one name in two classes may mean different things.
        """
        if one == other:
            return True
        a, b = self.member(one), self.member(other)
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


def written_out(spec: type[Spec], values: Mapping[str, Any]) -> dict[str, Any]:
    """The settings `values` of the class `spec` with mappings in place of shorthands, but for those within groups."""
    groups = _groups(spec)
    return {key: groups[key](value) if key in groups else value for key, value in values.items()}


def in_full(spec: type[Spec], values: Mapping[str, Any]) -> dict[str, Any]:
    """`written_out` at any depth; groups whose kind is not among `values`, or not known, are left as they are."""
    result = written_out(spec, values)
    for key, value in result.items():
        if isinstance(value, Mapping):
            union = union_at(spec, key)
            inner = spec_at(spec, key) if union is None else union.member(value.get(union.tag))
            if inner is not None and not holds_mapping(spec.model_fields[key].annotation):
                result[key] = in_full(inner, value)
    return result


@cache
def _groups(spec: type[Spec]) -> Mapping[str, Callable[[Any], Any]]:
    """What turns a shorthand into its group, for each key that has some."""
    found: dict[str, Callable[[Any], Any]] = {}
    for key, field in spec.model_fields.items():
        union = union_at(spec, key)
        marks = [mark for mark in field.metadata if isinstance(mark, Shorthand)]
        if marks:
            found[key] = marks[0].group
        elif union is not None and not holds_mapping(field.annotation):
            found[key] = union.group
    return found


def holds_mapping(annotation: Any) -> bool:
    """Whether a value may be a mapping with names of the user's own."""
    return get_origin(annotation) is dict or any(holds_mapping(part) for part in get_args(annotation))


def _discriminators(annotation: Any) -> Iterator[Any]:
    """What tells apart the members of an annotated union that is one part of `annotation`, e.g. beside None."""
    for part in get_args(annotation):
        if isinstance(part, FieldInfo) and part.discriminator is not None:
            yield part.discriminator
        yield from _discriminators(part)
