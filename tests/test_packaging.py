"""What is installed: the core for anybody's training loop, extras for the rest, and one line where one is missing."""

from __future__ import annotations

import ast
import functools
import re
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml
from packaging.utils import canonicalize_name

from curriculum_ray import __version__
from curriculum_ray.extras import EXTRAS, exit_saying_what_is_missing, install_command
from tests.docs.pages import blocks
from tests.environments import OURS, ROOT, make_environment, names, project

CORE = ("curriculum_ray/curriculum", "curriculum_ray/config", "curriculum_ray/diffusion")
# Declared though no file imports them.
INDIRECT = {
    "cmaes": "Optuna's sampler of that name",
    "scikit-learn": "the digits and photographs that it ships, read as files",
    "torchvision": "torch-fidelity's, built for one release of torch",
}


def _files(*places: str) -> list[Path]:
    paths = (ROOT / place for place in places)
    return sorted(file for path in paths for file in ([path] if path.suffix else path.rglob("*.py")))


@functools.cache
def _third_party(*places: str) -> Mapping[str, Path]:
    """Importable names of others in these files and folders, and a file that has each."""
    found, files = {}, _files(*places)
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                modules = [node.module]
            else:
                continue
            found.update({module.partition(".")[0]: file for module in modules})
    # An example may read the table of a search space with what the benchmarks have for it.
    ours = {*(name.removesuffix(".py") for name in OURS), "tests"}
    ours |= {file.stem for file in (*files, *_files("benchmarks"))}
    return {name: file for name, file in found.items() if name not in {*sys.stdlib_module_names, *ours}}


@functools.cache
def _by_module() -> Mapping[str, list[str]]:
    return packages_distributions()


def _distributions(module: str) -> set[str]:
    return {canonicalize_name(name) for name in _by_module()[module]}


@pytest.mark.parametrize(
    ("places", "extras"),
    [(CORE, ()), (OURS, ("all",)), (("examples",), ("examples",)), (("docs",), ("all", "docs"))],
    ids=["core", "product", "examples", "docs"],
)
def test_whatever_is_imported_is_declared(places: tuple[str, ...], extras: tuple[str, ...]) -> None:
    allowed = names(*extras)
    undeclared = {
        module: str(file.relative_to(ROOT))
        for module, file in _third_party(*places).items()
        if not _distributions(module) & allowed
    }
    assert not undeclared


def _needed_by(file: Path, read: set[Path]) -> set[str]:
    """Importable names of others that the import of a file needs; by way of our own, which are added to `read`."""
    read.add(file)
    found: set[str] = set()
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        for module in modules:
            own = _own_files(module)
            if own:
                found = found.union(*(_needed_by(each, read) for each in own if each not in read))
            elif not _own_files(module.partition(".")[0]):
                found.add(module.partition(".")[0])
    return found - sys.stdlib_module_names


def _own_files(module: str) -> list[Path]:
    """Files of this repository that the import of a module runs; an example may import those of the benchmarks."""
    parts = module.split(".")
    places = [Path(*parts[:count]) for count in range(1, len(parts) + 1)]
    paths = [ROOT / place / "__init__.py" for place in places]
    paths += [folder / f"{places[-1]}.py" for folder in (ROOT, ROOT / "benchmarks")]
    return [path for path in paths if path.is_file()]


@pytest.mark.parametrize("example", sorted((ROOT / "examples").glob("*.py")), ids=lambda path: path.stem)
def test_an_example_needs_what_the_extra_that_it_names_declares(example: Path) -> None:
    """README.md names `examples`, which holds for those whose docstring names no other."""
    described = ast.get_docstring(ast.parse(example.read_text())) or ""
    extras = re.findall(r"pip install '\.\[(\w+)\]'", described) or ["examples"]
    allowed = names(*extras)
    undeclared = [module for module in _needed_by(example, set()) if not _distributions(module) & allowed]
    assert undeclared == []


def test_whatever_an_extra_declares_is_used() -> None:
    used = {name for module in _third_party(*OURS) for name in _distributions(module)}
    assert names("all") - used <= set(INDIRECT)


@pytest.mark.parametrize("extra", EXTRAS)
def test_the_line_that_names_an_extra_names_the_one_that_declares_it(extra: str) -> None:
    for module in EXTRAS[extra]:
        assert _distributions(module) & names(extra), module
        assert install_command(f"{module}.something") == f"pip install 'curriculum-ray[{extra}]'"


