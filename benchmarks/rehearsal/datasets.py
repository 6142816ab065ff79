"""The data: images as a WebDataset, and a small autoencoder."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy
import torch
from PIL import Image

SIDE, CLASSES = 16, 3
IMAGES, SHARDS = 480, 4


def images(count: int = IMAGES) -> list[bytes]:
    """PNG files of smooth colours; the class, number modulo CLASSES, is which channel is brightest."""
    source = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 3, 4, 4, generator=source)
    coarse[torch.arange(count), torch.arange(count) % CLASSES] += 1.0
    smooth = torch.nn.functional.interpolate(coarse, (SIDE, SIDE), mode="bilinear") * 127
    found = []
    for picture in smooth.to(torch.uint8).permute(0, 2, 3, 1).numpy():
        file = io.BytesIO()
        Image.fromarray(numpy.ascontiguousarray(picture)).save(file, "PNG")
        found.append(file.getvalue())
    return found


def write_webdataset(folder: Path, contents: list[bytes]) -> None:
    """Tar files of images and their classes."""
    folder.mkdir(parents=True, exist_ok=True)
    share = -(-len(contents) // SHARDS)
    for shard in range(SHARDS):
        with tarfile.open(folder / f"{shard:02d}.tar", "w") as tar:
            for number in range(shard * share, min(len(contents), (shard + 1) * share)):
                for name, content in (
                    (f"{number:04d}.png", contents[number]),
                    (f"{number:04d}.cls", b"%d" % (number % CLASSES)),
                ):
                    member = tarfile.TarInfo(name)
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))


def write_autoencoder(folder: Path) -> None:
    """An AutoencoderKL with random weights: (4, 8, 8) latents of (3, 16, 16) images."""
    from diffusers import AutoencoderKL

    torch.manual_seed(0)
    AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        layers_per_block=1,
        norm_num_groups=4,
        latent_channels=4,
    ).save_pretrained(folder)
