"""A Ray cluster whose nodes are process trees of this machine, each with a disk of its own for working copies."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from rehearsal.servers import ROOT, free_port

_PYTHON = sys.executable
_TRIES = 5
_RAY = str(Path(sys.executable).parent / "ray")


def _own_disks() -> list[str] | None:
    """What a command begins with that may mount a disk which only it sees; None where the kernel forbids it."""
    for words in (["unshare", "-m"], ["unshare", "-Urm"]):
        with contextlib.suppress(OSError):
            if subprocess.run([*words, "true"], capture_output=True, check=False).returncode == 0:
                return words
    return None


def tree(pid: int) -> list[psutil.Process]:
    """A process and all that it started, as far as they are there."""
    with contextlib.suppress(psutil.NoSuchProcess):
        top = psutil.Process(pid)
        return [top, *top.children(recursive=True)]
    return []


class Machine:
    """A part of this machine that stands for one of its own: a name, and what lies on its disk."""

    def __init__(self, name: str, stage: Path, disk: Path, own: list[str] | None) -> None:
        self.name, self._stage, self._own = name, stage, own
        self.disk = disk if own else stage
        disk.mkdir(parents=True, exist_ok=True)

    def start(
        self, words: list[str], environment: dict[str, str], output: int, folder: Path
    ) -> subprocess.Popen[str]:
        """Start a command there, whose working copies lie on the disk of this machine."""
        if self._own is not None:
            mount = f"mount --bind {shlex.quote(str(self.disk))} {shlex.quote(str(self._stage))}"
            words = [*self._own, "sh", "-c", f"{mount} && exec {shlex.join(words)}"]
        return subprocess.Popen(
            words,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=folder,
            start_new_session=True,
        )


class Cluster:
    """A head without CPUs and nodes of one CPU each, with token authentication."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        """folder: of Ray's sockets, which need short paths. environment: what every node has of its own."""
        self.folder, self.port = folder, free_port()
        self.stage = folder / "stage"
        self.stage.mkdir(parents=True, mode=0o700)
        self._own = _own_disks()
        self.environment = {
            **environment,
            "CURRICULUM_RAY_STAGE": str(self.stage),
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(ROOT),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S": "0.5",
            "RAY_USAGE_STATS_ENABLED": "0",
            # A busy machine: workers do not give way to what runs beside them, and slow nodes are not dead.
            "RAY_worker_niceness": "0",
            "RAY_health_check_timeout_ms": "60000",
        }
        self.nodes: dict[str, subprocess.Popen[str]] = {}
        self.machines: dict[str, Machine] = {}

    @property
    def address(self) -> str:
        """Where drivers and nodes find the head."""
        return f"127.0.0.1:{self.port}"

    @property
    def own_disks(self) -> bool:
        """Whether each node has one."""
        return self._own is not None

    def machine(self, name: str) -> Machine:
        """A machine with an empty disk."""
        made = Machine(name, self.stage, self.folder / "disks" / name, self._own)
        self.machines[name] = made
        return made

    def start(self, name: str) -> None:
        """Start a node, the head where it is called "head", and wait until it has joined."""
        for _ in range(_TRIES):
            self.nodes[name] = self._started(name)
            joined = ["-m", "clusters", "wait", "--nodes", str(len(self.nodes)), "--timeout", "60"]
            while self.nodes[name].poll() is None:
                if self._run(*joined).returncode == 0:
                    return
            # On a busy machine: Ray gives a node 30 s to start.
            end(self.nodes.pop(name).pid)
        raise AssertionError(f"node {name} does not start: see {self.folder / name}.log")

    def _started(self, name: str) -> subprocess.Popen[str]:
        place = [f"--address={self.address}", "--num-cpus=1"]
        if name == "head":
            place = ["--head", f"--port={self.port}", "--num-cpus=0", "--include-dashboard=false"]
            place += [f"--temp-dir={self.folder / 'ray'}"]
        rest = ["--block", "--disable-usage-stats", "--object-store-memory=100000000"]
        words = [_RAY, "start", *place, f'--resources={{"{name}": 1}}', *rest]
        with open(self.folder / f"{name}.log", "a") as log:
            return self.machine(name).start(words, self.environment, log.fileno(), self.folder)

    def _run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [_PYTHON, *words],
            env={**self.environment, "RAY_ADDRESS": self.address},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )

    def ids(self) -> dict[str, str]:
        """Ray's id of each node that is there, by its name."""
        find = "import json, ray; ray.init(log_to_driver=False, logging_level=50)\n"
        find += "print(json.dumps([[node['NodeID'], list(node['Resources'])] for node in ray.nodes()]))"
        found = self._run("-c", find)
        assert found.returncode == 0, found.stderr
        nodes = json.loads(found.stdout.splitlines()[-1])
        return {name: node for node, names in nodes for name in names if name in self.nodes}

    def drain(self, node: str, seconds: int) -> None:
        """Announce, as an autoscaler does, that the node of this id will be taken away in so many seconds."""
        words = [_RAY, "drain-node", f"--address={self.address}", "--reason=DRAIN_NODE_REASON_PREEMPTION"]
        words += [f"--node-id={node}", "--reason-message=spot", f"--deadline-remaining-seconds={seconds}"]
        environment = {**self.environment, "RAY_ADDRESS": self.address}
        subprocess.run(words, env=environment, check=True, capture_output=True)

    def kill(self, name: str) -> None:
        """Take a node away at once, as a machine that loses its power, with its disk."""
        process = self.nodes.pop(name)
        end(process.pid)
        process.wait(30)
        if self.own_disks:
            shutil.rmtree(self.machines.pop(name).disk, ignore_errors=True)

    def forget_shared_disk(self) -> None:
        """Empty the disk of all machines where they share one, so that the next driver begins with an empty one."""
        if not self.own_disks:
            time.sleep(10.0)  # until the workers of the last driver have ended
            for path in self.stage.iterdir():
                shutil.rmtree(path, ignore_errors=True)

    def with_workers(self) -> list[str]:
        """The nodes on which a run's workers are."""
        found = []
        for name, node in self.nodes.items():
            for process in tree(node.pid):
                with contextlib.suppress(psutil.Error):
                    if "RayTrainWorker" in " ".join(process.cmdline()):
                        found.append(name)
        return list(dict.fromkeys(found))

    def close(self) -> None:
        """Kill all that is left."""
        for name in reversed(list(self.nodes)):
            self.kill(name)
        shutil.rmtree(self.folder, ignore_errors=True)


def end(pid: int) -> None:
    """Kill a process and all that it started, first what starts the rest."""
    deadline = time.monotonic() + 30
    while alive := [each for each in tree(pid) if each.status() != psutil.STATUS_ZOMBIE]:
        for process in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)
        assert time.monotonic() < deadline
        time.sleep(0.05)


def variables() -> dict[str, str]:
    """This process's environment without clusters and stores of others."""
    dropped = ("RAY_", "MLFLOW_", "CURRICULUM_RAY_")
    return {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
