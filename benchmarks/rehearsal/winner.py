"""What is done with the study's answer: asked of MLflow, trained on 1 to 2 workers, exported, loaded by diffusers."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import Any

from rehearsal.lab import Lab
from rehearsal.search import IMAGES
from rehearsal.watch import STUDY

RUN = "winner"
# In a process that has only the folder.
_LOAD = """
import json, sys, torch
from diffusers import DiffusionPipeline
pipeline = DiffusionPipeline.from_pretrained(sys.argv[1], trust_remote_code=True)
samples = pipeline(class_labels=[0, 1], num_inference_steps=3, generator=torch.Generator().manual_seed(0))
assert samples.isfinite().all()
print(json.dumps({"pipeline": type(pipeline).__name__, "samples": list(samples.shape)}))
"""


def best(lab: Lab) -> dict[str, Any]:
    """Ask the MLflow server, as a user who may only read; nothing of the bucket or of this machine is needed."""
    began, place = time.time(), lab.folder / "asked"
    place.mkdir(exist_ok=True)
    environment = {**lab.alone(), **lab.store.environment("reader")}
    words = ["best", "--study", STUDY, "--write", str(place / "schedule.yaml"), "--force", "--json"]
    found = lab.tune(*words, environment=environment).json()
    answer = lab.facts["search"]["found"]["answer"]
    wrong = [] if found["sentence"] in answer else [f"best says {found['sentence']!r}, the search {answer!r}"]
    return {"seconds": time.time() - began, "found": found, "wrong": wrong}


def train(lab: Lab) -> dict[str, Any]:
    """Train with what `best` wrote, on 1 to 2 workers of the cluster, into the bucket."""
    began = time.time()
    words = [
        "train",
        "--config",
        str(lab.folder / "asked" / "schedule.run.yaml"),
        "--num-workers",
        "1-2",
        "--json",
    ]
    words += ["--output", lab.output, "--name", RUN]
    environment = lab.on_cluster()
    started = time.time()
    found = lab.tune(*words, environment=environment, machine=lab.cluster.machine("driver-3")).json()
    wrong = [] if found["images"] == IMAGES else [f"{RUN} saw {found['images']} images"]
    return {
        "cluster_seconds": started - began,
        "seconds": time.time() - started,
        "metrics": found["metrics"],
        "checkpoint": found["checkpoint"],
        "wrong": wrong,
    }


def export(lab: Lab) -> dict[str, Any]:
    """Export the checkpoint in the bucket, and let diffusers load it."""
    began, into = time.time(), lab.folder / "exported"
    environment = {**lab.alone(), **lab.storage.environment}
    words = [
        "export",
        "--checkpoint",
        f"{lab.output}/{RUN}",
        "--to",
        "diffusers",
        "--into",
        str(into),
        "--json",
    ]
    lab.tune(*words, environment=environment).json()
    done = subprocess.run(
        [sys.executable, "-c", _LOAD, str(into)],
        cwd=into,
        env={**lab.alone(), "HF_HUB_OFFLINE": "1", "HF_HOME": str(lab.folder / "hub")},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        return {"wrong": [f"diffusers does not load the export: {done.stderr[-800:]}"]}
    return {"seconds": time.time() - began, **json.loads(done.stdout.splitlines()[-1])}
