"""Settings as text: YAML by the core schema of YAML 1.2, and JSON, both read strictly and within limits.

Values are built from parser events without recursion, so that no text can exceed its limits.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import yaml

from curriculum_ray.config.core_schema import (
    FLOAT,
    OTHER_BASES,
    TAG,
    TextFault,
    checked_text,
    read_float,
    read_integer,
    read_plain,
    read_tagged,
)

__all__ = ["TextFault", "read_json", "read_own_json", "read_yaml", "write_yaml"]

DEEPEST = 64
"""Maximum nesting of groups."""
MOST_VALUES = 100_000
"""Maximum number of values; those that aliases repeat count each time."""
LARGEST_YAML, LARGEST_JSON = 2**18, 2**26
"""Maximum number of characters."""

# The merge key of YAML 1.1, which people still use.
_MERGE = "<<"


def read_yaml(text: str) -> Any:
    """Read the value of one YAML document, None for empty text; raises `TextFault`."""
    if len(text) > LARGEST_YAML:
        raise TextFault(f"it has {len(text):,} characters, but settings have {LARGEST_YAML:,} at most")
    builder = _Builder()
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            builder.take(event)
    except yaml.MarkedYAMLError as error:
        problem = ", ".join(filter(None, (error.context, error.problem)))
        raise TextFault(f"{problem}{_place(error.problem_mark)}") from None
    except yaml.YAMLError as error:
        raise TextFault(str(error)) from None
    except TextFault:
        raise
    except (ValueError, OverflowError) as error:
        # An escape beyond Unicode, such as "\\UFFFFFFFF".
        raise TextFault(f"an escape names no character: {error}") from None
    return builder.document


def read_json(text: str) -> Any:
    """Read the value of a JSON text, with NaN and infinities as Python writes them; raises `TextFault`."""

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        group: dict[str, Any] = {}
        for key, value in items:
            if key in group:
                raise TextFault(f"the key {key!r} is repeated")
            group[checked_text(key)] = value if not isinstance(value, str) else checked_text(value)
        return group

    return _bounded(text, object_pairs_hook=pairs, parse_int=read_integer, parse_float=read_float)


def read_own_json(content: str | bytes) -> Any:
    """Read the value of a JSON file that this project wrote, or `TextFault`: strings may have several lines.

    Only its length and its depth are limited, because what lies there now may have been written by anybody.
    """
    try:
        return _bounded(content if isinstance(content, str) else content.decode())
    except UnicodeDecodeError:
        raise TextFault("it is not UTF-8") from None


def _bounded(text: str, **hooks: Any) -> Any:
    """Read a JSON text of at most `LARGEST_JSON` characters, at most `DEEPEST` deep; hooks: of `json.loads`."""
    if len(text) > LARGEST_JSON:
        raise TextFault(f"it has {len(text):,} characters, but may have {LARGEST_JSON:,} at most")
    try:
        value = json.loads(text, **hooks)
    except json.JSONDecodeError as error:
        raise TextFault(f"{error.msg} in line {error.lineno}, column {error.colno}") from None
    except RecursionError:
        raise _too_deep() from None
    except TextFault:
        raise
    except ValueError as error:
        # Thousands of digits, which Python refuses to convert.
        raise TextFault(str(error)) from None
    level, deep = [value], 0
    while level := [part for group in level for part in _parts(group)]:
        deep += 1
        if deep > DEEPEST:
            raise _too_deep()
    return value


def _parts(value: Any) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def _too_deep(where: str = "") -> TextFault:
    return TextFault(f"its groups are nested more than {DEEPEST} deep{where}")


def write_yaml(data: Any, width: int = 110, flow: bool | None = None) -> str:
    """Write `data` as YAML, valid as 1.1 too; keys keep their order. flow: None for short groups."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, default_flow_style=flow, width=width)


class _Dumper(yaml.SafeDumper):
    """Quotes every string that some reader would take for something else."""


# PyYAML follows YAML 1.1, in which 1e-3 is a string.
_Dumper.add_implicit_resolver(f"{TAG}float", FLOAT, list("-+.0123456789"))  # type: ignore[no-untyped-call]
_Dumper.add_implicit_resolver(f"{TAG}int", OTHER_BASES, ["0"])  # type: ignore[no-untyped-call]


