"""Paths that options take: no address makes a folder `s3:` here, and no folder is taken for a file to write."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import torch

from curriculum_ray.buckets.address import names
from curriculum_ray.buckets.copy import STAGE_VARIABLE
from curriculum_ray.runs import stored_checkpoints
from curriculum_ray.training.checkpoint import Checkpoint, checkpoint_name, write
from tests.buckets.places import bucket_in_memory
from tuning.cli import cli, main
from tuning.cli.options import shared
from tuning.cli.parameters import FileOption, PathOption, PlaceOption, stored_checkpoint


def _parameters() -> Iterator[tuple[str, click.Parameter]]:
    context = click.Context(cli)
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert command is not None
        yield from ((name, parameter) for parameter in command.params)


def _words(name: str, parameter: click.Parameter, value: str) -> list[str]:
    return [name, *(parameter.opts[:1] if isinstance(parameter, click.Option) else []), value]


_PATHS = [(name, each) for name, each in _parameters() if isinstance(each.type, click.Path)]
_HERE = [(name, each) for name, each in _PATHS if not isinstance(each.type, PlaceOption)]
_FILES = [(name, each) for name, each in _PATHS if isinstance(each.type, FileOption)]


def _refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return said


def test_every_option_that_writes_takes_a_path() -> None:
    writing = [each for _, each in _parameters() if {"--into", "--write", "--output"} & set(each.opts)]
    assert len(writing) > 15
    assert all(isinstance(each.type, PathOption) for each in writing)
    assert all(isinstance(each.type, PathOption) for _, each in _PATHS)
    files = {(name, each.opts[0]) for name, each in _FILES}
    assert files == {("best", "--write"), ("bundle", "--into"), ("reference", "--into")}


@pytest.mark.parametrize(
    ("name", "parameter"), [pytest.param(*each, id=" ".join(_words(*each, ""))) for each in _HERE]
)
def test_an_address_is_no_path_of_this_machine(
    name: str,
    parameter: click.Parameter,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    said = _refused(_words(name, parameter, "s3://me:planted@bucket/x"), capsys)
    assert f"`{name}` needs a path of this machine, but got s3://bucket/x" in said
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("place", [".", "/", "..", "folder", "folder/..", "new/"])
@pytest.mark.parametrize(
    ("name", "parameter"), [pytest.param(*each, id=" ".join(_words(*each, ""))) for each in _FILES]
)
def test_a_folder_is_no_file_to_write(
    name: str,
    parameter: click.Parameter,
    place: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    assert "is a folder: name a file to write" in _refused(_words(name, parameter, place), capsys)
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


@pytest.mark.parametrize("named", ["run", f"run/{checkpoint_name('run', 64)}"])
def test_workers_bring_the_checkpoint_that_an_address_with_settings_names(
    named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(STAGE_VARIABLE, str(tmp_path / "stage"))
    bucket = bucket_in_memory()
    tensors = {group: {"w": torch.ones(1)} for group in ("ema", "model")}
    path = write(tmp_path / checkpoint_name("run", 64), Checkpoint(tensors=tensors, state={"images": 64}))
    stored_checkpoints.send(path, bucket / "run")
    found, root = bucket.place
    monkeypatch.setattr(
        "curriculum_ray.buckets.store.filesystem", lambda uri: (found, "/".join([root, *names(uri)[1:]]))
    )

    @click.command()
    @shared("checkpoint")
    def command(checkpoint: Path) -> tuple[str, str]:
        there = stored_checkpoint()
        assert there is not None
        return checkpoint.name, there.shown()

    settings = "?region=eu&endpoint_override=http://host:9"
    asked = command.main(["--checkpoint", f"s3://bucket/{named}{settings}"], standalone_mode=False)
    assert asked == (path.name, f"s3://bucket/run/{path.name}{settings}")
