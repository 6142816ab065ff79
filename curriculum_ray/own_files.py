"""Files that commands write into users' folders: each has a mark, without which it is not overwritten."""

from __future__ import annotations

import hashlib
import json
import os
import re
import struct
import zlib
from pathlib import Path
from typing import Any

from curriculum_ray.config import ConfigError
from curriculum_ray.config.plain_yaml import read_own_json
from curriculum_ray.files import replace_file

__all__ = ["FORCE_OPTION", "check_own", "write_own"]

FORCE_OPTION = "--force"
_MARK = "written by curriculum-ray, sha256 "
_JSON_KEY = "written_by"
_PNG_START = b"\x89PNG\r\n\x1a\n"
_PNG_KEY = b"curriculum-ray"
# The first chunk of a PNG is its header: length, kind, 13 bytes, checksum.
_PNG_HEADER = len(_PNG_START) + 25


def check_own(path: Path, *, force: bool = False) -> None:
    """Raise ConfigError if `path` is a file that no command of this project wrote."""
    if force or not os.path.lexists(path):
        return
    if not path.is_file():
        raise ConfigError(f"{path} cannot be written: it is not a file")
    if _marked(_read(path)) is None:
        raise ConfigError(
            f"{path} exists, and was not written by this command: choose another place, or add {FORCE_OPTION}, "
            "which keeps it under another name"
        )


def write_own(path: Path, content: str | bytes, *, force: bool = False) -> Path | None:
    """Write `content` (YAML, HTML, Markdown, PNG or JSON, by the suffix of `path`) with our mark; see `check_own`.

    Returns where the previous file was kept, if it may hold the user's work: if it was edited since it was
    written, or is unmarked and `force` is given.
    """
    check_own(path, force=force)
    fresh = _with_mark(content.encode() if isinstance(content, str) else content, path.suffix)
    kept = None
    try:
        before = _read(path) if path.is_file() else None
        # A folder, or a link to nothing, is somebody's too.
        foreign = os.path.lexists(path) if before is None else before != fresh and not _marked(before)
        if foreign:
            kept = next(
                place for number in range(1, 10_000) if not os.path.lexists(place := _aside(path, number))
            )
            path.rename(kept)
        replace_file(path, fresh)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror or error}") from None
    return kept


def _aside(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.kept-{number}")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None


def _with_mark(content: bytes, suffix: str) -> bytes:
    if suffix != ".png" and not content.endswith(b"\n"):
        content += b"\n"
    digest = hashlib.sha256(content).hexdigest()
    match suffix:
        case ".png":
            body = b"tEXt" + _PNG_KEY + b"\0" + f"{_MARK}{digest}".encode()
            chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
            return content[:_PNG_HEADER] + chunk + content[_PNG_HEADER:]
        case ".html" | ".md":
            return content + f"<!-- {_MARK}{digest} -->\n".encode()
        case ".json":
            data = json.loads(content)
            return _json(
                {**data, "meta": {**data.get("meta", {}), _JSON_KEY: f"{_MARK}{_json_digest(data)}"}}
            )
        case _:
            return content + f"# {_MARK}{digest}\n".encode()


def _marked(content: bytes) -> bool | None:
    """Return whether a marked file is unchanged: False if it was edited since, None if it has no mark."""
    mark = _MARK.encode()
    if content.startswith(b"{"):
        return _json_marked(content)
    if content.startswith(_PNG_START):
        found = re.search(rb".{4}tEXt" + _PNG_KEY + b"\0" + mark + rb"([0-9a-f]{64}).{4}", content, re.DOTALL)
    else:
        found = re.search(rb"(?:# |<!-- )" + mark + rb"([0-9a-f]{64})(?: -->)?\n", content)
    if found is None:
        return None
    rest = content[: found.start()] + content[found.end() :]
    return hashlib.sha256(rest).hexdigest().encode() == found[1]


def _json(data: Any) -> bytes:
    return json.dumps(data).encode() + b"\n"


def _json_digest(data: Any) -> str:
    """Hash everything but the mark, which is in the file's own metadata."""
    meta = {key: value for key, value in data.get("meta", {}).items() if key != _JSON_KEY}
    return hashlib.sha256(_json({**data, "meta": meta})).hexdigest()


def _json_marked(content: bytes) -> bool | None:
    try:
        data = read_own_json(content)
        mark = data["meta"][_JSON_KEY]
    except (ValueError, KeyError, TypeError):
        return None
    return bool(mark == f"{_MARK}{_json_digest(data)}")
