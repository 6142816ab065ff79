"""A run with adapters trains, keeps and resumes them alone, on weights that stay as they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from curriculum_ray.config import ConfigError, parse
from curriculum_ray.data import Dataset
from curriculum_ray.evaluation.trained import load_trained
from curriculum_ray.models.lora import LoraSpec
from curriculum_ray.training import checkpoint as checkpoints
from curriculum_ray.training.config import TrainConfig
from curriculum_ray.training.footprint import footprint
from curriculum_ray.training.packed import PackedTrainer, check_packable
from curriculum_ray.training.stored_weights import read_weights
from curriculum_ray.training.trainer import Trainer
from tests.training.points import DATA, POINTS, written_after_four_steps

pytest.importorskip("peft")

SMALL: dict[str, Any] = {**POINTS, "batch_size": 8, "model": {"kind": "mlp", "width": 16, "depth": 2}}


def _trainer(data: Dataset = DATA, **changes: Any) -> Trainer:
    return Trainer(TrainConfig.model_validate({**SMALL, **changes}), data)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return written_after_four_steps(_trainer(), tmp_path, "base")


def test_only_adapters_change_and_only_they_are_kept(base: Path, tmp_path: Path) -> None:
    lora = {"rank": 2, "dropout": 0.1}
    trainer = _trainer(
        init_from=str(base), lora=lora, ema={"power": {}}, weighting={"kind": "edm2_uncertainty"}
    )
    stored = checkpoints.read(base).tensors["ema"]
    first = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    for _ in range(3):
        trainer.step()
    for name, value in trainer.model.state_dict().items():
        if ".lora_" in name:
            assert not torch.equal(value, first[name])
        else:
            assert torch.equal(value, stored[name.replace(".base_layer.", ".")])
    content = trainer.checkpoint()
    for group in ("model", "ema"):
        assert set(content.tensors[group]) == {name for name in first if ".lora_" in name}
    assert all(".lora_" in name for name in content.tensors["power"])
    assert {name for name in content.tensors["optimizer"] if name.startswith("model.")} == {
        f"model.{name}/{key}"
        for name in content.tensors["model"]
        for key in ("step", "exp_avg", "exp_avg_sq")
    }
    # What is sampled is what was trained, with the weights below it, which are no part of the checkpoint.
    saved = checkpoints.write(tmp_path / checkpoints.checkpoint_name("lora", 24), content)
    for ema, model in ((True, trainer.ema.model), (False, trainer.model)):
        loaded = load_trained(saved, ema=ema).model
        for name, value in model.state_dict().items():
            assert torch.equal(loaded.state_dict()[name], value)
    with pytest.raises(ConfigError, match="holds only the adapters of a run with lora"):
        read_weights(saved, "init_from.path")
    base.rename(tmp_path / "gone")
    with pytest.raises(ConfigError, match=r"init_from\.path .* does not exist"):
        load_trained(saved)


def test_a_resumed_run_repeats_the_whole_one_to_the_bit(base: Path) -> None:
    changes: dict[str, Any] = {"init_from": str(base), "lora": {"rank": 2, "dropout": 0.2}}
    whole, part, resumed = (_trainer(**changes) for _ in range(3))
    for _ in range(2):
        whole.step()
        part.step()
    resumed.restore(part.checkpoint())
    for _ in range(2):
        whole.step()
        resumed.step()
    for ours, theirs in ((whole.model, resumed.model), (whole.ema.model, resumed.ema.model)):
        for name, value in ours.state_dict().items():
            assert torch.equal(value, theirs.state_dict()[name])


def test_layers_of_the_condition_that_are_drawn_anew_are_trained_whole(base: Path) -> None:
    more = Dataset("points", DATA.items, torch.arange(32) % 5, tuple("abcde"))
    trainer = _trainer(more, init_from={"path": str(base), "new_condition": True}, lora=2)
    names = set(trainer.checkpoint().tensors["model"])
    assert {name for name in names if ".lora_" not in name} == {"label_embedding.table.weight"}


def test_packed_runs_have_adapters_of_their_own_on_weights_that_all_share(base: Path) -> None:
    settings = {**SMALL, "init_from": str(base), "lora": {"rank": 2}}
    configs = [TrainConfig.model_validate({**settings, "seed": seed}) for seed in (1, 2)]
    packed, alone = PackedTrainer(configs, DATA), [Trainer(config, DATA) for config in configs]
    for _ in range(3):
        packed.step()
        for trainer in alone:
            trainer.step()
    for ours, theirs in zip(packed.members, alone, strict=True):
        expected = theirs.checkpoint().tensors
        for group in ("model", "ema"):
            for name, value in ours.checkpoint().tensors[group].items():
                torch.testing.assert_close(value, expected[group][name], atol=1e-6, rtol=1e-4)
    dropping = configs[0].model_copy(update={"lora": LoraSpec(rank=2, dropout=0.5)})
    with pytest.raises(ConfigError, match=r"lora\.dropout must be 0 where runs are packed, but got 0\.5"):
        check_packable([dropping])


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"lora": 4}, "lora adapts weights that stay frozen, but init_from is null"),
        ({"lora": {"alpha": 4}, "init_from": "there"}, r"lora\.rank"),
        ({"lora": 0, "init_from": "there"}, "lora must be greater than or equal to 1"),
        ({"lora": {"rank": 4, "targets": []}, "init_from": "there"}, r"lora\.targets"),
        (
            {"lora": {"rank": 4, "dropout": 0.5}, "init_from": "there", "gradient_checkpointing": True},
            r"lora\.dropout must be 0 with gradient_checkpointing",
        ),
    ],
)
def test_what_cannot_work_is_refused_in_one_line(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        parse(TrainConfig, settings, "test")
    assert "\n" not in str(caught.value)


def test_the_rank_or_a_target_may_stand_alone() -> None:
    assert parse(TrainConfig, {"lora": 8, "init_from": "there"}, "test").lora == LoraSpec(rank=8)
    spec = {"rank": 8, "targets": "qkv"}
    assert parse(TrainConfig, {"lora": spec, "init_from": "there"}, "test").lora == LoraSpec(
        rank=8, targets=("qkv",)
    )


def test_what_is_trained_is_counted() -> None:
    model = TrainConfig.model_validate(SMALL).model
    plain, adapted = footprint(model, (2,)), footprint(model, (2,), lora=LoraSpec(rank=2))
    # Four layers of 16 x 16, each with 2 x 16 and 16 x 2.
    assert plain.trained is None
    assert adapted.trained == 4 * 64 == adapted.parameters - plain.parameters
    assert plain.train_flops is not None
    assert adapted.train_flops is not None
    assert adapted.train_flops < plain.train_flops
