"""Metadata of a data set that is not loaded: enough to build a network and to describe a run."""

from __future__ import annotations

from dataclasses import dataclass, field

from curriculum_ray.data.conditioning import NO_CONDITIONING, Conditioning
from curriculum_ray.data.dataset import Dataset
from curriculum_ray.data.summary import DataSummary

__all__ = ["DataInfo"]


@dataclass(frozen=True)
class DataInfo:
    """Metadata of a data set; attributes mean the same as in `Dataset`."""

    name: str
    shape: tuple[int, ...]
    conditioning: Conditioning = NO_CONDITIONING
    count: int = 0
    """Items to train on."""
    fingerprint: str = ""
    """SHA-256 (hex) of the content; of a stream, of the shards' names and sizes, headers, footers and a few blocks."""
    class_names: tuple[str, ...] = ()
    vocabulary: tuple[str, ...] = ()
    held_out: int = 0
    """Items of the set that are never trained on."""
    labels: tuple[int | str, ...] = ()
    """Labels of the classes as shards store them, if they differ from `class_names`."""
    other_labels: bool = False
    """Whether shards have their labels under another usual name than `label` or `.cls`; see `Names.others`."""
    summary: DataSummary | None = None
    """What was found and what is used."""
    heldout: Dataset | None = field(default=None, compare=False, repr=False)
    """The held-out items of a stream, if they were loaded by `load_stream`."""
    reference: Dataset | None = field(default=None, compare=False, repr=False)
    """Items that a stream trains on and that stand for all of them where samples are scored; see `load_stream`."""

    def __len__(self) -> int:
        return self.count
