"""A study's `status.json`: its progress, for another terminal to read; its driver replaces the file every second."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from glob import escape
from pathlib import Path
from typing import Any, Literal

import pydantic

from curriculum_ray.config import ConfigError, parse
from curriculum_ray.config.plain_yaml import read_own_json
from curriculum_ray.config.regular import read_regular
from curriculum_ray.files import replace_file
from curriculum_ray.shell import tune_command
from tuning.folder.layout import SLOT_PREFIX, SLOTS, STATUS_FILE, TRIALS
from tuning.folder.process import ProcessIdentity, is_alive, moves, this_process

__all__ = [
    "EndedTrials",
    "RunningTrial",
    "ScoredTrial",
    "State",
    "StatusFile",
    "StudyProgress",
    "StudyStatus",
    "checked_status",
    "find_status",
    "parsed_status",
    "read_status",
]

_EVERY_S = 1.0
_STALE_S = 30.0

State = Literal["running", "finished", "failed", "killed", "dead"]
"""killed: interrupted. dead: the driver died without writing another state; only readers say so."""


class _Frozen(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True, use_attribute_docstrings=True)


class EndedTrials(_Frozen):
    """How many trials ended, by how."""

    finished: int = 0
    pruned: int = 0
    failed: int = 0


class ScoredTrial(_Frozen):
    """A finished trial and its score."""

    trial: int
    """Its number, from 0."""
    key: str
    name: str
    """Its name in tables."""
    arm: str = ""
    """The short name of what it trains with."""
    description: str = ""
    """The same in words."""
    seed: int
    images: int
    """Images seen."""
    value: float
    """The study's metric at the end."""


class RunningTrial(_Frozen):
    """A running trial, as of its last report."""

    trial: int
    """Its number, from 0."""
    key: str = ""
    """Its key; empty in files of the first releases."""
    name: str
    """Its name in tables."""
    arm: str = ""
    """The short name of what it trains with."""
    description: str = ""
    """The same in words."""
    total: int
    """Its budget in images."""
    images: int | None = None
    """Images seen; None before its first report."""
    stage: int = 0
    """Of the schedule; 0 is the first."""
    num_stages: int = 1
    loss: float | None = None
    images_per_second: float | None = None
    """Since its first report; None before the second."""
    resumes_at: int | None = None
    """Where an interrupted trial goes on: images at its newest checkpoint, 0 without one; None where that is not known,
    and while it runs."""

    @property
    def seconds_left(self) -> float | None:
        """Until its budget is spent, at that speed; its evaluation comes on top."""
        if not self.images_per_second or self.images is None:
            return None
        return (self.total - self.images) / self.images_per_second


class StudyProgress(_Frozen):
    """How far a study is."""

    metric: str
    """The metric that ranks the trials."""
    total: int
    """Trials of the whole study."""
    room: str = ""
    """Its slots and their workers, in words; empty before they start."""
    ended: EndedTrials
    images: int
    """Images seen, over all trials; a trial that ended early counts with its whole budget."""
    total_images: int
    """The budgets of all trials, those at smaller budgets with theirs."""
    images_per_second: float | None = None
    """Over all trials, since this driver started its first; None while it is too early for one."""
    seconds_left: float | None = None
    """An estimate; None while it is too early for one."""
    best: ScoredTrial | None = None
    """The best schedule of the search: fresh seeds are not for choosing."""
    uniform: ScoredTrial | None = None
    """Uniform sampling on the search's seed."""
    front: tuple[str, ...] = ()
    """A line for each trial that no other one beats in both objectives, the best by the metric first."""
    waiting: int = 0
    """Trials that wait for workers."""
    running: tuple[RunningTrial, ...] = ()
    """In the order of their numbers."""
    interrupted: tuple[RunningTrial, ...] = ()
    """Trials that ran when the driver stopped or died: the same command takes them up again."""

    def stopped(self, resumes_at: Callable[[str], int | None] = lambda key: None) -> StudyProgress:
        """The progress of a study whose driver no longer runs.

        resumes_at: images at which the trial of this key goes on, None where that is not known.
        """
        interrupted = [
            trial.model_copy(
                update={"images_per_second": None, "resumes_at": resumes_at(trial.key) if trial.key else None}
            )
            for trial in (*self.interrupted, *self.running)
        ]
        nothing = {"running": (), "waiting": 0, "images_per_second": None, "seconds_left": None}
        return self.model_copy(update={**nothing, "interrupted": tuple(interrupted)})


