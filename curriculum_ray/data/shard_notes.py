"""Notes on how shards are read where a user may expect otherwise: other columns, splits, folders, copies."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from curriculum_ray.data.digests import Stamp, same_content
from curriculum_ray.data.headers import Header
from curriculum_ray.data.shard_copies import folder_of
from curriculum_ray.data.spec import DataSpec
from curriculum_ray.data.walk import display_path

__all__ = ["notes_of"]

_PARTITION = re.compile(r"[^\W\d]\w*=.+")


def notes_of(spec: DataSpec, headers: list[Header], stamps: Sequence[Stamp]) -> list[str]:
    """The notes on the shards `headers`, whose files are those of `stamps`, in the same order."""
    return [
        *_unread(spec, headers),
        *_split_column(headers),
        *_partitions(spec, stamps),
        *_copies(spec, stamps),
    ]


def _unread(spec: DataSpec, headers: list[Header]) -> list[str]:
    """Notes on columns that could have been read instead."""
    unread = {name: header for header in headers for name in reversed(header.unread)}
    if not unread or spec.conditioning == "none":
        return []
    names = ", ".join(list(unread)[:5])
    place = Path(next(iter(unread.values())).path).name
    what = "columns" if spec.format == "parquet" else "members"
    settings = "data.caption_column or data.label_column"
    source = headers[0].source
    if headers[0].wanted == "none":
        return [f"the images are unlabelled, but {place} has {what} {names}, which {settings} can name"]
    if spec.conditioning is None and not (spec.caption_column or spec.label_column):
        return [
            f"trained on {source}, not on {what} {names} of {place}: data.conditioning or {settings} chooses"
        ]
    return []


def _split_column(headers: list[Header]) -> list[str]:
    """A note on a column of splits: rows of all splits are read, as Hugging Face datasets does."""
    splits = sum((Counter(dict(header.splits)) for header in headers), Counter[str]())
    if len(splits) < 2:
        return []
    first = next(header for header in headers if header.splits)
    listed = ", ".join(f"{name} ({count:,})" for name, count in splits.most_common(5))
    more = f" and {len(splits) - 5} more" if len(splits) > 5 else ""
    return [
        f"column {first.split_column} of {Path(first.path).name} is not read: images of all its splits are, "
        f"{listed}{more}; data.split goes by the names of folders and files"
    ]


def _copies(spec: DataSpec, stamps: Sequence[Stamp]) -> list[str]:
    """A note on shards that are copies of others."""
    copies = same_content(stamps)
    if not copies:
        return []
    root = folder_of(spec.name)
    pair = " and ".join(display_path(root, Path(path)) for path in copies[0])
    have = "shard has" if len(copies) == 1 else "shards have"
    return [f"{len(copies):,} {have} the content of another, whose images come more than once, e.g. {pair}"]


def _partitions(spec: DataSpec, stamps: Sequence[Stamp]) -> list[str]:
    """A note on folders `column=value`, as Spark and pyarrow write data sets that are partitioned by a column."""
    root = folder_of(spec.name)
    parts = [part for path, _, _ in stamps for part in Path(display_path(root, Path(path))).parts[:-1]]
    found = list(dict.fromkeys(part for part in parts if _PARTITION.fullmatch(part)))
    if not found:
        return []
    names = ", ".join(dict.fromkeys(part.partition("=")[0] for part in found))
    return [
        f"folders {', '.join(found[:3])}{', …' if found[3:] else ''} are read as one set, and the values of {names} in "
        "their names are not read: only columns in the files are"
    ]
