"""The reference of the command line: each command's help, from click."""

from __future__ import annotations

import inspect

import click

from clusters.cli import cli as clusters
from tuning.cli import cli as tune

__all__ = ["commands_page"]

_HEAD = """# Commands

Options mean the same wherever they appear. Bad input ends with one line and exit code 2; exit code 1 is a run that
failed, 130 an interruption by Ctrl-C, 143 an end by SIGTERM. With `RAY_ADDRESS` set, everything runs on that cluster.
Settings come from a file (`--config`), over which `--set key.path=value` and named options are laid; of these, one that
would overwrite another is refused, but of a key that `--set` gives twice the later value holds. In `search` and `plan`,
`--set` takes the keys of a run with or without `run.`.
"""


def commands_page() -> str:
    """Every command of `python -m tune` and `python -m clusters`, with its options."""
    parts = [_HEAD]
    for program, group in (("python -m tune", tune), ("python -m clusters", clusters)):
        parts.append(f"## {program}\n\n{_prose(group.help or '')}\n")
        context = click.Context(group, info_name=program)
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            assert command is not None, name
            parts.append(_command(name, program, command, context))
    return "\n".join(parts)


def _command(name: str, program: str, command: click.Command, parent: click.Context) -> str:
    context = click.Context(command, info_name=name, parent=parent)
    usage = " ".join([program, name, *command.collect_usage_pieces(context)])
    records = [param.get_help_record(context) for param in command.get_params(context)]
    rows = [f"| `{cell(option)}` | {cell(text)} |" for option, text in filter(None, records)]
    example = inspect.cleandoc(command.epilog or "").replace("\b\n", "").removeprefix("Example:")
    parts = [
        f"### {name} {{ #{program.rpartition(' ')[2]}-{name} }}",
        _prose(command.help or ""),
        f"```text\n{usage}\n```",
        "\n".join(["| option | meaning |", "|---|---|", *rows]),
        f"```bash\n{inspect.cleandoc(example).strip()}\n```" if example else "",
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def _prose(text: str) -> str:
    return inspect.cleandoc(text).replace("\b", "")


def cell(text: str) -> str:
    """Text for one cell of a table."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
