"""A folder that a node does not share is found, by nodes whose folder really is another one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

_ROOT_ONLY = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0 or not Path("/usr/bin/unshare").exists(),
    reason="needs root and unshare for a node with mounts of its own",
)
_CHECK = """
import sys, ray
from pathlib import Path
from curriculum_ray.config import ConfigError
from curriculum_ray.distributed.storage import check_shared
ray.init(log_to_driver=False)
for folder in sys.argv[1:]:
    try:
        check_shared(Path(folder))
        print("shared")
    except ConfigError as error:
        print("refused:", error)
"""


@pytest.mark.slow
@_ROOT_ONLY
@pytest.mark.timeout(200)
def test_a_folder_that_one_node_has_for_itself_is_refused(tmp_path: Path) -> None:
    shared, apart = tmp_path / "shared", tmp_path / "apart"
    shared.mkdir()
    apart.mkdir()
    # The second node mounts an empty file system of its own over `apart`.
    node = (
        'mount -t tmpfs none "$1" && exec "$2" start --address="$RAY_ADDRESS" --num-cpus=1 --block '
        "--disable-usage-stats"
    )
    ray = str(Path(sys.executable).parent / "ray")
    script = f"""
import os, signal, subprocess, sys
worker = subprocess.Popen(["unshare", "-m", "sh", "-c", {node!r}, "sh", {str(apart)!r}, {ray!r}],
    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
try:
    subprocess.run([sys.executable, "-m", "clusters", "wait", "--nodes", "2", "--timeout", "90"], check=True)
    sys.exit(subprocess.run([sys.executable, "-c", {_CHECK!r}, {str(shared)!r}, {str(apart)!r}]).returncode)
finally:
    worker.send_signal(signal.SIGTERM)
    worker.wait(30)
"""
    command = [sys.executable, "-m", "clusters", "local", "--nodes", "1", "--", sys.executable, "-c", script]
    done = subprocess.run(
        command,
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith(("shared", "refused"))]
    assert lines[0] == "shared", done.stdout + done.stderr
    assert lines[1].startswith("refused: --output must be a folder that all nodes share")
    assert "does not see what is written there" in lines[1]