@dataclass
class _Group:
    """A mapping or a sequence that is being built."""

    value: dict[str, Any] | list[Any]
    anchor: str | None
    size: int = 1
    """Number of values in it so far, including itself."""
    depth: int = 1
    """Its depth so far: 1 without groups in it."""
    key: str | None = None
    names: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class _Anchored:
    value: Any
    size: int
    depth: int


class _Builder:
    """Builds values from parser events."""

    def __init__(self) -> None:
        self.document: Any = None
        self._documents = 0
        self._open: list[_Group] = []
        self._anchors: dict[str, _Anchored | None] = {}
        self._values = 0

    def take(self, event: yaml.Event) -> None:
        """Process the next event."""
        match event:
            case yaml.DocumentStartEvent():
                self._documents += 1
                if self._documents > 1:
                    raise TextFault(f"it holds more than one document{_place(event.start_mark)}")
            case yaml.ScalarEvent():
                self._scalar(event)
            case yaml.AliasEvent():
                self._alias(event)
            case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                self._begin(event)
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                self._end()

    def _awaits_key(self) -> bool:
        group = self._open[-1] if self._open else None
        return group is not None and isinstance(group.value, dict) and group.key is None

    def _scalar(self, event: yaml.ScalarEvent) -> None:
        where = _place(event.start_mark)
        if self._awaits_key():
            self._name(checked_text(event.value, where), where)
            return
        text = checked_text(event.value, where)
        if event.tag is not None:
            value = read_tagged(text, event.tag, where)
        else:
            value = read_plain(text, where) if event.implicit[0] else text
        if event.anchor:
            self._anchors[event.anchor] = _Anchored(value, 1, 0)
        self._add(value, 1, 0, where)

    def _name(self, key: str, where: str) -> None:
        group = self._open[-1]
        if not key:
            raise TextFault(f"a key is empty{where}")
        if key == _MERGE:
            raise TextFault(f"merge keys (<<) are not supported: write out the settings{where}")
        if key in group.names:
            raise TextFault(f"the key {key!r} is repeated{where}")
        group.names.add(key)
        group.key = key

    def _alias(self, event: yaml.AliasEvent) -> None:
        where = _place(event.start_mark)
        if event.anchor not in self._anchors:
            raise TextFault(f"the alias *{event.anchor} has no anchor above it{where}")
        found = self._anchors[event.anchor]
        if found is None:
            raise TextFault(f"the alias *{event.anchor} is inside its own anchor{where}")
        if self._awaits_key():
            if not isinstance(found.value, str):
                raise TextFault(f"a key must be a string, but the alias *{event.anchor} is not{where}")
            self._name(found.value, where)
            return
        self._add(found.value, found.size, found.depth, where)

    def _begin(self, event: yaml.MappingStartEvent | yaml.SequenceStartEvent) -> None:
        where = _place(event.start_mark)
        mapping = isinstance(event, yaml.MappingStartEvent)
        if self._awaits_key():
            kind = "a group" if mapping else "a list"
            hint = " (an unfilled template, {{ … }}?)" if mapping and event.flow_style else ""
            raise TextFault(f"a key must be a string, but is {kind}{hint}{where}")
        if event.tag not in (None, "!", f"{TAG}{'map' if mapping else 'seq'}"):
            raise TextFault(f"the tag {event.tag} is not supported{where}")
        if len(self._open) == DEEPEST:
            raise _too_deep(where)
        if event.anchor:
            self._anchors[event.anchor] = None
        self._open.append(_Group({} if mapping else [], event.anchor))

    def _end(self) -> None:
        group = self._open.pop()
        if group.anchor:
            self._anchors[group.anchor] = _Anchored(group.value, group.size, group.depth)
        self._add(group.value, group.size, group.depth, "")

    def _add(self, value: Any, size: int, depth: int, where: str) -> None:
        """Add a finished value to its group; size and depth include everything it contains."""
        if not self._open:
            self.document = value
            return
        group = self._open[-1]
        group.size += size
        group.depth = max(group.depth, depth + 1)
        if group.size > MOST_VALUES:
            raise TextFault(f"it holds more than {MOST_VALUES:,} values, including those of aliases{where}")
        if len(self._open) + depth > DEEPEST:
            raise _too_deep(where)
        if isinstance(group.value, list):
            group.value.append(value)
        else:
            assert group.key is not None
            group.value[group.key] = value
            group.key = None


def _place(mark: Any) -> str:
    return "" if mark is None else f" in line {mark.line + 1}, column {mark.column + 1}"
