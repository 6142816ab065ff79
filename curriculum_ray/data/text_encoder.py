"""Captions encoded before training by a pretrained text encoder in a local folder."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from curriculum_ray.config import ConfigError
from curriculum_ray.data.vocabulary import build_vocabulary, tokenise
from curriculum_ray.extras import install_command

__all__ = ["condition_from_captions", "encode_captions", "encoder_hash"]

# Models with several parts, of which only the text encoder is loaded.
TEXT_PARTS = {"clip": "CLIPTextModel", "t5": "T5EncoderModel", "umt5": "UMT5EncoderModel"}

# The context length of CLIP's text encoder, in tokens.
LONGEST = 77


def condition_from_captions(
    captions: Sequence[str], text_encoder: str | None
) -> tuple[Tensor, tuple[str, ...]]:
    """Return condition and vocabulary: word numbers, or vectors of `text_encoder` and no vocabulary."""
    if text_encoder is not None:
        return encode_captions(text_encoder, captions), ()
    vocabulary = build_vocabulary(captions)
    return tokenise(captions, vocabulary), vocabulary


def encoder_hash(path: str | Path) -> str:
    """SHA-256 (hex) of the weights of the encoder in the folder `path`, i.e. of its safetensors files."""
    digest = hashlib.sha256()
    for name in sorted(Path(path).glob("*.safetensors")):
        with open(name, "rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def encode_captions(
    path: str | Path,
    captions: Sequence[str],
    length: int | None = None,
    batch_size: int = 64,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Encode `captions` with the encoder in `path`: float32 (N, length, D) on the CPU, zeros where padded.

    path: as written by transformers' `save_pretrained`, with its tokenizer; only local safetensors are read.
    length: longer captions are truncated to this many tokens; if None, that of the longest caption, at most
    77; never more than the encoder has positions for. An empty caption becomes zeros, the null condition. Each
    distinct caption is encoded once. Raises `ConfigError` without the package transformers, for a folder that
    holds no encoder, and for an encoder that takes more than captions.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise ConfigError(f"the text encoder {path} is not a folder")
    try:
        import transformers
    except ImportError:
        raise ConfigError(
            f"the text encoder {path} needs the package transformers: {install_command('transformers')}"
        ) from None
    transformers.utils.logging.disable_progress_bar()
    # Code in the folder is never run, and the user is never asked to allow it.
    local: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    try:
        config = transformers.AutoConfig.from_pretrained(folder, **local)
        loader = getattr(transformers, TEXT_PARTS.get(config.model_type, "AutoModel"))
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **local)
        model = loader.from_pretrained(folder, use_safetensors=True, **local)
    # transformers, tokenizers and safetensors raise almost anything on a damaged folder.
    except Exception as error:
        raise ConfigError(f"the text encoder {path} cannot be read: {_reason(error)}") from None
    if tokenizer.pad_token is None:
        raise ConfigError(
            f"the text encoder {path} must have a tokenizer with a pad token, but that has none"
        )
    model = model.to(device).eval()
    most = _most_tokens(length or LONGEST, tokenizer, model)
    different = list(dict.fromkeys(captions))
    encoded, longest = [], 1
    with torch.no_grad():
        for start in range(0, len(different), batch_size):
            batch = different[start : start + batch_size]
            try:
                tokens = tokenizer(
                    batch, padding="max_length", truncation=True, max_length=most, return_tensors="pt"
                ).to(device)
                mask = tokens["attention_mask"]
                hidden = model(input_ids=tokens["input_ids"], attention_mask=mask).last_hidden_state
            # Models that need more than captions raise almost anything.
            except Exception as error:
                raise ConfigError(
                    f"the text encoder {path}, whose model_type is {config.model_type}, cannot encode captions: "
                    f"{_reason(error)}"
                ) from None
            captioned = torch.tensor([bool(caption.strip()) for caption in batch], device=device)
            seen = mask.bool() & captioned[:, None]
            longest = max(longest, int(seen.sum(1).max()))
            encoded.append(hidden.float().masked_fill(~seen[:, :, None], 0).cpu())
    if not encoded:
        raise ConfigError("there are no captions to encode")
    place = {caption: row for row, caption in enumerate(different)}
    rows = torch.tensor([place[caption] for caption in captions])
    # By a negative number, `pad` cuts off.
    return pad(torch.cat(encoded), (0, 0, 0, (length or longest) - most))[rows]


def _most_tokens(wanted: int, tokenizer: Any, model: Any) -> int:
    """The number of tokens that captions are padded to: `wanted`, or less if the encoder has fewer positions."""
    # Models without a limit lack this setting, or have -1.
    positions = getattr(model.config, "max_position_embeddings", None) or -1
    return min(wanted, tokenizer.model_max_length, positions if positions > 0 else wanted)


def _reason(error: Exception) -> str:
    return f"{type(error).__name__} {' '.join(str(error).split())[:300]}"
