"""The U-Net: shapes, start at zero, labels, and which settings are refused."""

from typing import Any

import pytest
import torch
from torch import nn

from curriculum_ray.config import ConfigError, parse
from curriculum_ray.data import NO_CONDITIONING, Conditioning
from curriculum_ray.models import UNet, UNetSpec, build_model
from curriculum_ray.models.embedding import NoiseEmbedding
from curriculum_ray.models.unet import default_multiples


def make(shape: tuple[int, int, int] = (1, 8, 8), classes: int | None = None, **settings: Any) -> UNet:
    torch.manual_seed(0)
    conditioning = NO_CONDITIONING if classes is None else Conditioning("class", classes)
    model = build_model(UNetSpec(**{"base_channels": 8, **settings}), shape, conditioning)
    assert isinstance(model, UNet)
    return model


def awake(model: UNet) -> UNet:
    """Give the layers that start at zero random weights, so that the output depends on everything."""
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        if not parameter.any():
            parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator)
    return model.eval()


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 8, 8), (1, 28, 28), (3, 32, 32), (3, 64, 64), (1, 7, 7)])
def test_the_output_has_the_shape_of_the_image(shape: tuple[int, int, int]) -> None:
    x = torch.randn(2, *shape)
    assert make(shape)(x, torch.tensor([0.0, 999.0]), None).shape == x.shape


def test_the_output_is_zero_at_the_start() -> None:
    assert not make()(torch.randn(2, 1, 8, 8), torch.tensor([0.0, 999.0])).any()


def test_the_default_for_digits_is_small() -> None:
    model = build_model(UNetSpec(), (1, 8, 8), Conditioning("class", 10))
    assert sum(p.numel() for p in model.parameters()) < 100_000


def test_every_parameter_is_trained() -> None:
    """DistributedDataParallel waits for ever for the gradient of a parameter that has none."""
    model = awake(make(classes=3))
    model(torch.randn(2, 1, 8, 8), torch.tensor([3.0, 4.0]), torch.tensor([0, 2])).sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_the_noise_level_matters_and_so_does_each_step_of_it() -> None:
    model = awake(make())
    x = torch.randn(1, 1, 8, 8).expand(3, -1, -1, -1)
    a, b, c = model(x, torch.tensor([500.0, 501.0, 0.0]))
    assert not torch.allclose(a, b, atol=1e-6)
    assert (a - c).abs().max() > (a - b).abs().max()


def test_samples_do_not_mix() -> None:
    model = awake(make())
    x, noise = torch.randn(3, 1, 8, 8), torch.tensor([1.0, 2.0, 3.0])
    torch.testing.assert_close(model(x, noise)[1:2], model(x[1:2], noise[1:2]), atol=1e-5, rtol=1e-4)


def test_attention_lets_far_positions_talk() -> None:
    """Without it, and with one level, a change in one corner cannot reach the other."""

    def reach(attention: bool) -> torch.Tensor:
        model = awake(make((1, 32, 32), attention=attention, channel_mult=(1,)))
        for module in model.modules():
            if isinstance(module, nn.GroupNorm):
                module.forward = lambda x: x  # type: ignore[method-assign]
        x = torch.randn(1, 1, 32, 32)
        changed = x.clone()
        changed[..., 0, 0] += 5
        noise = torch.tensor([5.0])
        return (model(x, noise) - model(changed, noise))[..., 31, 31].abs().max()

    assert reach(False) == 0
    assert reach(True) > 0


def test_labels_change_the_output_and_missing_ones_are_the_null_class() -> None:
    model = awake(make(classes=3))
    x = torch.randn(1, 1, 8, 8).expand(4, -1, -1, -1)
    noise = torch.zeros(4)
    out = model(x, noise, torch.tensor([0, 1, -1, -1]))
    assert not torch.allclose(out[0], out[1], atol=1e-5)
    torch.testing.assert_close(out[2:], model(x, noise, None)[2:])


