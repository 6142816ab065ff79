"""What is written to disk as JSON and read again by a later version: frozen models with a version, validated."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

import pydantic

from curriculum_ray.config.parsing import parse
from curriculum_ray.config.plain_yaml import read_own_json
from curriculum_ray.config.regular import read_regular
from curriculum_ray.config.spec import ConfigError

__all__ = ["NewerVersion", "Stored"]


class NewerVersion(ConfigError):
    """A file was written by a later version of this project: it is neither damaged nor to be written over."""


class Stored(pydantic.BaseModel):
    """Base of the contents of JSON files that outlive the code that wrote them.

    `version` counts the format. Files from before there was one lack the key: they are read as version 0, which
    `upgraded` turns into version 1. A field that is added with a default leaves the version as it is; any other change
    raises it and teaches `upgraded` what the earlier one looked like.
    """

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    version: Literal[1] = 1
    """Version of the format."""

    @classmethod
    def upgraded(cls, data: dict[str, Any]) -> dict[str, Any]:
        """The content of a file of version 0 as version 1 has it; keys that are not known any more are dropped."""
        return {key: value for key, value in data.items() if key in cls.model_fields}

    @classmethod
    def from_json(cls, data: Any, source: str) -> Self:
        """Check a JSON value; `source` is what the `ConfigError` names."""
        version = data.get("version", 0) if isinstance(data, dict) else 1
        if isinstance(version, int) and version > cls.model_fields["version"].default:
            raise NewerVersion(
                f"{source} has format version {version}, written by a later release: update curriculum-ray"
            )
        return parse(cls, cls.upgraded(data) if version == 0 else data, source)

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """The content of `path`; None where there is no such file, or a damaged one.

        Raises NewerVersion, and a ConfigError where the file cannot be read.
        """
        try:
            return cls.from_json(read_own_json(read_regular(path)), str(path))
        except NewerVersion:
            raise
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
        except ValueError:
            return None

    def to_json(self) -> dict[str, Any]:
        """All fields as JSON values."""
        return self.model_dump(mode="json")
