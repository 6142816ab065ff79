"""The stages, in their order: each takes the lab and returns what it found, as JSON values."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from curriculum_ray.buckets.store import Bucket
from rehearsal import datasets, search, winner
from rehearsal.lab import Lab
from rehearsal.servers import BUCKET, copy

Stage = Callable[[Lab], dict[str, Any]]


def data(lab: Lab) -> dict[str, Any]:
    """Make the data and the autoencoder, and put them into the bucket; the autoencoder goes where all nodes see it."""
    began, made = time.time(), lab.folder / "made"
    contents = datasets.images()
    datasets.write_webdataset(made / "shards", contents)
    datasets.write_autoencoder(made / "vae")
    copy(str(made), f"s3://{BUCKET}/data")
    (lab.data / "vae").mkdir(parents=True)
    copy(f"s3://{BUCKET}/data/vae", str(lab.data / "vae"))
    return {"seconds": time.time() - began, "images": len(contents)}


def reference(lab: Lab) -> dict[str, Any]:
    """Count the WebDataset in the bucket on all workers; the file goes where all nodes see it, and into the bucket."""
    began = time.time()
    environment = _on_cluster(lab)
    started = time.time()
    into = lab.data / "reference.npz"
    words = ["reference", *_shards(), "--set", "extractor=random-cnn", "--into", str(into), "--json"]
    found = lab.tune(*words, "--num-workers", "3", environment=environment).json()
    (Bucket(f"s3://{BUCKET}") / "data").write(into.name, into.read_bytes())
    return {
        "cluster_seconds": started - began,
        "seconds": time.time() - started,
        "count": found["count"],
        "reference": found["reference"],
        "own_disks": lab.cluster.own_disks,
        "wrong": [] if found["count"] == datasets.IMAGES else [f"the reference has {found['count']} items"],
    }


def latents(lab: Lab) -> dict[str, Any]:
    """Encode the WebDataset on all workers, from the bucket into the bucket."""
    began = time.time()
    words = ["cache-latents", *_shards(), "--vae", str(lab.data / "vae"), "--shard-size", "64", "--json"]
    words += ["--output", f"s3://{BUCKET}/data/latents", "--num-workers", "3"]
    found = lab.tune(*words, environment=_on_cluster(lab)).json()
    count = sum(rows for _, rows in found["shards"])
    return {
        "seconds": time.time() - began,
        "shape": found["shape"],
        "wrong": [] if count == datasets.IMAGES else [f"there are {count} latents"],
    }


def _on_cluster(lab: Lab) -> dict[str, str]:
    return {**lab.cluster.environment, "RAY_ADDRESS": lab.cluster.address}


def _shards() -> list[str]:
    where = ["--data", f"s3://{BUCKET}/data/shards", "--set", "data.format=webdataset"]
    return [*where, "--set", f"data.image_size={datasets.SIDE}"]


STAGES: dict[str, Stage] = {
    "data": data,
    "reference": reference,
    "latents": latents,
    "search": search.disturbed,
    "undisturbed": search.undisturbed,
    "best": winner.best,
    "train": winner.train,
    "export": winner.export,
}
"""By name, in the order in which they run."""
