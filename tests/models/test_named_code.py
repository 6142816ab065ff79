"""Protects: no file from elsewhere makes a command import or call code, unless the user allows it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from curriculum_ray.config import ConfigError
from curriculum_ray.evaluation.trained import load_trained
from curriculum_ray.models import TRUST_OPTION, check_named_code, code_named
from curriculum_ray.training import checkpoint as checkpoints
from curriculum_ray.training.config import TrainConfig
from tuning.cli import main
from tuning.search.preflight import check_code_of
from tuning.study.config import StudyConfig
from tuning.study.space import SearchSpace

EVIL = "import pathlib\npathlib.Path(__file__).with_name('ran').touch()\n"
NETWORK = """
import torch

class Net(torch.nn.Module):
    def __init__(self, shape, conditioning):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.zeros(()))

    def forward(self, x, noise_cond, condition):
        return x * self.scale

def make(**given):
    raise SystemExit("called")
"""


@pytest.mark.parametrize(
    "settings",
    [
        {"model": "python:evil.Net"},
        {"model": {"kind": "python", "path": "evil.Net"}},
        {"run": {"model": {"kind": "python", "path": "evil.Net", "config": {"path": "other.Thing"}}}},
        {"rivals": {"mine": {"model.kind": "python", "model.path": "evil.Net"}}},
        {"rivals": {"mine": {"run.model": "python:evil.Net"}}},
        {"search": {"model": {"type": "categorical", "choices": ["unet", "python:evil.Net"]}}},
        {"search": {"model.path": {"type": "categorical", "choices": ["evil.Net"]}}},
        {"start": [{"model.path": "evil.Net"}]},
        {"probe": {"model": {"kind": "python", "path": "evil.Net"}}},
    ],
)
def test_code_is_found_wherever_a_file_names_it(settings: dict[str, Any]) -> None:
    assert code_named(settings) == {"evil.Net"}
    with pytest.raises(ConfigError, match=rf"a\.yaml names code.* evil\.Net: add {TRUST_OPTION}") as error:
        check_named_code(settings, "a.yaml", trusted=False)
    assert "\n" not in str(error.value)
    check_named_code(settings, "a.yaml", trusted=True)
    check_named_code(settings, "a.yaml", trusted=False, allowed={"evil.Net"})


@pytest.mark.parametrize(
    "settings",
    [{}, {"model": "unet"}, {"model": {"kind": "dit", "size": "S/2"}}, {"data": {"path": "/home/me"}}],
)
def test_ordinary_settings_name_no_code(settings: dict[str, Any]) -> None:
    assert code_named(settings) == set()


def _checkpoint(folder: Path, path: str) -> Path:
    config = TrainConfig().model_dump(mode="json")
    config["model"] = {"kind": "python", "path": path}
    state = {
        "config": config,
        "shape": [1, 8, 8],
        "conditioning": {"kind": "none", "size": 0, "length": 0},
        "images": 1,
        "loss": 0.0,
    }
    content = checkpoints.Checkpoint(tensors={"ema": {"scale": torch.ones(())}}, state=state)
    return checkpoints.write(folder / "checkpoint-run-000000000001", content)


def _line(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    assert ended.value.code == 2
    said = capsys.readouterr().err.strip()
    assert said.startswith("error: ")
    assert "\n" not in said
    return said


@pytest.mark.parametrize("command", ["sample", "evaluate", "export"])
def test_a_checkpoint_runs_no_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    module = f"evil_for_{command}"
    (tmp_path / f"{module}.py").write_text(EVIL)
    where = ["--to", "diffusers", "--into", str(tmp_path / "into")] if command == "export" else []
    checkpoint = _checkpoint(tmp_path, f"{module}.Net")
    said = _line(capsys, command, "--checkpoint", str(checkpoint), *where)
    assert f"{module}.Net" in said
    assert TRUST_OPTION in said
    assert not (tmp_path / "ran").exists()


def test_trusted_code_is_loaded_if_it_is_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "networks_of_mine.py").write_text(NETWORK)
    loaded = load_trained(_checkpoint(tmp_path, "networks_of_mine.Net"), trust_code=True)
    assert float(loaded.model.scale.detach()) == 1.0
    with pytest.raises(ConfigError, match=r"must be a subclass of torch\.nn\.Module, but is function"):
        load_trained(_checkpoint(tmp_path, "networks_of_mine.make"), trust_code=True)


@pytest.mark.parametrize(
    ("command", "text"),
    [
        ("train", "model: 'python:evil_shared.Net'"),
        ("search", "run: {model: {kind: python, path: evil_shared.Net}}"),
        ("search", "rivals: {mine: {model: 'python:evil_shared.Net'}}"),
        ("plan", "run: {model: 'python:evil_shared.Net'}"),
        ("difficulty", "probe: {model: 'python:evil_shared.Net'}"),
    ],
)
def test_a_shared_settings_file_runs_no_code(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
    text: str,
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil_shared.py").write_text(EVIL)
    (tmp_path / "shared.yaml").write_text(text)
    said = _line(capsys, command, "--config", "shared.yaml")
    assert "shared.yaml names code" in said
    assert TRUST_OPTION in said
    assert not (tmp_path / "ran").exists()


def test_a_shared_space_runs_no_code(tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text(
        "version: 1\nfixed: {model: 'python:evil.Net'}\n"
        "search: {schedule.clusters.count: {type: int, low: 2, high: 4}}\n"
    )
    space = SearchSpace.load(str(path))
    with pytest.raises(ConfigError, match=r"space .*names code"):
        check_code_of(space, StudyConfig(), trusted=False)
    check_code_of(space, StudyConfig(), trusted=True)
    named = StudyConfig.model_validate({"run": {"model": "python:evil.Net"}})
    check_code_of(space, named, trusted=False)


def test_what_the_command_line_names_is_the_users_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_broken.py").write_text("1 / 0")
    settings = tmp_path / "mine.yaml"
    settings.write_text("model: 'python:own_broken.Net'")
    for given in ([], ["--config", str(settings)]):
        said = _line(
            capsys, "train", "--set", "model=python:own_broken.Net", "--output", str(tmp_path), *given
        )
        assert "own_broken.Net cannot be imported: ZeroDivisionError" in said


def test_a_checkpoint_without_what_it_must_hold_is_one_line(tmp_path: Path) -> None:
    whole = checkpoints.read(_checkpoint(tmp_path, "mine.Net")).state
    for lost in ("config", "shape", "conditioning", "images"):
        state = {key: value for key, value in whole.items() if key != lost}
        state["config"] = {} if lost != "config" else None
        folder = tmp_path / lost / "checkpoint-run-000000000001"
        folder.parent.mkdir()
        checkpoints.write(folder, checkpoints.Checkpoint(tensors={"ema": {}}, state=state))
        with pytest.raises(ConfigError, match="checkpoint"):
            load_trained(folder)
