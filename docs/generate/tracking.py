"""The table of tags that runs have in MLflow, from the code that writes them."""

from __future__ import annotations

from commands import cell

from tuning.tracking.fields import TAG_PREFIX, TAGS

__all__ = ["tags_table"]


def tags_table() -> str:
    """Each tag and what it holds."""
    rows = [f"| `{TAG_PREFIX}{name}` | {cell(text)} |" for name, text in TAGS.items()]
    return "\n".join(["| tag | holds |", "|---|---|", *rows])
