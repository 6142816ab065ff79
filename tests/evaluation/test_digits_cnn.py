"""The digits' extractor as it ships: small, accurate on digits it has not seen, and read without trust."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from curriculum_ray.config import ConfigError
from curriculum_ray.data import DataSpec, digits_split, load_data, to_uint8
from curriculum_ray.evaluation.digits_cnn import (
    DIGITS_CNN_WEIGHTS,
    DigitsCNN,
    load_digits_cnn,
    save_digits_cnn,
)


def test_shipped_weights_name_the_held_out_digits_as_documented() -> None:
    network, metadata = load_digits_cnn(DIGITS_CNN_WEIGHTS.read_bytes(), "shipped")
    data = load_data(DataSpec(holdout_share=0))
    assert data.condition is not None
    _, held_out = digits_split()
    right = network.logits(data.items[held_out]).argmax(1) == data.condition[held_out]
    documented = float(metadata["accuracy"])
    assert documented >= 0.99
    assert right.double().mean().item() >= documented - 1e-4


def test_shipped_weights_stay_small() -> None:
    assert DIGITS_CNN_WEIGHTS.stat().st_size < 500_000


def test_scale_of_the_features_is_the_stored_constant() -> None:
    network, metadata = load_digits_cnn(DIGITS_CNN_WEIGHTS.read_bytes(), "shipped")
    features = network(to_uint8(load_data(DataSpec(holdout_share=0)).items))
    assert network.feature_scale.item() == pytest.approx(metadata["feature_scale"], abs=1e-4)
    assert features.double().var(dim=0).sum().item() == pytest.approx(350, rel=1e-3)


def test_saved_network_comes_back_with_its_metadata(tmp_path: Path) -> None:
    network = DigitsCNN(width=2, features=4).eval()
    save_digits_cnn(network, tmp_path / "weights.safetensors", accuracy=0.5, seed=3)
    loaded, metadata = load_digits_cnn((tmp_path / "weights.safetensors").read_bytes(), "weights")
    images = torch.randint(0, 256, (3, 1, 8, 8), dtype=torch.uint8)
    assert torch.equal(loaded(images), network(images))
    assert metadata == {"width": 2, "features": 4, "accuracy": 0.5, "seed": 3}


def test_equal_weights_make_equal_files(tmp_path: Path) -> None:
    network = DigitsCNN(width=2, features=4)
    for name in ("a", "b"):
        save_digits_cnn(network, tmp_path / name, accuracy=0.5, seed=3, version=1)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_loading_draws_no_random_numbers() -> None:
    before = torch.get_rng_state()
    load_digits_cnn(DIGITS_CNN_WEIGHTS.read_bytes(), "shipped")
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("damage", [lambda content: content[:-100], lambda _: b"", lambda _: b"x" * 64])
def test_damaged_weights_are_refused_in_one_line_that_names_them(damage) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ConfigError, match=r"^some\.file does not hold .*$") as error:
        load_digits_cnn(damage(DIGITS_CNN_WEIGHTS.read_bytes()), "some.file")
    assert "\n" not in str(error.value)


def test_weights_of_another_network_are_refused() -> None:
    from safetensors.torch import save

    with pytest.raises(ConfigError, match=r"some\.file does not hold"):
        load_digits_cnn(save({"a": torch.zeros(1)}), "some.file")
    header = '{"width": 3, "features": 4}'
    with pytest.raises(ConfigError, match=r"some\.file does not hold"):
        load_digits_cnn(save({"a": torch.zeros(1)}, {"digits-cnn": header}), "some.file")
