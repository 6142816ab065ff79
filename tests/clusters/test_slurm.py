"""The Slurm script on a real Slurm: a controller and two nodes, all on this machine."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_MISSING = [name for name in ("munged", "slurmctld", "slurmd", "sbatch") if shutil.which(name) is None]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(280),
    pytest.mark.skipif(
        bool(_MISSING), reason=f"Slurm is not installed: {', '.join(_MISSING)} (slurm-wlm, munge)"
    ),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root may start a Slurm of its own"),
]

_CONFIG = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SlurmdParameters=config_overrides
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={first} CPUs=1
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={second} CPUs=1
PartitionName=all Nodes=ALL Default=YES MaxTime=10 State=UP
"""


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


@pytest.fixture
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of a running Slurm with two nodes; ended by the ids of its own processes."""
    # Sockets have short names only.
    folder = tmp_path_factory.mktemp("s")
    folder.chmod(0o755)
    (folder / "state").mkdir()
    key = folder / "munge.key"
    key.write_bytes(os.urandom(64))
    key.chmod(0o400)
    port, first, second = _free_ports(3)
    config = folder / "slurm.conf"
    host = socket.gethostname().partition(".")[0]
    config.write_text(_CONFIG.format(host=host, folder=folder, port=port, first=first, second=second))
    environment = {**os.environ, "SLURM_CONF": str(config)}
    munge = ["munged", "--foreground", "--force", f"--key-file={key}", f"--socket={folder}/munge.socket"]
    munge += [f"--{name}-file={folder}/munge.{name}" for name in ("pid", "log", "seed")]
    commands = [munge, ["slurmctld", "-D"], ["slurmd", "-D", "-N", "n1"], ["slurmd", "-D", "-N", "n2"]]
    running = []
    try:
        for command in commands:
            running.append(
                subprocess.Popen(
                    command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
                )
            )
            time.sleep(1)
        until = time.monotonic() + 30
        while _output(environment, "sinfo", "-h", "-t", "idle", "-o", "%D").strip() != "2":
            if time.monotonic() > until:
                logs = [path.read_text()[-1500:] for path in folder.glob("*.log")]
                pytest.skip("this machine's Slurm does not come up: " + " | ".join(logs)[-600:])
            time.sleep(0.5)
        yield environment
    finally:
        for process in reversed(running):
            process.send_signal(signal.SIGTERM)
        for process in running:
            process.wait(20)


def _output(environment: dict[str, str], *command: str) -> str:
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)
    return done.stdout + done.stderr


def test_a_job_gets_a_ray_of_all_its_nodes_and_leaves_nothing(slurm: dict[str, str], tmp_path: Path) -> None:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**slurm, "PATH": path, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    for name in ("RAY_ADDRESS", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        environment.pop(name, None)
    code = (
        "import ray; ray.init(log_to_driver=False); "
        "print('nodes', sum(n['Alive'] for n in ray.nodes()), 'cpus', int(ray.cluster_resources()['CPU']))"
    )
    command = [
        "sbatch",
        "--parsable",
        "--nodes=2",
        "--time=5",
        f"--output={tmp_path}/log",
        "--chdir",
        str(tmp_path),
    ]
    command += [str(ROOT / "clusters" / "slurm.sh"), sys.executable, "-c", code]
    submitted = subprocess.run(
        command,
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    job = submitted.stdout.strip()
    until, state = time.monotonic() + 200, ""
    while time.monotonic() < until and "COMPLETED" not in state and "FAILED" not in state:
        time.sleep(2)
        state = _output(slurm, "scontrol", "show", "job", job)
    log = (tmp_path / "log").read_text() if (tmp_path / "log").exists() else ""
    assert "JobState=COMPLETED" in state, state + log
    assert "nodes 2 cpus 2" in log, log
    assert not list(tmp_path.glob(".ray-token*")), "the token outlived its job"
