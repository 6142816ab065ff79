"""What the Slurm script does with the command it is given; the commands of Slurm are stand-ins."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

from curriculum_ray.distributed.capacity import Capacity, check_resources
from curriculum_ray.distributed.resources import ResourceSpec

ROOT = Path(__file__).parents[2]
# One node, whose Ray does nothing until it is ended.
STAND_INS = {
    "scontrol": "echo n1",
    "srun": 'case "$*" in *get_node_ip_address*) echo 127.0.0.1;; *) exec sleep 60;; esac',
    "python": f'case "$*" in "-m clusters wait"*) exit 0;; *) exec {shlex.quote(sys.executable)} "$@";; esac',
}
# As a command of the project: Python's own handler of SIGINT, where it was not ignored, and one of SIGTERM.
COMMAND = """
import sys, time
from curriculum_ray.distributed.preemption import Preempted, heeded
try:
    with heeded():
        print("started", flush=True)
        time.sleep(20)
    sys.exit("no signal came")
except Preempted:
    print("SIGTERM", flush=True)
    time.sleep(0.2)
    print("checkpoint", flush=True)
    sys.exit(143)
except KeyboardInterrupt:
    print("SIGINT", flush=True)
    sys.exit(130)
"""


def test_the_warning_before_the_time_limit_reaches_the_command_which_may_end_in_its_own_time(
    tmp_path: Path,
) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in STAND_INS.items():
        (programs / name).write_text(f"#!/bin/bash\n{text}\n")
        (programs / name).chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment |= {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "SLURM_JOB_NUM_NODES": "1",
        "SLURM_JOB_NODELIST": "n1",
        "SLURM_JOB_ID": "77",
        "SLURM_CPUS_ON_NODE": "8",
    }
    job = subprocess.Popen(
        ["bash", ROOT / "clusters" / "slurm.sh", sys.executable, "-c", COMMAND],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    with job:
        assert job.stdout is not None
        assert job.stdout.readline() == "started\n"
        assert len(list(tmp_path.glob(".ray-token-77"))) == 1
        job.send_signal(signal.SIGTERM)
        assert job.stdout.read() == "SIGTERM\ncheckpoint\n"
        assert job.wait(60) == 143
    assert not list(tmp_path.glob(".ray-token*")), "the token outlived its job"


def test_the_line_of_the_page_asks_for_the_room_of_all_its_trials() -> None:
    text = (ROOT / "docs" / "deploy" / "slurm.md").read_text()
    (line,) = re.findall(r"^sbatch (?:.*\\\n)*.*", text, re.MULTILINE)
    options = dict(re.findall(r"--([\w-]+)[ =](\d+)", line))
    # Slurm's own default is one CPU.
    node = {"CPU": float(options.get("cpus-per-task", 1)), "GPU": float(options["gpus-per-node"])}
    resources = ResourceSpec(num_workers=int(options["num-workers"]), use_gpu=True)
    cluster = Capacity.of(*[node] * int(options["nodes"]))
    check_resources(int(options["concurrent"]), resources, cluster)
    assert cluster.workers(resources.per_worker) == int(options["concurrent"]) * resources.workers[0]
    script = (ROOT / "clusters" / "slurm.sh").read_text()
    asked = ("nodes", "gpus-per-node", "cpus-per-task")
    assert f"sbatch {' '.join(f'--{name}={options[name]}' for name in asked)} slurm.sh" in script
