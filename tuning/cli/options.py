"""Options that mean the same wherever they appear, and how they are laid over a settings file."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
import pydantic
from click.core import ParameterSource

from curriculum_ray.addresses import presentable
from curriculum_ray.config import (
    ConfigError,
    Spec,
    SpecT,
    apply_overrides,
    flatten,
    load_yaml,
    parse,
    with_key,
)
from curriculum_ray.config.shown import one_line
from curriculum_ray.config.spec import in_full, spec_at
from curriculum_ray.logs import LEVELS, set_level
from tuning.cli.parameters import (
    CheckpointOption,
    CountOrRange,
    FiniteRange,
    GivenPath,
    PathOption,
    PlaceOption,
)

if TYPE_CHECKING:
    from curriculum_ray.buckets.copy import WorkingCopy

__all__ = [
    "example",
    "folder_of_store",
    "given",
    "opened_output",
    "paths_given",
    "read_settings",
    "shared",
    "writable_folder",
]

Command = TypeVar("Command", bound=Callable[..., Any])


_OPTIONS: dict[str, Callable[[Any], Any]] = {
    "output": click.option(
        "--output",
        type=PathOption(),
        default=Path("runs"),
        show_default=True,
        help="Folder for results; the embedded MLflow store lies in it.",
    ),
    "output_or_bucket": click.option(
        "--output",
        type=PlaceOption(),
        default=Path("runs"),
        show_default=True,
        help="Folder for results, in which the embedded MLflow store lies; or an address such as s3://bucket/path, "
        "where --mlflow-uri names the store.",
    ),
    "data": click.option(
        "--data",
        help="`digits`, `photos`, `shapes`, `mixture2d` or `tones` (no download); or the path of a folder of images, "
        "or, with --set data.format=parquet, webdataset or latents, of shards or of cached latents.",
    ),
    "path": click.option(
        "--path",
        "paths",
        type=GivenPath(),
        multiple=True,
        metavar="KEY=PATH",
        help="Where another file lies that the runs were trained with, e.g. data.vae; may be repeated.",
    ),
    "schedule": click.option("--schedule", type=PathOption(), help="A schedule file, e.g. from `best`."),
    "checkpoint": click.option(
        "--checkpoint",
        type=CheckpointOption(),
        required=True,
        help="A checkpoint folder, or a run's folder for its newest one; also in object storage, by its address.",
    ),
    "num_samples": click.option(
        "--num-samples", type=click.IntRange(min=1), help="How many images to generate."
    ),
    "num_workers": click.option(
        "--num-workers",
        type=CountOrRange("workers"),
        metavar="N or N-M",
        help="Workers of a run, or that draw samples; in training they must divide the batch. Of a range, in training, "
        "as many as fit.",
    ),
    "share": click.option(
        "--share",
        type=FiniteRange(min=0, max=1, min_open=True),
        help="The part of the cluster that the study may use, so that there is room for others; default 1.",
    ),
    "confirm_seeds": click.option(
        "--confirm-seeds",
        type=CountOrRange("seeds"),
        metavar="N or N-M",
        help="Minimum and maximum number of fresh seeds that arms are compared on, or one number for both; by default "
        "as the file has it, else 3-10 (of a claim 3-6).",
    ),
    "use_gpu": click.option(
        "--use-gpu", is_flag=True, default=None, help="Compute on GPUs, one for each worker."
    ),
    "isolate": click.option(
        "--isolate",
        is_flag=True,
        default=None,
        help="Fresh worker processes for every run: slower, nothing shared.",
    ),
    "seed": click.option(
        "--seed",
        type=click.IntRange(min=0),
        help="Seed of weights, data order and noise, by default 0; a study's fresh seeds start at 1000 whatever it is.",
    ),
    "mlflow_uri": click.option(
        "--mlflow-uri", help="MLflow server; default MLFLOW_TRACKING_URI, else a store in --output."
    ),
    "system_metrics": click.option(
        "--system-metrics",
        is_flag=True,
        envvar="MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING",
        help="Store the load of every node in MLflow too: CPU, memory, disk, network, GPUs, every 10 seconds.",
    ),
    "config": click.option("--config", "config_file", type=PathOption(), help="YAML file of settings."),
    "set": click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="KEY.PATH=VALUE",
        help="Change one setting; may be repeated.",
    ),
    "trust_code": click.option(
        "--trust-code",
        is_flag=True,
        help="Import and run a network of your own (model python:…) that a file names; only if you trust that file.",
    ),
    "force": click.option(
        "--force",
        is_flag=True,
        help="Write even if this command did not write the existing file, which is then kept under another name.",
    ),
    "log_level": click.option(
        "--log-level",
        type=click.Choice(LEVELS),
        default="warning",
        show_default=True,
        expose_value=False,
        callback=lambda context, option, value: set_level(value),
        help="The lowest level that is logged: on stderr and, for a run or study, in driver.log and worker-N.log.",
    ),
    "json": click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text."),
}


def shared(*names: str) -> Callable[[Command], Command]:
    """Add the shared options of these names to a command, in this order."""

    def decorate(command: Command) -> Command:
        for name in reversed(names):
            command = _OPTIONS[name](command)
        return command

    return decorate


def example(text: str) -> str:
    """An example for the end of a command's help, on lines of its own."""
    return "\b\nExample:\n" + "\n".join(f"  {line}" for line in text.splitlines())


