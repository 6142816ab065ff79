"""Checkpoints come back as they were, whole or not at all, and say in one line what is wrong with them."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from curriculum_ray.config import ConfigError
from curriculum_ray.training.checkpoint import (
    Checkpoint,
    CheckpointNotWritten,
    checkpoint_name,
    find_checkpoints,
    prune,
    put_back,
    read,
    recorded_digests,
    write,
)


@pytest.fixture
def written(tmp_path: Path) -> Path:
    tensors = {"model": {"w": torch.arange(6.0).view(2, 3)}, "ema": {"w": torch.ones(3, dtype=torch.float64)}}
    return write(tmp_path / checkpoint_name("a", 5), Checkpoint(tensors=tensors, state={"images": 5}))


def test_what_was_written_is_read(written: Path) -> None:
    back = read(written)
    assert torch.equal(back.tensors["model"]["w"], torch.arange(6.0).view(2, 3))
    assert back.tensors["ema"]["w"].dtype == torch.float64
    assert back.state == {"images": 5}


def test_tied_weights_are_written_under_both_names(tmp_path: Path) -> None:
    tied = torch.arange(4.0)
    whole = torch.arange(6.0)
    tensors = {"model": {"a": tied, "b": tied, "c": whole[:2], "d": whole[2:], "e": torch.empty(0)}}
    back = read(write(tmp_path / checkpoint_name("a", 5), Checkpoint(tensors=tensors, state={})))
    for name, value in tensors["model"].items():
        assert torch.equal(back.tensors["model"][name], value)


def test_only_the_groups_asked_for_are_read(written: Path) -> None:
    assert set(read(written, groups=("ema",)).tensors) == {"ema"}


def test_writing_leaves_no_temporary_folder_and_replaces_an_old_one(written: Path) -> None:
    write(written, Checkpoint(tensors={"model": {}}, state={"images": 5, "again": True}))
    assert read(written).state["again"] is True
    assert [path.name for path in written.parent.iterdir()] == [written.name]


def test_one_with_the_same_content_stays_unless_it_is_damaged(written: Path) -> None:
    whole, place, file = read(written), written.stat().st_ino, written / "model.safetensors"
    assert write(written, whole).stat().st_ino == place
    file.write_bytes(file.read_bytes()[:-1])
    write(written, whole)
    assert torch.equal(read(written).tensors["model"]["w"], whole.tensors["model"]["w"])
    assert [path.name for path in written.parent.iterdir()] == [written.name]


def _renames(monkeypatch: pytest.MonkeyPatch, *ends: BaseException | None) -> None:
    """What the next renames raise."""
    left, rename = list(ends), os.rename

    def renamed(*paths: Any) -> None:
        if left and (end := left.pop(0)) is not None:
            raise end
        rename(*paths)

    monkeypatch.setattr(os, "rename", renamed)


@pytest.mark.parametrize("survived", [0, 1, 2])
def test_wherever_a_writer_is_killed_one_of_the_two_is_there(
    written: Path, monkeypatch: pytest.MonkeyPatch, survived: int
) -> None:
    with monkeypatch.context() as patched:
        _renames(patched, *[None] * survived, KeyboardInterrupt())
        if survived == 2:
            patched.setattr("curriculum_ray.training.checkpoint._flush_directory", _killed)
        with pytest.raises(KeyboardInterrupt):
            write(written, Checkpoint(tensors={}, state={"images": 5, "again": True}))
    put_back(written.parent, "a")
    assert read(written).state.get("again", False) is (survived == 2)
    prune(written.parent, "a", keep=1)
    assert [path.name for path in written.parent.iterdir()] == [written.name]


def _killed(folder: Path) -> None:
    raise KeyboardInterrupt


def test_the_old_one_stands_where_the_new_one_is_refused_its_place(
    written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _renames(monkeypatch, None, OSError(errno.EIO, "Input/output error"))
    with pytest.raises(CheckpointNotWritten, match="Input/output error; earlier ones still stand"):
        write(written, Checkpoint(tensors={}, state={}))
    assert read(written).state == {"images": 5}
    assert [path.name for path in written.parent.iterdir()] == [written.name]


@pytest.mark.parametrize(
    "fault", ["flip", "truncate", "missing file", "bad json", "version", "not one", "nothing"]
)
def test_a_damaged_checkpoint_is_refused_in_one_line(written: Path, fault: str) -> None:
    file, state = written / "model.safetensors", written / "state.json"
    payload = file.read_bytes()
    if fault == "flip":
        file.write_bytes(payload[:-1] + bytes([payload[-1] ^ 1]))
    elif fault == "truncate":
        file.write_bytes(payload[: len(payload) // 2])
    elif fault == "missing file":
        file.unlink()
    elif fault == "bad json":
        state.write_text("{")
    elif fault == "version":
        state.write_text(json.dumps({**json.loads(state.read_text()), "version": 99}))
    elif fault == "not one":
        state.unlink()
    path = written if fault != "nothing" else written.with_name("elsewhere")
    with pytest.raises(ConfigError) as caught:
        read(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new"), [('"images": 5', '"images": 4'), ('"images"', '"imagfs"'), ('"b": 1', '"b": 3')]
)
def test_a_changed_state_is_noticed(tmp_path: Path, old: str, new: str) -> None:
    state = {"images": 5, "stages": ((0, 1), (5, 2)), "config": {"b": 1.5, 7: "seven"}}
    path = write(tmp_path / "checkpoint", Checkpoint(tensors={}, state=state))
    assert read(path).state["config"] == {"b": 1.5, "7": "seven"}
    file = path / "state.json"
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))
    with pytest.raises(ConfigError, match=r"state\.json does not match its SHA-256"):
        read(path)


@pytest.mark.parametrize("content", ["[]", "3", '{"version": 1, "sha256": 5}', "[" * 200_000, "9" * 5_000])
def test_a_state_of_another_form_is_refused(written: Path, content: str) -> None:
    (written / "state.json").write_text(content)
    with pytest.raises(ConfigError, match=r"state\.json is unreadable"):
        read(written)


@pytest.mark.parametrize("name", ["state.json", "ema.safetensors"])
@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_what_never_ends_is_refused_before_it_is_read(written: Path, name: str, kind: str) -> None:
    (written / name).unlink()
    if kind == "pipe":
        os.mkfifo(written / name)
    else:
        (written / name).symlink_to("/dev/zero")
    with pytest.raises(ConfigError, match="it is not a regular file") as caught:
        read(written)
    assert "\n" not in str(caught.value)


def test_a_state_nested_too_deeply_names_no_digests(written: Path) -> None:
    assert set(recorded_digests(written)) == {"model", "ema"}
    (written / "state.json").write_text("[" * 200_000)
    assert recorded_digests(written) == {}


def test_a_checkpoint_of_before_its_state_had_a_digest_is_read(written: Path) -> None:
    whole = json.loads((written / "state.json").read_text())
    del whole["sha256"]["state.json"]
    (written / "state.json").write_text(json.dumps(whole))
    assert read(written).state == {"images": 5}


def test_the_newest_comes_first_and_pruning_keeps_it(tmp_path: Path) -> None:
    for images in (10, 2_000, 300):
        write(tmp_path / checkpoint_name("a", images), Checkpoint(tensors={}, state={}))
    write(tmp_path / checkpoint_name("ab", 7), Checkpoint(tensors={}, state={}))
    assert [int(path.name[-12:]) for path in find_checkpoints(tmp_path, "a")] == [2_000, 300, 10]
    prune(tmp_path, "a", keep=1)
    assert [int(path.name[-12:]) for path in find_checkpoints(tmp_path, "a")] == [2_000]
    assert len(find_checkpoints(tmp_path, "ab")) == 1


@pytest.mark.parametrize(("keep", "left"), [(1, [300, 250]), (2, [300, 250, 200]), (9, [300, 250, 200, 100])])
def test_the_one_just_written_counts_as_the_newest(tmp_path: Path, keep: int, left: list[int]) -> None:
    """The run resumed at 200, as 300 was damaged."""
    for images in (100, 200, 250, 300):
        path = write(tmp_path / checkpoint_name("a", images), Checkpoint(tensors={}, state={}))
    (path / "state.json").write_text("{")
    write(tmp_path / checkpoint_name("b", 300), Checkpoint(tensors={}, state={}))
    prune(tmp_path, "a", keep, checkpoint_name("a", 250))
    assert [int(path.name[-12:]) for path in find_checkpoints(tmp_path, "a")] == left
    assert len(find_checkpoints(tmp_path, "b")) == 1
