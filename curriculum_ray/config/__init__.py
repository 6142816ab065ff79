"""Settings: declared types, plain YAML, and one clear line per error."""

from curriculum_ray.config.nested import (
    YAML_SUFFIXES,
    apply_overrides,
    differences,
    flatten,
    load_json,
    load_yaml,
    with_key,
)
from curriculum_ray.config.parsing import SpecT, parse
from curriculum_ray.config.paths import LONGEST_NAME, FilePath, LocalPath, absolute, check_path
from curriculum_ray.config.spec import ConfigError, Shorthand, Spec

__all__ = [
    "LONGEST_NAME",
    "YAML_SUFFIXES",
    "ConfigError",
    "FilePath",
    "LocalPath",
    "Shorthand",
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