class StudyStatus(_Frozen):
    """Contents of a status file, one flat JSON object: the progress of a study, and its driver."""

    study: str
    state: State
    driver: ProcessIdentity
    beat: int
    """How often the driver has written."""
    since: float
    """When the driver started, by its clock: seconds since the epoch."""
    time: float
    """When it wrote this, by its clock."""
    silent_s: float = 0.0
    """Seconds from `time` until it was read, by the reader's clock."""
    progress: StudyProgress

    @classmethod
    def from_json(cls, data: Any, source: str) -> StudyStatus:
        """Check a JSON value; `source` is what the `ConfigError` names."""
        return parse(
            cls, {**data, "driver": data, "progress": data} if isinstance(data, dict) else data, source
        )

    def to_json(self) -> dict[str, Any]:
        """All fields as JSON values."""
        data = self.model_dump(mode="json")
        return {**data.pop("driver"), **data.pop("progress"), **data}


class StatusFile:
    """Writes the progress that `snapshot` returns into a folder once a second, on its own thread, until `close`."""

    def __init__(self, folder: Path, name: str, snapshot: Callable[[], StudyProgress]) -> None:
        self._path, self._name, self._snapshot = folder / STATUS_FILE, name, snapshot
        self._end = threading.Event()
        self._since = time.time()
        self._process, self._beat = this_process(), 0
        self._thread = threading.Thread(target=self._run, name="status", daemon=True)
        self._write("running")
        self._thread.start()

    def close(self, state: State) -> None:
        """Write a last time, with the state that the study ended in."""
        self._end.set()
        self._thread.join()
        self._write(state)

    def _run(self) -> None:
        while not self._end.wait(_EVERY_S):
            self._write("running")

    def _write(self, state: State) -> None:
        self._beat += 1
        status = StudyStatus(
            study=self._name,
            state=state,
            driver=self._process,
            beat=self._beat,
            since=self._since,
            time=time.time(),
            progress=self._snapshot(),
        )
        # A full disk must not end a study for the sake of a display.
        with suppress(OSError):
            replace_file(self._path, json.dumps(status.to_json()), durable=False)


def find_status(output: Path, name: str | None) -> Path:
    """The folder of the study `name` in `output`, or of the one that wrote last; ConfigError when there is none."""
    found = sorted(output.glob(f"*/{STATUS_FILE}"), key=lambda path: path.stat().st_mtime)
    if name is not None:
        found = [path for path in found if path.parent.name == name]
    if not found:
        which = f"no study {name!r}" if name else "no study"
        raise ConfigError(f"there is {which} in {output}: run `{tune_command('search')}` first")
    return found[-1].parent


def read_status(folder: Path, patience_s: float = _STALE_S) -> StudyStatus:
    """The last status of a study, with the state "dead" where its driver died; ConfigError where it cannot be read.

    A driver on this machine is dead when its process is gone. One that cannot be seen from here is watched: it is dead
    when it writes nothing for `patience_s` seconds, whatever its clock says.
    """
    path = folder / STATUS_FILE
    return checked_status(
        lambda: _content(path), str(path), lambda: moves(path, patience_s), partial(_resumes_at, folder)
    )


def _resumes_at(study: Path, key: str) -> int:
    """Images at the newest checkpoint of a trial of the study in this folder; 0 without one."""
    from curriculum_ray.training.checkpoint import find_checkpoints, images_at

    folders = [study / TRIALS / key, *(study / SLOTS).glob(f"{SLOT_PREFIX}*")]
    newest = [path.name for folder in folders for path in find_checkpoints(folder, escape(key))[:1]]
    return max(map(images_at, newest), default=0)


def checked_status(
    read: Callable[[], bytes | None],
    source: str,
    watched: Callable[[], bool],
    resumes_at: Callable[[str], int | None],
) -> StudyStatus:
    """The status that `read` returns the content of, with the state "dead" where the driver died; ConfigError.

    source: what errors name. watched: whether a driver that cannot be seen from here writes on. resumes_at: as in
    `StudyProgress.stopped`.
    """
    status = parsed_status(read(), source)
    if status.state == "running":
        alive = is_alive(status.driver)
        if alive is None:
            alive = watched()
            with suppress(ConfigError):
                status = parsed_status(read(), source)
        if not alive and status.state == "running":
            status = status.model_copy(update={"state": "dead"})
    if status.state != "running":
        status = status.model_copy(update={"progress": status.progress.stopped(resumes_at)})
    return status.model_copy(update={"silent_s": max(0.0, time.time() - status.time)})


def _content(path: Path) -> bytes:
    try:
        return read_regular(path)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None


def parsed_status(content: bytes | None, source: str) -> StudyStatus:
    """The status in the content of a file as it stands there; `source` is what the `ConfigError` names."""
    try:
        data = read_own_json(content or b"")
    except ValueError as error:
        raise ConfigError(f"{source} cannot be read: {error}") from None
    return StudyStatus.from_json(data, source)
