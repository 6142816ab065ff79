"""Where the actors of trials run: not on the driver's node where there is another, since each takes over 100 MB."""

from __future__ import annotations

import ray
from ray.tune import FailureConfig, PlacementGroupFactory

__all__ = ["RESTARTS", "trial_resources"]

# A label that Ray gives every node.
_NODE_ID = "ray.io/node-id"
_NEXT_TO_NOTHING = {"memory": 1.0}
# A trial's actor may be lost with its node while its run goes on elsewhere: another asks the board how far it is.
RESTARTS = FailureConfig(max_failures=100)


def trial_resources() -> PlacementGroupFactory:
    """What Tune reserves for a trial, whose training happens in a slot."""
    here = ray.get_runtime_context().get_node_id()
    if all(node["NodeID"] == here for node in ray.nodes() if node["Alive"]):
        return PlacementGroupFactory([_NEXT_TO_NOTHING])
    elsewhere = {_NODE_ID: f"!{here}"}
    return PlacementGroupFactory([_NEXT_TO_NOTHING], bundle_label_selector=[elsewhere])
