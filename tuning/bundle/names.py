"""Names of the files in a bundle that have no counterpart in the folder of a study or a run."""

from __future__ import annotations

__all__ = ["ANSWER_FILE", "WEIGHTS_FILE"]

ANSWER_FILE = "answer.json"
"""The study's answer, and its arms with the keys of their trials."""
WEIGHTS_FILE = "weights.json"
"""In a trial's folder: the SHA-256 digests of the tensors in its last checkpoint, by group."""
