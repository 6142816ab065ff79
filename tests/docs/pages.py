"""The fenced blocks of README and docs, and what a comment above one says of how a test runs it.

<!-- test: skip: it needs a cluster -->          not run; its commands are still parsed
<!-- test: with: --trials 2 --images 2560 -->    arguments put behind each of the block's `tune` commands
<!-- test: before: images = [...] -->            lines of Python that run before the block
"""

from __future__ import annotations

import re
import shlex
import textwrap
from dataclasses import dataclass
from pathlib import Path

__all__ = ["ROOT", "Block", "blocks", "commands", "own_commands"]

ROOT = Path(__file__).parents[2]

_OWN = ("tune", "clusters")
_BLOCK = re.compile(
    r"(?:^[ ]*<!-- test: (?P<key>\w+):(?P<value>.*?)-->\s*?\n\s*?)?"
    r"^(?P<indent>[ ]*)```(?P<language>\w*)[^\n]*\n(?P<text>.*?)^[ ]*```[ ]*$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True, kw_only=True)
class Block:
    """A fenced block: where it stands, what it holds, and what the comment above it asks for."""

    page: Path
    line: int
    language: str
    text: str
    skip: str = ""
    arguments: str = ""
    before: str = ""
    slow: str = ""

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> list[Block]:
    """All fenced blocks of a page, in its order."""
    text, found = page.read_text(), []
    for match in _BLOCK.finditer(text):
        key, value = match["key"], textwrap.dedent(match["value"] or "").strip()
        assert key in (None, "skip", "with", "before", "slow"), f"{page}: no test knows {key}"
        assert key is None or value, f"{page}: {key} says nothing"
        found.append(
            Block(
                page=page,
                line=text.count("\n", 0, match.start("language")) + 1,
                language=match["language"],
                text=textwrap.dedent(match["text"]),
                **{{"with": "arguments"}.get(key, key): value} if key else {},
            )
        )
    assert len(found) * 2 == len(re.findall(r"^[ ]*```", text, re.MULTILINE)), (
        f"{page}: a fence is not closed"
    )
    return found


def commands(block: Block) -> list[list[str]]:
    """The words of each command line of a block, without comments and without variables set before them."""
    lines = block.text.replace("\\\n", " ").splitlines()
    words = [shlex.split(line, comments=True) for line in lines]
    return [_bare(line) for line in words if _bare(line)]


def _bare(words: list[str]) -> list[str]:
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words = words[1:]
    return words


def own_commands(block: Block) -> list[tuple[str, list[str]]]:
    """(`tune` or `clusters`, its arguments) for each such command of a block, within quotes and behind others too."""
    found = []
    waiting = commands(block)
    while waiting:
        words = waiting.pop(0)
        waiting += [shlex.split(word) for word in words if re.search(" -m (tune|clusters) ", word)]
        mark = next((at for at in range(1, len(words)) if words[at - 1] == "-m" and words[at] in _OWN), None)
        if mark is None:
            continue
        found.append((words[mark], words[mark + 1 :]))
        waiting.append(words[mark + 1 :])
    return found
