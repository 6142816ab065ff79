"""The commands of `python -m clusters`; `doctor` is also `python -m tune doctor`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from curriculum_ray.addresses import without_secrets
from curriculum_ray.config import ConfigError
from curriculum_ray.config.shown import one_line
from curriculum_ray.words import number_of
from tuning.cli.options import example, read_settings, shared
from tuning.cli.output import help_without_command, json_text
from tuning.cli.parameters import FiniteRange

__all__ = ["cli", "doctor", "local", "main", "wait"]

_DAY_S = 86_400
"""The longest that a command waits: far longer than what it waits for takes, and short enough for every clock."""
_MARKS = {"ok": "ok  ", "failed": "FAIL", "skipped": "-   "}


@click.group(
    invoke_without_command=True,
    subcommand_metavar="COMMAND [ARGS]...",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.pass_context
def cli(context: click.Context) -> None:
    """Check a Ray cluster, wait for its nodes, or simulate several nodes on this machine."""
    help_without_command(context)


@cli.command(
    short_help="Check all that a study needs on every node.",
    epilog=example("RAY_ADDRESS=10.0.0.1:6379 python -m clusters doctor --output /shared/runs --use-gpu"),
)
@shared("output_or_bucket", "num_workers", "use_gpu", "mlflow_uri")
@click.option(
    "--timeout",
    type=FiniteRange(min=5, max=_DAY_S),
    default=120.0,
    show_default=True,
    help="Seconds for all checks.",
)
@shared("json")
def doctor(
    output: Path | str,
    num_workers: int | tuple[int, int] | None,
    use_gpu: bool | None,
    mlflow_uri: str | None,
    timeout: float,
    as_json: bool,
) -> int:
    """Check everything that a study needs on every node of the cluster at RAY_ADDRESS (or on this machine).

    Each check is one line, with a remedy if it failed; the exit code is 1 if any failed. It ends within --timeout.
    """
    from clusters.doctor import examine
    from curriculum_ray.distributed.resources import ResourceSpec

    options = {"num_workers": ("--num-workers", num_workers), "use_gpu": ("--use-gpu", use_gpu)}
    resources = read_settings(ResourceSpec, None, (), options)
    checks = examine(output, resources, mlflow_uri, timeout)
    failed = [check for check in checks if check.state == "failed"]
    if as_json:
        click.echo(json_text({"ok": not failed, "checks": [vars(check) for check in checks]}, indent=1))
    else:
        for check in checks:
            remedy = f" -> {check.remedy}" if check.state == "failed" else ""
            click.echo(f"{_MARKS[check.state]} {check.name:13} {check.found}{remedy}")
        click.echo(f"{len(failed)} of {len(checks)} checks failed" if failed else "all checks passed")
    return 1 if failed else 0


@cli.command(
    short_help="Wait until the cluster has so many nodes.",
    epilog=example("python -m clusters wait --nodes 4 --timeout 300"),
)
@click.option("--nodes", type=click.IntRange(min=1), required=True, help="Nodes to wait for.")
@click.option(
    "--timeout", type=FiniteRange(min=1, max=_DAY_S), default=300.0, show_default=True, help="Seconds."
)
def wait(nodes: int, timeout: float) -> int:
    """Wait until the cluster at RAY_ADDRESS has --nodes nodes; exit code 1 on a timeout."""
    from clusters.nodes import wait_for_nodes

    there = wait_for_nodes(nodes, timeout)
    click.echo(f"{there} of {number_of(nodes, 'node')} up", err=True)
    return 0 if there >= nodes else 1


@cli.command(
    short_help="Run a command on several nodes on this machine.",
    context_settings={"ignore_unknown_options": True},
    epilog=example("python -m clusters local --nodes 2 -- python -m clusters doctor"),
)
@click.option(
    "--nodes", type=click.IntRange(min=1, max=16), default=2, show_default=True, help="Number of nodes."
)
@click.option("--cpus", type=click.IntRange(min=1), default=1, show_default=True, help="CPUs of each.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def local(nodes: int, cpus: int, command: tuple[str, ...]) -> int:
    """Run COMMAND on several Ray nodes on this machine; all of them end with it."""
    from clusters.nodes import run_on_local_nodes

    return run_on_local_nodes(nodes, cpus, list(command))


def main(arguments: list[str] | None = None) -> None:
    """Run the command line. Exit codes: 0 done, 1 a check failed, 2 bad input, 130 interrupted."""
    code: object = 0
    try:
        code = cli.main(args=arguments, prog_name="python -m clusters", standalone_mode=False)
    except click.ClickException as error:
        code = _fail(error.format_message(), 2)
    except ConfigError as error:
        code = _fail(str(error), 2)
    except (KeyboardInterrupt, click.Abort):
        code = _fail("interrupted", 130)
    sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str, code: int) -> int:
    print(f"error: {one_line(without_secrets(message))}", file=sys.stderr)
    return code
