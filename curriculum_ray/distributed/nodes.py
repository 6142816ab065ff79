"""The nodes of the connected cluster."""

from __future__ import annotations

from typing import Any

__all__ = ["live_nodes", "on_node", "this_node"]


def live_nodes() -> list[dict[str, Any]]:
    """The nodes that are alive and run work, as Ray describes them."""
    import ray

    return [node for node in ray.nodes() if node["Alive"]]


def this_node() -> str:
    """The id of the node that this process runs on."""
    import ray

    found: str = ray.get_runtime_context().get_node_id()
    return found


def on_node(node: str) -> Any:
    """Ray's scheduling strategy that places a task or an actor on the node of this id, and nowhere else.

    A soft strategy moves it to a less busy node even where this one has room for what needs no CPU.
    """
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return NodeAffinitySchedulingStrategy(node, soft=False)