def test_labels_are_hidden_in_training_only() -> None:
    model = awake(make(classes=3, label_dropout=0.5))
    assert model.label_embedding is not None
    labels = torch.zeros(4000, dtype=torch.long)
    null = model.label_embedding(None, 1).vector_BE
    kept = (model.label_embedding(labels, 4000).vector_BE != null).any(1)
    assert kept.all()
    model.train()
    kept = (model.label_embedding(labels, 4000).vector_BE != null).any(1)
    assert kept.float().mean().item() == pytest.approx(0.5, abs=0.05)


def test_the_class_is_used_where_there_is_one_unless_switched_off() -> None:
    assert make(classes=10).conditioning == Conditioning("class", 10)
    assert make(classes=None).conditioning == NO_CONDITIONING
    assert make(classes=10, conditional=False).conditioning == NO_CONDITIONING


def test_labels_for_a_network_without_classes_are_refused() -> None:
    with pytest.raises(ValueError, match="takes no condition, but got one"):
        make()(torch.zeros(1, 1, 8, 8), torch.zeros(1), torch.zeros(1, dtype=torch.long))


def test_images_are_halved_while_both_sides_can_be() -> None:
    for shape, levels in (((1, 9, 8), 1), ((1, 100, 64), 3), ((1, 16, 64), 3), ((1, 64, 16), 3)):
        model = make(shape)
        assert len(model.down) == levels
        assert model(torch.randn(1, *shape), torch.tensor([5.0]), None).shape == (1, *shape)


def test_a_dropout_of_conditions_that_there_are_none_of_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"^model.label_dropout is for data with classes or captions, but got 0.5"
    ):
        make(label_dropout=0.5)
    assert make(label_dropout=0).label_embedding is None
    assert make(classes=3, label_dropout=0.5).label_embedding is not None


def test_conditional_without_classes_is_refused() -> None:
    with pytest.raises(ConfigError, match="conditional needs data with classes"):
        make(conditional=True)


@pytest.mark.parametrize(
    ("side", "expected"), [(8, (1, 2)), (4, (1,)), (7, (1,)), (28, (1, 2, 2)), (64, (1, 2, 2, 2, 2))]
)
def test_levels_halve_the_side_down_to_four(side: int, expected: tuple[int, ...]) -> None:
    assert default_multiples(side) == expected


@pytest.mark.parametrize("shape", [(1, 6, 8), (1, 8, 6), (3, 30, 30)])
def test_sides_that_cannot_be_halved_are_refused(shape: tuple[int, int, int]) -> None:
    with pytest.raises(ConfigError, match=f"needs image sides divisible by 4.*{shape[1]}×{shape[2]}"):
        make(shape, channel_mult=(1, 2, 2))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"base_channels": 6}, "base_channels"),
        ({"blocks": 0}, "blocks"),
        ({"channel_mult": [1, 0]}, "channel_mult"),
        ({"channel_mult": []}, "channel_mult"),
        ({"label_dropout": 1.0}, "label_dropout"),
        ({"kind": "dit"}, "kind"),
        ({"depth": 3}, "depth is not a known key"),
    ],
)
def test_impossible_settings_are_refused_in_one_line(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as error:
        parse(UNetSpec, settings, "test.yaml")
    assert "\n" not in str(error.value)


def test_the_initialisation_is_a_function_of_the_seed() -> None:
    one, two = make(classes=2), make(classes=2)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


def test_bfloat16_works() -> None:
    model = awake(make(classes=2)).bfloat16()
    x = torch.randn(2, 1, 8, 8, dtype=torch.bfloat16)
    assert model(x, torch.tensor([1.0, 900.0]), torch.tensor([0, 1])).dtype == torch.bfloat16


def test_bfloat16_weights_still_tell_neighbouring_timesteps_apart() -> None:
    embed = NoiseEmbedding(16).bfloat16()
    a, b = embed(torch.tensor([900.0, 901.0]))
    assert not torch.equal(a, b)


def test_nothing_waits_for_the_device_or_branches_on_values() -> None:
    """Meta tensors have no values: reading one raises."""
    model = make(classes=3).to("meta")
    x, labels = torch.empty(2, 1, 8, 8, device="meta"), torch.empty(2, dtype=torch.long, device="meta")
    model(x, torch.empty(2, device="meta"), labels).sum().backward()
