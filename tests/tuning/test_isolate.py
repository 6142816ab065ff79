"""`--isolate` of search and of train reaches the slots that serve the runs; without it they are shared."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import curriculum_ray.distributed.fit as trainer
import tuning.search.launch as launch
import tuning.search.ray_tune.run as search
import tuning.study.single as train
from curriculum_ray.distributed.capacity import Capacity
from curriculum_ray.runs.jobs import Job
from tuning.cli import main


class Reached(Exception):
    """The slots are asked for: enough is known."""


class Board:
    """Takes a job and does nothing with it."""

    def __init__(self) -> None:
        self.submit = self

    def remote(self, job: Job) -> None:
        assert job.key == "run"


@contextmanager
def nothing(*_: Any) -> Iterator[None]:
    """In the place of a connection to Ray."""
    yield Capacity.of({"CPU": 2.0})


@pytest.mark.parametrize(
    ("command", "options"), [("search", ()), ("search", ("--isolate",)), ("train", ("--isolate",))]
)
def test_isolate_reaches_the_slots(
    output: Path, monkeypatch: pytest.MonkeyPatch, command: str, options: tuple[str, ...]
) -> None:
    asked = []

    def slots(board: Any, folders: list[Path], resources: Any, *_: Any, **__: Any) -> None:
        asked.append(resources.isolate)
        raise Reached

    for module in (launch, train):
        monkeypatch.setattr(module, "connected", nothing)
    monkeypatch.setattr(launch, "room", lambda *_: 1)
    monkeypatch.setattr(search, "trial_resources", lambda: {"memory": 1.0})
    monkeypatch.setattr("ray.get", lambda found: found)
    for module in (search, trainer):
        monkeypatch.setattr(module, "Slots", slots)
    monkeypatch.setattr(search, "create_board", lambda *_: None)
    monkeypatch.setattr(trainer, "create_board", Board)
    with pytest.raises(Reached):
        main([command, "--output", str(output), "--images", "44800", *options])
    assert asked == [bool(options)]
