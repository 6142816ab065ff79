"""Metadata of a data set that is not loaded: enough to build a network and to describe a run."""

from __future__ import annotations

from dataclasses import dataclass

from curriculum_ray.data.conditioning import NO_CONDITIONING, Conditioning
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
    """SHA-256 (hex) of the content, or of the shards' names and sizes if the content is streamed."""
    class_names: tuple[str, ...] = ()
    vocabulary: tuple[str, ...] = ()
    held_out: int = 0
    """Items of the set that are never trained on."""
    labels: tuple[int | str, ...] = ()
    """Labels of the classes as shards store them, if they differ from `class_names`."""
    summary: DataSummary | None = None
    """What was found and what is used."""

    def __len__(self) -> int:
        return self.count