def given(*names: str) -> list[str]:
    """The words of the command now running that gave the options of these names, for the commands that come next.

    Options that were not typed are left out. Addresses are without their secrets.
    """
    context = click.get_current_context()
    words: list[str] = []
    for param in context.command.params:
        if not isinstance(param, click.Option) or param.name not in names:
            continue
        if context.get_parameter_source(param.name) is ParameterSource.COMMANDLINE:
            value = context.params[param.name]
            option = max(param.opts, key=len)
            for each in value if param.multiple else [value]:
                words += [option] if param.is_flag else [option, presentable(str(each))]
    return words


def read_settings(
    cls: type[SpecT],
    config_file: Path | None,
    overrides: tuple[str, ...],
    options: Mapping[str, tuple[str, Any]],
    trust_code: bool = False,
    within: str | None = None,
) -> SpecT:
    """Settings from a file, over which `--set` is laid, then named options.

    What is given on the command line is not overwritten by what comes later there, except by the same key of `--set`.

    within: the group whose keys `--set` may name without it, where the settings have no key of that name themselves.

    `options` maps a dotted key to (option, value); a value of None was not given. Raises ConfigError naming the
    file, `--set` or option that a fault came from. Code that the file names and `--set` does not is refused but with
    `trust_code`.
    """
    data = _without_shorthands(cls, load_yaml(config_file) if config_file else {})
    sources = {"": str(config_file) if config_file else "settings"}
    full = [_with_group(cls, override, within) for override in overrides]
    said: dict[str, str] = {}
    for override, whole in zip(overrides, full, strict=True):
        data = _without_shorthands(cls, apply_overrides(data, [whole]))
        key, source = whole.partition("=")[0].strip(), f"--set {one_line(override, 160)}"
        # The same key again is how scripts change what they begin with: the later one holds.
        _check_nothing_is_lost({name: by for name, by in said.items() if name != key}, key, source)
        said |= dict.fromkeys(flatten(apply_overrides({}, [whole])), source)
        sources[key] = source
    for key, (option, value) in options.items():
        if value is not None:
            _check_nothing_is_lost(said, key, option)
            data = with_key(data, key, value, option)
            sources[key] = option
    spec = parse(cls, data, sources)
    if config_file is not None and not trust_code:
        from curriculum_ray.models.named_code import check_named_code, code_named

        own = code_named(apply_overrides({}, full))
        check_named_code(spec.model_dump(mode="json"), str(config_file), trusted=False, allowed=own)
    return spec


def _check_nothing_is_lost(said: Mapping[str, str], key: str, source: str) -> None:
    """Raise ConfigError where `key`, set as a whole, would overwrite one of `said`: dotted keys and their sources."""
    lost = next((name for name in said if name == key or name.startswith(f"{key}.")), None)
    if lost is not None:
        raise ConfigError(f"{source} would overwrite {said[lost]}: leave one of them out")


def _without_shorthands(cls: type[pydantic.BaseModel], data: dict[str, Any]) -> dict[str, Any]:
    """The settings `data` with groups in place of what stands for them, so that `--set` may name a key of such."""
    return in_full(cls, data) if issubclass(cls, Spec) else data


def _with_group(cls: type[pydantic.BaseModel], override: str, within: str | None) -> str:
    """The override with the group `within` before its key where the key is one of that group's, and not of `cls`."""
    inner = None if within is None or not issubclass(cls, Spec) else spec_at(cls, within)
    first = re.split("[.=]", override, maxsplit=1)[0].strip()
    if inner is None or first in cls.model_fields or first not in inner.model_fields:
        return override
    return f"{within}.{override.strip()}"


def paths_given(data: str | None, paths: Sequence[tuple[str, str]]) -> dict[str, tuple[str, str]]:
    """(option, path) of each file that the user names, by dotted key; ConfigError where two options name one."""
    options = [(key, f"--path {key}={path}", path) for key, path in paths]
    options += [] if data is None else [("data.name", f"--data {data}", data)]
    given: dict[str, tuple[str, str]] = {}
    for key, option, path in options:
        if key in given:
            raise ConfigError(f"{given[key][0]} and {option} both say where {key} lies: leave one out")
        given[key] = (option, path)
    return given


def writable_folder(folder: Path) -> Path:
    """Make `folder` and check that files can be written there; ConfigError otherwise."""
    probe = folder / ".writable"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ConfigError(f"--output {folder} cannot be written: {error.strerror}") from None
    return folder.resolve()


def folder_of_store(output: Path | str, mlflow_uri: str | None) -> Path | None:
    """The folder with the embedded MLflow store; None for an address, beside which ConfigError wants a named store."""
    if isinstance(output, Path):
        return output
    from tuning.tracking.store import store_address

    if not store_address(mlflow_uri)[0]:
        raise ConfigError(
            f"--output {presentable(output)} cannot hold the embedded MLflow store, an SQLite file: name a server, or "
            "a database file elsewhere, by --mlflow-uri or MLFLOW_TRACKING_URI"
        )
    return None


def opened_output(output: Path | str, mlflow_uri: str | None) -> tuple[Path, WorkingCopy | None]:
    """The folder into which results are written, made where there is none; of an address its working copy, and that.

    ConfigError where nothing can be written there, or where an address has no MLflow server beside it.
    """
    if isinstance(output, Path):
        return writable_folder(output), None
    from curriculum_ray.buckets.copy import WorkingCopy
    from curriculum_ray.buckets.store import Bucket

    folder_of_store(output, mlflow_uri)
    bucket = Bucket(output)
    bucket.check()
    copy = WorkingCopy.of(bucket)
    return writable_folder(copy.folder), copy
