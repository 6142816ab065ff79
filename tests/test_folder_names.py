"""What lies in a run's or a study's folder is named in two files, and nowhere else in the product."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest

from curriculum_ray.runs import folder
from tuning.folder import layout

ROOT = Path(__file__).parent.parent
NAMED_IN = {Path(module.__file__ or "") for module in (folder, layout)}
NAMES = {getattr(module, name) for module in (folder, layout) for name in module.__all__}
FILES = {name for name in NAMES if "." in name}
FOLDERS = NAMES - FILES - {layout.SLOT_PREFIX}


def _files() -> list[Path]:
    found = [ROOT / "tune.py"]
    for package in ("curriculum_ray", "tuning", "clusters"):
        found += (ROOT / package).rglob("*.py")
    return sorted(set(found) - NAMED_IN)


def _texts(node: ast.AST) -> Iterator[str]:
    """The literals of an expression, those within an f-string too."""
    for part in ast.walk(node):
        if isinstance(part, ast.Constant) and isinstance(part.value, str):
            yield part.value


def _called(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def repeated(source: str) -> set[str]:
    """The names that stand in `source` as literals: files anywhere but in prose, folders where a path is built."""
    if not any(name in source for name in NAMES):
        return set()
    tree = ast.parse(source)
    prose = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if id(node) not in prose and not any(map(str.isspace, node.value)):
                found |= FILES & set(PurePosixPath(node.value).parts)
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            found |= FOLDERS & {part for text in _texts(node.right) for part in PurePosixPath(text).parts}
        elif isinstance(node, ast.Call) and _called(node.func) in ("glob", "rglob", "joinpath"):
            texts = (text for argument in node.args for text in _texts(argument))
            found |= FOLDERS & {part for text in texts for part in PurePosixPath(text).parts}
    return found


@pytest.mark.parametrize("path", _files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_name_stands_in_one_place(path: Path) -> None:
    assert not repeated(path.read_text()), f"take it from {folder.__name__} or {layout.__name__}"


@pytest.mark.parametrize(
    "source",
    ['x / "config.yaml"', 'x / f"trials/{key}"', 'x.glob("*/slots/slot-*")', '("a", "report.html")'],
)
def test_a_literal_is_found(source: str) -> None:
    assert repeated(source)


@pytest.mark.parametrize(
    "source", ['"""config.yaml"""', '{"trials": 3}', 'raise E(f"{x} has no config.yaml")']
)
def test_prose_and_settings_are_none(source: str) -> None:
    assert not repeated(source)
