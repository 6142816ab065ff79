"""The held-out losses of a run as its folder keeps them: heldout.json, whole after each measurement."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from curriculum_ray.files import replace_file
from curriculum_ray.runs.folder import HELDOUT_FILE
from curriculum_ray.training.heldout import Heldout

__all__ = ["HeldoutFile", "read_heldout"]


def read_heldout(folder: Path) -> dict[str, Any] | None:
    """What the run in `folder` measured: see `Heldout.as_json`, and "history" [images, [loss of each level]]."""
    try:
        content = json.loads((folder / HELDOUT_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) and isinstance(content.get("history"), list) else None


class HeldoutFile:
    """Keeps measurements, those of before a resume included; a full disk costs the file, and is said in one line."""

    def __init__(self, folder: Path, heldout: Heldout | None, resumed_at: int) -> None:
        """resumed_at: images at which the run goes on; what an interrupted attempt measured after them is dropped."""
        self._path = folder / HELDOUT_FILE
        self._news: list[list[Any]] = []
        self.content: dict[str, Any] = {"history": []}
        if heldout is None:
            return
        self.content = {**heldout.as_json(), "history": []}
        before = read_heldout(folder)
        if before is not None and before.get("fingerprint") == heldout.fingerprint:
            self.content["history"] = [point for point in before["history"] if point[0] <= resumed_at]

    def add(self, images: int, losses: list[float]) -> None:
        """Keep the losses of the levels after `images` images; those of a run that diverged are not kept."""
        if not all(math.isfinite(loss) for loss in losses):
            print(f"the held-out loss after {images} images is not finite", flush=True)
            return
        point = [images, losses]
        self.content["history"].append(point)
        self._news.append(point)
        try:
            replace_file(self._path, json.dumps(self.content))
        except OSError as error:
            print(f"{self._path} was not written after {images} images: {error.strerror}", flush=True)

    def news(self) -> list[list[Any]]:
        """What was measured since the last call."""
        found, self._news = self._news, []
        return found
