"""Settings: declared types, plain YAML, and one clear line per error."""

from curriculum_ray.config.parsing import SpecT, parse
from curriculum_ray.config.spec import (
    LONGEST_NAME,
    ConfigError,
    FilePath,
    LocalPath,
    Spec,
    absolute,
    apply_overrides,
    check_path,
    differences,
    flatten,
    load_json,
    load_yaml,
    with_key,
)

__all__ = [
    "LONGEST_NAME",
    "ConfigError",
    "FilePath",
    "LocalPath",
    "Spec",
    "SpecT",
    "absolute",
    "apply_overrides",
    "check_path",
    "differences",
    "flatten",
    "load_json",
    "load_yaml",
    "parse",
    "with_key",
]
