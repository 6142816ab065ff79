"""Captions read by encoders of transformers themselves: small ones with random weights, made here."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from curriculum_ray.config import ConfigError
from curriculum_ray.data import DataSpec, load_data
from curriculum_ray.data.autoencoder import load_autoencoder
from curriculum_ray.data.latent_cache import cache_latents
from curriculum_ray.data.prompts import condition_from_prompts
from curriculum_ray.data.text_encoder import encode_captions
from curriculum_ray.data.vocabulary import words
from curriculum_ray.training.config import TrainConfig
from curriculum_ray.training.loop import train
from curriculum_ray.training.trainer import Trainer
from tests.data.stand_ins import make_autoencoder

transformers = pytest.importorskip("transformers")

WIDTH = 16
SIZES = {"hidden_size": WIDTH, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}


def tokenizer(captions: list[str], start: str = "[CLS]", end: str = "[SEP]") -> Any:
    """One token a word, between a start and an end token, as the real ones do."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    known = ["[PAD]", "[UNK]", start, end, *sorted({word for text in captions for word in words(text)})]
    own = Tokenizer(models.WordLevel({word: number for number, word in enumerate(known)}, unk_token="[UNK]"))
    own.pre_tokenizer = pre_tokenizers.Whitespace()
    own.post_processor = processors.TemplateProcessing(
        single=f"{start} $A {end}", special_tokens=[(start, known.index(start)), (end, known.index(end))]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=own,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token=start,
        sep_token=end,
        eos_token=end,
    )


def make(kind: str, folder: Path, captions: list[str]) -> Any:
    """An encoder of this kind in `folder`, as `save_pretrained` writes it; returns the model."""
    torch.manual_seed(0)
    reader = tokenizer(captions)
    size = len(reader)
    match kind:
        case "bert":
            model = transformers.BertModel(transformers.BertConfig(vocab_size=size, **SIZES))
        case "clip":
            text = transformers.CLIPTextConfig(
                vocab_size=size, **SIZES, bos_token_id=2, eos_token_id=3, pad_token_id=0, projection_dim=8
            )
            model = transformers.CLIPTextModel(text)
        case _:
            config = transformers.T5Config(
                vocab_size=size, d_model=WIDTH, d_kv=8, d_ff=16, num_layers=1, num_heads=2
            )
            model = transformers.T5EncoderModel(config)
    model.eval().save_pretrained(folder)
    reader.save_pretrained(folder)
    return model


CAPTIONS = ["a red dog", "", "a small blue cat sits"]


@pytest.mark.parametrize("kind", ["bert", "clip", "t5"])
def test_captions_are_what_the_encoder_makes_of_them_and_zeros_where_padded(
    kind: str, tmp_path: Path
) -> None:
    model = make(kind, tmp_path, CAPTIONS)
    found = encode_captions(tmp_path, CAPTIONS, batch_size=2)
    assert found.shape == (3, 7, WIDTH)
    assert (found[1] == 0).all()
    assert (found[0, 5:] == 0).all()
    assert (found[0, :5] != 0).any(1).all()
    tokens = tokenizer(CAPTIONS)([CAPTIONS[2]], return_tensors="pt")
    with torch.no_grad():
        alone = model(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"])
    torch.testing.assert_close(found[2], alone.last_hidden_state[0], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(encode_captions(tmp_path, CAPTIONS[:1], length=7)[0], found[0])


def test_captions_are_no_longer_than_the_encoder_has_positions_for(tmp_path: Path) -> None:
    config = transformers.BertConfig(vocab_size=8, max_position_embeddings=5, **SIZES)
    transformers.BertModel(config).save_pretrained(tmp_path)
    tokenizer(CAPTIONS[:1]).save_pretrained(tmp_path)
    found = encode_captions(tmp_path, ["a red dog", "a red dog a red dog"])
    assert found.shape == (2, 5, WIDTH)
    padded = encode_captions(tmp_path, ["a red dog"], length=9)
    assert padded.shape == (1, 9, WIDTH)
    torch.testing.assert_close(padded[0, :5], found[0])
    assert (padded[0, 5:] == 0).all()


def cut_off(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def pointer(folder: Path) -> None:
    """What a clone without git-lfs has."""
    (folder / "model.safetensors").write_text(
        f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 492265168\n"
    )


def other_size(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "hidden_size": 2 * WIDTH}))


@pytest.mark.parametrize(
    ("damage", "says"),
    [(cut_off, "SafetensorError"), (pointer, "SafetensorError"), (other_size, "RuntimeError")],
)
def test_a_damaged_encoder_is_refused_in_one_line(
    tmp_path: Path, damage: Callable[[Path], None], says: str
) -> None:
    make("bert", tmp_path, CAPTIONS)
    damage(tmp_path)
    with pytest.raises(ConfigError, match=f"the text encoder .* cannot be read: {says}") as error:
        encode_captions(tmp_path, CAPTIONS)
    assert "\n" not in str(error.value)


def test_a_tokenizer_without_padding_is_refused(tmp_path: Path) -> None:
    make("bert", tmp_path, CAPTIONS)
    reader = tokenizer(CAPTIONS)
    reader.pad_token = None
    reader.save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="must have a tokenizer with a pad token, but that has none"):
        encode_captions(tmp_path, CAPTIONS)


