"""What Ray's nodes tell a driver goes into its log, never onto stdout, where a table or JSON is."""

from __future__ import annotations

import logging
import time
from typing import Any

import pytest

pytestmark = pytest.mark.usefixtures("ray_of_two")


class _Kept(logging.Handler):
    """Keeps what is logged, in a thread of Ray's too."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())


def test_a_message_of_a_node_is_a_warning_of_rays_logger(capfd: pytest.CaptureFixture[str]) -> None:
    import ray
    from ray._private import worker

    of_ray, kept = logging.getLogger("ray"), _Kept()
    level, driver, job = of_ray.level, worker.global_worker, ray.JobID.nil()
    client: Any = driver.gcs_client  # type: ignore[attr-defined]
    of_ray.addHandler(kept)
    of_ray.setLevel(logging.WARNING)
    try:
        end = time.monotonic() + 30
        while not kept.said and time.monotonic() < end:
            client.publish_error(job.hex().encode(), "worker_died", "a worker ran out of memory", job, 60)
            time.sleep(0.2)
    finally:
        of_ray.removeHandler(kept)
        of_ray.setLevel(level)
    assert kept.said[:1] == ["raylet: a worker ran out of memory"]
    assert "ran out of memory" not in capfd.readouterr().out