def test_every_import_beyond_the_core_has_an_extra_to_name() -> None:
    core = names()
    for module in _third_party(*OURS):
        assert (install_command(module) is None) == bool(_distributions(module) & core), module


def _said(root: Path, missing: str, capsys: pytest.CaptureFixture[str]) -> str:
    words = ["best", "--study", "my study"]
    with pytest.raises(SystemExit) as left, exit_saying_what_is_missing("tune", words, root):
        raise ModuleNotFoundError(name=missing)
    assert left.value.code == 2
    return capsys.readouterr().err


def test_a_clone_without_its_environment_says_what_to_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "Makefile").touch()
    command = ".venv/bin/python -m tune best --study 'my study'"
    missing = "error: this Python has no package torch: type "
    assert _said(tmp_path, "torch.nn", capsys) == f"{missing}make setup && {command}\n"
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch()
    assert _said(tmp_path, "torch.nn", capsys) == f"{missing}{command}\n"
    # Inside the environment, which is older than what the clone needs by now.
    monkeypatch.setattr("sys.executable", str(python))
    assert _said(tmp_path, "torch.nn", capsys) == f"{missing}make setup && {command}\n"


def test_an_installed_program_says_which_extra_brings_a_package(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _said(tmp_path, "optuna", capsys).endswith(": type pip install 'curriculum-ray[search]'\n")
    assert _said(tmp_path, "yaml", capsys).endswith(": type pip install --force-reinstall curriculum-ray\n")


def test_a_module_of_our_own_that_is_missing_is_an_error_of_ours(tmp_path: Path) -> None:
    with pytest.raises(ModuleNotFoundError), exit_saying_what_is_missing("tune", [], tmp_path):
        raise ModuleNotFoundError(name="tuning.nowhere")


def _run(python: Path, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [python, "-I", *arguments], cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.fixture(scope="module")
def core_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_environment(tmp_path_factory.mktemp("core"))


def test_the_readmes_loop_runs_where_only_the_core_is_installed(core_python: Path, tmp_path: Path) -> None:
    (loop,) = (block for block in blocks(ROOT / "README.md") if block.language == "python")
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    absent = [
        "ray",
        "optuna",
        "mlflow",
        "scipy",
        "sklearn",
        "matplotlib",
        "safetensors",
        "PIL",
        "click",
        "rich",
    ]
    proof = f"import importlib.util as util\nassert not [name for name in {absent} if util.find_spec(name)]"
    done = _run(core_python, "-c", "\n".join([proof, loop.before, loop.text]), folder=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("module", ["tune", "clusters"])
def test_the_command_line_without_its_extra_is_refused_in_one_line(
    core_python: Path, tmp_path: Path, module: str
) -> None:
    done = _run(core_python, "-m", module, "--help", folder=tmp_path)
    assert done.returncode == 2
    assert done.stderr == (
        "error: this Python has no package click: type pip install 'curriculum-ray[train]'\n"
    )


@pytest.mark.slow
def test_training_needs_no_package_of_the_search(tmp_path: Path) -> None:
    python = make_environment(tmp_path / "train", "train")
    settings = ["--images", "1280", "--name", "first", "--set", "evaluation.num_samples=64"]
    done = _run(python, "-m", "tune", "train", *settings, folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    searched = _run(python, "-m", "tune", "search", folder=tmp_path)
    assert (searched.returncode, searched.stderr) == (
        2,
        "error: this Python has no package optuna: type pip install 'curriculum-ray[search]'\n",
    )


def test_the_citation_names_this_version_and_the_paper() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0"
    assert citation["version"] == project()["version"] == __version__
    (paper,) = citation["references"]
    assert {"type": "other", "value": "arXiv:2403.10348"} in paper["identifiers"]
    assert [author["family-names"] for author in paper["authors"]] == ["Kim", "Go", "Kwon", "Kim"]


def test_the_pinned_versions_carry_hashes_and_no_address() -> None:
    text = (ROOT / "constraints.txt").read_text()
    assert "://" not in text
    assert "--index-url" not in text
    for block in text.split("\n\n")[0].replace(" \\\n", " ").splitlines():
        assert "--hash=sha256:" in block, block.split()[0]
