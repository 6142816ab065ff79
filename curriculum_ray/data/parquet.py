"""Parquet shards: one encoded image per row, with a column of labels or captions."""

from __future__ import annotations

import bisect
import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from curriculum_ray.config import ConfigError
from curriculum_ray.config.regular import read_regular
from curriculum_ray.data.columns import (
    IMAGE_NAMES,
    LABEL_NAMES,
    SHARD_CAPTIONS,
    check_once,
    class_names,
    pick,
)
from curriculum_ray.data.headers import AnnotationKind, Fetch, Header, Names, Unit

__all__ = ["parquet_fetch", "parquet_header", "parquet_locations"]

_ROWS = 64
"""Rows decoded at a time: Arrow cannot hold more than 2 GiB of a nested column in one chunk."""


def parquet_header(path: str, wanted: AnnotationKind, names: Names | None = None) -> Header:
    """Read the row groups of `path`, and the values of the `wanted` column."""
    import pyarrow

    names = names or Names()
    try:
        file = _open(path)
        schema = file.schema_arrow
        check_once(path, _columns(schema))
        image = _image_column(path, schema, names)
        groups = range(file.metadata.num_row_groups)
        units = tuple(Unit(path, group, file.metadata.row_group(group).num_rows) for group in groups)
        column = _annotation_column(path, schema, wanted, names)
        unread = _unread(schema, wanted, image, column)
        split_column = _split_column(schema)
        splits = _splits(file, schema, split_column) if split_column else ()
        header = Header(
            path, wanted, units, image=image, unread=unread, split_column=split_column, splits=splits
        )
        if column is None:
            return header
        _check_type(path, schema, column, wanted)
        found = _counted(file, schema, column)
    except (OSError, UnicodeDecodeError, pyarrow.ArrowException) as error:
        raise ConfigError(f"{path} cannot be read as Parquet: {' '.join(str(error).split())}") from None
    # 0 is a label; an empty caption and a label of -1 count as none.
    values = {value: count for value, count in found.items() if not _is_missing(value)}
    named = class_names(schema).get(column, ()) if wanted == "class" else ()
    return replace(
        header,
        values=tuple(values),
        annotated=True,
        counts=tuple(values.values()),
        source=f"column {column}",
        class_names=named,
    )


def _counted(file: Any, schema: Any, column: str) -> Counter[Any]:
    """The number of rows with each value of a column."""
    found: Counter[Any] = Counter()
    for batch in file.iter_batches(columns=[column]):
        for value, count in zip(
            *_values(batch.column(0), column, schema).value_counts().flatten(), strict=True
        ):
            found[value.as_py()] += count.as_py()
    return found


def _split_column(schema: Any) -> str:
    """The column that names the split of each row, or ""."""
    return next((name for name in schema.names if name.lower() == "split"), "")


def _splits(file: Any, schema: Any, column: str) -> tuple[tuple[str, int], ...]:
    """The number of rows of each split that a column of strings, or of ClassLabel numbers, names."""
    names = class_names(schema).get(column, ())
    if not _may_be(schema, column, "class" if names else "text"):
        return ()
    return tuple(
        (str(names[value] if isinstance(value, int) and 0 <= value < len(names) else value), count)
        for value, count in _counted(file, schema, column).items()
        if value is not None
    )


