"""Streams of data without Ray's workers."""

from __future__ import annotations

from typing import Any

import pytest

from curriculum_ray.distributed.ingest import StreamedBatches, _Reader


def read_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read the items of streams in the process of the test: what Ray Data runs, without Ray Data."""

    def pipeline(self: StreamedBatches, tasks: list[dict[str, Any]]) -> Any:
        reader = _Reader(self.spec, self.info, self.units, self.reserved)
        for task in tasks:
            yield from reader({key: [value] for key, value in task.items()})

    monkeypatch.setattr(StreamedBatches, "_pipeline", pipeline)
