"""`python -m tune cache-latents`: encode a folder of images as latents to train on."""

from __future__ import annotations

import json
from pathlib import Path

import click

from curriculum_ray.config import ConfigError
from tuning.cli.options import example, read_settings, shared, writable_folder

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
    "--shard-size", type=click.IntRange(min=1), default=1024, show_default=True, help="Images per file."
)
@click.option("--std", is_flag=True, help="Store the latents' standard deviations too.")
@click.option("--corrupt", type=click.Choice(["refuse", "skip"]), help="Default as in training.")
@shared("config", "set", "log_level", "json")
def cache_latents(
    data: str | None,
    output: Path,
    vae: str,
    image_size: int | None,
    shard_size: int,
    std: bool,
    corrupt: str | None,
    use_gpu: bool | None,
    config_file: Path | None,
    overrides: tuple[str, ...],
    as_json: bool,
) -> int:
    """Encode the images of --data with an autoencoder into shards in --output; rerun to resume.

    All images are loaded before they are encoded. Their classes or captions are stored with them: captions as
    words, or embedded by a local text encoder with --set data.conditioning=text --set
    data.text_encoder=FOLDER. --config and --set take only settings of the data.
    """
    import torch

    from curriculum_ray.data import is_image, load_data
    from curriculum_ray.data.autoencoder import CacheSpec, load_autoencoder
    from curriculum_ray.data.autoencoder import cache_latents as encode

    spec = read_settings(
        CacheSpec,
        config_file,
        overrides,
        {
            "data.name": ("--data", data),
            "data.image_size": ("--image-size", image_size),
            "data.corrupt": ("--corrupt", corrupt),
        },
    ).data
    if use_gpu and not torch.cuda.is_available():
        raise ConfigError("--use-gpu needs a GPU, but this machine has none that torch can use")
    autoencoder = load_autoencoder(vae)
    images = load_data(spec)
    if not is_image(images.shape):
        raise ConfigError(f"--data must name images, but {images.name} has none")
    folder = writable_folder(output)
    info = encode(
        images,
        autoencoder,
        folder,
        shard_size=shard_size,
        std=std,
        device="cuda" if use_gpu else "cpu",
        text_encoder=spec.text_encoder,
        on_shard=lambda done, total: None if as_json else click.echo(f"shard {done} of {total}"),
    )
    if as_json:
        click.echo(json.dumps({"path": str(folder), **info.as_json()}))
    else:
        shape = "x".join(map(str, info.shape))
        click.echo(f"{info.count} latents of {shape} with {info.conditioning}: {folder}")
    return 0
