"""What is known of a data set without loading it: enough to build a network and to describe a run."""

from __future__ import annotations

from dataclasses import dataclass

from curriculum_ray.data.conditioning import NO_CONDITIONING, Conditioning
from curriculum_ray.data.summary import DataSummary

__all__ = ["DataInfo"]


@dataclass(frozen=True)
class DataInfo:
    """The face of a data set; the attributes mean what they mean in `Dataset`."""

    name: str
    shape: tuple[int, ...]
    conditioning: Conditioning = NO_CONDITIONING
    count: int = 0
    """Items to train on."""
    fingerprint: str = ""
    """SHA-256 (hex) of the content, or of the shards' names and sizes where the content is streamed."""
    class_names: tuple[str, ...] = ()
    vocabulary: tuple[str, ...] = ()
    held_out: int = 0
    """Items of the set that are never trained on."""
    labels: tuple[int | str, ...] = ()
    """Labels of the classes as shards store them, where `class_names` has other names for them."""
    summary: DataSummary | None = None
    """What was found and what of it is used."""

    def __len__(self) -> int:
        return self.count
