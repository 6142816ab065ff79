"""`python -m tune cache-latents`: a folder of images as latents of an autoencoder, to train on."""

from __future__ import annotations

import json
from pathlib import Path

import click

from curriculum_ray.config import ConfigError
from tuning.cli.options import example, shared, writable_folder

__all__ = ["cache_latents"]


@click.command(
    name="cache-latents",
    epilog=example(
        "python -m tune cache-latents --data my-images/ --vae autoencoder/ --image-size 256 --output latents\n"
        "python -m tune train --data latents --set data.format=latents"
    ),
)
@shared("data", "output", "use_gpu")
@click.option("--vae", required=True, help="Folder of a diffusers AutoencoderKL in safetensors.")
@click.option("--image-size", type=click.IntRange(4, 1024), help="Side in pixels; default as in training.")
@click.option(
    "--shard-size", type=click.IntRange(min=1), default=1024, show_default=True, help="Images a file."
)
@click.option("--std", is_flag=True, help="Store the latents' standard deviations too.")
@click.option("--corrupt", type=click.Choice(["refuse", "skip"]), default="refuse", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
def cache_latents(
    data: str | None,
    output: Path,
    vae: str,
    image_size: int | None,
    shard_size: int,
    std: bool,
    corrupt: str,
    use_gpu: bool | None,
    as_json: bool,
) -> int:
    """Encode the images of --data by an autoencoder into shards in --output; run again after a kill to go on.

    Images are loaded whole before they are encoded.
    """
    from curriculum_ray.config import parse
    from curriculum_ray.data import DataSpec, is_image, load_data
    from curriculum_ray.data.autoencoder import cache_latents as encode
    from curriculum_ray.data.autoencoder import load_autoencoder

    values = {"name": data or "digits", "image_size": image_size, "corrupt": corrupt}
    images = load_data(parse(DataSpec, values, "cache-latents"))
    if not is_image(images.shape):
        raise ConfigError(f"--data must name images, but {images.name} has none")
    folder = writable_folder(output)
    info = encode(
        images,
        load_autoencoder(vae),
        folder,
        shard_size=shard_size,
        std=std,
        device="cuda" if use_gpu else "cpu",
        on_shard=lambda done, total: None if as_json else click.echo(f"shard {done} of {total}"),
    )
    if as_json:
        click.echo(json.dumps({"path": str(folder), **info.as_json()}))
    else:
        click.echo(f"{info.count} latents of {'x'.join(map(str, info.shape))}: {folder}")
    return 0
