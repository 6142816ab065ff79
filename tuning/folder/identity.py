"""The identity of a study or a run: a hash of its settings, space, data and protocol, and a unique id."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curriculum_ray.config import ConfigError, differences
from curriculum_ray.config.plain_yaml import read_own_json
from curriculum_ray.config.regular import read_regular
from curriculum_ray.data import DataInfo, Dataset, DataSpec
from curriculum_ray.data.content import describe_content
from curriculum_ray.data.spec import EMBEDDED
from curriculum_ray.evaluation import Evaluator
from curriculum_ray.files import replace_file
from curriculum_ray.training.initial_weights import without_path
from tuning.folder.layout import IDENTITY_FILE

__all__ = ["Content", "Identity", "claim", "content_of", "without_paths"]

_IN_PROTOCOL = ("reference", "weights")
"""Files of an evaluation, whose content its protocol has, as it has that of the CLIP of clip_score."""
_OF_DATA = ("name", "vae", "text_encoder")
"""Paths of data: its content has their items and captions, and a protocol the hash of the autoencoder."""


@dataclass(frozen=True)
class Content:
    """Everything that determines the results of a study or run, as JSON values; equal hashes may share a table."""

    settings: Mapping[str, Any]
    """Settings that decide results."""
    data: Mapping[str, Any]
    """See `describe_content`."""
    protocol: Mapping[str, Any]
    """How results are measured; {} where nothing is measured."""
    space: Mapping[str, Any] | None = None
    """The search space of a study; None for a run."""

    def parts(self) -> dict[str, Any]:
        """Its parts by name."""
        parts = {"settings": self.settings, "data": self.data, "protocol": self.protocol}
        return parts if self.space is None else {**parts, "space": self.space}

    @property
    def hash(self) -> str:
        """The hash of all parts, 16 hex digits."""
        text = json.dumps(self.parts(), sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Identity:
    """Distinguishes a study or run from others of the same name."""

    id: str
    """32 random hex digits, drawn when the folder was created."""
    hash: str
    """The hash of its `Content`."""

    @property
    def short(self) -> str:
        """The first digits of the id, for names that people read."""
        return self.id[:8]


def content_of(
    settings: Mapping[str, Any],
    spec: DataSpec,
    data: Dataset | DataInfo,
    evaluator: Evaluator | None,
    space: Mapping[str, Any] | None = None,
) -> Content:
    """The content of a study (with its `space`) or of a run.

    Data, initial weights, and the files of an evaluation, count by their content, not by their path.
    """
    settings = without_paths(settings)
    protocol = {} if evaluator is None else evaluator.protocol
    plain = json.loads(json.dumps([settings, describe_content(spec, data), protocol, space], default=str))
    return Content(*plain)


def without_paths(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a run or study as JSON without the paths of files that count by their content.

    Keys that runs have not always had are left out where they are null: earlier studies and runs keep their content.
    """
    settings = without_path(settings)
    if settings.get("lora", "") is None:
        del settings["lora"]
    if isinstance(run := settings.get("run"), Mapping):
        settings["run"] = without_paths(run)
    if isinstance(spec := settings.get("data"), Mapping) and spec.get("name") not in EMBEDDED:
        settings["data"] = {key: value for key, value in spec.items() if key not in _OF_DATA}
    if isinstance(spec := settings.get("evaluation"), Mapping):
        files = {key for key in _IN_PROTOCOL if spec.get(key) is not None} | {"clip_score"}
        settings["evaluation"] = {key: value for key, value in spec.items() if key not in files}
    return settings


def claim(folder: Path, content: Content, kind: str) -> Identity:
    """The identity of the study or run in `folder`, created where there is none.

    kind: "study" or "run", for the error. Raises ConfigError, one line that says what differs, where the folder holds
    one with other content.
    """
    path = folder / IDENTITY_FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            _check_free(folder)
            fresh = Identity(uuid.uuid4().hex, content.hash)
            written = {"kind": kind, "id": fresh.id, "hash": fresh.hash, **content.parts()}
            replace_file(path, json.dumps(written, indent=1))
            return fresh
        found = read_own_json(read_regular(path))
        before = Identity(str(found["id"]), str(found["hash"]))
        stored = {key: found.get(key) for key in content.parts()}
        whole = before.hash == Content(**stored).hash
        # The first releases kept the paths.
        if isinstance(stored["settings"], Mapping):
            stored["settings"] = without_paths(stored["settings"])
        changed = differences(stored, content.parts())
    except ConfigError:
        raise
    except OSError as error:
        raise ConfigError(f"--output {folder} cannot be written: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path} is corrupt ({error}): choose another --output or --name") from None
    if changed or not whole:
        raise ConfigError(
            f"{folder} holds a {kind} with other content ({changed or 'its hash differs'}): choose another --name or "
            "--output"
        )
    return before


def _check_free(folder: Path) -> None:
    """Refuse a folder with foreign files: a study or run overwrites files that have the names of its own."""
    names = sorted(found.name for found in folder.iterdir() if not found.name.startswith("."))
    if names:
        raise ConfigError(
            f"{folder} holds files that are of no study or run ({', '.join(names[:3])}{', …' if names[3:] else ''}): "
            "choose another --name or --output"
        )
