"""A run outside a study whose results go to a bucket: what is said where its files cannot be brought from there."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from curriculum_ray.buckets.copy import WorkingCopy
from curriculum_ray.distributed.fit import TrainingFailed
from tests.buckets.places import bucket_in_memory, failing
from tuning.folder import bucket_lease
from tuning.folder.in_bucket import kept
from tuning.study import single


def test_a_run_that_ended_is_no_failed_one_where_its_files_cannot_be_brought(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its result is in the bucket, from where the same command takes it."""
    monkeypatch.setattr(bucket_lease, "SETTLE_S", 0.0)
    copy, ends = WorkingCopy(tmp_path, bucket_in_memory()), list[tuple[str, str]]()
    tracker: Any = SimpleNamespace(finish=lambda run, status, reason: ends.append((status, reason)))
    nothing: Any = None
    monkeypatch.setattr(single, "fit", lambda *_, **__: nothing)
    folder = tmp_path / "run"
    copy.there(folder).write(".session", b"theirs")
    with (
        monkeypatch.context() as patched,
        kept(copy, folder, lambda line: None, study=False) as keeper,
    ):
        failing(patched, lambda kind, path: path.endswith(".session"))
        with pytest.raises(
            TrainingFailed, match="the run has ended, and the same command stores what is missing"
        ) as error:
            single._train(nothing, folder, nothing, tracker, "run", nothing, None, keeper)
    assert ends == [("KILLED", str(error.value))]
