"""Checks that all nodes share a folder, or reach a bucket: checkpoints and results must be visible from every node."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

from curriculum_ray.buckets.store import Bucket, BucketError
from curriculum_ray.config import ConfigError
from curriculum_ray.distributed.nodes import live_nodes, on_node
from curriculum_ray.distributed.tasks import cancel_unfinished

__all__ = ["check_shared", "unseen_by"]


def unseen_by(folder: Path | Bucket, nodes: list[dict[str, Any]], timeout_s: float = 60.0) -> dict[str, str]:
    """For each of `nodes` that does not share `folder` with this process: its address and the reason.

    This process writes a file; each node must read it and answer with a file that this process must see. Takes up to
    `timeout_s` seconds; a node that has not answered by then counts as not sharing it.
    """
    import ray

    token = secrets.token_hex(8)
    question = f".shared-{token}"
    _write(folder, question, token)
    probe = ray.remote(num_cpus=0, max_retries=0)(_answer)
    asked = {
        probe.options(scheduling_strategy=on_node(node["NodeID"])).remote(folder, token, node["NodeID"]): node
        for node in nodes
    }
    reasons: dict[str, str] = {}
    try:
        ready, late = ray.wait(list(asked), num_returns=len(asked), timeout=timeout_s)
        for reference in late:
            reasons[asked[reference]["NodeManagerAddress"]] = f"it did not answer within {timeout_s:g} s"
        cancel_unfinished(late)
        for reference in ready:
            node = asked[reference]
            try:
                reason = ray.get(reference)
            except ray.exceptions.RayError as error:
                reason = f"{type(error).__name__}: {str(error).splitlines()[0]}"
            if reason is None and _read(folder, f"{question}-{node['NodeID']}") != token:
                reason = "what it writes there is not seen here"
            if reason is not None:
                reasons[node["NodeManagerAddress"]] = reason
    finally:
        for name in (question, *(f"{question}-{node['NodeID']}" for node in nodes)):
            if isinstance(folder, Path):
                (folder / name).unlink(missing_ok=True)
            else:
                folder.remove(name)
    return reasons


def _write(folder: Path | Bucket, name: str, text: str) -> None:
    if isinstance(folder, Path):
        (folder / name).write_text(text)
    else:
        folder.write(name, text.encode(), pauses_s=())


def _read(folder: Path | Bucket, name: str) -> str | None:
    if isinstance(folder, Path):
        return (folder / name).read_text() if (folder / name).exists() else None
    content = folder.read(name, pauses_s=())
    return None if content is None else content.decode(errors="replace")


def _answer(folder: Path | Bucket, token: str, node: str) -> str | None:
    """The fault of the folder on this node; None if there is none."""
    question = f".shared-{token}"
    try:
        said = _read(folder, question)
        if said is not None and said != token:
            return "it holds something else there"
        if said is not None:
            _write(folder, f"{question}-{node}", token)
    except BucketError as error:
        return error.reason
    except ConfigError as error:
        return str(error)
    except OSError as error:
        return f"{type(error).__name__}: {error.strerror}"
    return None if said is not None else "it does not see what is written there from here"


def check_shared(folder: Path | Bucket) -> None:
    """Refuse, in one line, a folder that not all nodes of a cluster share; nothing to check on a single node."""
    nodes = live_nodes()
    if len(nodes) < 2:
        return
    if isinstance(folder, Path):
        folder.mkdir(parents=True, exist_ok=True)
    unseen = unseen_by(folder, nodes)
    if unseen:
        address, reason = next(iter(unseen.items()))
        if not isinstance(folder, Path):
            raise ConfigError(
                f"--output must be a bucket that all nodes reach, with keys or a role of their own, but "
                f"{folder.shown()} is not reached by {len(unseen)} of {len(nodes)} nodes: {address}: {reason}"
            )
        raise ConfigError(
            f"--output must be a folder that all nodes share (NFS or the like, at one path), but {folder} is not "
            f"on {len(unseen)} of {len(nodes)} nodes: {address}: {reason}"
        )
