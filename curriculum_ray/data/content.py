"""The identity of a data set: its content, not the name or date of a file."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from curriculum_ray.data.dataset import Dataset
from curriculum_ray.data.info import DataInfo
from curriculum_ray.data.spec import DataSpec
from curriculum_ray.data.text_encoder import encoder_hash

__all__ = ["condition_content", "describe_content"]


def describe_content(spec: DataSpec, data: Dataset | DataInfo) -> dict[str, Any]:
    """Describe the data set of `spec` as JSON: name, count, shape, conditioning, and a digest of the content.

    In memory, the digest covers every item, trained on or held out, its condition (see `condition_content`), and the
    weights of the text encoder, if one made the conditions. For a stream it covers
    the shards' names and sizes, their headers and footers, a few blocks between, and the held-out items, if they were
    loaded: reading a whole stream would take as long as training on it.
    """
    if isinstance(data, Dataset):
        encoder = encoder_hash(spec.text_encoder) if spec.text_encoder is not None and data.captions else ""
        content = _in_memory(data, encoder)
    else:
        content = _in_shards(spec, data)
    return {
        "name": data.name,
        "count": len(data),
        "shape": list(data.shape),
        "conditioning": str(data.conditioning),
        "content": content[:16],
    }


def condition_content(data: Dataset) -> bytes | memoryview:
    """What tells the conditions of `data` from others: their values, or captions that a text encoder made them of.

    The last bits of what an encoder makes vary by machine.
    """
    if data.captions:
        return json.dumps(data.captions).encode()
    return b"" if data.condition is None else data.condition.contiguous().numpy().data


def _in_memory(data: Dataset, encoder: str) -> str:
    digest = hashlib.sha256(data.fingerprint.encode())
    digest.update(encoder.encode())
    digest.update(condition_content(data))
    if data.heldout is not None:
        digest.update(_in_memory(data.heldout, encoder).encode())
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
