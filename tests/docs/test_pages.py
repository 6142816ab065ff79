"""What README and docs tell people to type: every Python block runs, every command is one, and the quick ones run."""

from __future__ import annotations

import contextlib
import fnmatch
import re
import shlex
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from PIL import Image

from clusters.cli import cli as clusters
from curriculum_ray.config import parse
from curriculum_ray.curriculum import CurriculumSchedule
from tests.docs.pages import ROOT, Block, blocks, commands, own_commands
from tests.test_imports import LAYERS
from tuning.claims.claim import Claim
from tuning.cli import cli as tune
from tuning.cli import main
from tuning.study.config import StudyConfig
from tuning.study.space import SearchSpace

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
GROUPS = {"tune": tune, "clusters": clusters}


def _blocks(language: str) -> list[Block]:
    return [block for page in PAGES for block in blocks(page) if block.language == language]


def _name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def _with(language: str) -> list[Path]:
    return [page for page in PAGES if any(block.language == language for block in blocks(page))]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a reader stands who types the commands of all pages."""
    return _furnished(tmp_path_factory.mktemp("reader"))


def _furnished(folder: Path) -> Path:
    """The repository, with a folder of images and room for results."""
    (folder / "examples").symlink_to(ROOT / "examples")
    (folder / "small.yaml").symlink_to(ROOT / "tests/tuning/small_space.yaml")
    for kind in ("cats", "dogs"):
        (folder / "my-images" / kind).mkdir(parents=True)
        for number in range(40):
            image = Image.new("RGB", (8, 8), (6 * number, 200 if kind == "cats" else 50, 100))
            image.save(folder / "my-images" / kind / f"{number}.png")
    return folder


@pytest.fixture
def reader(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, as the working directory, with nobody's cluster or store in the environment."""
    enter(workplace, monkeypatch)
    return workplace


def enter(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Work in `folder`, with nobody's cluster or store."""
    patch.chdir(folder)
    for name in ("RAY_ADDRESS", "MLFLOW_TRACKING_URI"):
        patch.delenv(name, raising=False)


def run(arguments: list[str]) -> None:
    """A `tune` command, in this process; anything but exit code 0 fails."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 0, f"python -m tune {' '.join(arguments)} ended with {ended.value.code}"


@pytest.mark.parametrize("page", _with("python"), ids=_name)
def test_the_python_blocks_of_a_page_run_one_after_another(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    enter(_furnished(tmp_path), monkeypatch)
    names: dict[str, Any] = {"__name__": "page"}
    for block in blocks(page):
        if block.language == "python" and not block.skip and not block.slow:
            execute(block, names)


def execute(block: Block, names: dict[str, Any]) -> None:
    """Run a block of Python, and what comes before it, with the names of the page's earlier ones."""
    for source in (block.before, block.text):
        exec(compile(source, str(block), "exec"), names)


@pytest.mark.parametrize("block", _blocks("bash"), ids=str)
def test_each_command_of_a_block_exists_and_has_the_options_that_are_given(block: Block) -> None:
    assert commands(block)
    for group, arguments in own_commands(block):
        context = click.Context(GROUPS[group], info_name=f"python -m {group}")
        command = GROUPS[group].get_command(context, arguments[0])
        assert command is not None, f"{block}: python -m {group} has no {arguments[0]}"
        given = [*arguments[1:], *shlex.split(block.arguments)]
        command.make_context(arguments[0], given, parent=context).close()
    for target in re.findall(r"^make ([\w-]+)", block.text, re.MULTILINE):
        assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE), target


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_a_target_of_make_that_a_page_names_exists(page: Path) -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`make ([\w-]+)`", page.read_text())) <= targets


@pytest.mark.parametrize("block", _blocks("yaml"), ids=str)
def test_settings_that_a_page_shows_are_accepted(block: Block) -> None:
    settings = yaml.safe_load(block.text)
    if "search" in settings:
        parse(SearchSpace, settings, str(block))
    elif "says" in settings:
        parse(Claim, {"name": "page", **settings}, str(block))
    elif "clusters" in settings:
        CurriculumSchedule.from_dict(settings)
    else:
        parse(StudyConfig, settings, str(block))


