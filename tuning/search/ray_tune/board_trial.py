"""A trial of a study as a light Tune actor, which hands its run to the board and returns the reports."""

from __future__ import annotations

import json
from typing import Any

from ray import tune

from curriculum_ray.runs.jobs import Event, Failed, Finished, Job, Progress, Started, Stopped
from curriculum_ray.runs.result import RunResult

__all__ = ["BoardTrial"]

_WAIT_S = 5.0


class BoardTrial(tune.Trainable):
    """A Tune trial whose training happens in a slot.

    `config` holds "board", the board's actor name, and "job", a `Job`. One actor serves many trials (`reuse_actors`),
    so the next trial needs no new process.
    """

    def setup(self, config: dict[str, Any]) -> None:
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._begin(new_config)
        return True

    def _begin(self, config: dict[str, Any]) -> None:
        import ray

        from curriculum_ray.distributed.board import NAMESPACE

        self._board = ray.get_actor(config["board"], namespace=NAMESPACE)
        self._job: Job = config["job"]
        self._seen = 0
        self._submitted = False

    def step(self) -> dict[str, Any]:
        """Wait for events of the run; the last result of a trial has its metrics and `done`."""
        import ray

        if not self._submitted:
            ray.get(self._board.submit.remote(self._job))
            self._submitted = True
        key = self._job.key
        events: list[Event] = []
        while not events:
            events = ray.get(self._board.events.remote(key, self._seen, _WAIT_S))
        self._seen += len(events)
        last = events[-1]
        result: dict[str, Any] = {}
        points: list[tuple[int, dict[str, float]]] = []
        for event in events:
            if isinstance(event, Progress):
                points.append((event.images, event.metrics()))
                result.update(
                    images=event.images, loss=event.loss, stage=event.stage, num_stages=event.num_stages
                )
            elif isinstance(event, Started):
                result["attempt"] = event.attempt
        if points:
            # As text: Tune flattens nested results. A result holds one value of each metric, and events may be several.
            result["points"] = json.dumps(points)
        if isinstance(last, Finished):
            result.update(done=True, outcome="finished", **_final(last.result))
        elif isinstance(last, Stopped | Failed):
            # Not an exception: Tune would print its own traceback, while the board knows the reason.
            result.update(done=True, outcome="stopped" if isinstance(last, Stopped) else "failed")
        return result

    def cleanup(self) -> None:
        """Tune has finished this trial or stops it early: cancel its run.

        Tune may start an actor for a trial, then give the trial to one that has become free, and drop the first,
        which has no run, and must not cancel that of the other.
        """
        import ray

        if self._submitted:
            ray.get(self._board.cancel.remote(self._job.key))


def _final(result: RunResult) -> dict[str, Any]:
    """The metrics, and the whole result as text, since Tune flattens nested results."""
    return {**result.metrics, "result": json.dumps(result.to_json())}
