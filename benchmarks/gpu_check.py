"""Everything that only a GPU can tell, in one command: the tests that wait for one, speeds, and a search on it.

`make gpu-check`, the first command to run where a GPU is at hand; it takes less than nine minutes. Sections run one
after another, each a process with a time limit of its own; one that fails or hangs is noted, and the next one starts:

  tests      `pytest -m gpu`
  nccl       an all-reduce over the ranks of one GPU, by the probe of `python -m clusters doctor`
  doctor     `python -m clusters doctor --use-gpu` on a Ray of this machine
  search     `python -m tune search --use-gpu` of a few small trials, and the stages that they walked
  decode     `bench_decode.py`: DiT-B/2 draws latents, an autoencoder decodes them, features are taken and scored
  pack-*     `bench_pack.py` for the U-Net and the MLP, at K = 4 and 8
  compile    `bench_compile.py`: DiT-B/2 compiled as a whole and by its blocks
  train-*    `bench_train.py` for each row, with `mfu`

The last line is JSON: what the machine is, and under `sections` the `state` of each (ok, failed, timed out or skipped),
its `seconds`, and its `result`; where it is not ok, a `reason` and the last lines that it printed. Exit code 1 where a
section failed or timed out, 2 where there is no GPU: then nothing is run. `--cpu` runs it all, scaled down, on a CPU.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import torch

ROOT = Path(__file__).resolve().parents[1]
HERE = Path(__file__).resolve().parent
LINES = 15
"""Of what a section printed that was not ok, the lines that are kept."""
NCCL = """
import json, socket
from clusters.probe import Probe
with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
speed = Probe().all_reduce(f"tcp://127.0.0.1:{port}", 0, 1, "BACKEND", 30.0)
print(json.dumps({"backend": "BACKEND", "ranks": 1, "megabytes_per_second": round(speed, 1)}))
"""
SEARCH = """
import json, subprocess, sys
from pathlib import Path
done = subprocess.run([sys.executable, "-m", "tune", "search", *sys.argv[1:]], stdout=subprocess.PIPE, text=True)
if done.returncode:
    sys.exit(done.returncode)
found = json.loads(done.stdout)
folders = [path for path in sorted(Path(found["folder"], "trials").iterdir()) if path.is_dir()]
trials = {}
for folder in folders:
    if (folder / "result.json").exists():
        result = json.loads((folder / "result.json").read_text())
        trials[folder.name] = {key: result[key] for key in ("images", "seconds", "stage_starts", "stages_asked")}