@pytest.fixture(scope="module")
def trained(workplace: Path, own_ray: None) -> None:
    """A run `first` and a study, which most pages take as given."""
    with pytest.MonkeyPatch.context() as patch:
        enter(workplace, patch)
        for page, program in (("howto/train.md", "train"), ("index.md", "search")):
            run(next(words for words in _tune_commands(ROOT / "docs" / page) if words[0] == program))


def _tune_commands(page: Path) -> list[list[str]]:
    return [words for block in blocks(page) if not block.skip for words in _whole(block)]


def _whole(block: Block) -> list[list[str]]:
    """The `tune` commands of a block with the arguments that make them small."""
    extra = shlex.split(block.arguments)
    return [[*words, *extra] for group, words in own_commands(block) if group == "tune"]


def test_the_data_of_the_reader_are_described(reader: Path) -> None:
    (words,) = [words for words in _tune_commands(ROOT / "docs/howto/own-data.md") if words[0] == "data"]
    run(words)
    assert (reader / "runs").is_dir()


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if _tune_commands(page)], ids=_name)
def test_the_commands_of_a_page_run_one_after_another(page: Path, trained: None, reader: Path) -> None:
    names: dict[str, Any] = {"__name__": "page"}
    for block in blocks(page):
        if block.language == "bash" and not block.skip:
            for words in _whole(block):
                run(words)
        elif block.slow:
            execute(block, names)


def _described(section: str) -> list[str]:
    """Patterns of the files that a section of the page about files names."""
    text = (ROOT / "docs/reference/files.md").read_text()
    rows = text.split(f"\n## {section}\n")[1].split("\n## ")[0].splitlines()
    cells = [row.split("|")[1] for row in rows if row.startswith("| `")]
    return [
        re.sub("[A-Z]{2,}|(?<=slot-)N", "*", name) for cell in cells for name in re.findall("`(.*?)`", cell)
    ]


def _undescribed(folder: Path, section: str) -> set[str]:
    """What lies in `folder` that no pattern matches; a pattern with a slash at its end stands for what is in it."""
    patterns = [f"{pattern}*" if pattern.endswith("/") else pattern for pattern in _described(section)]
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    return {name for name in names if not any(fnmatch.fnmatch(name, pattern) for pattern in patterns)}


@pytest.mark.slow
def test_the_page_about_files_names_all_that_commands_leave(trained: None, reader: Path) -> None:
    (study,) = [path.parent for path in (reader / "runs").glob("*/study.json")]
    assert not _undescribed(reader / "runs" / "first", "A run")
    assert not _undescribed(study, "A study")
    trials = [path.parent for path in study.glob("trials/*/record.json")]
    assert trials
    assert not {name for path in trials for name in _undescribed(path, "A run")} - {"record.json"}
    assert not _undescribed(reader / "runs", "The output folder")


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_a_file_of_the_project_that_a_page_names_exists(page: Path) -> None:
    named = re.findall(
        r"`((?:curriculum_ray|tuning|tests|benchmarks|examples|clusters|docs)/[^`\s]*)`", page.read_text()
    )
    assert not [path for path in named if not list(ROOT.glob(path.rstrip("/")))]


def test_the_page_about_design_lists_every_layer() -> None:
    text = (ROOT / "docs/design.md").read_text()
    layers = [layer for layer in LAYERS if (ROOT / layer.replace(".", "/")).is_dir()]
    assert not [layer for layer in layers if f"`{layer}`" not in text]


def test_the_readme_is_a_door_and_not_the_house() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "clusters/README.md"])
def test_links_of_pages_outside_the_site_lead_somewhere(name: str) -> None:
    page = ROOT / name
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
        with contextlib.suppress(ValueError):
            assert (page.parent / target).exists(), target