def parquet_fetch(
    unit: Unit, wanted: AnnotationKind, names: Names | None = None, rows: int | None = None
) -> Fetch:
    """Read the row group `unit`, or its first `rows`; a damaged one raises `ConfigError`."""
    import pyarrow

    names = names or Names()
    try:
        file = _open(unit.path)
        schema = file.schema_arrow
        columns = [_image_column(unit.path, schema, names)]
        column = _annotation_column(unit.path, schema, wanted, names)
        columns += [column] if column is not None else []
        paths = [_path(schema, column) for column in columns]
        read = file.iter_batches(batch_size=_ROWS, row_groups=[unit.group], columns=columns)
        batches = list(itertools.islice(read, None if rows is None else -(-rows // _ROWS)))
    except (OSError, pyarrow.ArrowException) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{unit.path} row group {unit.group} cannot be read as Parquet: {reason}") from None
    starts = list(itertools.accumulate((len(batch) for batch in batches), initial=0))

    def fetch(row: int) -> tuple[bytes, int | str | None]:
        batch = bisect.bisect_right(starts, row) - 1
        image, *value = (_cell(batches[batch], path, row - starts[batch]) for path in paths)
        label = value[0] if value and not _is_missing(value[0]) else None
        return _content(unit.path, image), label

    return fetch


def parquet_locations(unit: Unit) -> Callable[[int], str]:
    """Return a function that names a row of `unit` by its number in the whole file."""
    metadata = _open(unit.path).metadata
    before = sum(metadata.row_group(group).num_rows for group in range(unit.group))
    return lambda row: f"{Path(unit.path).name} row {row + before}"


def _open(path: str) -> Any:
    from pyarrow import parquet

    # If pages have checksums, this also finds damage that still decodes.
    return parquet.ParquetFile(path, page_checksum_verification=True)


def _path(schema: Any, column: str) -> list[str]:
    """Return the fields that lead to `column`: itself, or fields of structs if its name has dots."""
    return [column] if column in schema.names else column.split(".")


def _type(schema: Any, column: str) -> Any:
    """Return the type of a column or struct field (`outer.inner`); None if it does not exist."""
    from pyarrow import types

    first, *inner = _path(schema, column)
    if first not in schema.names:
        return None
    kind = schema.field(first).type
    for name in inner:
        if not types.is_struct(kind) or kind.get_field_index(name) < 0:
            return None
        kind = kind.field(name).type
    return kind


def _columns(schema: Any) -> list[str]:
    """Return all columns, followed by the fields within structs."""
    from pyarrow import types

    found = list(schema.names)
    for field in schema:
        if types.is_struct(field.type):
            inner = (field.type.field(index).name for index in range(field.type.num_fields))
            found += [f"{field.name}.{name}" for name in inner]
    return found


def _cell(batch: Any, path: list[str], row: int) -> Any:
    value = batch.column(batch.schema.get_field_index(path[0]))[row].as_py()
    for name in path[1:]:
        value = None if value is None else value[name]
    return value


def _values(array: Any, column: str, schema: Any) -> Any:
    """Return the values of a column, or of its field if it is within structs."""
    import pyarrow.compute

    for name in _path(schema, column)[1:]:
        array = pyarrow.compute.struct_field(array, name)
    return array


def _content(path: str, image: Any) -> bytes:
    """Return the encoded image of a cell: bytes, or {bytes, path} as in Hugging Face datasets.

    The file must be in the shard's folder: a downloaded shard must not be able to name other files of its
    reader.
    """
    if not isinstance(image, dict):
        return image or b""
    if image["bytes"] or not image.get("path"):
        return image["bytes"] or b""
    folder = Path(path).parent.resolve()
    file = (folder / image["path"]).resolve()
    if not file.is_relative_to(folder):
        raise ConfigError(f"{path} has no bytes for {image['path']}, which is not in the shard's folder")
    try:
        return read_regular(file)
    except OSError as error:
        raise ConfigError(
            f"{path} has no bytes for {image['path']}, and {file} cannot be read: {error.strerror}"
        ) from None


def _is_missing(value: Any) -> bool:
    return value is None or value == "" or (value == -1 and not isinstance(value, str))


def _image_column(path: str, schema: Any, names: Names) -> str:
    """Return the column of encoded images: the configured one, `image`, or the only possible one."""
    if names.image is not None:
        pick(names.image, _columns(schema), (), "data.image_column", path)
        return _checked_image(path, schema, names.image)
    if "image" in schema.names:
        return _checked_image(path, schema, "image")
    able = [name for name in schema.names if _holds_images(schema.field(name).type)]
    if len(able) > 1:
        usual = [name for name in IMAGE_NAMES if name in able]
        if len(usual) != 1:
            raise ConfigError(
                f"{path} has several columns that may hold images ({', '.join(able)}): "
                "choose one with data.image_column"
            )
        return usual[0]
    if not able:
        inner = [name for name in _columns(schema) if "." in name and _holds_images(_type(schema, name))]
        hint = f": data.image_column reads {inner[0]}" if inner else ""
        raise ConfigError(f"{path} must have a column `image`, but has {', '.join(schema.names)}{hint}")
    return able[0]


def _holds_images(kind: Any) -> bool:
    from pyarrow import types

    if types.is_struct(kind):
        index = kind.get_field_index("bytes")
        return index >= 0 and _holds_images(kind.field(index).type)
    return _is_one_of(kind, types.is_binary, types.is_large_binary, types.is_binary_view)


def _checked_image(path: str, schema: Any, column: str) -> str:
    kind = _type(schema, column)
    if not _holds_images(kind):
        raise ConfigError(
            f"{path} must have a column `{column}` of type binary, or a struct with binary `bytes`, but got {kind}"
        )
    return column


def _annotation_column(path: str, schema: Any, wanted: AnnotationKind, names: Names) -> str | None:
    """Return the column of the `wanted` annotation, or None if no column has a usual name."""
    if wanted == "none":
        return None
    columns = _columns(schema)
    if wanted == "text":
        return pick(names.caption, columns, SHARD_CAPTIONS, "data.caption_column", path)
    found = pick(names.label, columns, LABEL_NAMES[:1], "data.label_column", path)
    if found is not None or not names.others:
        return found
    classes = [name for name in class_names(schema) if name in schema.names]
    usual = [name for name in LABEL_NAMES if name in schema.names and _may_be(schema, name, "class")]
    return next(iter([*usual, *(classes if len(classes) == 1 else [])]), None)


def _unread(schema: Any, wanted: AnnotationKind, image: str, column: str | None) -> tuple[str, ...]:
    """Return columns that are not read but may be meant: texts, and usual names whatever they hold."""
    meant = [
        name
        for name in schema.names
        if name not in (image, column, *image.split("."), *(column or "").split("."), _split_column(schema))
        and (
            name in (*SHARD_CAPTIONS, *LABEL_NAMES, *class_names(schema))
            or (wanted == "none" and _may_be(schema, name, "text"))
        )
    ]
    return tuple(meant)


def _may_be(schema: Any, column: str, wanted: AnnotationKind) -> bool:
    from pyarrow import types

    accepted = [types.is_string, types.is_large_string, types.is_string_view]
    return _is_one_of(_type(schema, column), *accepted, *([types.is_integer] if wanted == "class" else []))


def _check_type(path: str, schema: Any, column: str, wanted: AnnotationKind) -> None:
    from pyarrow import types

    kind = _type(schema, column)
    if not _may_be(schema, column, wanted) and not types.is_null(kind):
        rule = "integers or strings" if wanted == "class" else "strings"
        raise ConfigError(f"{path} must have a column `{column}` of {rule}, but got {kind}")


def _is_one_of(kind: Any, *accepted: Any) -> bool:
    from pyarrow import types

    # Dictionary columns store indices of values.
    plain = kind.value_type if types.is_dictionary(kind) else kind
    return any(test(plain) for test in accepted)
