"""MkDocs hook: pages of the site that are made from the code and from the files at the top of the repository."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

from api import api_page  # noqa: E402
from commands import commands_page  # noqa: E402
from settings import settings_pages  # noqa: E402
from tracking import tags_table  # noqa: E402

_TOP_PAGES = ("CHANGELOG", "CONTRIBUTING", "SECURITY")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages, and those files of the repository's top that are pages too."""
    pages = {
        "reference/commands.md": commands_page(),
        "reference/api.md": api_page(),
        **settings_pages(),
        **{f"{name.lower()}.md": top_page(name) for name in _TOP_PAGES},
    }
    for path, text in pages.items():
        files.append(File.generated(config, path, content=text))
    return files


def top_page(name: str) -> str:
    """A page that stands at the top of the repository."""
    return (ROOT / f"{name}.md").read_text()


def on_page_markdown(markdown: str, **_: object) -> str:
    """Fill in the table of tags, leave out the comments that tell the tests how a block is run, and turn links to pages
    of the repository's top, which is above the folder of the others, into links within the site.
    """
    markdown = markdown.replace("<!-- generated: tags -->", tags_table())
    markdown = re.sub(
        rf"\(((?:\.\./)*)\.\./({'|'.join(_TOP_PAGES)})\.md",
        lambda link: f"({link[1]}{link[2].lower()}.md",
        markdown,
    )
    return re.sub(r"^ *<!-- test: .*?-->\n", "", markdown, flags=re.MULTILINE | re.DOTALL)