def test_a_model_that_needs_more_than_captions_is_refused_by_its_kind(tmp_path: Path) -> None:
    text = {"vocab_size": 8, **SIZES, "max_position_embeddings": 64, "projection_size": WIDTH}
    vision = {**SIZES, "image_size": 16, "patch_size": 8}
    config = transformers.SiglipConfig(text_config=text, vision_config=vision)
    transformers.SiglipModel(config).save_pretrained(tmp_path)
    tokenizer(CAPTIONS[:1]).save_pretrained(tmp_path)
    with pytest.raises(
        ConfigError, match="whose model_type is siglip, cannot encode captions: AttributeError"
    ) as error:
        encode_captions(tmp_path, CAPTIONS)
    assert "\n" not in str(error.value)


def test_a_network_trains_on_what_an_encoder_tells_it(tmp_path: Path) -> None:
    plain = load_data(DataSpec(name="shapes", conditioning="text"))
    make("clip", tmp_path, [" ".join(plain.vocabulary[1:])])
    settings = {
        "data": {"name": "shapes", "conditioning": "text", "text_encoder": str(tmp_path)},
        "model": {"base_channels": 8},
        "batch_size": 8,
        "images": 16,
    }
    config = TrainConfig.model_validate(settings)
    data = load_data(config.data)
    assert data.conditioning.kind == "embedding"
    assert data.conditioning.size == WIDTH
    trainer = Trainer(config, data)
    assert train(trainer)
    # A network's last layers start at zero: the condition has no effect until they change.
    for parameter in trainer.parameters.values():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    x, level = torch.randn(2, *data.shape), torch.full((2,), 500.0)
    assert data.condition is not None
    first, second = (
        trainer.model(x, level, condition) for condition in (data.condition[:2], data.condition[2:4])
    )
    assert not torch.allclose(first, second)


def test_what_an_encoder_tells_of_cached_latents_is_what_it_makes_of_a_prompt(tmp_path: Path) -> None:
    pytest.importorskip("diffusers")
    images, encoder, latents = (tmp_path / name for name in ("images", "encoder", "latents"))
    images.mkdir()
    make("t5", encoder, CAPTIONS)
    for number in range(len(CAPTIONS)):
        Image.new("RGB", (8, 8)).save(images / f"{number}.png")
    captions = {f"{number}.png": caption for number, caption in enumerate(CAPTIONS)}
    (images / "captions.json").write_text(json.dumps(captions))
    captions = {"conditioning": "text", "text_encoder": str(encoder)}
    data = load_data(DataSpec(name=str(images), image_size=8, **captions))
    vae = load_autoencoder(make_autoencoder(tmp_path / "vae"))
    cache_latents(data, vae, latents, text_encoder=str(encoder))
    spec = DataSpec(name=str(latents), format="latents", **captions)
    cached = load_data(spec)
    assert cached.conditioning == data.conditioning
    assert cached.condition is not None
    prompted = condition_from_prompts(CAPTIONS, spec, cached.conditioning, ())
    torch.testing.assert_close(cached.condition, prompted, atol=2e-3, rtol=2e-3)
    assert torch.equal(cached.condition == 0, prompted == 0)
