"""Nested settings as they are written: read from files, changed by `key.path=value`, flattened and compared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from curriculum_ray.config.plain_yaml import DEEPEST, LARGEST_JSON, TextFault, read_json, read_yaml
from curriculum_ray.config.shown import one_line, shown
from curriculum_ray.config.spec import ConfigError

__all__ = ["YAML_SUFFIXES", "apply_overrides", "differences", "flatten", "load_json", "load_yaml", "with_key"]

YAML_SUFFIXES = (".yaml", ".yml")
"""How the names of YAML files end."""
_LONGEST_OVERRIDE = 160


def _read(text: str, source: str, json: bool = False) -> Any:
    try:
        return read_json(text) if json else read_yaml(text)
    except TextFault as error:
        kind = "JSON" if json else "YAML"
        raise ConfigError(f"{source} is not readable {kind}: {error}") from None


def load_yaml(path: str | Path) -> dict[str, Any]:
    """Read the mapping of settings in `path`, YAML or, by suffix, JSON; `ConfigError` for anything else."""
    data = _read(_read_text(path), str(path), json=Path(path).suffix == ".json")
    if not isinstance(data, dict):
        found = "is empty" if data is None else f"holds {type(data).__name__}"
        raise ConfigError(f"{path} must hold a mapping of keys to values, but {found}")
    return data


def load_json(path: str | Path) -> Any:
    """Read the JSON value in `path`; `ConfigError` if there is none."""
    return _read(_read_text(path), str(path), json=True)


def _read_text(path: str | Path) -> str:
    """Read a UTF-8 file of settings or measurements; `ConfigError` if it cannot be read."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            # At most what a reader accepts: the file may be endless.
            return file.read(LARGEST_JSON + 1)
    except FileNotFoundError:
        raise ConfigError(f"{path} does not exist") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise ConfigError(f"{path} cannot be read: {error}") from None


def apply_overrides(data: Mapping[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """Return a copy of `data` with each `key.path=value` set; the value is read as YAML."""
    result = dict(data)
    for override in overrides:
        path, separator, text = override.partition("=")
        path = path.strip()
        if not separator or not all(path.split(".")):
            raise ConfigError(f"--set takes key.path=value, but got {shown(override)}")
        source = f"--set {one_line(override, _LONGEST_OVERRIDE)}"
        result = with_key(result, path, _read(text, source), source)
    return result


def with_key(data: Mapping[str, Any], path: str, value: Any, source: str) -> dict[str, Any]:
    """Return a copy of nested settings with the dotted key `path` set; missing groups are created."""
    *groups, last = path.split(".")
    if len(groups) >= DEEPEST:
        raise ConfigError(f"{source}: a key must have at most {DEEPEST} parts, but got {len(groups) + 1}")
    result = node = dict(data)
    for group in groups:
        child = node.get(group, {})
        if not isinstance(child, Mapping):
            raise ConfigError(f"{source}: {group} holds the value {shown(child)}, not a group of keys")
        copied = node[group] = dict(child)
        node = copied
    node[last] = value
    return result


def flatten(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested mappings to dotted keys, e.g. {"clusters.count": 20}."""
    flat: dict[str, Any] = {}
    for key, value in data.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{name}."))
        else:
            flat[name] = value
    return flat


def differences(before: Mapping[str, Any], now: Mapping[str, Any], most: int = 3) -> str:
    """Describe the differences of two nested settings, at most `most` of them; "" if there are none."""
    old, new = flatten(before), flatten(now)
    keys = [key for key in sorted({*old, *new}) if old.get(key) != new.get(key)]
    words = [f"{key} was {shown(old.get(key))} and is {shown(new.get(key))}" for key in keys[:most]]
    return ", ".join(words) + (f" and {len(keys) - most} more" if len(keys) > most else "")
