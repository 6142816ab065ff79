"""Tables of captions and labels in an image folder: metadata.jsonl, .csv and .parquet, and captions.json."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curriculum_ray.config import ConfigError
from curriculum_ray.config.regular import check_regular
from curriculum_ray.data.columns import CAPTION_NAMES, check_once, class_names, pick, pick_by_alias
from curriculum_ray.data.spec import DataSpec
from curriculum_ray.data.text import canonical_path, lines, parse_json, read_text

__all__ = ["CAPTIONS_FILE", "METADATA", "Table", "read_captions_file", "read_metadata"]

METADATA = ("metadata.jsonl", "metadata.csv", "metadata.parquet")
CAPTIONS_FILE = "captions.json"


@dataclass(frozen=True)
class Table:
    """Annotations from one file, by the path of an image within the data (see `canonical_path`)."""

    path: Path
    captions: Mapping[str, str]
    labels: Mapping[str, int | str | None]
    caption_column: str = ""
    label_column: str = ""
    unread: tuple[str, ...] = ()
    """Columns of strings that could be captions, if none is read."""
    note: str = ""


def read_metadata(path: Path, within: str, spec: DataSpec) -> Table:
    """Read a metadata file in the folder `within` the data; rows have the key `file_name` or `*_file_name`.

    spec: its `caption_column`, `label_column` and `image_column` choose the keys, its `conditioning` what is
    read. Captions must be strings; a missing one counts as no caption only in CSV, which has no null, and in
    Parquet, whose columns have a type. Anything else raises `ConfigError`.
    """
    try:
        rows = list(_ROWS[path.suffix.lower()](path))
        if not rows:
            return Table(path, {}, {})
        names = list(dict.fromkeys(name for _, row in rows for name in row))
        file = _file_column(names, spec.image_column)
        if file not in names:
            raise ConfigError(
                f"{path} must have a column or key {file}, but has {', '.join(names[:10]) or 'none'}"
            )
        wanted = None if (spec.caption_column or "").startswith(".") else spec.caption_column
        caption, label, note = None, None, ""
        if spec.conditioning in (None, "text"):
            caption, note = pick_by_alias(wanted, names, CAPTION_NAMES, "data.caption_column", path.name)
        if spec.conditioning in (None, "class"):
            label = pick(spec.label_column, names, ("label",), "data.label_column", path.name)
        captions: dict[str, str] = {}
        labels: dict[str, int | str | None] = {}
        seen: set[str] = set()
        for place, row in rows:
            name, text = row.get(file), _first(row, caption, wanted, names)
            if name is None and file not in row:
                raise KeyError(file)
            if path.suffix.lower() == ".parquet" and text is None:
                text = ""
            if not isinstance(name, str) or (caption and not isinstance(text, str)):
                wrong = name if not isinstance(name, str) else text
                raise ConfigError(
                    f"{path} must map file names to captions, both strings, but {place} has {wrong!r}"
                )
            key = canonical_path(f"{within}/{name}")
            if key in seen:
                raise ConfigError(f"{path} must hold each file name once, but has {name} twice")
            seen.add(key)
            if caption:
                captions[key] = str(text)
            if label:
                labels[key] = _label(path, place, label, row.get(label))
    except ConfigError:
        raise
    except Exception as error:
        raise _unreadable(path, error) from None
    strings = [
        name
        for name in names
        if name not in (file, label) and any(isinstance(row.get(name), str) for _, row in rows)
    ]
    unread = () if caption else tuple(strings)
    usual = [name for name in CAPTION_NAMES if name in names]
    if not any(len({row[name] for name in usual if row.get(name)}) > 1 for _, row in rows):
        # Both exist, but never differ within a row.
        note = ""
    if "split" in names:
        also = f"; {note}" if note else ""
        note = f"{path.name} has a key split, which is ignored: images of all splits are read{also}"
    return Table(path, captions, labels, caption or "", label or "", unread, note)


def read_captions_file(path: Path) -> Table:
    """Read `captions.json`, a JSON object of captions by file name."""
    captions: dict[str, str] = {}
    try:
        # Pairs, because a dict would keep only the last of two captions for one name.
        for name, caption in json.loads(read_text(path), object_pairs_hook=list):
            if not isinstance(name, str) or not isinstance(caption, str):
                wrong = name if not isinstance(name, str) else caption
                raise ConfigError(
                    f"{path} must map file names to captions, both strings, but key {name} has {wrong!r}"
                )
            key = canonical_path(name)
            if key in captions:
                raise ConfigError(f"{path} must hold each file name once, but has {name} twice")
            captions[key] = caption
    except ConfigError:
        raise
    except (OSError, TypeError, ValueError, RecursionError) as error:
        raise _unreadable(path, error) from None
    return Table(path, captions, {}, CAPTIONS_FILE)


def _unreadable(path: Path, error: Exception) -> ConfigError:
    reason = " ".join(str(error).split())
    return ConfigError(f"{path} must map file names to captions, but: {type(error).__name__} {reason}")


def _rows_of_lines(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for number, line in lines(read_text(path)):
        try:
            row = parse_json(line)
        except ValueError as error:
            # The decoder's own line is always the first.
            reason = error.msg if isinstance(error, json.JSONDecodeError) else error
            raise ConfigError(
                f"{path} must hold an object in each line, but in line {number}: {reason}"
            ) from None
        if not isinstance(row, dict):
            raise ConfigError(f"{path} must hold an object in each line, but line {number} has {line[:40]!r}")
        yield f"line {number}", row


def _rows_of_csv(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    reader = csv.DictReader(io.StringIO(read_text(path), newline=""), strict=True)
    # Spreadsheets export empty columns, which have no name.
    check_once(path, [name for name in reader.fieldnames or () if name])
    for row in reader:
        if None in row:
            raise ConfigError(
                f"{path} must hold a value for each column, but line {reader.line_num} has more: "
                "text with commas needs quotes"
            )
        yield f"line {reader.line_num}", {name: value or "" for name, value in row.items()}


def _rows_of_parquet(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    from pyarrow import parquet

    check_regular(path)
    check_once(path, parquet.read_schema(path).names)
    table = parquet.read_table(path)
    named = class_names(table.schema)
    for number, row in enumerate(table.to_pylist()):
        for column, names in named.items():
            if isinstance(row.get(column), int) and 0 <= row[column] < len(names):
                row[column] = names[row[column]]
        yield f"row {number}", row


_ROWS = {".jsonl": _rows_of_lines, ".csv": _rows_of_csv, ".parquet": _rows_of_parquet}


def _file_column(names: Sequence[str], requested: str | None) -> str:
    """Return the key of file names: `file_name`, or the only key that ends so, e.g. `image_file_name`."""
    if requested is not None:
        return requested
    ending = [name for name in names if name.endswith("_file_name")]
    if "file_name" in names or not ending:
        return "file_name"
    if len(ending) > 1 and "image_file_name" not in ending:
        raise ConfigError(
            f"the columns {', '.join(ending)} name files: choose the column of images with data.image_column"
        )
    return "image_file_name" if "image_file_name" in ending else ending[0]


def _first(row: Mapping[str, Any], caption: str | None, requested: str | None, names: Sequence[str]) -> Any:
    """Return a row's caption: from the chosen column or, as JSON lines may differ, from another usual one."""
    if caption is None:
        return None
    if requested is None and caption not in row:
        return next((row[name] for name in CAPTION_NAMES if name in row and name in names), None)
    return row.get(caption)


def _label(path: Path, place: str, column: str, value: Any) -> int | str | None:
    """Return the stored label; -1, null and an empty string mean no label."""
    if value in (None, "", -1) and not isinstance(value, bool):
        return None
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ConfigError(f"{path} must hold integers or strings as {column}, but {place} has {value!r}")
    # CSV stores numbers as text.
    digits = path.suffix.lower() == ".csv" and isinstance(value, str)
    if digits and str(value).strip().lstrip("-").isdecimal():
        number = int(value)
        return None if number == -1 else number
    return value
