"""Every dotted key that settings may hold, and the one that was probably meant by an unknown one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import cache
from typing import Any

from pydantic.fields import FieldInfo

from curriculum_ray.config.nested import flatten
from curriculum_ray.config.spec import Spec, holds_mapping, specs_in, union_at

__all__ = ["Key", "closest", "in_words", "is_known", "keys_of", "meant_by"]

NAME = "NAME"
"""Stands for a name of the user's own in a mapping."""

# The last part of a key says most of what is meant; a part with fewer letters in common is another word.
_LAST, _LEAST_LAST, _LEAST = 0.7, 0.7, 0.65


@dataclass(frozen=True)
class Key:
    """A key of settings, or a group of them."""

    name: str
    """With dots, from the outermost settings."""
    field: FieldInfo
    tag: str
    """The key that chooses the settings which have it, e.g. "weighting.kind"; "" where all have it."""
    kinds: tuple[str, ...]
    """The values of `tag` that choose them."""
    model: type[Spec]
    """The settings that declare it."""


@cache
def keys_of(spec: type[Spec]) -> tuple[Key, ...]:
    """All keys in the order of their declarations, each group before what is in it.

    Of several kinds of settings each lists its own. Settings within themselves are entered once.
    """
    return tuple(_keys(spec, "", ("", ()), ()))


def in_words(tag: str, kinds: Iterable[str]) -> str:
    """Say where a key is one: "where weighting.kind is min_snr or p2"."""
    return f"where {tag} is {' or '.join(dict.fromkeys(kinds))}"


def _keys(
    spec: type[Spec], prefix: str, chosen: tuple[str, tuple[str, ...]], above: tuple[type[Spec], ...]
) -> Iterator[Key]:
    for name, field in spec.model_fields.items():
        key = f"{prefix}{name}"
        yield Key(key, field, *chosen, model=spec)
        inside = f"{key}.{NAME}." if holds_mapping(field.annotation) else f"{key}."
        union = union_at(spec, name)
        for inner in dict.fromkeys(specs_in(field.annotation)):
            if inner in (*above, spec):
                continue
            within = chosen
            if union is not None:
                kinds = tuple(str(kind) for kind, member in union.members.items() if member is inner)
                within = (f"{key}.{union.tag}", kinds)
            yield from _keys(inner, inside, within, (*above, spec))


def is_known(spec: type[Spec], name: str) -> bool:
    """Whether settings of some kind may hold the dotted key `name`; below a mapping of anything, any key is allowed."""
    for key in keys_of(spec):
        if key.name == name or (holds_mapping(key.field.annotation) and name.startswith(f"{key.name}.")):
            return True
    return False


def closest(name: str, names: list[str]) -> str | None:
    """The dotted name most like `name`, by its last part above all, or by its initials (`lr`); None without such."""
    best = max(
        ((_likeness(name, each), each) for each in names), default=(0.0, ""), key=lambda found: found[0]
    )
    return best[1] if best[0] >= _LEAST else None


def meant_by(spec: type[Spec], name: str, value: Any = None) -> str:
    """What to say after the unknown key `name`: "; did you mean optimizer.learning_rate?", or nothing.

    value: what it holds; of a group, the keys in it tell what is meant too.
    """
    keys = keys_of(spec)
    alike = [key for key in keys if key.name == name and key.tag]
    if alike:
        return f"; it is a key {in_words(alike[0].tag, [kind for key in alike for kind in key.kinds])}"
    names = list(dict.fromkeys(key.name for key in keys))
    if name in names:
        return "; a file holds it as nested mappings, without dots"
    found = closest(name, names)
    if found is None and isinstance(value, Mapping) and value:
        found = closest(f"{name}.{next(iter(flatten(value)), '')}", names)
    return "" if found is None else f"; did you mean {found}?"


def _likeness(wanted: str, name: str) -> float:
    (parent, _, last), (other_parent, _, other_last) = wanted.rpartition("."), name.rpartition(".")
    initials = "".join(word[:1] for word in other_last.split("_"))
    like = 0.95 if len(last) > 1 and last == initials else SequenceMatcher(None, last, other_last).ratio()
    if like < _LEAST_LAST:
        return 0.0
    if parent:
        around = SequenceMatcher(None, parent, other_parent).ratio()
    else:  # the groups were forgotten, of which fewer are likelier
        around = 1 / (1 + len(other_parent.split("."))) if other_parent else 1.0
    return _LAST * like + (1 - _LAST) * around
