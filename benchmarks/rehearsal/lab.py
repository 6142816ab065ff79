"""The lab: its folder, its servers and its cluster, the commands that are run there, and what each stage found."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from rehearsal.nodes import Cluster, Machine, end, variables
from rehearsal.servers import BUCKET, ROOT, Storage, Store

_FACTS = "rehearsal.json"
WORKERS = ("one", "two", "three")
"""The worker nodes that the cluster begins with."""


@dataclass
class Lab:
    """The S3 server runs while it is open; MLflow's server and the cluster from when they are first needed."""

    folder: Path
    storage: Storage
    facts: dict[str, dict[str, Any]]
    """What each stage that has ended found, by its name."""
    _opened: list[Store | Cluster] = field(default_factory=list)

    @classmethod
    @contextmanager
    def open(cls, folder: Path) -> Iterator[Lab]:
        """Start the S3 server with what it held when the last stage ended; at the end, close all that was opened."""
        folder.mkdir(parents=True, exist_ok=True)
        kept = folder / _FACTS
        storage = Storage(folder / "bucket")
        lab = cls(folder, storage, json.loads(kept.read_text()) if kept.exists() else {})
        try:
            yield lab
        finally:
            for opened in reversed(lab._opened):
                opened.close()
            storage.close()

    def end(self, stage: str, found: dict[str, Any]) -> None:
        """Keep what a stage found, and the bucket as it left it."""
        self.facts[stage] = found
        self.storage.save()
        (self.folder / _FACTS).write_text(json.dumps(self.facts, indent=1))

    @property
    def data(self) -> Path:
        """The folder of data that all nodes see."""
        return self.folder / "data"

    @property
    def output(self) -> str:
        """The address of results."""
        return f"s3://{BUCKET}/runs"

    @cached_property
    def store(self) -> Store:
        """The MLflow server."""
        made = Store(self.folder / "mlflow")
        self._opened.append(made)
        return made

    @cached_property
    def cluster(self) -> Cluster:
        """The head and the worker nodes; keys of the bucket are in the environment of each."""
        # Ray's sockets need short paths.
        made = Cluster(Path(tempfile.mkdtemp(prefix="lab-")), {**variables(), **self.storage.environment})
        self._opened.append(made)
        for name in ("head", *WORKERS):
            made.start(name)
        return made

    def alone(self) -> dict[str, str]:
        """The environment of a command on this machine alone, without cluster, servers and keys."""
        names = self.storage.environment
        own = {key: value for key, value in variables().items() if key not in names}
        return {**own, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "RAY_worker_niceness": "0"}

    def on_cluster(self, user: str = "lab") -> dict[str, str]:
        """The environment of a user's command on the cluster."""
        there = self.cluster
        return {**there.environment, **self.store.environment(user), "RAY_ADDRESS": there.address}

    def tune(self, *words: str, environment: dict[str, str], machine: Machine | None = None) -> Tune:
        """Start `python -m tune` in the lab's folder, or on a machine of its own."""
        return Tune(list(words), self.folder, environment, machine)

    def secrets(self) -> list[str]:
        """All that must not stand in any file of results or line of output."""
        token = self.cluster.environment["RAY_AUTH_TOKEN"]
        return [self.storage.environment["AWS_SECRET_ACCESS_KEY"], token, *self.store.passwords.values()]


class Tune:
    """A command that runs in the background; every line that it prints has its time."""

    def __init__(
        self, words: list[str], folder: Path, environment: dict[str, str], machine: Machine | None
    ) -> None:
        whole = [sys.executable, "-m", "tune", *words]
        self.process: subprocess.Popen[str]
        if machine is None:
            self.process = subprocess.Popen(
                whole,
                cwd=folder,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
        else:
            self.process = machine.start(whole, environment, subprocess.PIPE, folder)
        self.words = " ".join(words)
        self.lines: list[tuple[float, str]] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.lines.append((time.time(), line.rstrip()))

    @property
    def text(self) -> str:
        """All that it printed so far."""
        return "\n".join(line for _, line in self.lines)

    def alive(self) -> bool:
        """Whether it runs; AssertionError with its last lines where it ended before its time."""
        assert self.process.poll() is None, f"tune {self.words} ended: {self.text[-3000:]}"
        return True

    def kill(self) -> None:
        """kill -9, with all that it started."""
        end(self.process.pid)
        self.process.wait(30)
        self._reader.join(30)

    def done(self, seconds: float = 7200.0) -> str:
        """Wait until it has ended, and check that it succeeded; returns all that it printed."""
        code = self.process.wait(seconds)
        self._reader.join(30)
        assert code == 0, f"tune {self.words} ended with {code}: {self.text[-3000:]}"
        return self.text

    def json(self, seconds: float = 7200.0) -> dict[str, Any]:
        """The JSON object that it printed, among log lines."""
        text = "\n" + self.done(seconds)
        found: dict[str, Any]
        found, _ = json.JSONDecoder().raw_decode(text[text.index("\n{") + 1 :])
        return found
