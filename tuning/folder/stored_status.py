"""The progress of a study whose folder is in object storage, as its driver last uploaded it."""

from __future__ import annotations

from contextlib import suppress

from curriculum_ray.buckets.store import Bucket, BucketError
from curriculum_ray.config import ConfigError
from curriculum_ray.shell import tune_command
from tuning.folder.layout import SLOTS, STATUS_FILE, TRIALS
from tuning.folder.process import moves
from tuning.folder.status import StudyStatus, checked_status, parsed_status

__all__ = ["find_stored_status", "read_stored_status"]

_PATIENCE_S = 60.0
"""A living driver uploads its status every 15 s, and tries again where that fails."""
_LOOK_S = 2.0


def find_stored_status(output: Bucket, name: str | None) -> Bucket:
    """The folder of the study `name` in `output`, or of the one that wrote last; ConfigError where there is none."""
    try:
        folders = output.folders() if name is None else [name]
        found = {folder: content for folder in folders if (content := (output / folder).read(STATUS_FILE))}
    except BucketError as error:
        raise output.unusable(error) from None
    written = {}
    for folder, content in found.items():
        with suppress(ConfigError):
            written[folder] = parsed_status(content, folder).time
    if not found:
        which = f"no study {name!r}" if name else "no study"
        raise ConfigError(f"there is {which} in {output.shown()}: run `{tune_command('search')}` first")
    return output / max(found, key=lambda folder: written.get(folder, 0.0))


def read_stored_status(study: Bucket, patience_s: float = _PATIENCE_S) -> StudyStatus:
    """The last status of a study in a bucket, see `read_status`; ConfigError where it cannot be read."""

    def read() -> bytes | None:
        try:
            return study.read(STATUS_FILE)
        except BucketError as error:
            raise study.unusable(error) from None

    def resumes_at(key: str) -> int:
        try:
            return _resumes_at(study, key)
        except BucketError as error:
            raise study.unusable(error) from None

    return checked_status(
        read, study.shown(STATUS_FILE), lambda: moves(read, patience_s, _LOOK_S), resumes_at
    )


def _resumes_at(study: Bucket, key: str) -> int:
    """Images at the newest whole checkpoint of a trial of the study in this bucket; 0 without one."""
    from curriculum_ray.runs.stored_checkpoints import stored
    from curriculum_ray.training.checkpoint import MANIFEST, images_at

    slots = study / SLOTS
    folders = [study / TRIALS / key, *(slots / name for name in slots.folders())]
    found = [(name, folder / name) for folder in folders for name in stored(folder, key)]
    newest_first = sorted(found, key=lambda each: images_at(each[0]), reverse=True)
    return next((images_at(name) for name, there in newest_first if there.read(MANIFEST) is not None), 0)
