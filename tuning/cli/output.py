"""What commands print: one JSON object instead of text, and the help where no command was named."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import click

__all__ = ["help_without_command", "json_text"]


def json_text(value: Any, indent: int | None = None, ensure_ascii: bool = True) -> str:
    """`value` as JSON (RFC 8259), which has neither NaN nor infinities: they become null."""
    return json.dumps(_finite(value), indent=indent, ensure_ascii=ensure_ascii, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(each) for key, each in value.items()}
    return [_finite(each) for each in value] if isinstance(value, list | tuple) else value


def help_without_command(context: click.Context) -> None:
    """Show a group's help on stderr and end with exit code 2 where no command of it was named."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help(), err=True)
        context.exit(2)
