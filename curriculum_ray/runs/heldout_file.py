"""The held-out losses in a run's folder: heldout.json, rewritten after each measurement."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterable
from pathlib import Path

from curriculum_ray.files import replace_file
from curriculum_ray.runs.folder import HELDOUT_FILE
from curriculum_ray.runs.result import HeldoutLosses, HeldoutPoint
from curriculum_ray.training.heldout import Heldout

__all__ = ["HeldoutFile", "read_heldout"]

_LOG = logging.getLogger(__name__)


def read_heldout(folder: Path) -> HeldoutLosses | None:
    """The held-out losses of the run in `folder`; None where there are none."""
    try:
        return HeldoutLosses.model_validate_json((folder / HELDOUT_FILE).read_bytes())
    except (OSError, ValueError):
        return None


class HeldoutFile:
    """Keeps measurements, also from before a resume; on a full disk it prints that the file was not written."""

    def __init__(self, folder: Path, heldout: Heldout | None, resumed_at: int) -> None:
        """resumed_at: images at which the run resumes; later measurements of an interrupted attempt are dropped."""
        self._path = folder / HELDOUT_FILE
        self._news: tuple[HeldoutPoint, ...] = ()
        self.content: HeldoutLosses | None = None
        if heldout is None:
            return
        self.content = HeldoutLosses.model_validate(heldout.as_json())
        before = read_heldout(folder)
        if before is not None and before.fingerprint == heldout.fingerprint:
            self._extend(point for point in before.history if point[0] <= resumed_at)

    def add(self, images: int, losses: list[float]) -> None:
        """Add the losses of the levels after `images` images; those of a run that diverged are not kept."""
        if not all(math.isfinite(loss) for loss in losses):
            _LOG.warning("the held-out loss after %d images is not finite", images)
            return
        point = (images, tuple(losses))
        self._extend([point])
        self._news += (point,)
        assert self.content is not None
        try:
            replace_file(self._path, json.dumps(self.content.model_dump(mode="json")))
        except OSError as error:
            _LOG.warning("%s was not written after %d images: %s", self._path, images, error.strerror)

    def news(self) -> tuple[HeldoutPoint, ...]:
        """The measurements since the last call."""
        found, self._news = self._news, ()
        return found

    def _extend(self, points: Iterable[HeldoutPoint]) -> None:
        assert self.content is not None
        self.content = self.content.model_copy(update={"history": (*self.content.history, *points)})
