"""Ray nodes as real processes of this machine, to be killed, stopped and started again, and runs on them."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import psutil
import yaml

from curriculum_ray.data import load_data
from curriculum_ray.runs.config import RunConfig
from curriculum_ray.training import loop
from curriculum_ray.training.trainer import Trainer
from curriculum_ray.training.world import World
from tests.training.calls import calling

ROOT = Path(__file__).parent.parent.parent
LOGGED = 16 * 6
SETTINGS: dict[str, Any] = {
    "evaluation": None,
    "batch_size": 16,
    "images": 16 * 1800,
    "window": 2,
    "log_every_images": LOGGED,
    "checkpoint": {"every_images": 16 * 24},
    "model": {"base_channels": 8},
    "schedule": {
        "version": 1,
        "clusters": {"by": "uniform", "count": 3},
        "order": {"direction": "easy_to_hard"},
        "pacing": {"rule": "plateau", "patience": 40},
    },
}


# As `ray drain-node`.
_DRAIN = """
import sys, time, ray
from ray._raylet import GcsClient
from ray.core.generated.autoscaler_pb2 import DrainNodeReason
ray.init(log_to_driver=False, logging_level=50)
ids = {name: node["NodeID"] for node in ray.nodes() for name in node["Resources"]}
gcs = GcsClient(address=sys.argv[1])
print("ready", flush=True)
for line in sys.stdin:
    name, seconds = line.split()
    until = time.time_ns() // 10**6 + 1000 * int(seconds)
    reason = DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
    taken, refusal = gcs.drain_node(ids[name], reason, "spot", until)
    print("drained" if taken else refusal, flush=True)
