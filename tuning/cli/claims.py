"""`python -m tune claims`: put published claims about timesteps to the test, and show what was seen."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from curriculum_ray.config import ConfigError
from tuning.cli.options import example, shared, writable_folder
from tuning.cli.output import json_text
from tuning.cli.parameters import PathOption

if TYPE_CHECKING:
    from tuning.claims.results import ClaimsTable

__all__ = ["claims"]


@click.command(
    short_help="Put published claims about timesteps to the test.",
    epilog=example(
        "python -m tune claims --list\npython -m tune claims min_snr laplace\n"
        "python -m tune claims p2 --confirm-seeds 3-20"
    ),
)
@click.argument("names", nargs=-1, metavar="[NAME…]")
@click.option("--list", "only_list", is_flag=True, help="Show the claims and what was seen, and run nothing.")
@click.option(
    "--from",
    "source",
    type=PathOption(),
    default=Path("examples/claims"),
    show_default=True,
    help="Folder of the claims, a YAML file each; NAME may also be the path of one.",
)
@shared("output")
@click.option(
    "--write",
    "target",
    type=PathOption(),
    help="Folder for the table, claims.json and claims.md; by default that of --output.",
)
@click.option("--concurrent", type=click.IntRange(min=1), help="Trials at a time; by default what fits.")
@shared("confirm_seeds", "use_gpu", "mlflow_uri", "trust_code", "log_level", "json")
def claims(
    names: tuple[str, ...],
    only_list: bool,
    source: Path,
    output: Path,
    target: Path | None,
    concurrent: int | None,
    confirm_seeds: int | tuple[int, int] | None,
    use_gpu: bool | None,
    mlflow_uri: str | None,
    trust_code: bool,
    as_json: bool,
) -> int:
    """Test published claims about timesteps, each by a study of its own: all of them, or those of these names.

    The arm of a claim, its reverse or a control, a rival and uniform sampling are trained on the same fresh seeds, seed
    by seed, until every answer stands or the most seeds are run. The same command run again goes on where it was
    interrupted. The table of all claims of the folder is written after each of them. The exit code is 1 if a study has
    no finished run.
    """
    from rich.text import Text

    from curriculum_ray.distributed.resources import ResourceSpec
    from tuning.claims.claim import claim_files, load_claims
    from tuning.claims.files import check_writable, read_table
    from tuning.claims.shown import ShownClaims, described
    from tuning.search.launch import run_study
    from tuning.terminal.text import make_console
    from tuning.tracking.leftovers import store_leftovers

    if only_list:
        given = {
            "confirm-seeds": confirm_seeds,
            "concurrent": concurrent,
            "use-gpu": use_gpu,
            "mlflow-uri": mlflow_uri,
        }
        for option, value in given.items():
            if value is not None:
                raise ConfigError(f"--{option} is for running studies, but --list runs none")
    console = make_console(stderr=as_json, width=None if sys.stdout.isatty() else 160)
    chosen = load_claims(names, source, trust_code)
    every = load_claims([], source, trust_code) if claim_files(source) else []
    every += [claim for claim in chosen if claim.name not in {each.name for each in every}]
    folder = output if only_list else writable_folder(output)
    place = folder if target is None else writable_folder(target)
    check_writable(place)
    resources = ResourceSpec(use_gpu=bool(use_gpu))
    studies = {} if only_list else {each.name: each.study(confirm_seeds, resources) for each in chosen}
    if not only_list:
        store_leftovers(folder, mlflow_uri, lambda line: click.echo(line, err=True))
    fruitless = False
    for claim in [] if only_list else chosen:
        console.print(f"\n{claim.name}: {claim.asks}", soft_wrap=True)
        outcome = run_study(
            studies[claim.name], folder, claim.study_name, mlflow_uri, concurrent, console, trust_code
        )
        fruitless |= not outcome.finished
        for problem in outcome.problems:
            console.print(Text(f"MLflow: {problem}", "yellow"), soft_wrap=True)
        _write(read_table(every, folder, place), place)
    table = read_table(every, folder, place, lambda line: click.echo(line, err=True))
    if not only_list or target is not None:
        _write(table, place)
    code = 1 if fruitless else 0
    if as_json:
        click.echo(json_text(table.to_json(), indent=1))
        return code
    if only_list:
        for line in described(chosen):
            console.print(line, soft_wrap=True)
    console.print(ShownClaims(table))
    if not only_list:
        console.print(f"the table: {place / 'claims.md'} and claims.json", soft_wrap=True)
    return code


def _write(table: ClaimsTable, folder: Path) -> None:
    """Write the table, and say where an edited page was kept."""
    from tuning.claims.files import write_table

    kept = write_table(table, folder)
    if kept is not None:
        click.echo(f"an edited page was kept as {kept}", err=True)
