"""The site builds without a warning, loads nothing from elsewhere, and its reference holds what the code declares."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from mkdocs.commands.build import build
from mkdocs.config import load_config

from clusters.cli import cli as clusters
from curriculum_ray import curriculum
from tests.docs.pages import ROOT
from tuning.cli import cli as tune
from tuning.study.config import StudyConfig
from tuning.tracking.fields import TAG_PREFIX, TAGS

# What a browser fetches by itself.
_FETCHED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href", "video": "src"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_MKDOCS_2_WARNING", "1")
        patch.chdir(ROOT)
        config = load_config(str(ROOT / "mkdocs.yml"), strict=True, site_dir=str(folder))
        config.plugins.on_startup(command="build", dirty=False)
        build(config)
    return folder


class _Fetched(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "link" and values.get("rel") in ("canonical", "prev", "next"):
            return
        self.addresses.append(values.get(_FETCHED.get(tag, "")) or "")


def _text(site: Path, page: str) -> str:
    return (site / page).read_text()


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        parser = _Fetched()
        parser.feed(page.read_text())
        assert not [address for address in parser.addresses if "//" in address], page
    for style in site.rglob("*.css"):
        assert not re.search(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//", style.read_text()), style


def test_the_reference_has_every_command_and_option(site: Path) -> None:
    text = _text(site, "reference/commands.html")
    for program, group in (("tune", tune), ("clusters", clusters)):
        for name, command in {
            name: group.get_command(None, name) for name in group.list_commands(None)
        }.items():
            assert f'id="{program}-{name}"' in text
            for param in command.params:
                assert max(param.opts, key=len) in text or param.param_type_name == "argument", (
                    name,
                    param.opts,
                )


def test_the_reference_has_every_setting_of_a_study(site: Path) -> None:
    text = "".join(page.read_text() for page in (site / "reference" / "settings").glob("*.html"))

    def look(settings: dict[str, object], path: str) -> None:
        for key, value in settings.items():
            assert f"<code>{key}</code>" in text, f"{path}{key}"
            if isinstance(value, dict) and key not in ("rivals", "config"):
                look(value, f"{path}{key}.")

    look(StudyConfig().model_dump(mode="json"), "")
    assert "patience_stage_share" in text, "a key of one of several models"


def test_the_reference_has_the_public_names_and_the_tags(site: Path) -> None:
    api, mlflow = _text(site, "reference/api.html"), _text(site, "reference/mlflow.html")
    undocumented = {name for name in curriculum.__all__ if not re.search(rf"\b{name}\b", api)}
    assert not undocumented
    assert all(f"<code>{TAG_PREFIX}{name}</code>" in mlflow for name in TAGS)


def test_what_is_written_for_the_tests_is_not_shown(site: Path) -> None:
    assert not [page for page in site.rglob("*.html") if "test: skip" in page.read_text()]


def test_the_search_finds_words_of_the_pages(site: Path) -> None:
    index = json.loads(_text(site, "search/search_index.json"))
    assert any("u-space" in entry["text"] for entry in index["docs"])
