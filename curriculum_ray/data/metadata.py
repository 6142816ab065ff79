"""Tables beside images that say what is to be told of them: metadata.jsonl, .csv and .parquet, and captions.json."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curriculum_ray.config import ConfigError
from curriculum_ray.data.columns import CAPTION_NAMES, class_names, pick, pick_by_alias
from curriculum_ray.data.spec import DataSpec
from curriculum_ray.data.text import lines, read_text, same_name

__all__ = ["METADATA", "WHOLE", "Table", "read_metadata", "read_whole"]

METADATA = ("metadata.jsonl", "metadata.csv", "metadata.parquet")
WHOLE = "captions.json"


@dataclass(frozen=True)
class Table:
    """What a file says of images, by their names within the data (see `same_name`)."""

    path: Path
    captions: Mapping[str, str]
    labels: Mapping[str, int | str | None]
    caption_column: str = ""
    label_column: str = ""
    unread: tuple[str, ...] = ()
    """Columns of strings that could be captions, where none is read."""
    note: str = ""


def read_metadata(path: Path, within: str, spec: DataSpec) -> Table:
    """Read a metadata file in the folder `within` the data, whose rows have the key `file_name` or `*_file_name`.

    spec: its `caption_column`, `label_column` and `image_column` choose keys, its `conditioning` what is read. Captions
    must be strings; only where a format has no null (CSV) or a type for it (Parquet) is a missing one no caption.
    Anything else is a `ConfigError`.
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
            key = same_name(f"{within}/{name}")
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
        # Both are there, but never differ in a row.
        note = ""
    if "split" in names:
        also = f"; {note}" if note else ""
        note = f"the key split of {path.name} is not read: images of all its splits are{also}"
    return Table(path, captions, labels, caption or "", label or "", unread, note)


def read_whole(path: Path) -> Table:
    """Read `captions.json`, one object of captions by file name."""
    captions: dict[str, str] = {}
    try:
        # Pairs, since an object would keep the last of two captions of one name.
        for name, caption in json.loads(read_text(path), object_pairs_hook=list):
            if not isinstance(name, str) or not isinstance(caption, str):
                wrong = name if not isinstance(name, str) else caption
                raise ConfigError(
                    f"{path} must map file names to captions, both strings, but key {name} has {wrong!r}"
                )
            key = same_name(name)
            if key in captions:
                raise ConfigError(f"{path} must hold each file name once, but has {name} twice")
            captions[key] = caption
    except ConfigError:
        raise
    except (OSError, TypeError, ValueError, RecursionError) as error:
        raise _unreadable(path, error) from None
    return Table(path, captions, {}, WHOLE)


def _unreadable(path: Path, error: Exception) -> ConfigError:
    reason = " ".join(str(error).split())
    return ConfigError(f"{path} must map file names to captions, but: {type(error).__name__} {reason}")


def _rows_of_lines(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for number, line in lines(read_text(path)):
        row = json.loads(line)
        if not isinstance(row, dict):
            raise ConfigError(f"{path} must hold an object in each line, but line {number} has {line[:40]!r}")
        yield f"line {number}", row


def _rows_of_csv(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    reader = csv.DictReader(io.StringIO(read_text(path), newline=""), strict=True)
    for row in reader:
        if None in row:
            raise ConfigError(
                f"{path} must hold a value for each column, but line {reader.line_num} has more: "
                "a text with commas needs quotes"
            )
        yield f"line {reader.line_num}", {name: value or "" for name, value in row.items()}


def _rows_of_parquet(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    from pyarrow import parquet

    table = parquet.read_table(path)
    named = class_names(table.schema)
    for number, row in enumerate(table.to_pylist()):
        for column, names in named.items():
            if isinstance(row.get(column), int) and 0 <= row[column] < len(names):
                row[column] = names[row[column]]
        yield f"row {number}", row


_ROWS = {".jsonl": _rows_of_lines, ".csv": _rows_of_csv, ".parquet": _rows_of_parquet}


def _file_column(names: Sequence[str], wish: str | None) -> str:
    """The key of the image's file: file_name, or the one that ends so, as `image_file_name`."""
    if wish is not None:
        return wish
    ending = [name for name in names if name.endswith("_file_name")]
    if "file_name" in names or not ending:
        return "file_name"
    if len(ending) > 1 and "image_file_name" not in ending:
        raise ConfigError(
            f"the columns {', '.join(ending)} name files: say which are the images with data.image_column"
        )
    return "image_file_name" if "image_file_name" in ending else ending[0]


def _first(row: Mapping[str, Any], caption: str | None, wish: str | None, names: Sequence[str]) -> Any:
    """A row's caption: in the chosen column, or, where lines of JSON differ, in another usual one."""
    if caption is None:
        return None
    if wish is None and caption not in row:
        return next((row[name] for name in CAPTION_NAMES if name in row and name in names), None)
    return row.get(caption)


def _label(path: Path, place: str, column: str, value: Any) -> int | str | None:
    """A label as it stands; -1, null and nothing are none."""
    if value in (None, "", -1) and not isinstance(value, bool):
        return None
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ConfigError(f"{path} must hold integers or strings as {column}, but {place} has {value!r}")
    # CSV has no numbers.
    digits = path.suffix.lower() == ".csv" and isinstance(value, str)
    if digits and str(value).strip().lstrip("-").isdecimal():
        number = int(value)
        return None if number == -1 else number
    return value
