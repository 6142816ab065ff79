"""Convert the user's captions to conditions, as the captions of the training data were converted."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from curriculum_ray.config import ConfigError
from curriculum_ray.data.conditioning import Conditioning
from curriculum_ray.data.latents import latents_folder, read_latents_info
from curriculum_ray.data.spec import DataSpec
from curriculum_ray.data.text_encoder import encode_captions, encoder_hash
from curriculum_ray.data.vocabulary import tokenise

__all__ = ["condition_from_prompts"]


def condition_from_prompts(
    captions: Sequence[str], spec: DataSpec, conditioning: Conditioning, vocabulary: Sequence[str]
) -> Tensor:
    """Return the condition, (n, length) or (n, length, width), for a network that was trained on `spec`.

    conditioning, vocabulary: those of the network; kind `tokens` or `embedding`. Embeddings need the encoder
    of the training data, `spec.text_encoder`: none, another width or other weights raise `ConfigError`.
    """
    if conditioning.kind == "tokens":
        return tokenise(captions, vocabulary, conditioning.length)
    assert conditioning.kind == "embedding"
    encoder = spec.text_encoder
    if encoder is None:
        raise ConfigError(
            "--caption needs the text encoder of the data's embeddings, but the model was trained without "
            "data.text_encoder, its path"
        )
    if spec.format == "latents":
        known = read_latents_info(latents_folder(spec.name)).text_encoder_sha256
        if known and known != encoder_hash(encoder):
            raise ConfigError(
                f"data.text_encoder {encoder} is not the encoder that embedded the captions of {spec.name}"
            )
    each = encode_captions(encoder, captions, conditioning.length)
    if each.shape[2] != conditioning.size:
        raise ConfigError(
            f"data.text_encoder must give vectors of width {conditioning.size}, like the data's embeddings, "
            f"but {encoder} gives {each.shape[2]}"
        )
    return each
