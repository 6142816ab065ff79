"""The command line: `python -m tune COMMAND`; bad input ends with one clear line and exit code 2."""

from __future__ import annotations

import errno
import importlib
import io
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import click

from curriculum_ray.addresses import without_secrets
from curriculum_ray.config import ConfigError
from curriculum_ray.config.shown import one_line, shown
from curriculum_ray.logs import shown_on_stderr
from curriculum_ray.shell import tune_command
from tuning.cli.output import help_without_command

__all__ = ["cli", "main"]

# Commands by name, with the module of each: a module is imported only when its command is used.
_COMMANDS = {
    "search": "tuning.cli.search",
    "plan": "tuning.cli.plan",
    "best": "tuning.cli.best",
    "status": "tuning.cli.status",
    "claims": "tuning.cli.claims",
    "compare": "tuning.cli.compare",
    "train": "tuning.cli.train",
    "bundle": "tuning.cli.bundle",
    "verify": "tuning.cli.verify",
    "unbundle": "tuning.cli.unbundle",
    "sample": "tuning.cli.sample",
    "evaluate": "tuning.cli.evaluate",
    "reference": "tuning.cli.reference",
    "difficulty": "tuning.cli.difficulty",
    "data": "tuning.cli.data",
    "settings": "tuning.cli.settings",
    "cache-latents": "tuning.cli.cache_latents",
    "ema": "tuning.cli.ema",
    "export": "tuning.cli.export",
    "export-schedule": "tuning.cli.export_schedule",
    "doctor": "clusters.cli",
}

_PROGRAM = "python -m tune"
# Errors of a file system about a path that the user chose.
_REFUSED_PATHS = {
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT),
    *(errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EISDIR),
}


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        return getattr(importlib.import_module(_COMMANDS[cmd_name]), cmd_name.replace("-", "_"))


@click.group(
    cls=_LazyGroup,
    invoke_without_command=True,
    subcommand_metavar="COMMAND [ARGS]...",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(package_name="curriculum-ray")
@click.pass_context
def cli(context: click.Context) -> None:
    """Find out which timesteps to train when, for diffusion models.

    Start with `python -m tune search`, ask with `python -m tune best`, train with `python -m tune train`.
    """
    help_without_command(context)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line. Exit codes: 0 done, 1 a run failed, 2 bad input, 130 interrupted, 143 ended by SIGTERM."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that cannot show a sign shows ? for it
            stream.reconfigure(errors="replace")
    for argument in sys.argv[1:] if arguments is None else arguments:
        if any("\ud800" <= sign <= "\udfff" for sign in argument):
            _fail(f"arguments must be in UTF-8, but got {shown(argument)}", 2)
    try:
        with _plain_warnings(), shown_on_stderr(lambda line: one_line(without_secrets(line))):
            code = cli.main(args=arguments, prog_name=_PROGRAM, standalone_mode=False)
    except click.UsageError as error:
        words = error.ctx.command_path.removeprefix(_PROGRAM).split() if error.ctx else []
        _fail(f"{error.format_message()} (see `{tune_command(*words, '--help')}`)", 2)
    except click.ClickException as error:
        _fail(error.format_message(), 2)
    except ConfigError as error:
        _fail(str(error), 2)
    except OSError as error:
        if (line := _refusal(error)) is None:
            raise
        _fail(line, 2)
    except (KeyboardInterrupt, click.Abort) as error:
        from curriculum_ray.distributed.preemption import Preempted

        # click wraps a KeyboardInterrupt.
        if isinstance(error.__cause__ or error, Preempted):
            _fail("ended by SIGTERM; the same command resumes", 143)
        _fail("interrupted", 130)
    except RuntimeError as error:
        from curriculum_ray.distributed.fit import TrainingFailed

        if not isinstance(error, TrainingFailed):
            raise
        from tuning.terminal.failures import where_to_look

        where = "" if error.folder is None else where_to_look(error.folder)
        _fail(f"{one_line(str(error))}{where}", 1, whole=True)
    _leave(code if isinstance(code, int) else 0)


def _refusal(error: OSError) -> str | None:
    """Why a place that the user chose cannot be used, in one line; None for an error of another kind."""
    from curriculum_ray.buckets.store import BucketError

    if isinstance(error, BucketError):
        return str(error)
    if error.filename is None or error.errno not in _REFUSED_PATHS:
        return None
    return f"{shown(str(error.filename))} cannot be used: {error.strerror}"


@contextmanager
def _plain_warnings() -> Iterator[None]:
    """Show each warning as one line, without its place in the code."""
    usual = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
        if issubclass(category, UserWarning):
            print(f"warning: {one_line(without_secrets(str(message)))}", file=sys.stderr)
        else:
            usual(message, category, *place, **more)

    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = usual


def _fail(message: str, code: int, whole: bool = False) -> NoReturn:
    """End with one line; `whole`: whether it may be longer than lines are."""
    text = without_secrets(message)
    print(f"error: {text if whole else one_line(text)}", file=sys.stderr)
    _leave(code)


def _leave(code: int) -> NoReturn:
    """End the process with this exit code, without shutting down Ray where a slot is still waiting."""
    slots = sys.modules.get("curriculum_ray.distributed.slots")
    if slots is not None and slots.slots_left():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
