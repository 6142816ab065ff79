"""What a trial costs the driver of a long study: searcher, plan, records, MLflow and status, with faked training.

Ray Tune's own loop is left out. The last line is JSON: {"trials": …, "ms_per_trial": …, "last_ms": …, "rss_gib": …}.
"""

from __future__ import annotations

import argparse
import io
import json
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from curriculum_ray.runs.result import RunResult
from tuning.evidence.keys import TrialKey
from tuning.folder.identity import Identity
from tuning.search.samplers import open_storage
from tuning.search.study_search import StudySearch
from tuning.study.config import StudyConfig
from tuning.study.ledger import StudyLedger
from tuning.study.plan import StudyPlan
from tuning.study.space import SearchSpace
from tuning.terminal.display import Display
from tuning.tracking import Tracker


def main() -> None:
    """Run a study of --trials trials that end at once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--sampler", default="tpe")
    arguments = parser.parse_args()
    config = StudyConfig(trials=arguments.trials, confirm_top=0, sampler=arguments.sampler)
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measure(config, Path(folder))))


def measure(config: StudyConfig, output: Path) -> dict[str, Any]:
    """Milliseconds of the driver a trial, over all trials and over the last tenth, and its peak memory."""
    folder = output / "study"
    folder.mkdir()
    plan = StudyPlan(config, {})
    progress = Display(config.trials, config.run.images, Console(file=io.StringIO()), config.metric)
    with Tracker.open(f"sqlite:///{output}/mlflow.db", output, "bench/none") as tracker:
        identity = Identity("0" * 32, "none")
        study = StudyLedger("study", folder, tracker, progress, {"fingerprint": "none"}, {}, identity)
        space = SearchSpace.load(config.space)
        search = StudySearch(config, space, plan, open_storage(None, folder))
        times = [_one(search, study) for _ in range(config.trials)]
        study._publisher.shutdown(wait=True, cancel_futures=True)
        study._status.close("finished")
    last = times[-max(1, len(times) // 10) :]
    scale = 2**20 if sys.platform != "darwin" else 2**30
    return {
        "trials": len(times),
        "ms_per_trial": round(1e3 * sum(times) / len(times), 2),
        "last_ms": round(1e3 * sum(last) / len(last), 2),
        "rss_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale, 3),
    }


def _one(search: StudySearch, study: StudyLedger) -> float:
    """Seconds of processor time of this thread for one trial from its suggestion to its end."""
    start = time.thread_time()
    suggested = search.suggest()
    assert suggested is not None
    key = TrialKey(study.begin(*suggested).key)
    study.progressed(key, images=640, loss=0.5, stage=0, num_stages=1, points=[(640, {"loss": 0.5})])
    score = 10 + hash(key) % 1000 / 1000
    result = RunResult(
        images=640,
        metrics={"fid": score},
        fingerprint="none",
        protocol={},
        seconds=0.01,
        checkpoint="",
        resumed_at=0,
        loss=0.5,
    )
    search.ended(study.finished(key, result))
    study.progress.total_trials = search.plan.total
    return time.thread_time() - start


if __name__ == "__main__":
    main()
