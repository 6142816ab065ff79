"""Parquet shards: an encoded image a row in the column `image`, told by the columns `label` or `caption`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from curriculum_ray.config import ConfigError
from curriculum_ray.data.headers import Fetch, Header, Unit, Wish

__all__ = ["parquet_fetch", "parquet_header", "parquet_place"]

_COLUMNS: dict[Wish, str] = {"class": "label", "text": "caption"}


def parquet_header(path: str, wish: Wish) -> Header:
    """The row groups of `path`, and the values of the column that `wish` asks for."""
    import pyarrow

    try:
        file = _open(path)
        schema = file.schema_arrow
        _check_image(path, schema)
        groups = range(file.metadata.num_row_groups)
        units = tuple(Unit(path, group, file.metadata.row_group(group).num_rows) for group in groups)
        column = _COLUMNS.get(wish, "")
        if column not in schema.names:
            return Header(path, wish, units)
        _check_told(path, schema, column)
        told: dict[Any, None] = {}
        for batch in file.iter_batches(columns=[column]):
            told.update(dict.fromkeys(batch.column(0).unique().to_pylist()))
    except (OSError, UnicodeDecodeError, pyarrow.ArrowException) as error:
        raise ConfigError(f"{path} cannot be read as Parquet: {' '.join(str(error).split())}") from None
    # Label 0 is one, an empty caption is none.
    return Header(path, wish, units, tuple(value for value in told if value not in (None, "")), True)


def parquet_fetch(unit: Unit, wish: Wish) -> Fetch:
    """Read the row group `unit` as a whole; a damaged one raises `ConfigError`."""
    import pyarrow

    try:
        file = _open(unit.path)
        columns = [name for name in ("image", _COLUMNS.get(wish)) if name in file.schema_arrow.names]
        table = file.read_row_group(unit.group, columns=columns)
    except (OSError, pyarrow.ArrowException) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{unit.path} row group {unit.group} cannot be read as Parquet: {reason}") from None

    def fetch(row: int) -> tuple[bytes, int | str | None]:
        image, *told = (table[name][row].as_py() for name in columns)
        content = image["bytes"] if isinstance(image, dict) else image
        return content or b"", told[0] if told else None

    return fetch


def parquet_place(unit: Unit, row: int) -> str:
    """Where a person finds a row of `unit`: its number in the whole file."""
    metadata = _open(unit.path).metadata
    before = sum(metadata.row_group(group).num_rows for group in range(unit.group))
    return f"{Path(unit.path).name} row {row + before}"


def _open(path: str) -> Any:
    from pyarrow import parquet

    # Where pages have checksums, damage that still decodes to values is found too.
    return parquet.ParquetFile(path, page_checksum_verification=True)


def _check_image(path: str, schema: Any) -> None:
    from pyarrow import types

    if "image" not in schema.names:
        raise ConfigError(f"{path} must have a column `image`, but has {', '.join(schema.names)}")
    kind = schema.field("image").type
    content = kind
    if types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        content = kind.field("bytes").type
    if not _is_one_of(content, types.is_binary, types.is_large_binary, types.is_binary_view):
        raise ConfigError(
            f"{path} must have a column `image` of type binary, or a struct with binary `bytes`, but got {kind}"
        )


def _check_told(path: str, schema: Any, column: str) -> None:
    from pyarrow import types

    kind = schema.field(column).type
    accepted = [types.is_string, types.is_large_string, types.is_string_view, types.is_null]
    rule = "strings"
    if column == "label":
        accepted.append(types.is_integer)
        rule = "integers or strings"
    if not _is_one_of(kind, *accepted):
        raise ConfigError(f"{path} must have a column `{column}` of {rule}, but got {kind}")


def _is_one_of(kind: Any, *accepted: Any) -> bool:
    from pyarrow import types

    # Categories are stored as numbers of values.
    plain = kind.value_type if types.is_dictionary(kind) else kind
    return any(test(plain) for test in accepted)
