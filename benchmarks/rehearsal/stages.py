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
    """Make the data, put it into the bucket, and bring it from there into the folder that all nodes see."""
    began, made, images = time.time(), lab.folder / "made", lab.folder / "images"
    contents = datasets.images()
    datasets.write_folder(images, contents)
    datasets.write_webdataset(made / "shards", contents)
    datasets.write_autoencoder(made / "vae")
    words = [
        "cache-latents",
        "--data",
        str(images),
        "--vae",
        str(made / "vae"),
        "--shard-size",
        "64",
    ]
    words += ["--image-size", str(datasets.SIDE), "--output", str(made / "latents"), "--json"]
    found = lab.tune(*words, environment=lab.alone()).json()
    copy(str(made), f"s3://{BUCKET}/data")
    copy(f"s3://{BUCKET}/data", str(lab.data))
    return {"seconds": time.time() - began, "images": len(contents), "latents": found["shape"]}


def reference(lab: Lab) -> dict[str, Any]:
    """Count the WebDataset on all workers; the file goes where all nodes see it, and into the bucket."""
    began = time.time()
    environment = {**lab.cluster.environment, "RAY_ADDRESS": lab.cluster.address}
    started = time.time()
    words = ["reference", "--data", str(lab.data / "shards"), "--num-workers", "3", "--json"]
    for setting in ("data.format=webdataset", f"data.image_size={datasets.SIDE}", "extractor=random-cnn"):
        words += ["--set", setting]
    into = lab.data / "reference.npz"
    found = lab.tune(*words, "--into", str(into), environment=environment).json()
    (Bucket(f"s3://{BUCKET}") / "data").write(into.name, into.read_bytes())
    return {
        "cluster_seconds": started - began,
        "seconds": time.time() - started,
        "count": found["count"],
        "reference": found["reference"],
        "own_disks": lab.cluster.own_disks,
        "wrong": [] if found["count"] == datasets.IMAGES else [f"the reference has {found['count']} items"],
    }


STAGES: dict[str, Stage] = {
    "data": data,
    "reference": reference,
    "search": search.disturbed,
    "undisturbed": search.undisturbed,
    "best": winner.best,
    "train": winner.train,
    "export": winner.export,
}
"""By name, in the order in which they run."""
