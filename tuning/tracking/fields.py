"""Fields as MLflow accepts them: keys, parameters and tags within its limits, and finite metrics only."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from curriculum_ray.addresses import without_secrets
from curriculum_ray.config import flatten

# mlflow/utils/validation.py: MAX_PARAM_VAL_LENGTH, MAX_TAG_VAL_LENGTH, MAX_ENTITY_KEY_LENGTH.
MAX_PARAM_LENGTH = 6000
MAX_TAG_LENGTH = 8000
MAX_KEY_LENGTH = 250

# All tags of this project and their meaning. All trials of a study carry its data, process and fingerprint.
TAG_PREFIX = "curriculum_ray."
TAGS = {
    "kind": "study, trial or train",
    "key": "identity of the run: a restart finds its run by it",
    "id": "the study's or single run's own id, kept in its folder; trials carry their study's",
    "content": "hash of settings, space, data and protocol: equal ones may share a table",
    "study": "name of the study",
    "trial": "key of the trial within the study",
    "role": "control, searched, rung or confirmation",
    "control": "uniform, rival, or a twin's order; absent unless the run is, or confirms, a control",
    "data": "name of the data set",
    "process": "name of the diffusion process",
    "fingerprint": "evaluation protocol; numbers are comparable only where it is equal",
    "schedule_id": "hash of the schedule: runs of one schedule under several seeds share it",
    "arm_id": "hash of all that sets the arm apart; runs of one arm under several seeds share it",
    "arm": "the short name of all that sets the arm apart, as in the table and the report",
    "schedule": "the schedule in words",
    "seed": "training seed",
    "images": "images seen",
    "devices": "kinds of device that the run's workers trained on, as JSON; absent in runs of the first releases",
    "margin": "differences below this share of uniform sampling's metric count as none",
    "trials": "number of trials that the study was last asked for",
    "command": "the command that last started it, without secrets",
    "commit": "of the checkout that the code ran from, with -dirty where it had changes",
    "versions": "of Python and of the packages that decide results",
    "verdict": "of a study that has ended, and of what it registers: see the registry",
    "answer": "of a study: what it found, in a sentence",
    "best_arm": "of a study: its best curriculum in words, whether or not it won",
    "best_arm_id": "of a study: the arm_id of that curriculum",
    "reason": "why the run failed or was stopped",
    "missing": "files of the run that could not be stored; the next start of the study or run stores them",
    "non_finite": "the first metric that was not a finite number",
}


def tag(name: str) -> str:
    """Return the full key of one of `TAGS`."""
    assert name in TAGS, name
    return TAG_PREFIX + name


def run_key(kind: str, study: str, trial: str = "") -> str:
    """Return the key of a run by its study's id, the same in every process that resumes that study."""
    return hashlib.sha256(json.dumps([kind, study, trial]).encode()).hexdigest()[:32]


def tag_values(values: Mapping[str, Any]) -> dict[str, str]:
    """Turn {"role": "searched", "control": None} into full keys and texts; None is left out."""
    return {
        tag(key): shorten(_text(value), MAX_TAG_LENGTH) for key, value in values.items() if value is not None
    }


def param_values(values: Mapping[str, Any]) -> dict[str, str]:
    """Flatten nested settings into dotted keys and texts: {"schedule.clusters.count": "20"}."""
    return {
        metric_key(key): shorten(_text(value), MAX_PARAM_LENGTH) for key, value in flatten(values).items()
    }


def metric_key(key: str) -> str:
    """Replace what MLflow does not allow in the name of a metric or parameter by an underscore."""
    return re.sub(r"[^\w.\- /:]", "_", key)[:MAX_KEY_LENGTH]


def shorten(text: str, limit: int) -> str:
    """Cut `text` to `limit` characters; the result has the full length and a hash, so two long texts that differ
    anywhere still differ."""
    if len(text) <= limit:
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    note = f" … ({len(text)} characters, sha256 {digest})"
    return text[: limit - len(note)] + note


def quoted(value: str) -> str:
    """Write `value` as a string of MLflow's filter language, which has no escapes."""
    return f'"{value}"' if "'" in value else f"'{value}'"


def _text(value: Any) -> str:
    return without_secrets(
        value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    )
