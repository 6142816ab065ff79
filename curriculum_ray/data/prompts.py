"""Captions that a person gives for sampling, told to a network as the captions of its data were."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from curriculum_ray.config import ConfigError
from curriculum_ray.data.conditioning import Conditioning
from curriculum_ray.data.latents import read_latents_info
from curriculum_ray.data.spec import DataSpec
from curriculum_ray.data.text_encoder import encode_captions, encoder_hash
from curriculum_ray.data.vocabulary import tokenise

__all__ = ["told_by_prompts"]


def told_by_prompts(
    captions: Sequence[str], spec: DataSpec, told: Conditioning, vocabulary: Sequence[str]
) -> Tensor:
    """The condition, (n, length) or (n, length, width), that `captions` are for a network trained on `spec`.

    told, vocabulary: what the network is told, `tokens` or `embedding`. Embeddings need the encoder that made those
    of the data, `spec.text_encoder`: none, or one of another width or with other weights, raises `ConfigError`.
    """
    if told.kind == "tokens":
        return tokenise(captions, vocabulary, told.length)
    assert told.kind == "embedding"
    encoder = spec.text_encoder
    if encoder is None:
        raise ConfigError(
            "--caption needs the text encoder of the data's embeddings, but the model was trained without its path, "
            "data.text_encoder"
        )
    if spec.format == "latents":
        known = read_latents_info(Path(spec.name)).text_encoder_sha256
        if known and known != encoder_hash(encoder):
            raise ConfigError(
                f"data.text_encoder {encoder} is not the encoder that read the captions of {spec.name}"
            )
    each = encode_captions(encoder, captions, told.length)
    if each.shape[2] != told.size:
        raise ConfigError(
            f"data.text_encoder must give vectors of {told.size}, as the data's embeddings are, "
            f"but {encoder} gives {each.shape[2]}"
        )
    return each