"""


def tree(pid: int) -> list[psutil.Process]:
    """A process and all that it started, as far as they are there."""
    try:
        top = psutil.Process(pid)
        return [top, *top.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


class Cluster:
    """A Ray cluster whose nodes are process trees of this machine; the head runs no work."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("", 0))
            self.port = free.getsockname()[1]
        # Ray's sockets need short paths.
        self.folder = folder
        folder.mkdir(parents=True)
        # The last one is that of the tests' own, local Ray.
        dropped = {
            "RAY_ADDRESS",
            "MLFLOW_TRACKING_URI",
            "RAY_AUTH_TOKEN_PATH",
            "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER",
        }
        self.environment = {
            **{key: value for key, value in os.environ.items() if key not in dropped},
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(ROOT),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "10",
            "RAY_USAGE_STATS_ENABLED": "0",
        }
        self._heads = 0
        self.nodes: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def address(self) -> str:
        """Where drivers and nodes find the head."""
        return f"127.0.0.1:{self.port}"

    def start(self, name: str, cpus: int) -> None:
        """Start a node, the head where it is called "head"."""
        place = [f"--address={self.address}"]
        if name == "head":
            # What takes a lost head's place has none of its files.
            self._heads += 1
            place = ["--head", f"--port={self.port}", "--include-dashboard=false"]
            place += [f"--temp-dir={self.folder / str(self._heads)}"]
        ray = str(Path(sys.executable).parent / "ray")
        rest = ["--block", "--disable-usage-stats", "--object-store-memory=100000000"]
        with open(self.folder / f"{name}.log", "ab") as log:
            self.nodes[name] = subprocess.Popen(
                [ray, "start", *place, f"--num-cpus={cpus}", "--resources", json.dumps({name: 1}), *rest],
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait(self, nodes: int, seconds: float = 240.0) -> None:
        """Wait until so many nodes are there."""
        command = [sys.executable, "-m", "clusters", "wait", "--nodes", str(nodes), "--timeout", str(seconds)]
        subprocess.run(command, env={**self.environment, "RAY_ADDRESS": self.address}, cwd=ROOT, check=True)

    def send(self, name: str, number: int) -> None:
        """Send a signal to everything that runs on a node, first to what starts the rest."""
        for process in tree(self.nodes[name].pid):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def kill(self, name: str) -> None:
        """Take a node away at once, as a machine that loses its power."""
        self.send(name, signal.SIGKILL)
        process = self.nodes.pop(name)
        process.wait(30)

    @contextlib.contextmanager
    def drainer(self) -> Iterator[Callable[[str, int], None]]:
        """What announces, as `ray drain-node` does, that a node will be taken away in so many seconds.

        Ray's command for that takes longer to start than a run lasts on a fast machine; this process has started.
        """
        process = subprocess.Popen(
            [sys.executable, "-c", _DRAIN, self.address],
            env={**self.environment, "RAY_ADDRESS": self.address},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdin
        assert process.stdout
        lines = process.stdout
        assert lines.readline() == "ready\n"

        def drain(name: str, seconds: int) -> None:
            assert process.stdin
            process.stdin.write(f"{name} {seconds}\n")
            process.stdin.flush()
            assert lines.readline() == "drained\n"

        try:
            yield drain
        finally:
            process.kill()
            process.wait(20)

    def running(self, title: str) -> list[tuple[str, psutil.Process]]:
        """The processes with this in their command line, each with its node."""
        return [
            (name, process)
            for name, node in self.nodes.items()
            for process in tree(node.pid)
            if title in _title(process)
        ]

    def where(self, title: str) -> list[str]:
        """The nodes of those processes."""
        return [name for name, _ in self.running(title)]

    def close(self) -> None:
        """Kill all that is left."""
        for name in reversed(list(self.nodes)):
            self.kill(name)


def _title(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return " ".join(process.cmdline())
    return ""


@contextlib.contextmanager
def cluster(folder: Path, *nodes: str, head_cpus: int = 0) -> Iterator[Cluster]:
    """A cluster of a head and these nodes of one CPU each, all killed at the end."""
    made = Cluster(folder)
    try:
        made.start("head", cpus=head_cpus)
        made.wait(1)
        # One after another: nodes of one machine that start at once may choose the same ports.
        for there, name in enumerate(nodes, start=2):
            made.start(name, cpus=1)
            made.wait(there)
        yield made
    finally:
        while Command.started:
            Command.started.pop().close()
        made.close()


class Command:
    """A command of Python that runs in the background; every line that it prints has its time."""

    started: ClassVar[list[Command]] = []
    """All of them, so that a test that fails can end its own."""

    def __init__(self, arguments: list[str], folder: Path, environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.started.append(self)
        self.lines: list[str] = []
        self._new: queue.Queue[tuple[float, str] | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.lines.append(line.rstrip())
            self._new.put((time.monotonic(), line))
        self._new.put(None)

    def until(self, word: str, seconds: float = 600.0) -> float:
        """When the next line with `word` was printed; AssertionError when none is in time."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                found = self._new.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"no {word!r} in {seconds:g} s, but {self.lines[-20:]}") from None
            assert found, f"it ended before {word!r}: {self.lines[-20:]}"
            if word in found[1]:
                return found[0]

    def end(self, seconds: float = 1500.0) -> int:
        """Wait for the end; returns the exit code."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it did not end in {seconds:g} s: {self.lines[-20:]}") from None

    def close(self) -> None:
        """Kill what still runs."""
        for process in tree(self.process.pid):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


def train(
    folder: Path, environment: dict[str, str], workers: str, name: str = "run", **changes: Any
) -> Command:
    """`tune train` into `folder`/runs/`name`; a cluster's where `environment` has RAY_ADDRESS."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = folder / f"{name}.yaml"
    settings.write_text(yaml.safe_dump({**SETTINGS, **changes}))
    arguments = ["-m", "tune", "train", "--config", str(settings), "--name", name, "--num-workers", workers]
    return Command(arguments, folder, environment)


def log(folder: Path) -> list[dict[str, Any]]:
    """The lines that a run has logged so far; one that is being written is left out."""
    path = folder / "metrics.jsonl"
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text.splitlines() if line.endswith("}")]


def state(folder: Path) -> dict[str, Any]:
    """What the schedule of a finished run did: where each stage began, what was sampled, each logged loss."""
    sampled = json.loads((folder / "sampled_timesteps.json").read_text())
    curve = [(line["images"], line["loss"], line["stage"]) for line in log(folder)]
    return {"stage_starts": sampled["stage_starts"], "counts": sampled["counts"], "curve": curve}


def undisturbed(config: RunConfig, pieces: int = 0) -> dict[str, Any]:
    """What `state` returns of a run of one worker that nothing disturbs, trained here and now.

    pieces: those in which the run's noise is drawn, if it has a range of workers.
    """
    single = Trainer(config.train, load_data(config.data), world=World(pieces=pieces))
    curve: list[tuple[int, float, int]] = []
    loop.train(single, calling(on_log=lambda line: bool(curve.append((line.images, line.loss, line.stage)))))
    counts = single.histogram.as_json()["counts"]
    return {"stage_starts": single.stage_starts, "counts": counts, "curve": curve}


def result(folder: Path) -> dict[str, Any]:
    """The result of a finished run."""
    return json.loads((folder / "result.json").read_text())
