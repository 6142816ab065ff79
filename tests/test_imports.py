"""Data flows one way: imports go only upwards in the list of layers, and heavy packages stay at the edges."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAYERS = [
    "curriculum_ray.words",
    "curriculum_ray.addresses",
    "curriculum_ray.shell",
    "curriculum_ray.logs",
    "curriculum_ray.extras",
    "curriculum_ray.config",
    "curriculum_ray.files",
    "curriculum_ray.buckets",
    "curriculum_ray.own_files",
    "curriculum_ray.splitmix",
    "curriculum_ray.data",
    "curriculum_ray.diffusion",
    "curriculum_ray.curriculum",
    "curriculum_ray.models",
    "curriculum_ray.training",
    "curriculum_ray.evaluation",
    "curriculum_ray.export",
    "curriculum_ray.runs",
    "curriculum_ray.distributed",
    "tuning.folder",
    "tuning.evidence",
    "tuning.figures",
    "tuning.tracking",
    "tuning.terminal",
    "tuning.study",
    "tuning.report",
    "tuning.search",
    "tuning.claims",
    "tuning.difficulty",
    "tuning.bundle",
    "tuning.cli",
    "clusters",
]
# Usable alone in anybody's training loop: torch, the settings, and how noise levels are numbered.
ALONE = {
    "curriculum_ray.curriculum": {
        "curriculum_ray.config",
        "curriculum_ray.config.plain_yaml",
        "curriculum_ray.diffusion.levels",
        "curriculum_ray.splitmix",
        "curriculum_ray.words",
    }
}


def _files() -> list[Path]:
    return sorted(
        path
        for package in ("curriculum_ray", "tuning", "clusters")
        for path in (ROOT / package).rglob("*.py")
    )


def _module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def _layer(module: str) -> int | None:
    found = [index for index, layer in enumerate(LAYERS) if module == layer or module.startswith(f"{layer}.")]
    return found[-1] if found else None


def _imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: imports are absolute"
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


@pytest.mark.parametrize("path", _files(), ids=_module)
def test_imports_go_only_upwards(path: Path) -> None:
    own = _layer(_module(path))
    if own is None:
        return
    below = {name for name in _imports(path) if (layer := _layer(name)) is not None and layer > own}
    assert not below, f"{_module(path)} imports from a layer below it"


@pytest.mark.parametrize("layer", ALONE)
def test_the_curriculum_can_be_used_alone(layer: str) -> None:
    allowed = {*ALONE[layer], layer}
    for path in (ROOT / layer.replace(".", "/")).rglob("*.py"):
        ours = {name for name in _imports(path) if name.startswith(("curriculum_ray.", "tuning"))}
        strange = {
            name for name in ours if not any(name == ok or name.startswith(f"{ok}.") for ok in allowed)
        }
        assert not strange, f"{_module(path)} needs more than {allowed}"


def test_only_the_distributed_layer_imports_ray_train() -> None:
    for path in _files():
        users = {name for name in _imports(path) if name == "ray.train" or name.startswith("ray.train.")}
        assert not users or _module(path).startswith("curriculum_ray.distributed"), _module(path)


def test_only_one_package_imports_ray_tune() -> None:
    for path in _files():
        users = {name for name in _imports(path) if name == "ray.tune" or name.startswith("ray.tune.")}
        assert not users or _module(path).startswith("tuning.search.ray_tune."), _module(path)


def _private(path: Path) -> set[str]:
    """Names with an underscore that a file takes from somewhere else than the class or module in which they stand."""
    tree = ast.parse(path.read_text())
    own: set[ast.Attribute] = set()
    for part in (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)):
        of_self = [
            node
            for node in ast.walk(part)
            if isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id == "self"
        ]
        made = {node.attr for node in of_self if isinstance(node.ctx, ast.Store)}
        made |= {node.name for node in part.body if isinstance(node, ast.FunctionDef)}
        made |= {
            node.target.id
            for node in part.body
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
        }
        own |= {node for node in of_self if node.attr in made}
    taken = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node not in own}
    taken |= {part for name in _imports(path) for part in name.split(".")} - {"__future__"}
    return {name for name in taken if name.startswith("_") and not name.startswith("__")}


@pytest.mark.parametrize("path", sorted((ROOT / "tuning" / "search").rglob("*.py")), ids=_module)
def test_a_search_stands_on_what_optuna_and_ray_make_public(path: Path) -> None:
    assert not _private(path)


def test_importing_the_library_imports_nothing_heavier_than_torch() -> None:
    heavy = "ray mlflow optuna torchvision torch_fidelity sklearn matplotlib diffusers rich click"
    code = (
        "import sys, curriculum_ray, curriculum_ray.curriculum; "
        f"print([name for name in '{heavy}'.split() if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"


def test_what_passes_jobs_on_and_shows_studies_imports_no_torch() -> None:
    """A board and each trial's actor are processes of their own, and a display is to be there at once."""
    light = (
        "curriculum_ray.distributed.board curriculum_ray.distributed.backend tuning.search.ray_tune.board_trial "
        "tuning.study.pruning tuning.terminal.display tuning.folder.bucket_lease"
    )
    code = f"import sys, {', '.join(light.split())}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "False"
