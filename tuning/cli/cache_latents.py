"""`python -m tune cache-latents`: encode images as latents to train on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING

import click

from tuning.cli.options import example, read_settings, shared, writable_folder
from tuning.cli.output import json_text
from tuning.cli.parameters import PlaceOption

if TYPE_CHECKING:
    from curriculum_ray.data.latent_cache import LatentCache

__all__ = ["cache_latents"]

_EVERY_S = 10.0


@click.command(
    name="cache-latents",
    short_help="Encode the images of a data set with an autoencoder.",
    epilog=example(
        "python -m tune cache-latents --data my-images/ --vae autoencoder/ --image-size 256 --output latents\n"
        "python -m tune cache-latents --data s3://bucket/shards --set data.format=webdataset --vae autoencoder/ "
        "--output s3://bucket/latents --num-workers 8 --use-gpu\n"
        "python -m tune train --data latents --set data.format=latents"
    ),
)
@shared("data")
@click.option(
    "--output",
    type=PlaceOption(),
    default=Path("latents"),
    show_default=True,
    help="Folder for the latents, which all workers see, or an address such as s3://bucket/path.",
)
@shared("num_workers", "use_gpu")
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
    output: Path | str,
    vae: str,
    image_size: int | None,
    shard_size: int,
    std: bool,
    corrupt: str | None,
    num_workers: int | tuple[int, int] | None,
    use_gpu: bool | None,
    config_file: Path | None,
    overrides: tuple[str, ...],
    as_json: bool,
) -> int:
    """Encode the images of --data with an autoencoder into shards in --output; rerun to resume.

    Images are read as they are encoded. Several workers share the work as Ray tasks, on the cluster at RAY_ADDRESS if
    it is set. Classes or captions are stored with the latents: captions as words, or, of a folder, embedded by a local
    text encoder with --set data.conditioning=text --set data.text_encoder=FOLDER. --config and --set take only
    settings of the data.
    """
    from curriculum_ray.buckets.place import place_of
    from curriculum_ray.buckets.store import Bucket
    from curriculum_ray.config import ConfigError, absolute
    from curriculum_ray.config.shown import printable
    from curriculum_ray.data.latent_cache import CacheSpec
    from curriculum_ray.distributed.capacity import check_resources
    from curriculum_ray.distributed.connection import connected
    from curriculum_ray.distributed.drawing import draws_in_process
    from curriculum_ray.distributed.encoding import EncodingTask, encode_on_workers
    from tuning.cli.workers import worker_resources

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
    resources = worker_resources(num_workers, use_gpu)
    check_resources(1, resources)
    place = place_of(writable_folder(output) if isinstance(output, Path) else output)
    if isinstance(place, Bucket):
        place.check()
    try:
        autoencoder = absolute(vae)
    except ValueError as error:
        raise ConfigError(f"--vae: {error}") from None
    task = EncodingTask(data=spec, vae=autoencoder, place=place, shard_size=shard_size, std=std)
    cache = task.open()
    cache.begin()
    with _progress(cache, silent=as_json):
        if draws_in_process(resources):
            shards = cache.encode(device="cuda" if use_gpu else "cpu")
        else:
            with connected(1, resources, say=lambda line: click.echo(line, err=True)):
                shards = encode_on_workers(task, cache.images, resources)
    info = cache.end(shards)
    left_out = len(cache.images.about) - info.count
    if left_out:
        named = next((shard.left_out[0] for shard in shards if shard.left_out), "")
        example = f", e.g. {printable(named)}" if named else ""
        images = "image" if left_out == 1 else "images"
        click.echo(f"left out: {left_out:,} corrupt {images}{example}", err=True)
    if as_json:
        click.echo(json_text({"path": place.shown(), "left_out": left_out, **info.as_json()}))
    else:
        shape = "x".join(map(str, info.shape))
        click.echo(f"{info.count:,} latents of {shape} with {info.conditioning}: {place.shown()}")
    return 0


@contextmanager
def _progress(cache: LatentCache, silent: bool) -> Iterator[None]:
    """Say now and then how many shards are there, whoever writes them."""
    ended = Event()

    def watch() -> None:
        said = 0
        while not ended.wait(_EVERY_S):
            if (there := cache.there()) > said:
                said = there
                click.echo(f"{there:,} of {cache.count:,} shards", err=True)

    if silent:
        yield
        return
    thread = Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
