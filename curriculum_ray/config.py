"""Settings: frozen pydantic models, safe YAML, `key.path=value` overrides, and errors of one clear line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import pydantic
import yaml

__all__ = [
    "ConfigError",
    "LocalPath",
    "Spec",
    "absolute",
    "apply_overrides",
    "differences",
    "flatten",
    "load_yaml",
    "parse",
    "set_key",
]


class ConfigError(ValueError):
    """Bad input from a user: one line with the rule, the value, and the file and key it came from.

    Command-line programs print it and exit with code 2.
    """


class Spec(pydantic.BaseModel):
    """Base of all settings: immutable, keyword-only, unknown keys refused, field docstrings kept as help."""

    model_config = pydantic.ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False, validate_default=True
    )


def absolute(path: str) -> str:
    """`path` from the root, links kept: workers of a run have other working folders than its user."""
    return str(Path(path).expanduser().absolute())


LocalPath = Annotated[str, pydantic.Field(min_length=1), pydantic.AfterValidator(absolute)]

SpecT = TypeVar("SpecT", bound=Spec)


class _UniqueKeyLoader(yaml.SafeLoader):
    """Safe YAML that refuses a key written twice, and reads 1e-3 as a number."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)  # type: ignore[no-untyped-call]
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} stands twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


# YAML 1.1 reads `1e-3` as a string; everybody who writes a learning rate means the number.
_UniqueKeyLoader.add_implicit_resolver(  # type: ignore[no-untyped-call]
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def _yaml(text: str, source: str) -> Any:
    try:
        return _UniqueKeyLoader(text).get_single_data()
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{source} is not readable YAML: {reason}") from None


def load_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML mapping from `path`; anything else raises `ConfigError`."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path} does not exist") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from None
    data = _yaml(text, str(path))
    if not isinstance(data, dict):
        raise ConfigError(f"{path} must hold a mapping of keys to values, but holds {type(data).__name__}")
    return data


def apply_overrides(data: Mapping[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """Return a copy of `data` with each `key.path=value` set; the value is read as YAML."""
    result = _copy(data)
    for override in overrides:
        path, separator, text = override.partition("=")
        if not separator or not all(path.strip().split(".")):
            raise ConfigError(f"--set takes key.path=value, but got {override!r}")
        set_key(result, path.strip(), _yaml(text, f"--set {override}"), f"--set {override}")
    return result


def set_key(data: dict[str, Any], path: str, value: Any, source: str) -> None:
    """Set the dotted key `path` of nested settings in place; groups that are missing are made."""
    *groups, last = path.split(".")
    node = data
    for group in groups:
        child = node.setdefault(group, {})
        if not isinstance(child, dict):
            raise ConfigError(f"{source}: {group} holds the value {child!r}, not a group of keys")
        node = child
    node[last] = value


def _copy(value: Any) -> Any:
    return {key: _copy(item) for key, item in value.items()} if isinstance(value, Mapping) else value


def flatten(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Turn nested mappings into one level with dotted keys, e.g. {"clusters.count": 20}."""
    flat: dict[str, Any] = {}
    for key, value in data.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{name}."))
        else:
            flat[name] = value
    return flat


def differences(before: Mapping[str, Any], now: Mapping[str, Any], most: int = 3) -> str:
    """Say in words which of two nested settings differ, at most `most` of them; "" where none does."""
    old, new = flatten(before), flatten(now)
    keys = [key for key in sorted({*old, *new}) if old.get(key) != new.get(key)]
    shown = [f"{key} was {old.get(key)!r} and is {new.get(key)!r}" for key in keys[:most]]
    return ", ".join(shown) + (f" and {len(keys) - most} more" if len(keys) > most else "")


def parse(cls: type[SpecT], data: Any, source: str | Mapping[str, str]) -> SpecT:
    """Validate `data` as `cls`; the first fault becomes a `ConfigError` naming source, key and value.

    `source` is a name for all of `data`, or names by dotted key, where the longest that leads to the fault counts,
    else one within it, and "" is the rest.
    """
    try:
        return cls.model_validate(data)
    except pydantic.ValidationError as error:
        faults = error.errors(include_url=False)
        key, line = _first_fault(faults[0], data)
        if not isinstance(source, str):
            leads = [name for name in source if name in ("", key) or key.startswith(f"{name}.")]
            within = [name for name in source if name.startswith(f"{key}.")]
            source = source[within[0] if leads == [""] and within else max(leads, key=len)]
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        raise ConfigError(f"{source}: {line}{more}") from None


def _first_fault(fault: Any, data: Any) -> tuple[str, str]:
    """The dotted key of a fault, and a line that gives the rule, the key and the value."""
    key, kind, value = _key(fault["loc"], data), fault["type"], fault.get("input")
    if kind == "extra_forbidden":
        return key, f"{key} is not a known key (its value is {value!r})"
    if kind == "missing":
        return key, f"{key} is required but missing"
    if kind == "value_error":
        return key, f"{key}: {fault['ctx']['error']}" if key else str(fault["ctx"]["error"])
    if kind in ("union_tag_not_found", "union_tag_invalid"):
        tag = f"{key}.{fault['ctx']['discriminator']}".replace("'", "").lstrip(".")
        if kind == "union_tag_not_found":
            return tag, f"{tag} is required but missing"
        choices = str(fault["ctx"]["expected_tags"]).replace("'", "")
        return tag, f"{tag} must be one of {choices}, but got {fault['ctx']['tag']!r}"
    return (
        key,
        f"{key or 'the whole'} {fault['msg'].replace('Input should be', 'must be')}, but got {value!r}",
    )


def _key(location: tuple[int | str, ...], data: Any) -> str:
    """The dotted key of a fault: its location less the tags of unions, which are no keys of `data`."""
    parts = []
    for index, part in enumerate(location):
        inside = (isinstance(data, Mapping) and part in data) or (
            isinstance(data, list) and isinstance(part, int)
        )
        if inside:
            data = data[part]
        if inside or index == len(location) - 1:
            parts.append(str(part))
    return ".".join(parts)
