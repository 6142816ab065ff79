"""A run starts from exactly the weights that it is given, or says in one line why it cannot."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from curriculum_ray.config import ConfigError
from curriculum_ray.data import Dataset
from curriculum_ray.training import checkpoint as checkpoints
from curriculum_ray.training.config import TrainConfig
from curriculum_ray.training.initial_weights import InitSpec, pinned, without_path
from curriculum_ray.training.stored_weights import read_weights
from curriculum_ray.training.trainer import Trainer
from tests.training.points import DATA, POINTS, written_after_four_steps
from tuning.folder.identity import content_of

SMALL: dict[str, Any] = {**POINTS, "batch_size": 16, "model": {"kind": "mlp", "width": 8, "depth": 1}}


def _trainer(data: Dataset = DATA, **changes: Any) -> Trainer:
    return Trainer(TrainConfig.model_validate({**SMALL, **changes}), data)


@pytest.fixture
def first(tmp_path: Path) -> Path:
    return written_after_four_steps(_trainer(), tmp_path, "run")


@pytest.mark.parametrize("raw", [False, True])
def test_weights_and_their_average_start_from_the_average_or_the_raw_weights(first: Path, raw: bool) -> None:
    trainer = _trainer(seed=1, init_from={"path": str(first), "raw": raw})
    stored = checkpoints.read(first).tensors["model" if raw else "ema"]
    for model in (trainer.model, trainer.ema.model):
        for name, value in model.state_dict().items():
            assert torch.equal(value, stored[name])


def test_a_run_s_folder_stands_for_its_newest_checkpoint_and_a_path_for_the_settings(first: Path) -> None:
    of_run = TrainConfig.model_validate({**SMALL, "init_from": str(first.parent)}).init_from
    assert of_run == InitSpec(path=str(first.parent))
    assert pinned(of_run).sha256 == pinned(InitSpec(path=str(first))).sha256


def test_a_resumed_run_continues_from_its_own_checkpoint(first: Path, tmp_path: Path) -> None:
    start = {"path": str(first)}
    whole, part = _trainer(init_from=start), _trainer(init_from=start)
    for _ in range(2):
        whole.step()
        part.step()
    moved = first.rename(tmp_path / "elsewhere")
    resumed = _trainer(init_from={"path": str(moved)})
    resumed.restore(part.checkpoint())
    whole.step()
    resumed.step()
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name])


def test_the_hash_is_of_the_identity_and_the_path_is_not(first: Path, tmp_path: Path) -> None:
    def identity(spec: InitSpec) -> str:
        config = TrainConfig.model_validate({**SMALL, "init_from": spec.model_dump()})
        run = config.model_dump(mode="json")
        alone = content_of(run, config.data, DATA, None)
        in_study = content_of({"run": run}, config.data, DATA, None)
        assert alone.settings == in_study.settings["run"]
        assert without_path(run) == {**alone.settings, "lora": None}
        return alone.hash

    before = identity(pinned(InitSpec(path=str(first))))
    moved = first.rename(tmp_path / "elsewhere")
    assert identity(pinned(InitSpec(path=str(moved)))) == before
    assert identity(pinned(InitSpec(path=str(moved), raw=True))) != before


def test_other_weights_in_the_same_folder_are_refused(first: Path) -> None:
    spec = pinned(InitSpec(path=str(first)))
    other = _trainer(seed=5)
    checkpoints.write(first, other.checkpoint())
    with pytest.raises(ConfigError, match=r"init_from\.path .* must hold the weights of init_from\.sha256"):
        _trainer(init_from=spec.model_dump())


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model": {"kind": "mlp", "width": 8, "depth": 2}}, r"6 missing \(blocks\.1\.layer1\.bias, "),
        ({"model": {"kind": "mlp", "width": 4, "depth": 1}}, r"of another shape \(.*\(8,\), not \(4,\)"),
        (
            {"model": {**SMALL["model"], "conditional": False}},
            r"1 unexpected \(label_embedding\.table.weight\): init_f",
        ),
    ],
)
def test_what_does_not_fit_is_said_in_one_line(first: Path, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        _trainer(**changes, init_from=str(first))
    assert "\n" not in str(caught.value)
    assert ("new_condition" in str(caught.value)) == ("label" in str(caught.value))


def test_only_layers_of_the_condition_may_be_drawn_anew(first: Path) -> None:
    more = replace(DATA, condition=torch.arange(32) % 5, class_names=tuple("abcde"))
    with pytest.raises(
        ConfigError, match=r"1 of another shape \(label_embedding\.table\.weight \(4, 8\), not \(6, 8\)"
    ):
        _trainer(more, init_from=str(first))
    anew = {"path": str(first), "new_condition": True}
    trainer, stored = _trainer(more, init_from=anew), checkpoints.read(first).tensors["ema"]
    for name, value in trainer.model.state_dict().items():
        assert name.startswith("label_embedding") or torch.equal(value, stored[name])
    with pytest.raises(ConfigError, match="6 missing"):
        _trainer(model={"kind": "mlp", "width": 8, "depth": 2}, init_from=anew)


def test_captions_of_other_words_need_a_new_condition(tmp_path: Path) -> None:
    words = ("", "red", "blue")
    captions = Dataset("points", DATA.items, torch.randint(1, 3, (32, 4)), vocabulary=words)
    saved = checkpoints.write(
        tmp_path / checkpoints.checkpoint_name("run", 0), _trainer(captions).checkpoint()
    )
    swapped = replace(captions, vocabulary=("", "blue", "red"))
    with pytest.raises(ConfigError, match="the words of its captions are not those of the data"):
        _trainer(swapped, init_from=str(saved))
    assert _trainer(swapped, init_from={"path": str(saved), "new_condition": True}).images == 0


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    trainer = _trainer()
    content = trainer.checkpoint()
    content.tensors["ema"]["stem.bias"][0] = float("nan")
    saved = checkpoints.write(tmp_path / checkpoints.checkpoint_name("run", 0), content)
    with pytest.raises(ConfigError, match=r"must hold finite weights, but stem\.bias is not"):
        _trainer(init_from=str(saved))


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({}, "holds neither state.json nor config.json"),
        ({"config.json": "[]"}, "config.json must hold a mapping"),
        ({"config.json": "{"}, r"config\.json cannot be read"),
        (
            {"config.json": "{}", "diffusion_pytorch_model.bin": ""},
            "has only diffusion_pytorch_model.bin, a pickle",
        ),
        ({"config.json": "{}", "diffusion_pytorch_model.safetensors": "no"}, "is damaged"),
        ({"unet/config.json": "{}"}, "has 0 such files"),
    ],
)
def test_folders_without_safe_weights_are_refused(tmp_path: Path, files: dict[str, str], says: str) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=says):
        read_weights(tmp_path, "init_from.path")


def test_a_folder_of_diffusers_is_read_whole_or_in_parts(tmp_path: Path) -> None:
    folder = tmp_path / "unet"
    folder.mkdir()
    (folder / "config.json").write_text('{"_class_name": "UNet2DModel"}')
    a, b = torch.randn(2, 3), torch.randn(4)
    save_file({"conv.weight": a, "conv.bias": b}, folder / "diffusion_pytorch_model.safetensors")
    whole = read_weights(tmp_path, "init_from.path")
    assert whole.class_name == "UNet2DModel"
    assert torch.equal(whole.tensors["network.conv.weight"], a)
    (folder / "diffusion_pytorch_model.safetensors").unlink()
    save_file({"conv.weight": a}, folder / "part-1.safetensors")
    save_file({"conv.bias": b}, folder / "part-2.safetensors")
    index = '{"weight_map": {"conv.weight": "part-1.safetensors", "conv.bias": "../unet/part-2.safetensors"}}'
    (folder / "diffusion_pytorch_model.safetensors.index.json").write_text(index)
    assert read_weights(tmp_path, "init_from.path").sha256 == whole.sha256
    with pytest.raises(
        ConfigError, match=r"holds a UNet2DModel of diffusers: set model=diffusers:UNet2DModel"
    ):
        _trainer(init_from=str(tmp_path))
