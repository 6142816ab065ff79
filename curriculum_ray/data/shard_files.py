"""Find the shards of a data set in a folder, by split, and tally its other files by kind."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from curriculum_ray.buckets.address import is_address
from curriculum_ray.config import ConfigError
from curriculum_ray.config.regular import check_regular
from curriculum_ray.data.digests import Stamp
from curriculum_ray.data.shard_copies import folder_of, list_shards
from curriculum_ray.data.spec import DataSpec
from curriculum_ray.data.splits import choose_split, split_of_file
from curriculum_ray.data.suffixes import SUFFIXES
from curriculum_ray.data.summary import LeftOut, LeftOutTally
from curriculum_ray.data.walk import Walk, display_path, find_files

__all__ = ["Shards", "find_shards"]

_SUFFIXES = {
    "parquet": (".parquet", ".parq", ".pq"),
    "webdataset": (".tar",),
    "latents": (".safetensors",),
}
_PACKED = (".gz", ".tgz", ".bz2", ".xz", ".zst", ".lz4", ".zip", ".7z")
_OTHERS = (".parquet", ".tar", ".arrow", ".tfrecord", ".lmdb", ".h5")


@dataclass(frozen=True)
class Shards:
    """The shards of a data set."""

    paths: tuple[Path, ...]
    files: int
    """Number of files found, of any kind."""
    left_out: tuple[LeftOut, ...] = ()
    splits: tuple[tuple[str, int], ...] = ()
    """Number of shards in each split."""
    split: str = ""
    note: str = ""
    there: tuple[Stamp, ...] = ()
    """Of shards at an address, whose paths are those of their copies: each one's stamp there."""

    def stamps(self) -> tuple[Stamp, ...]:
        """The stamp of each shard, in order; ConfigError where one is a link to nothing, a pipe or a device."""
        if self.there:
            return self.there
        return tuple(map(_stamp, self.paths))


def find_shards(spec: DataSpec) -> Shards:
    """Find the shards of `spec`, sorted by path; links are followed, hidden files are ignored.

    Those at an address are listed, and not copied.
    """
    suffixes = _SUFFIXES[spec.format or ""]
    if is_address(spec.name):
        walk, there = list_shards(spec.name, suffixes)
        found = _chosen(spec, folder_of(spec.name), walk, suffixes)
        return replace(found, there=tuple(there[path] for path in found.paths))
    root = Path(spec.name)
    if root.is_file():
        return _of_split(spec, root.parent, [root], 1, ())
    return _chosen(spec, root, find_files(root, suffixes) if root.is_dir() else Walk((), ()), suffixes)


def _stamp(path: Path) -> Stamp:
    try:
        check_regular(path)
        found = path.stat()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read as a shard: {error.strerror}") from None
    return str(path), found.st_size, found.st_mtime_ns


def _chosen(spec: DataSpec, root: Path, walk: Walk, suffixes: tuple[str, ...]) -> Shards:
    every = [path for path in walk.files if path.suffix.lower() in suffixes]
    left = (*walk.left_out, *_others(root, walk, suffixes))
    if not every:
        others = f"; left out: {'; '.join(map(str, left[:4]))}" if left else ""
        rule = (
            f"the address of a folder of {suffixes[0]} files, but {spec.name!r} has none"
            if is_address(spec.name)
            else f"a {suffixes[0]} file or a folder of them, but {spec.name!r} is neither"
        )
        raise ConfigError(f"data.name must be {rule}{others}")
    files = len(walk.files) + sum(each.count for each in walk.left_out)
    return _of_split(spec, root, every, files, left)


def _of_split(spec: DataSpec, root: Path, every: list[Path], files: int, left: tuple[LeftOut, ...]) -> Shards:
    """Those of `every`, shards in the folder `root`, that are of the split which `spec` asks for."""
    if spec.format == "latents":
        return Shards(tuple(every), files, left)
    splits = ["" if spec.split == "none" else split_of_file(display_path(root, path)) or "" for path in every]
    requested = None if spec.split == "none" else spec.split
    split, counts, note = choose_split(requested, splits, spec.name, "shards")
    paths = [path for path, own in zip(every, splits, strict=True) if split in ("", "all", own)]
    return Shards(tuple(paths), files, left, tuple(counts.items()), split, note)


def _others(root: Path, walk: Walk, suffixes: tuple[str, ...]) -> tuple[LeftOut, ...]:
    """Tally the files that are not shards, by kind: some may be data."""
    tally = LeftOutTally()
    stems = {path.with_suffix("") for path in walk.files if path.suffix.lower() in suffixes}
    for path in walk.files:
        suffix = path.suffix.lower()
        if suffix in suffixes:
            continue
        if suffix in _PACKED:
            tally.add(
                f"compressed files, which are not read ({suffix})", display_path(root, path), matters=True
            )
        elif path.with_suffix("") in stems:
            # img2dataset writes a table beside each tar file.
            tally.add(f"files beside the shards ({suffix})", display_path(root, path))
        elif suffix in _OTHERS:
            tally.add(f"shards of another format ({suffix})", display_path(root, path), matters=True)
        elif suffix in SUFFIXES:
            tally.add(f"images beside the shards ({suffix})", display_path(root, path), matters=True)
        else:
            tally.add(f"other files ({suffix or 'without a suffix'})", display_path(root, path))
    return tally.found
