"""The table of what happened when, and what it cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Facts = Mapping[str, Mapping[str, Any]]
_HEAD = ("at", "what", "trial", "images lost", "seconds", "")


def table(facts: Facts) -> str:
    """The events of all stages that have ended, a line each, and the answer."""
    rows = [_HEAD, *(row for name, found in facts.items() for row in _rows(name, found))]
    widths = [max(len(row[place]) for row in rows) for place in range(len(_HEAD))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    if "search" in facts:
        lines += ["", f"answer       {facts['search']['found']['answer']}"]
    if "undisturbed" in facts:
        lines.append(f"undisturbed  {facts['undisturbed']['answer']}")
    return "\n".join(lines)


def _rows(stage: str, found: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """The rows of a stage: its events, or one for all of it."""
    if stage == "search":
        for event in found["events"]:
            fault = bool(event["trial"])
            yield (
                f"{event['at']:.0f} s",
                event["what"],
                event["trial"],
                f"{event['lost']}" if fault else "",
                f"{event['seconds']:.1f} until it trained again" if "seconds" in event else "",
                f"{event['meanwhile']} images trained meanwhile" if "meanwhile" in event else "",
            )
        return
    words = {
        "data": lambda: f"{found['images']} images in the bucket",
        "reference": lambda: f"reference of {found['count']} images by three workers",
        "latents": lambda: "their latents, by three workers, in the bucket",
        "undisturbed": lambda: (
            f"the same study undisturbed: {found['trials']} trials, {found['weights']} weights"
        ),
        "best": lambda: f"best, by a user who may only read: {found['found']['verdict']}",
        "train": lambda: "train with 1-2 workers",
        "export": lambda: f"export, loaded by diffusers: samples of {found['samples']}",
    }
    yield ("", words[stage](), "", "", f"{found['seconds']:.1f}", "")
