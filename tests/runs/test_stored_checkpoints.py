"""Checkpoints in a bucket: whole ones only, the newest first, wherever the process died or the request failed."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
import torch

from curriculum_ray.buckets.copy import WorkingCopy
from curriculum_ray.buckets.store import Bucket, BucketError
from curriculum_ray.runs import stored_checkpoints
from curriculum_ray.training import checkpoint as checkpoints
from curriculum_ray.training.checkpoint import MANIFEST, Checkpoint
from tests.buckets.places import bucket_in_memory, failing


@pytest.fixture
def copy(tmp_path: Path) -> WorkingCopy:
    """The empty working copy of an empty bucket."""
    return WorkingCopy(tmp_path / "copy", bucket_in_memory())


def _write(copy: WorkingCopy, images: int) -> Path:
    tensors = {group: {"w": torch.full((4,), float(images))} for group in ("ema", "model")}
    path = copy.folder / "run" / checkpoints.checkpoint_name("run", images)
    return checkpoints.write(path, Checkpoint(tensors=tensors, state={"images": images}))


def _send(copy: WorkingCopy, images: int) -> Path:
    path = _write(copy, images)
    stored_checkpoints.send(path, copy.there(path.parent))
    return path


def _newest(copy: WorkingCopy) -> int | None:
    """The images of the newest sound one, as another machine finds it."""
    elsewhere = WorkingCopy(copy.folder / "elsewhere", copy.bucket)
    found = stored_checkpoints.newest(elsewhere, [elsewhere.folder / "run"], "run")
    return None if found is None else int(found[1].state["images"])


def test_the_newest_one_is_brought_to_a_fresh_machine(copy: WorkingCopy) -> None:
    assert _newest(copy) is None
    for images in (64, 128):
        _send(copy, images)
    assert _newest(copy) == 128


@pytest.mark.parametrize("file", ["ema.safetensors", "model.safetensors", MANIFEST])
def test_one_whose_upload_is_torn_does_not_exist(
    file: str, copy: WorkingCopy, monkeypatch: pytest.MonkeyPatch
) -> None:
    _send(copy, 64)
    with monkeypatch.context() as patched:
        failing(patched, lambda kind, path: kind == "write" and path.endswith(f"128/{file}"))
        with pytest.raises(BucketError):
            _send(copy, 128)
    assert _newest(copy) == 64
    stored_checkpoints.prune(copy.there(copy.folder / "run"), "run", 1)
    assert stored_checkpoints.stored(copy.there(copy.folder / "run")) == ["checkpoint-run-000000000064"]
    _send(copy, 128)
    assert _newest(copy) == 128


def test_one_whose_content_is_damaged_there_is_skipped_and_one_damaged_here_is_fetched_again(
    copy: WorkingCopy, caplog: pytest.LogCaptureFixture
) -> None:
    _send(copy, 64)
    path = _send(copy, 128)
    (path / "ema.safetensors").write_bytes(b"damaged here")
    found = stored_checkpoints.newest(copy, [copy.folder / "run"], "run")
    assert found is not None
    assert found[1].state["images"] == 128
    (copy.there(path)).write("ema.safetensors", b"damaged there")
    assert _newest(copy) == 64
    assert "skipped: checkpoint memory://" in caplog.text
    assert "does not match its SHA-256" in caplog.text


def test_what_lies_here_and_was_never_uploaded_is_not_taken(copy: WorkingCopy) -> None:
    _send(copy, 64)
    _write(copy, 128)
    found = stored_checkpoints.newest(copy, [copy.folder / "run"], "run")
    assert found is not None
    assert found[1].state["images"] == 64


def test_pruning_keeps_the_newest_whole_ones_of_that_run(copy: WorkingCopy) -> None:
    for images in (64, 128, 192):
        _send(copy, images)
    folder = copy.there(copy.folder / "run")
    (folder / "checkpoint-other-000000000001").write(MANIFEST, b"{}")
    (folder / "checkpoint-run-000000000256").write("ema.safetensors", b"torn")
    stored_checkpoints.prune(folder, "run", 2)
    assert [int(name[-12:]) for name in stored_checkpoints.stored(folder)] == [192, 128, 1]
    stored_checkpoints.prune(folder, "run", 0)
    assert stored_checkpoints.stored(folder) == ["checkpoint-other-000000000001"]


@pytest.mark.parametrize(("keep", "left"), [(1, [300, 250]), (2, [300, 250, 100])])
def test_the_one_just_sent_counts_as_the_newest(copy: WorkingCopy, keep: int, left: list[int]) -> None:
    """The run resumed at 100, as 300 was damaged and 200 torn."""
    for images in (100, 250, 300):
        sent = _send(copy, images)
    folder = copy.there(sent.parent)
    (folder / sent.name).write("ema.safetensors", b"damaged")
    (folder / "checkpoint-run-000000000200").write("ema.safetensors", b"torn")
    stored_checkpoints.prune(folder, "run", keep, "checkpoint-run-000000000250")
    assert [int(name[-12:]) for name in stored_checkpoints.stored(folder)] == left
    there = stored_checkpoints.stored(folder)
    assert all((folder / name).read(checkpoints.MANIFEST) is not None for name in there)


@pytest.mark.parametrize("kept", [1, 2, 3])
def test_one_that_is_sent_again_never_mixes_with_the_earlier_one(
    kept: int, copy: WorkingCopy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run was repeated from an earlier checkpoint, perhaps on other workers, and died after `kept` requests."""
    _send(copy, 64)
    path = _send(copy, 128)
    checkpoints.write(path, Checkpoint(tensors={"ema": {}, "model": {}}, state={"images": 129}))
    left = kept
    with monkeypatch.context() as patched:

        def fails(kind: str, path: str) -> bool:
            nonlocal left
            left -= kind == "write"
            return kind == "write" and left < 0

        failing(patched, fails)
        with contextlib.suppress(BucketError):
            stored_checkpoints.send(path, copy.there(path.parent))
    assert _newest(copy) == (129 if kept == 3 else 64)


def test_the_settings_of_an_address_are_no_folders_of_what_is_brought(
    copy: WorkingCopy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _send(copy, 64)
    place = (copy.bucket / "run").place
    monkeypatch.setattr("curriculum_ray.buckets.store.filesystem", lambda uri: place)
    there = Bucket("s3://bucket/study/run?region=eu&endpoint_override=http://host:9")
    path = stored_checkpoints.bring(there, tmp_path, "--checkpoint")
    assert path.relative_to(tmp_path) == Path("bucket/study/run") / checkpoints.checkpoint_name("run", 64)
