"""Images encoded to latents by Ray tasks, one for each worker."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from curriculum_ray.buckets.place import Place
from curriculum_ray.data import DataSpec
from curriculum_ray.data.autoencoder import load_autoencoder
from curriculum_ray.data.image_source import Images, images_of
from curriculum_ray.data.latent_cache import LatentCache, Shard
from curriculum_ray.distributed.drawing import on_workers
from curriculum_ray.distributed.resources import ResourceSpec
from curriculum_ray.evaluation.sampling import Share

__all__ = ["EncodingTask", "encode_on_workers"]


@dataclass(frozen=True, kw_only=True)
class EncodingTask:
    """What is encoded, by what, and where the latents go."""

    data: DataSpec
    vae: str
    """Folder of the autoencoder, which all nodes see."""
    place: Place
    shard_size: int
    std: bool

    def open(self, images: Images | None = None) -> LatentCache:
        """The cache, in this process; raises ConfigError.

        images: those of `data`, if they are known already.
        """
        vae = load_autoencoder(self.vae)
        return LatentCache(
            images=images_of(self.data) if images is None else images,
            vae=vae,
            place=self.place,
            shard_size=self.shard_size,
            std=self.std,
            text_encoder=self.data.text_encoder,
        )


def encode_on_workers(task: EncodingTask, images: Images, resources: ResourceSpec) -> list[Shard]:
    """All shards, which the workers have encoded."""
    import ray

    shared = ray.put(images)

    def work(share: Share, device: torch.device) -> list[Shard]:
        return task.open(ray.get(shared)).encode(share.rank, share.size, device)

    return [shard for shards in on_workers(work, resources) for shard in shards]
