"""How long a person waits: from a command to its first training step, and for an answer.

`make bench-startup`. Each row is a command of its own in an empty folder, as a shell would start it, with the digits
and the default settings but a log line after the first step; the clock stops when that line is in the run's
metrics.jsonl, and the command is interrupted. Rows, in turn within each round:

  search        `tune search` with as many trials at a time as fit
  train         `tune train` of the default schedule on one worker, which needs no Ray process
  ray_train     a Ray Train run of one worker that does nothing: what no search can be faster than
  best          `tune best` in the folder of a finished study of two short trials, to its end
  mlflow        a list of the experiments in that folder by MLflow's client: what `best` cannot be faster than
  python_torch  `python -c "import torch"`, what no command that trains can be faster than

The last line is JSON with the medians over the rounds, in seconds: {"search_s": …, "train_s": …, "ray_train_s": …,
"best_s": …, "mlflow_s": …, "python_torch_s": …}. On a machine that others use too these are no measure of anything.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from rounds import spread

_BATCH = 128
_PATIENCE_S = 300.0
_FIRST_LINE = [f"batch_size={_BATCH}", f"log_every_images={_BATCH}"]
# Ray as the project starts it, without its dashboard and the watch of a cloud's machines.
_BARE_RAY = """
import os
from pathlib import Path
os.environ.update(RAY_TRAIN_ENABLE_PREEMPTION_WATCHER="0", RAY_TRAIN_METRICS_ENABLED="0", RAY_USAGE_STATS_ENABLED="0")
import ray
from ray.train.torch import TorchTrainer
from ray.train.v2.api.config import ScalingConfig
line = Path("runs/bare/metrics.jsonl").absolute()
line.parent.mkdir(parents=True)
ray.init(include_dashboard=False, log_to_driver=False)
TorchTrainer(lambda: line.write_text("{}"), scaling_config=ScalingConfig(num_workers=1)).fit()
"""
_BARE_MLFLOW = (
    "from mlflow import MlflowClient; MlflowClient('sqlite:///runs/mlflow.db').search_experiments()"
)
_SHORT_STUDY = ["--trials", "2", "--images", "1280", "--num-samples", "64", "--set", "confirm_top=0"]


def start(folder: Path, *command: str) -> subprocess.Popen[bytes]:
    """A command of `python`, in `folder`, with nobody's cluster or store in its environment."""
    without = {"RAY_ADDRESS", "MLFLOW_TRACKING_URI"}
    environment = {key: value for key, value in os.environ.items() if key not in without}
    return subprocess.Popen(
        [sys.executable, *command],
        cwd=folder,
        env={**environment, "PYTHONPATH": str(Path(__file__).parent.parent)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def to_the_end(folder: Path, *command: str) -> float:
    """Seconds until a command has ended; it must end well."""
    began = time.perf_counter()
    process = start(folder, *command)
    _, said = process.communicate(timeout=_PATIENCE_S)
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}: {said.decode()}")
    return time.perf_counter() - began


def to_the_first_step(*command: str) -> float:
    """Seconds from a command in an empty folder to the log line of its first training step."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        began = time.perf_counter()
        process = start(folder, *command)
        while not any(path.stat().st_size for path in folder.glob("runs/**/metrics.jsonl")):
            if process.poll() is not None or time.perf_counter() - began > _PATIENCE_S:
                os.killpg(process.pid, signal.SIGKILL)
                raise SystemExit(f"{' '.join(command)} made no step: {process.communicate()[1].decode()}")
            time.sleep(0.02)
        took = time.perf_counter() - began
        process.terminate()
        process.communicate(timeout=_PATIENCE_S)
        return took


def main() -> None:
    """Measure all rows."""
    parser = argparse.ArgumentParser(description="Start-up times, see the head of the file.")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of all rows")
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    settings = [word for setting in _FIRST_LINE for word in ("--set", f"run.{setting}")]
    plain = [word for setting in _FIRST_LINE for word in ("--set", setting)]
    with tempfile.TemporaryDirectory() as name:
        study = Path(name)
        to_the_end(study, "-m", "tune", "search", *_SHORT_STUDY)
        rows: dict[str, Callable[[], float]] = {
            "search": lambda: to_the_first_step("-m", "tune", "search", *settings),
            "train": lambda: to_the_first_step("-m", "tune", "train", *plain),
            "ray_train": lambda: to_the_first_step("-c", _BARE_RAY),
            "best": lambda: to_the_end(study, "-m", "tune", "best", "--json"),
            "mlflow": lambda: to_the_end(study, "-c", _BARE_MLFLOW),
            "python_torch": lambda: to_the_end(study, "-c", "import torch"),
        }
        seconds: dict[str, list[float]] = {row: [] for row in rows}
        for _ in range(options.rounds):
            for row, measure in rows.items():
                seconds[row].append(measure())
    for row, seen in seconds.items():
        print(f"{row:14} {median(seen):6.1f} s  {spread(seen)}")
    print(json.dumps({f"{row}_s": round(median(seen), 2) for row, seen in seconds.items()}))


if __name__ == "__main__":
    main()
