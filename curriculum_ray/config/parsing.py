"""Values checked as settings: the first fault is one line that names where it came from, and what was meant."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeVar

import pydantic

from curriculum_ray.config.keys import meant_by
from curriculum_ray.config.shown import shown
from curriculum_ray.config.spec import ConfigError, Spec

__all__ = ["SHA256", "SpecT", "parse"]

SHA256 = r"^[0-9a-f]{64}$"
"""The pattern of a digest in settings."""

# What pydantic says of classes and regular expressions, in the words of settings.
_GROUP = "must be a mapping of keys to values"
_RULES = {"model_type": _GROUP, "model_attributes_type": _GROUP, "dict_type": _GROUP}
_PATTERNS = {SHA256: "be a SHA-256, 64 hexadecimal digits in lower case"}

SpecT = TypeVar("SpecT", bound=pydantic.BaseModel)


def parse(cls: type[SpecT], data: Any, source: str | Mapping[str, str]) -> SpecT:
    """Validate `data` as `cls`; the first fault becomes a `ConfigError` naming source, key and value.

    `source` is a name for all of `data`, or names by dotted key: the longest prefix of the fault's key
    applies, else a key within it, or beside it where it is missing; "" is the rest. A rule about several keys has the
    sources of those that it names.
    """
    try:
        found = cls.model_validate(data)
    except pydantic.ValidationError as error:
        faults = error.errors(include_url=False)
        key, line = _first_fault(cls, faults[0], data)
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        kind = faults[0]["type"]
        named = _sources_named(source, key, line) if kind == "value_error" else ""
        missing = kind in ("missing", "union_tag_not_found")
        raise ConfigError(f"{named or _source(source, key, missing)}: {line}{more}") from None
    fault = _other_kind(data, found, "") if isinstance(data, Mapping) else None
    if fault is not None:
        key, line = fault
        raise ConfigError(f"{_source(source, key)}: {line}")
    return found


def _source(source: str | Mapping[str, str], key: str, missing: bool = False) -> str:
    """Return the name of the source of a fault at `key`; where it is missing, a key beside it made its group."""
    if isinstance(source, str):
        return source
    leads = [name for name in source if name in ("", key) or key.startswith(f"{name}.")]
    group = key.rpartition(".")[0] if missing else key
    within = [name for name in source if group and name.startswith(f"{group}.")]
    return source[within[0] if leads == [""] and within else max(leads, key=len)]


def _sources_named(source: str | Mapping[str, str], key: str, line: str) -> str:
    """The sources of the keys within `key` that `line` names, in full or from `key` on; "" where it names none."""
    if isinstance(source, str):
        return ""
    lead = f"{key}." if key else ""
    names = [name for name in source if name and name.startswith(lead)]
    found = [
        name
        for name in names
        if any(
            re.search(rf"(?<![\w.-]){re.escape(word)}(?![\w-]|\.\w)", line)
            for word in (name, name[len(lead) :])
        )
    ]
    return " and ".join(dict.fromkeys(source[name] for name in found))


def _other_kind(given: Any, found: Any, key: str) -> tuple[str, str] | None:
    """Find a number or boolean that pydantic converted from another type: "1" and true are not 1."""
    if isinstance(given, Mapping):
        inner = found if isinstance(found, Mapping) else getattr(found, "__dict__", {})
        pairs = [
            (f"{key}.{name}".lstrip("."), value, inner.get(name, value)) for name, value in given.items()
        ]
    elif isinstance(given, list | tuple) and isinstance(found, list | tuple):
        pairs = [(f"{key}.{place}", *both) for place, both in enumerate(zip(given, found, strict=False))]
    else:
        if isinstance(found, bool) == isinstance(given, bool) and not (
            isinstance(given, str) and isinstance(found, int | float)
        ):
            return None
        kind = "true or false" if isinstance(found, bool) else "a number"
        return (
            (key, f"{key} must be {kind}, but got {shown(given)}") if isinstance(found, int | float) else None
        )
    return next((fault for pair in pairs if (fault := _other_kind(pair[1], pair[2], pair[0]))), None)


def _first_fault(cls: type[pydantic.BaseModel], fault: Any, data: Any) -> tuple[str, str]:
    """Return the dotted key of a fault, and a line with the rule, the key and the value."""
    key, kind, value = _key(fault["loc"], data, fault["type"]), fault["type"], fault.get("input")
    if kind == "extra_forbidden":
        meant = meant_by(cls, key, value) if issubclass(cls, Spec) else ""
        return key, f"{key} is not a known key (its value is {shown(value)}){meant}"
    if kind == "missing":
        parent, _, name = key.rpartition(".")
        if name.isdecimal():
            return parent, f"{parent} must have more values, but got {shown(value)}"
        return key, f"{key} is required but missing"
    if kind == "value_error":
        return key, f"{key}: {fault['ctx']['error']}" if key else str(fault["ctx"]["error"])
    if kind in ("union_tag_not_found", "union_tag_invalid"):
        tag = f"{key}.{fault['ctx']['discriminator']}".replace("'", "").lstrip(".")
        if kind == "union_tag_not_found":
            return tag, f"{tag} is required but missing"
        choices = str(fault["ctx"]["expected_tags"]).replace("'", "")
        return tag, f"{tag} must be one of {choices}, but got {shown(fault['ctx']['tag'])}"
    if kind == "string_pattern_mismatch":
        pattern = fault["ctx"]["pattern"]
        rule = f"must {_PATTERNS.get(pattern) or f'have the form {pattern}'}"
    else:
        rule = _RULES.get(kind) or fault["msg"].replace("Input should be", "must be")
    return key, f"{key or 'the value'} {rule}, but got {shown(value)}"


def _key(location: tuple[int | str, ...], data: Any, kind: str) -> str:
    """Return the dotted key of a fault: its location without tags of unions, which are no keys of `data`."""
    parts = []
    for index, part in enumerate(location):
        inside = (isinstance(data, Mapping) and part in data) or (
            isinstance(data, list | tuple) and isinstance(part, int) and part < len(data)
        )
        if inside:
            data = data[part]
        # A missing field, or one within a shorthand such as "dit-S/2", is no key of `data` either.
        named = kind in ("missing", "string_pattern_mismatch")
        if inside or (index == len(location) - 1 and named):
            parts.append(str(part))
    return ".".join(parts)
