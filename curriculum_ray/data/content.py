"""The identity of a data set: its content, not the name or date of a file."""

from __future__ import annotations

import hashlib
from typing import Any

from curriculum_ray.data.dataset import Dataset
from curriculum_ray.data.info import DataInfo
from curriculum_ray.data.spec import DataSpec

__all__ = ["describe_content"]


def describe_content(spec: DataSpec, data: Dataset | DataInfo) -> dict[str, Any]:
    """Describe the data set of `spec` as JSON: name, count, shape, conditioning, and a digest of the content.

    In memory, the digest covers every item, trained on or held out, and its condition. For a stream it covers
    the shards' names and sizes, their headers and footers, a few blocks between, and the held-out items, if they were
    loaded: reading a whole stream would take as long as training on it.
    """
    content = _in_memory(data) if isinstance(data, Dataset) else _in_shards(spec, data)
    return {
        "name": data.name,
        "count": len(data),
        "shape": list(data.shape),
        "conditioning": str(data.conditioning),
        "content": content[:16],
    }


def _in_memory(data: Dataset) -> str:
    digest = hashlib.sha256(data.fingerprint.encode())
    if data.condition is not None:
        digest.update(data.condition.contiguous().numpy().data)
    if data.heldout is not None:
        digest.update(_in_memory(data.heldout).encode())
    digest.update(repr((data.class_names, data.vocabulary)).encode())
    return digest.hexdigest()


def _in_shards(spec: DataSpec, data: DataInfo) -> str:
    if not spec.streamed:
        return data.fingerprint
    digest = hashlib.sha256(data.fingerprint.encode())
    if data.heldout is not None:
        digest.update(data.heldout.fingerprint.encode())
    digest.update(repr((data.class_names, data.vocabulary)).encode())
    return digest.hexdigest()
