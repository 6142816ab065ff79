"""The only writer to MLflow: a run per study, a child run per trial; a restart writes into the same runs."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curriculum_ray.config import ConfigError
from curriculum_ray.files import replace_file
from tuning.folder.layout import ADDRESS_FILE, SPOOL_FILE
from tuning.tracking.fields import (
    MAX_TAG_LENGTH,
    metric_key,
    param_values,
    quoted,
    run_key,
    shorten,
    tag,
    tag_values,
)
from tuning.tracking.origin import origin_tags
from tuning.tracking.runs import Mlflow, missing_files
from tuning.tracking.store import Store, open_store
from tuning.tracking.writer import Write, Writer

if TYPE_CHECKING:
    from mlflow.entities import Run

    from curriculum_ray.data import DataSummary
    from tuning.folder.identity import Identity

STATUSES = ("FINISHED", "FAILED", "KILLED")
_INHERITED = ("id", "content", "data", "process", "fingerprint")
_NOTE = "mlflow.note.content"
# Longer than MLflow tries a request that is not answered.
_PATIENCE_SECONDS = 120.0


class Tracker(Mlflow):
    """Writes one experiment's runs. Only the driver holds one.

    `study` and `train` contact the store at once; all other writes are queued, stored by a thread in the order of the
    calls, and retried while the store is unreachable. Their handles are valid only in this tracker.
    """

    def __init__(self, store: Store, experiment: str) -> None:
        super().__init__(store, experiment)
        self._shared_tags: dict[str, dict[str, str]] = {}  # study's handle -> tags that its trials share
        self._names: dict[str, str] = {}  # study's handle -> name
        self._ids: dict[str, str] = {}  # study's handle -> its own id
        self._datasets: dict[str, Any] = {}  # study's handle -> data set, the input of its trials too
        self._images: dict[str, int] = {}
        self._odd: set[str] = set()
        self._writer = Writer(self._apply)

    @classmethod
    def open(cls, uri: str | None, output: Path, experiment: str) -> Tracker:
        """Open (or make) the store and the experiment, e.g. "digits/ddpm-epsilon"; may run in a thread.

        The store is `uri`, else MLFLOW_TRACKING_URI, else a SQLite database in the folder `output`. Raises
        `ConfigError` when it cannot be reached.
        """
        return cls(open_store(uri, output, create=True), experiment)

    def __enter__(self) -> Tracker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def problems(self) -> list[str]:
        """What could not be stored, one line each."""
        return self._writer.problems

    def keep_in(self, folder: Path, seconds: float = _PATIENCE_SECONDS) -> None:
        """Keep writes that are not stored yet in a file in `folder`; to be called before any write.

        What an earlier process left there is stored first; ConfigError where nothing of it is for `seconds`. What the
        store answers with errors stays in the file, see `problems`.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._writer.close(seconds)
        address = {"experiment": self.experiment, "store": self.store.seen_from(folder.absolute().parent)}
        replace_file(folder / ADDRESS_FILE, json.dumps(address))
        self._replaying, self._kept_in = True, folder.resolve()
        self._writer = Writer(self._apply, folder / SPOOL_FILE)
        flushed = False
        try:
            flushed = self._writer.flush(seconds)
        finally:
            if not flushed:
                self._writer.close(0)
        if not flushed:
            left, reason = len(self._writer), self._writer.reason or "it does not answer"
            raise ConfigError(
                f"{self.store.shown} does not take the {left} writes that an earlier start left in {folder}: {reason}"
            )
        self._replaying = False
        # Runs must be looked up again, with what was just stored.
        for known in (self._runs, self._found, self._steps, self._missing):
            known.clear()

    def study(
        self, name: str, params: Mapping[str, Any], tags: Mapping[str, Any], identity: Identity | None = None
    ) -> str:
        """Open the run of the study `name`, the same at each restart, and return its handle.

        identity: distinguishes it from other studies of the same name; None to identify it by name. A run of other
        content is refused, and one that had ended is running again. `params` may be nested; those of the first start
        stay. Without an identity they must not change: `ConfigError` if the study was started before with other
        values. `tags` may change; they are keys of
        `fields.TAGS` without prefix; trials inherit data, process and fingerprint.
        """
        handle = self._top("study", name, params, tags, identity)
        before = self._found.get(handle)
        if before is not None and before.info.status == "FINISHED":
            self.store.client.update_run(self._runs[handle], status="RUNNING")
        query = f"tags.`mlflow.parentRunId` = '{self._runs[handle]}'"
        for run in self.store.search_runs([self._experiment_id], query):
            self._found[run.data.tags.get(tag("key"), "")] = run
        return handle

    def train(
        self, name: str, params: Mapping[str, Any], tags: Mapping[str, Any], identity: Identity | None = None
    ) -> str:
        """Open the run of a single training `name` outside any study, the same at each restart; see `study`."""
        return self._top("train", name, params, tags, identity)

    def handle(self, study: str, key: str) -> str:
        """The handle of the trial `key` of a study."""
        return run_key("trial", self._ids[study], key)

    def trial(
        self, study: str, key: str, name: str, params: Mapping[str, Any], tags: Mapping[str, Any]
    ) -> str:
        """Open the child run of the trial `key` of a study, the same at each restart, and return its handle.

        A finished run stays finished; a failed or killed one is running again.
        """
        handle = self.handle(study, key)
        own = {"kind": "trial", "key": handle, "study": self._names[study], "trial": key, **tags}
        all_tags = {**self._shared_tags[study], **tag_values(own), "mlflow.parentRunId": self._runs[study]}
        self._writer.put(Write("begin", handle, (name, param_values(params), all_tags)))
        if study in self._datasets:
            self._writer.put(Write("log_dataset", handle, self._datasets[study]))
        return handle

    def has_ended(self, study: str, key: str, status: str) -> bool:
        """Whether an earlier start of the study stored all of the trial `key` and ended its run as `status`."""
        return self._is_whole(self.handle(study, key), status)

    def is_finished(self, run: str) -> bool:
        """Whether an earlier start stored all of a study or single training and ended its run as FINISHED."""
        return self._is_whole(run, "FINISHED")

    def _is_whole(self, handle: str, status: str) -> bool:
        run = self._found.get(handle)
        return run is not None and run.info.status == status and not missing_files(run)

    def log(self, run: str, metrics: Mapping[str, float], images: int) -> None:
        """Store metrics after `images` images seen. A value that is not finite becomes a tag instead."""
        self.log_history(run, [(images, metrics)])

    def log_history(self, run: str, history: Iterable[tuple[int, Mapping[str, float]]]) -> None:
        """Like `log`, for several points (images, metrics) at once."""
        now = _now()
        points = []
        for images, metrics in history:
            self._images[run] = max(images, self._images.get(run, 0))
            for key, value in metrics.items():
                if math.isfinite(value):
                    points.append([metric_key(key), float(value), now, images])
                elif run not in self._odd:
                    self._odd.add(run)
                    self.tags(run, {"non_finite": f"{key} = {value} after {images} images"})
        if points:
            self._writer.put(Write("log", run, points))

    def sample(self, run: str, metrics: Mapping[str, float], step: int) -> None:
        """Store metrics whose steps are not images seen."""
        now = _now()
        points = [[key, float(value), now, step] for key, value in metrics.items() if math.isfinite(value)]
        if points:
            self._writer.put(Write("log", run, points))

    def tags(self, run: str, tags: Mapping[str, Any]) -> None:
        """Set tags, keys of `fields.TAGS` without prefix."""
        self._writer.put(Write("set_tags", run, tag_values(tags)))

    def note(self, run: str, text: str) -> None:
        """Set the description that MLflow shows at the head of the run's page, in Markdown."""
        self._writer.put(Write("set_tags", run, {_NOTE: shorten(text, MAX_TAG_LENGTH)}))

    def artifacts(self, run: str, files: Iterable[Path], folder: str | None = None) -> None:
        """Store files of the run; until `flush`, they must stay where they are, or in the folder of `keep_in`."""
        self._writer.put(Write("store_files", run, (self._queued(files), folder)))

    def table(self, run: str, file: Path) -> None:
        """Store a table of the run, {"columns": [...], "data": [[...], ...]} as JSON, for MLflow's own pages."""
        self.artifacts(run, [file])
        named = json.dumps([{"path": file.name, "type": "table"}])
        self._writer.put(Write("set_tags", run, {"mlflow.loggedArtifacts": named}))

    def model(
        self, run: str, name: str, files: Iterable[Path], params: Mapping[str, Any], tags: Mapping[str, Any]
    ) -> None:
        """Store files as a model that came out of the run, once; they must stay where they are as in `artifacts`.

        tags: keys of `fields.TAGS` without prefix; a model that is there already gets them.
        """
        data = [name, self._queued(files), param_values(params), tag_values(tags)]
        self._writer.put(Write("log_model", run, data))

    def dataset(self, run: str, summary: DataSummary, fingerprint: str) -> None:
        """Store the data set of the run, by name and fingerprint, with the summary as its profile.

        It becomes the input of trials too that are opened later.
        """
        profile = {
            key: value
            for key, value in summary.as_json().items()
            if key in ("items", "format", "splits", "split", "conditioning", "unlabelled", "shape")
        }
        source = [summary.format, summary.path or summary.name]
        self._datasets[run] = [summary.name, fingerprint, source, profile]
        self._writer.put(Write("log_dataset", run, self._datasets[run]))

    def finish(self, run: str, status: str, reason: str | None = None) -> None:
        """End the run as FINISHED, FAILED or KILLED, with a reason if there is one."""
        assert status in STATUSES, status
        images = self._images.get(run)
        tags = tag_values({"reason": reason, "images": images})
        self._writer.put(Write("end", run, (status, _now(), images, tags)))

    def flush(self, seconds: float = 60.0) -> bool:
        """Wait until everything is stored that the store takes; return False where for `seconds` nothing was."""
        return self._writer.flush(seconds)

    def close(self, seconds: float = 60.0) -> None:
        """Flush; `problems` then says what is not stored, and where it waits."""
        self._writer.close(seconds)

    def _queued(self, files: Iterable[Path]) -> list[str]:
        """Paths as the queue keeps them: relative to its folder where they are in it, as it may move with them."""
        paths = [file.parent.resolve() / file.name for file in files]
        folder = self._kept_in
        return [
            str(path.relative_to(folder) if folder is not None and path.is_relative_to(folder) else path)
            for path in paths
        ]

    def ui_command(self) -> str:
        """Return the command that opens MLflow's pages on this store (loopback), or a server's address."""
        return self.store.ui_command()

    def ui_address(self) -> str:
        """Return the address of this experiment's runs in the pages that `ui_command` opens."""
        return f"{self.store.ui_address()}/#/experiments/{self._experiment_id}/runs?workflowType=machine_learning"

    def run_id(self, run: str, seconds: float = 60.0) -> str | None:
        """Return MLflow's own id of a run, after it is stored; None while the store is unreachable."""
        if run not in self._runs:
            self.flush(seconds)
        earlier = self._found.get(run)
        return self._runs.get(run) or (earlier.info.run_id if earlier else None)

    def _top(
        self,
        kind: str,
        name: str,
        params: Mapping[str, Any],
        tags: Mapping[str, Any],
        identity: Identity | None,
    ) -> str:
        own = name if identity is None else identity.id
        handle = run_key(kind, own)
        if identity is not None:
            tags = {**tags, "id": identity.id, "content": identity.hash}
        query = f"tags.`{tag('key')}` = {quoted(handle)}"
        for run in self.store.search_runs([self._experiment_id], query, limit=1):
            self._found[handle] = run
            self._check_content(run, kind, name, params, identity)
            before = run.data.tags.get(tag("study"))
            if kind == "study" and before not in (None, name):
                raise ConfigError(
                    f"this study is in {self.store.shown} under the name {before!r}: go on with it by --name {before}, "
                    "or choose another --output or --mlflow-uri"
                )
        named = {"kind": kind, "key": handle, "study": name if kind == "study" else None, **tags}
        all_tags = {**tag_values(named), **origin_tags(sys.argv, self.store.uri)}
        self._begin(handle, (name, param_values(params), all_tags))
        self._names[handle], self._ids[handle] = name, own
        self._shared_tags[handle] = {
            key: value
            for key, value in all_tags.items()
            if key in map(tag, _INHERITED) or key.startswith("mlflow.")
        }
        return handle

    def _check_content(
        self, run: Run, kind: str, name: str, params: Mapping[str, Any], identity: Identity | None
    ) -> None:
        """Refuse a run of other content; only where its content is not known, one with other values.

        Values of equal content may differ: files that count by what they hold may have been moved.
        """
        content = run.data.tags.get(tag("content"))
        if identity is not None and content is not None:
            if content != identity.hash:
                raise ConfigError(
                    f"the {kind} {name!r} is in {self.store.shown} with other content (hash {content}, here "
                    f"{identity.hash}): use the same settings and data, or choose another name or output folder"
                )
            return
        for key, value in param_values(params).items():
            before = run.data.params.get(key, value)
            if before != value:
                raise ConfigError(
                    f"the {kind} {name!r} was started with {key} = {before}, but now it is {value}: "
                    f"use the same settings, or choose another name or output folder"
                )


def _now() -> int:
    """The time as MLflow counts it, in milliseconds."""
    return time.time_ns() // 1_000_000
