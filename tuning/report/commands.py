"""The commands that come after a study: repeat it, ask what it found, and train with that; for terminal and report."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from curriculum_ray.config import flatten
from curriculum_ray.models.named_code import TRUST_OPTION, code_named
from curriculum_ray.runs.folder import SCHEDULE_FILE
from curriculum_ray.shell import tune_command
from tuning.folder.layout import SETTINGS_SUFFIX
from tuning.study.config import StudyConfig

__all__ = ["best_command", "search_command", "train_command"]


def search_command(
    config: StudyConfig, file: Path, output: str, trusted: bool | None = False, name: str | None = None
) -> str:
    """The command that repeats a study in the folder `output`, or, by its name there, goes on with it.

    file: the study's own settings, `StudyConfig.decisive`. The others are laid over them, but the storage of Optuna's
    study, which is of one study. trusted: whether code that a file names may be imported; None: that is not said.
    """
    others = {*config.decisive(), "storage"}
    now, usual = (flatten(each.model_dump(mode="json", exclude=others)) for each in (config, StudyConfig()))
    changed = {key: value for key, value in now.items() if value != usual.get(key)}
    sets = [word for key, value in changed.items() for word in ("--set", f"{key}={json.dumps(value)}")]
    named = [] if name is None else ["--name", name]
    trust = [] if trusted is None else _trust(config, trusted)
    return tune_command("search", "--config", file, *sets, *named, "--output", output, *trust)


def best_command(config: StudyConfig, name: str, protocol: str | None, where: Sequence[str]) -> str:
    """The command that asks for the study `name` and no other, by the study's own metric.

    protocol: the fingerprint that tells it from others of its name. where: the words that name output and store.
    """
    words = ["--study", name, *where]
    if config.metric != "fid":
        words += ["--metric", config.metric]
    if protocol is not None:
        words += ["--fingerprint", protocol]
    return tune_command("best", *words)


def train_command(config: StudyConfig, where: Sequence[str], trusted: bool) -> str:
    """The command that trains with what `best` writes: the study's data and network, on what its trials got."""
    words: list[object] = ["--config", Path(SCHEDULE_FILE).with_suffix(SETTINGS_SUFFIX), *where]
    least, most = config.resources.workers
    if most > 1:
        words += ["--num-workers", least if least == most else f"{least}-{most}"]
    words += ["--use-gpu"] * config.resources.use_gpu + ["--isolate"] * config.resources.isolate
    return tune_command("train", *words, *_trust(config, trusted))


def _trust(config: StudyConfig, trusted: bool) -> list[str]:
    return [TRUST_OPTION] if trusted or code_named(config.model_dump(mode="json")) else []
