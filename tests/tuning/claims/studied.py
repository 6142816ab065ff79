"""The folder of a claim's study, as its command leaves it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from tests.tuning.studies import named_runs
from tuning.claims.claim import Claim
from tuning.folder.environment import note_environment, this_environment
from tuning.folder.layout import RECORD_FILE, STUDY_FILE, TRIALS
from tuning.study.ranges import with_batch_size
from tuning.study.space import SearchSpace


def write_study(
    claim: Claim,
    output: Path,
    /,
    seeds: int | tuple[int, int] | None = None,
    **fids: Sequence[float | None],
) -> Path:
    """Write the claim's study; returns its folder.

    fids: of uniform sampling and by role, a seed each; None for a run that failed.
    """
    folder = output / claim.study_name
    names = {arm.role: name for name, arm in claim.arms.items()}
    for role, values in fids.items():
        for record in named_runs(names.get(role, role), values):
            path = folder / TRIALS / record.key / RECORD_FILE
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(record.to_json()))
    study, _ = with_batch_size(claim.study(seeds), SearchSpace.of_arms())
    (folder / STUDY_FILE).write_text(json.dumps(study.decisive()))
    note_environment(folder, this_environment(study.resources, study.pack, study.asked()))
    return folder
