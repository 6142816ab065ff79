"""Names of the files that a bundle has, and the folder in which a study was searched has not."""

from __future__ import annotations

__all__ = ["ANSWER_FILE", "WEIGHTS_FILE"]

ANSWER_FILE = "answer.json"
"""The study's answer, and its arms with the keys of their trials."""
WEIGHTS_FILE = "weights.json"
"""In a trial's folder: the SHA-256 digests of the tensors in its last checkpoint, by group; also in the folder of a
study that came from a bundle."""