unfinished = [folder.name for folder in folders if folder.name not in trials]
print(json.dumps({"answer": found["answer"], "trials": trials, "unfinished": unfinished}))
sys.exit(bool(unfinished) or not trials)
"""
PACKAGES_OF_RAY = ("ray", "click", "grpc", "psutil", "rich", "requests")


@dataclass(frozen=True)
class Section:
    """A process to run: its name, its command, its limit in seconds, and the packages without which it is skipped."""

    name: str
    command: Sequence[str]
    limit: float
    needs: Sequence[str] = ()
    report: Path | None = None
    """The JUnit XML that it leaves, instead of JSON at the end of what it prints."""


def sections(cpu: bool, folder: Path) -> list[Section]:
    """What is run, in this order: what is new first, what takes longest last. folder: where it may write."""
    python = sys.executable
    report = folder / "tests.xml"
    marked = sorted(path for path in ROOT.glob("tests/**/test_*.py") if "mark.gpu" in path.read_text())
    tests = ["-p", "no:cacheprovider", "--rootdir", str(ROOT), "-m", "gpu", f"--junitxml={report}"]
    search = [
        *("--output", str(folder / "runs"), "--trials", "2", "--images", "3200", "--num-samples", "64"),
        *("--confirm-seeds", "2", "--json", "--set", "run.log_every_images=640"),
        *("--set", "run.model.base_channels=8", "--space", str(ROOT / "tests/tuning/small_space.yaml")),
    ]
    gpu = [] if cpu else ["--use-gpu"]
    doctor = [*gpu, "--json", "--output", str(folder / "doctor"), "--timeout", "60"]
    every = [
        Section(
            "tests",
            [python, "-m", "pytest", *tests, *map(str, marked)],
            180,
            ("pytest", "hypothesis"),
            report,
        ),
        Section("nccl", [python, "-c", NCCL.replace("BACKEND", "gloo" if cpu else "nccl")], 60),
        Section("doctor", [python, "-m", "clusters", "doctor", *doctor], 75, PACKAGES_OF_RAY),
        Section(
            "search",
            [python, "-c", SEARCH, *search, *gpu],
            150,
            (*PACKAGES_OF_RAY, "mlflow", "optuna", "torch_fidelity"),
        ),
        Section(
            "decode",
            [python, str(HERE / "bench_decode.py"), *(["--small"] if cpu else [])],
            60,
            ("diffusers", "torch_fidelity"),
        ),
    ]
    few = ["--rounds", "1", "--steps", "2"] if cpu else ["--rounds", "5", "--steps", "10"]
    for model in ("unet", "mlp"):
        for pack in (2,) if cpu else (4, 8):
            command = [python, str(HERE / "bench_pack.py"), "--model", model, "--pack", str(pack), *few]
            every.append(Section(f"pack-{model}-{pack}", command, 60, ("sklearn",)))
    few = ["--size", "S/8", "--batch", "2", "--steps", "1"] if cpu else []
    every.append(Section("compile", [python, str(HERE / "bench_compile.py"), *few], 120))
    limits = {"unet": 90.0} if cpu else {"unet": 90.0, "dit-s": 120.0, "dit-b": 130.0, "dit-xl": 180.0}
    few = ["--rounds", "1", "--steps", "2"] if cpu else ["--rounds", "3", "--steps", "10"]
    for row, limit in limits.items():
        command = [python, str(HERE / "bench_train.py"), "--only", row, *few]
        every.append(Section(f"train-{row}", command, limit, ("diffusers", "sklearn")))
    return every


def run(section: Section, limit: float, cpu: bool = False) -> dict[str, Any]:
    """Run one section for at most `limit` seconds and end what it started; returns its entry in the JSON."""
    missing = [name for name in section.needs if find_spec(name) is None]
    if missing:
        return {"state": "skipped", "seconds": 0.0, "reason": f"not installed: {', '.join(missing)}"}
    without = {"RAY_ADDRESS", "MLFLOW_TRACKING_URI"}
    environment = {key: value for key, value in os.environ.items() if key not in without}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), environment.get("PYTHONPATH")]))
    if cpu:
        environment["CUDA_VISIBLE_DEVICES"] = ""
    start = time.monotonic()
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            section.command, cwd=ROOT, env=environment, stdout=output, stderr=errors, start_new_session=True
        )
        try:
            code: int | None = process.wait(limit)
        except subprocess.TimeoutExpired:
            code = None
        # Also what a process left behind that has ended, e.g. a Ray.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        seconds = round(time.monotonic() - start, 1)
        texts = []
        for file in (output, errors):
            file.seek(0)
            texts.append(file.read())
    entry: dict[str, Any] = {"state": "ok" if code == 0 else "failed", "seconds": seconds}
    result = counts(section.report) if section.report else last_json(texts[0])
    if result is not None:
        entry["result"] = result
    if code is None:
        entry |= {"state": "timed out", "reason": f"not done after {limit:.0f} s"}
    elif code:
        entry["reason"] = f"exit code {code}"
    elif result is None:
        entry |= {"state": "failed", "reason": "no JSON came back"}
    if entry["state"] != "ok":
        entry["tail"] = [line for text in texts for line in text.rstrip().splitlines()[-LINES:]]
    return entry


def last_json(text: str) -> Any:
    """The last JSON object that begins at the start of a line and ends the text, or its last line; None without one."""
    lines = text.rstrip().splitlines()
    for place in [len(lines) - 1, *(n for n, line in enumerate(lines) if line.startswith("{"))]:
        with contextlib.suppress(ValueError):
            return json.loads("\n".join(lines[max(place, 0) :]))
    return None


def counts(report: Path) -> dict[str, Any] | None:
    """How many tests of a JUnit XML passed, failed and were skipped, and the failing ones; None where it is absent."""
    if not report.exists():
        return None
    found: dict[str, Any] = {"passed": 0, "failed": 0, "skipped": 0, "failing": {}, "slowest": {}}
    taken = {}
    for case in ElementTree.parse(report).iter("testcase"):
        name = f"{case.get('classname')}::{case.get('name')}"
        taken[name] = float(case.get("time") or 0)
        trouble = next((child for child in case if child.tag in ("failure", "error")), None)
        if trouble is not None:
            found["failed"] += 1
            found["failing"][name] = (trouble.get("message") or "")[:300]
        else:
            found["skipped" if case.find("skipped") is not None else "passed"] += 1
    slowest = sorted(taken, key=lambda name: -taken[name])[:5]
    found["slowest"] = {name: round(taken[name], 1) for name in slowest}
    return found


def machine(cpu: bool) -> dict[str, Any]:
    """The device, its driver and memory, the versions, and the commit where it is known."""
    found: dict[str, Any] = {
        "device": "CPU" if cpu else torch.cuda.get_device_name(0),
        "driver": None
        if cpu
        else first_line("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"),
        "memory_gib": None if cpu else round(torch.cuda.get_device_properties(0).total_memory / 2**30, 1),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "python": platform.python_version(),
        "commit": first_line("git", "-C", str(ROOT), "rev-parse", "HEAD"),
    }
    return found


def first_line(*command: str) -> str | None:
    """The first line that a command prints; None where it is absent or fails."""
    if shutil.which(command[0]) is None:
        return None
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except subprocess.TimeoutExpired:
        return None
    return done.stdout.strip().partition("\n")[0] or None if done.returncode == 0 else None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the sections that were asked for; returns the exit code."""
    parser = argparse.ArgumentParser(description="Check on a GPU, see the head of the file.")
    parser.add_argument("--cpu", action="store_true", help="run everything, scaled down, on a CPU")
    parser.add_argument("--limit", type=float, default=520.0, help="seconds for all sections together")
    parser.add_argument("--only", help="sections by name, or by the part before a dash, with commas")
    parser.add_argument("--into", type=Path, help="a file for the JSON, too; written after each section")
    options = parser.parse_args(arguments)
    if not options.cpu and not torch.cuda.is_available():
        print("no GPU is there: nothing was run (--cpu runs it, scaled down, on a CPU)")
        return 2
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as folder:
        chosen = sections(options.cpu, Path(folder))
        if options.only:
            only = set(options.only.split(","))
            names = {name for section in chosen for name in (section.name, section.name.partition("-")[0])}
            if not only <= names:
                parser.error(
                    f"--only must name sections of {', '.join(sorted(names))}, but got {options.only}"
                )
            chosen = [s for s in chosen if {s.name, s.name.partition("-")[0]} & only]
        whole: dict[str, Any] = {**machine(options.cpu), "seconds": 0.0, "sections": {}}
        for section in chosen:
            left = options.limit - (time.monotonic() - start)
            if left < 1:
                entry = {"state": "skipped", "seconds": 0.0, "reason": "no time was left"}
            else:
                entry = run(section, min(section.limit, left), options.cpu)
            whole["sections"][section.name] = entry
            whole["seconds"] = round(time.monotonic() - start, 1)
            print(
                f"{section.name:14} {entry['state']:10} {entry['seconds']:7.1f} s  {entry.get('reason', '')}"
            )
            tail: Any = entry.get("tail", ())
            for line in tail:
                print(f"    {line}")
            sys.stdout.flush()
            if options.into:
                beside = options.into.with_name(f".{options.into.name}")
                beside.write_text(json.dumps(whole, indent=1), encoding="utf-8")
                beside.replace(options.into)
    print(json.dumps(whole))
    states = {entry["state"] for entry in whole["sections"].values()}
    return 1 if states & {"failed", "timed out"} else 0


if __name__ == "__main__":
    sys.exit(main())
