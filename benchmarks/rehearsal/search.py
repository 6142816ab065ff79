"""The study that is disturbed, and the same one undisturbed: settings, faults, and what must be equal."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import yaml

from curriculum_ray.buckets.store import Bucket
from curriculum_ray.training.checkpoint import is_checkpoint_name
from rehearsal.lab import Lab, Tune
from rehearsal.servers import BUCKET
from rehearsal.watch import STUDY, Watch

# A trial must last longer than it takes to tell Ray of a node that goes.
IMAGES, EVERY, LOGGED = 19_200, 1_920, 480
AWAY_S, GRACE_S = 20, 20

SPACE: dict[str, Any] = {
    "version": 1,
    "name": "rehearsal",
    "fixed": {
        "schedule": {
            "clusters": {"by": "uniform", "count": 3},
            "order": {"direction": "easy_to_hard"},
            "pacing": {"rule": "plateau", "patience_stage_share": 0.4, "finish_by": 0.5},
        }
    },
    "search": {
        "schedule.clusters.count": {"type": "int", "low": 3, "high": 4},
        "schedule.pacing.patience_stage_share": {"type": "float", "low": 0.2, "high": 0.8, "log": True},
    },
}


def write_settings(lab: Lab) -> Path:
    """The settings of the study: trials of two workers on streamed latents, scored as images against the file."""
    space, settings = lab.folder / "space.yaml", lab.folder / "study.yaml"
    space.write_text(yaml.safe_dump(SPACE))
    run = {
        "data": {
            "name": f"s3://{BUCKET}/data/latents",
            "format": "latents",
            "stream": True,
            "vae": str(lab.data / "vae"),
        },
        "images": IMAGES,
        "batch_size": 16,
        "window": 1,
        "log_every_images": LOGGED,
        "checkpoint": {"every_images": EVERY, "keep": 2},
        "model": {"base_channels": 8},
        "evaluation": {"reference": str(lab.data / "reference.npz"), "num_samples": 48, "steps": 3},
    }
    study = {"trials": 4, "confirm_seeds": 3, "previews": 2, "space": str(space), "run": run}
    settings.write_text(yaml.safe_dump(study))
    return settings


def _words(lab: Lab, output: str) -> list[str]:
    """The command of the study with its results in `output`."""
    where = ["--config", str(write_settings(lab)), "--name", STUDY, "--output", output]
    return ["search", *where, "--num-workers", "2", "--concurrent", "1", "--json"]


def _start(lab: Lab, name: str) -> Tune:
    """The command of the study, on a machine with an empty disk."""
    words = [*_words(lab, lab.output), "--log-level", "info"]
    return lab.tune(*words, environment=lab.on_cluster(), machine=lab.cluster.machine(name))


class Faults:
    """What is done to the study, one fault a trial; `events` says when, and what it cost."""

    def __init__(self, lab: Lab) -> None:
        self.lab, self.began = lab, time.time()
        self.events: list[dict[str, Any]] = []
        self.watch = Watch(lab, _start(lab, "driver-1"))

    def _note(self, what: str, when: float, key: str = "", seen: int = 0, **more: Any) -> None:
        event = {"at": round(when - self.began, 1), "what": what, "trial": key, "seen": seen, **more}
        self.events.append(event)
        print(f"  {event}", flush=True)

    def _trains(self, key: str) -> None:
        """Wait until a trial has a checkpoint in the bucket and has trained on."""
        self.watch.until(
            lambda: self.watch.seen(key) >= EVERY + LOGGED and bool(self.kept(key)), f"{key} trains"
        )

    def kept(self, key: str) -> list[int]:
        """The images of the whole checkpoints of a trial in the bucket."""
        names = Bucket(self.lab.output).__truediv__(STUDY).sizes()
        folders = [name.split("/")[-2] for name in names if name.endswith("/state.json")]
        return sorted(int(name[-12:]) for name in folders if is_checkpoint_name(name, key))

    def lose_a_node(self, key: str) -> None:
        """Kill a node of a trial; the third node takes its place, and a new one joins."""
        self._trains(key)
        starts, name = self.watch.starts(key), self.lab.cluster.with_workers()[0]
        seen, when = self.watch.seen(key), time.time()
        self.lab.cluster.kill(name)
        again = self.watch.trains_again(key, starts)
        self._note(f"node {name} killed", when, key, seen, seconds=again - when)
        self.lab.cluster.start("four")

    def drain_a_node(self, key: str) -> None:
        """Announce the loss of a node of a trial; it is taken away once its checkpoint is in the bucket."""
        # Asked beforehand: on a fast machine a trial would end meanwhile.
        ids = self.lab.cluster.ids()
        self._trains(key)
        starts, name = self.watch.starts(key), self.lab.cluster.with_workers()[0]
        before, when = self.kept(key), time.time()
        self.lab.cluster.drain(ids[name], GRACE_S)
        try:
            self.watch.until(
                lambda: any(images not in before for images in self.kept(key)), "a checkpoint", GRACE_S
            )
        finally:
            seen, lost = self.watch.seen(key), time.time()
            self.lab.cluster.kill(name)
        again = self.watch.trains_again(key, starts)
        self._note(
            f"node {name} drained, lost {lost - when:.0f} s later", when, key, seen, seconds=again - lost
        )
        self.lab.cluster.start("five")

    def stop_the_storage(self, key: str) -> None:
        """Stop the S3 server; training goes on meanwhile."""
        self._trains(key)
        seen, when = self.watch.seen(key), time.time()
        self.lab.storage.stop(AWAY_S)
        time.sleep(AWAY_S)
        more = self.watch.seen(key) - seen
        self._note(f"S3 server stopped for {AWAY_S} s", when, key, seen, meanwhile=more)

    def kill_the_driver(self, key: str) -> None:
        """kill -9 of the driver; the same command starts on another machine."""
        self._trains(key)
        starts, seen, when = self.watch.starts(key), self.watch.seen(key), time.time()
        self.watch.driver.kill()
        self.first = self.watch.driver.text
        self.lab.cluster.forget_shared_disk()
        command = time.time()
        self.watch.driver = _start(self.lab, "driver-2")
        again = self.watch.trains_again(key, starts)
        self._note(
            "driver killed with -9, started with an empty disk", when, key, seen, seconds=again - command
        )


def disturbed(lab: Lab) -> dict[str, Any]:
    """Run the study through all faults to its end."""
    faults = Faults(lab)
    faults.lose_a_node("search-000")
    faults.drain_a_node("search-001")
    faults.stop_the_storage("search-002")
    faults.kill_the_driver("search-003")
    found = faults.watch.driver.json()
    faults._note("the study ended", time.time())
    study = Bucket(lab.output) / STUDY
    wrong = [f"MLflow: {problem}" for problem in found["problems"]]
    environment = {**lab.alone(), **lab.storage.environment}
    said = lab.tune("status", "--output", lab.output, "--json", environment=environment).json()
    if (said["study"], said["state"]) != (STUDY, "finished"):
        wrong.append(f"status says that {said['study']} is {said['state']}")
    for event in faults.events:
        if event["trial"]:
            trial = study / "trials" / event["trial"]
            content = trial.read("result.json")
            if content is None:
                record = json.loads(trial.read("record.json") or b"{}")
                wrong.append(f"{event['trial']} has no result: {record.get('reason')}")
            event["resumed_at"] = 0 if content is None else json.loads(content)["resumed_at"]
            event["lost"] = max(0, event["seen"] - event["resumed_at"]) if "seconds" in event else 0
    printed = {"first driver": faults.first, "second driver": faults.watch.driver.text}
    texts = {
        **printed,
        **{name: (study.read(name) or b"").decode(errors="replace") for name in study.sizes()},
    }
    wrong += [
        f"a secret stands in {name}" for name, text in texts.items() if any(s in text for s in lab.secrets())
    ]
    return {"events": faults.events, "found": _summary(found), "weights": _weights(texts), "wrong": wrong}


def undisturbed(lab: Lab) -> dict[str, Any]:
    """The same study on this machine alone, on data in the bucket, compared with the one whose results are there."""
    began, output = time.time(), lab.folder / "undisturbed"
    environment = {**lab.alone(), **lab.storage.environment}
    found = _summary(lab.tune(*_words(lab, str(output)), environment=environment).json())
    texts = {
        path.relative_to(output / STUDY).as_posix(): path.read_text()
        for path in (output / STUDY).rglob("state.json")
    }
    theirs, weights, wrong = lab.facts["search"], _weights(texts), []
    for key in sorted(found["trials"].keys() | theirs["found"]["trials"].keys()):
        if found["trials"].get(key) != theirs["found"]["trials"].get(key):
            wrong.append(f"{key} differs from the undisturbed study")
        elif weights.get(key) != theirs["weights"].get(key):
            wrong.append(f"the weights of {key} differ from those of the undisturbed study")
    if found["answer"] != theirs["found"]["answer"]:
        wrong.append(f"the answer differs: {found['answer']} / {theirs['found']['answer']}")
    return {
        "seconds": time.time() - began,
        "answer": found["answer"],
        "trials": len(found["trials"]),
        "weights": len(weights),
        "wrong": wrong,
    }


def _summary(found: dict[str, Any]) -> dict[str, Any]:
    """What must be equal: the answer, and of each trial its outcome, schedule and numbers."""
    keys = ("status", "schedule", "metrics", "history", "stage_starts", "fingerprint")
    trials = {trial["key"]: {key: trial.get(key) for key in keys} for trial in found["trials"]}
    return {"answer": found["answer"], "trials": trials}


def _weights(texts: dict[str, str]) -> dict[str, dict[str, str]]:
    """The digests of the last weights of each trial, by the manifests of checkpoints."""
    found: dict[str, dict[str, str]] = {}
    for name, text in sorted(texts.items()):
        folder = name.split("/")[-2] if name.endswith("/state.json") else ""
        if is_checkpoint_name(folder) and folder.endswith(f"{IMAGES:012d}"):
            digests = json.loads(text)["sha256"]
            key = folder.removeprefix("checkpoint-")[:-13]
            found[key] = {group: digests[group] for group in ("model.safetensors", "ema.safetensors")}
    return found
