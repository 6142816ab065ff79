"""`python -m tune reference`: the statistics of a data set as a file, to score samples against."""

from __future__ import annotations

from pathlib import Path

import click

from tuning.cli.options import example, read_settings, shared
from tuning.cli.output import json_text
from tuning.cli.parameters import FileOption

__all__ = ["reference"]


@click.command(
    short_help="Write the statistics that samples are scored against.",
    epilog=example(
        "python -m tune reference --data shards/ --set data.format=webdataset --into reference.npz\n"
        "python -m tune train --data shards/ --set data.format=webdataset --set evaluation.reference=reference.npz"
    ),
)
@shared("data")
@click.option("--into", type=FileOption(), required=True, help="The file to write, an .npz.")
@shared("num_workers", "use_gpu", "config", "set", "log_level", "json")
def reference(
    data: str | None,
    into: Path,
    num_workers: int | tuple[int, int] | None,
    use_gpu: bool | None,
    config_file: Path | None,
    overrides: tuple[str, ...],
    as_json: bool,
) -> int:
    """Compute the statistics of a data set of any format, streams too, for FID, KID, precision and recall.

    The file, which evaluation.reference names, holds mean and covariance of all items, and features and conditions of
    some. Make it once: numbers are comparable only if their references are equal to the bit. Several workers share the
    work as Ray tasks, on the cluster at RAY_ADDRESS if it is set. --config and --set take settings of the data
    (data.format=parquet) and the extractor.
    """
    from curriculum_ray.config import ConfigError
    from curriculum_ray.data.images import list_failures
    from curriculum_ray.distributed.capacity import check_resources
    from curriculum_ray.distributed.connection import connected
    from curriculum_ray.distributed.drawing import count_on_workers, draws_in_process
    from curriculum_ray.evaluation.counting import Counting, ReferenceSpec
    from curriculum_ray.evaluation.reference_file import read_reference
    from curriculum_ray.files import replace_file
    from tuning.cli.workers import worker_resources

    spec = read_settings(
        ReferenceSpec, config_file, overrides, {"data.name": ("--data", data)}, within="data"
    )
    resources = worker_resources(num_workers, use_gpu)
    check_resources(1, resources)
    _check_place(into)
    counting = Counting(spec)
    if not as_json:
        click.echo(f"reading {len(counting.data):,} items of {counting.data.name}", err=True)
    if draws_in_process(resources):
        shares = [counting.count("cuda" if use_gpu else "cpu")]
    else:
        with connected(1, resources, say=lambda line: click.echo(line, err=True)):
            shares = count_on_workers(spec, resources)
    left_out = [name for share in shares for name in share.left_out]
    if left_out and not as_json:
        click.echo(
            f"{len(left_out):,} of {len(counting.data):,} images cannot be read and are left out: "
            f"{list_failures(left_out)}",
            err=True,
        )
    try:
        replace_file(into, counting.file(shares))
    except OSError as error:
        raise ConfigError(f"--into {into} cannot be written: {error.strerror}") from None
    found = read_reference(into)
    about = found.about
    assert about is not None
    kept = 0 if found.features is None else len(found.features)
    if as_json:
        numbers = {
            "path": str(into),
            "reference": found.fingerprint,
            "features": kept,
            "left_out": len(left_out),
        }
        click.echo(json_text({**numbers, **about.model_dump(mode="json")}))
        return 0
    click.echo(
        f"{about.count:,} items of {about.name} by {about.extractor}, {len(found.mean):,} features, those of {kept:,} "
        f"items kept: {into}"
    )
    click.echo(f"reference {found.fingerprint[:12]}: --set evaluation.reference={into}")
    return 0


def _check_place(path: Path) -> None:
    """Refuse a name that is no .npz, and a file that this command did not write."""
    from curriculum_ray.config import ConfigError
    from curriculum_ray.evaluation.reference_file import read_reference

    if path.suffix != ".npz":
        raise ConfigError(f"--into must name an .npz file, but got {path}")
    if not path.parent.is_dir():
        raise ConfigError(f"--into {path} must lie in an existing folder, but {path.parent} is not one")
    if not path.exists():
        return
    try:
        ours = read_reference(path).about is not None
    except ConfigError:
        ours = False
    if not ours:
        raise ConfigError(f"--into {path} exists, and was not written by this command: choose another place")
