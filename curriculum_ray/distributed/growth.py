"""Clusters that an autoscaler grows: how far they can grow, and waiting for room that they have been asked for.

The room is asked for by a placement group, which the autoscaler meets beside what others use and ask for. It goes with
this process however that ends, where a request by `ray.autoscaler.sdk.request_resources` would stay and keep machines.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import yaml

from curriculum_ray.distributed.capacity import Capacity, NodeKind
from curriculum_ray.distributed.nodes import live_nodes, on_node
from curriculum_ray.distributed.resources import ResourceSpec
from curriculum_ray.words import number_of

__all__ = ["Growth", "as_capacity", "growth", "wait_for_room"]

_LOG = logging.getLogger(__name__)

_ASK_S = 60.0
_FIRST_LINE_S = 30.0
_LONGEST_S = 600.0
_UNLIMITED = 10**6
_HEAD = "node:__internal_head__"
_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


@dataclass(frozen=True)
class Growth:
    """How far a cluster can grow."""

    most: Capacity | None
    """What it can hold at most, or holds where nothing makes it grow; None where that is not known."""
    unknown: str | None = None
    """Why it is not known."""

    @property
    def grows(self) -> bool:
        """Whether something may make it grow."""
        return self.most is None or self.most.grows


@dataclass(frozen=True)
class _Found:
    """What the head knows of its autoscaler."""

    kind: Literal["none", "settings", "unknown"]
    settings: Mapping[str, Any] | None = None
    """Those of the autoscaler, as Ray's launcher takes them."""
    reason: str | None = None


def growth(there: Capacity) -> Growth:
    """How far the connected cluster can grow beyond `there`, by the settings of its autoscaler."""
    if (most := _reported(there)) is not None:
        return Growth(most)
    found = _ask_head()
    if found.kind == "none":
        return Growth(there)
    if found.settings is None:
        return Growth(None, found.reason)
    most = as_capacity(found.settings)
    return Growth(None, "its node types do not name their resources") if most is None else Growth(most)


def as_capacity(settings: Mapping[str, Any]) -> Capacity | None:
    """What a cluster with these settings of Ray's launcher can hold; None where a node type names no resources."""
    head, most = settings.get("head_node_type"), int(settings.get("max_workers", 2))
    nodes: list[Mapping[str, float]] = []
    kinds: list[NodeKind] = []
    for name, kind in settings.get("available_node_types", {}).items():
        resources = {key: float(value) for key, value in (kind.get("resources") or {}).items()}
        if name == head:
            nodes.append(resources)
        count = int(kind.get("max_workers", 0 if name == head else most))
        if count and not resources:
            return None
        if count:
            kinds.append(NodeKind(resources, count))
    return Capacity(tuple(nodes), tuple(kinds), most)


def _reported(there: Capacity) -> Capacity | None:
    """What a platform has reported to Ray on its own node groups, as Ray Train and Ray Data read it; None without."""
    import ray
    from ray._private.state import state

    if ray.util.client.ray.is_connected():
        return None
    config = state.get_cluster_config()
    groups = [] if config is None else [group for group in config.node_group_configs if group.max_count]
    if not groups:
        return None
    kinds = tuple(
        NodeKind(dict(group.resources), _UNLIMITED if group.max_count < 0 else group.max_count)
        for group in groups
    )
    fixed = tuple(node for node in there.nodes if _HEAD in node)
    return Capacity(fixed, kinds, sum(kind.most for kind in kinds))


def _ask_head() -> _Found:
    """What the head knows of its autoscaler, which runs there; asked by a task where this process is elsewhere."""
    import ray

    by_client, context = ray.util.client.ray.is_connected(), ray.get_runtime_context()
    head = next((node for node in live_nodes() if _HEAD in node["Resources"]), None)
    if head is None:
        return _Found("unknown", reason="its head is not known")
    port = None if by_client else urlsplit(f"//{context.gcs_address}").port
    if head["NodeID"] == context.get_node_id() and not by_client:
        return _autoscaler(port)
    ask = ray.remote(num_cpus=0, max_retries=0)(_autoscaler)
    try:
        return ray.get(ask.options(scheduling_strategy=on_node(head["NodeID"])).remote(port), timeout=_ASK_S)
    except ray.exceptions.RayError as error:
        return _Found("unknown", reason=f"its head does not answer: {type(error).__name__}")


def _autoscaler(port: int | None) -> _Found:
    """The autoscaler of the cluster whose head listens at `port` of this machine, of any where that is not known."""
    import psutil

    for process in psutil.process_iter(["cmdline"]):
        title = process.info["cmdline"] or []
        options = dict(part.split("=", 1) for part in title if part.startswith("--") and "=" in part)
        path, address = options.get("--autoscaling-config"), options.get("--gcs-address", "")
        if path is None or (port is not None and not address.endswith(f":{port}")):
            continue
        try:
            return _Found("settings", yaml.safe_load(Path(path).expanduser().read_text()))
        except (OSError, yaml.YAMLError) as error:
            return _Found("unknown", reason=f"{path} cannot be read: {type(error).__name__}")
    name = os.environ.get("RAY_CLUSTER_NAME")
    return _Found("none") if not name or not _NAMESPACE_FILE.exists() else _kubernetes(name)


def _kubernetes(name: str) -> _Found:
    """The settings of this cluster in Kubernetes, which the head's pod may read, as its autoscaler does."""
    from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr
    from ray.autoscaler._private.kuberay.node_provider import KubernetesHttpApiClient

    try:
        client = KubernetesHttpApiClient(_NAMESPACE_FILE.read_text().strip())
        resource = client.get(f"rayclusters/{name}")
        if not resource["spec"].get("enableInTreeAutoscaling"):
            return _Found("none")
        return _Found("settings", _derive_autoscaling_config_from_ray_cr(resource))
    except Exception as error:  # of requests, of its JSON, or of Ray's checks
        return _Found("unknown", reason=f"Kubernetes does not tell: {type(error).__name__}")


def wait_for_room(resources: ResourceSpec, found: Growth, say: Callable[[str], None]) -> None:
    """Ask for the room of one run, and wait until it is there; `say` is given a line at once and then ever less often.

    Without an end: a cloud may have no machines for hours. The request is withdrawn when it is met, as the run then
    takes its place, or when the wait is interrupted.
    """
    from ray.util.placement_group import placement_group, remove_placement_group

    asked = placement_group(resources.bundles, strategy="PACK")
    start, pause = time.monotonic(), _FIRST_LINE_S
    say(waiting_for(resources, found, 0.0))
    try:
        while not asked.wait(pause):
            pause = min(2 * pause, _LONGEST_S)
            say(waiting_for(resources, found, time.monotonic() - start))
    finally:
        remove_placement_group(asked)


def waiting_for(resources: ResourceSpec, found: Growth, seconds: float) -> str:
    """A line such as "waiting for the cluster to grow to 2 workers of 1 CPU (it can hold 64), for 90 s so far"."""
    count = resources.workers[0]
    most = (
        f"how far it can is unknown: {found.unknown}"
        if found.most is None
        else f"it can hold {found.most.workers(resources.per_worker)}"
    )
    what = f"{number_of(count, 'worker')} of {resources.in_words()}"
    since = f", for {seconds:.0f} s so far" if seconds else ""
    return f"waiting for the cluster to grow to {what} ({most}){since}"
