"""An MLflow client that is watched, for the tests of what is asked of a store."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from tuning.tracking import Tracker, open_store


class Watched:
    """An MLflow client; `before` and `after` get the name of each call, and may raise."""

    def __init__(
        self,
        client: Any,
        before: Callable[[str], None] = lambda name: None,
        after: Callable[[str], None] = lambda name: None,
    ) -> None:
        self._client, self.before, self.after = client, before, after
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        def watched(*values: Any, **named: Any) -> Any:
            self.calls.append(name)
            self.before(name)
            result = method(*values, **named)
            self.after(name)
            return result

        return watched


def tracker_of_a_watched_store(
    output: Path, experiment: str, *, as_server: bool = False
) -> tuple[Tracker, Watched]:
    """A tracker of the embedded store in `output`, and its client; `as_server`: it passes for a server's."""
    store = open_store(None, output, create=False)
    Tracker(store, experiment).close()
    client = Watched(store.client)
    root = None if as_server else store.artifact_root
    tracker = Tracker(replace(store, client=client, artifact_root=root), experiment)
    client.calls.clear()
    return tracker, client
