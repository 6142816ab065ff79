"""CLIP score (Hessel et al. 2021, §3): how well images fit their captions, by a CLIP from local weights.

    CLIP-S(image, caption) = 2.5 max(cos(image, "A photo depicts " caption), 0)

The score of a model is the mean over its samples, in [0, 2.5]. Other implementations leave out the prompt, and multiply
by 100 instead of 2.5.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import cosine_similarity

from curriculum_ray.config import LocalPath, Spec
from curriculum_ray.evaluation.arithmetic import full_fp32
from curriculum_ray.evaluation.local_weights import LOCAL, check_weights, load_network, refused

__all__ = ["NAME", "Clip", "ClipScorer", "ClipSpec", "clip_score", "load_clip"]

NAME = "clip_score"
PROMPT = "A photo depicts "
WEIGHT = 2.5
_SUM, _COUNT = "clip_score", "clip_count"
_BATCH = 64


class ClipSpec(Spec):
    """A CLIP that scores how samples fit their captions. The path alone may stand for it: `clip_score: FOLDER`."""

    path: LocalPath
    """The folder of a CLIP as transformers writes it, with its tokenizer and image processor; safetensors only."""
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    """SHA-256 of its files' SHA-256 in the order of their names, which is checked only where it is given."""


@dataclass(frozen=True, eq=False)
class Clip:
    """A CLIP of transformers, with what it reads images and texts by."""

    network: Any = field(repr=False)
    processor: Any = field(repr=False)
    tokenizer: Any = field(repr=False)
    weights: str
    """SHA-256 (hex) of its weights."""

    @torch.no_grad()
    @full_fp32()
    def similarities(self, images: Tensor, texts: Sequence[str], device: torch.device) -> Tensor:
        """The cosine (n,) of each image, uint8 (n, 1 or 3, H, W), and its text, float32 on the CPU."""
        network = self.network.to(device)
        different = list(dict.fromkeys(texts))
        place = {text: row for row, text in enumerate(different)}
        read = [
            _pooled(network.get_text_features(**self._tokens(different[start : start + _BATCH], device)))
            for start in range(0, len(different), _BATCH)
        ]
        seen = [
            _pooled(network.get_image_features(pixel_values=self._pixels(part, device)))
            for part in images.split(_BATCH)
        ]
        rows = torch.tensor([place[text] for text in texts], device=device)
        return cosine_similarity(torch.cat(seen), torch.cat(read)[rows]).float().cpu()

    def _tokens(self, texts: Sequence[str], device: torch.device) -> Any:
        longest = self.network.config.text_config.max_position_embeddings
        return self.tokenizer(
            texts, padding=True, truncation=True, max_length=longest, return_tensors="pt"
        ).to(device)

    def _pixels(self, images: Tensor, device: torch.device) -> Tensor:
        colour = images.to(device).expand(-1, 3, -1, -1)
        pixels: Tensor = self.processor(
            images=list(colour), input_data_format="channels_first", return_tensors="pt"
        ).pixel_values
        return pixels.to(device)

    def protocol(self) -> dict[str, Any]:
        """What the scores depend on, in JSON values."""
        settings = self.processor.to_dict()
        read = {"images": {key: settings.get(key) for key in _PROCESSED}, "words": self.tokenizer.get_vocab()}
        text = json.dumps(read, sort_keys=True, default=str)
        return {
            "weights": self.weights,
            "prompt": PROMPT,
            "read_by": hashlib.sha256(text.encode()).hexdigest()[:16],
        }


_PROCESSED = (
    *("do_resize", "size", "resample", "do_center_crop", "crop_size", "do_rescale", "rescale_factor"),
    *("do_normalize", "image_mean", "image_std"),
)
"""Settings of an image processor that decide what the network sees."""


@dataclass(frozen=True, eq=False)
class ClipScorer:
    """A CLIP, and the words that captions are made of; see `data.vocabulary`."""

    clip: Clip
    vocabulary: tuple[str, ...]

    def sums(self, images: Tensor, captions: Tensor, device: torch.device) -> dict[str, Tensor]:
        """Sums, float64, over images, uint8 (n, 1 or 3, H, W), and their captions, long (n, length); 0 is padding.

        Images without a caption do not count.
        """
        texts = [" ".join(self.vocabulary[word] for word in row if word) for row in captions.tolist()]
        captioned = torch.tensor([bool(text) for text in texts])
        count = captioned.sum().double()
        if not count:
            return {_SUM: torch.zeros((), dtype=torch.float64), _COUNT: count}
        prompts = [f"{PROMPT}{text}" for text in texts if text]
        cosines = self.clip.similarities(images[captioned.to(images.device)], prompts, device)
        return {_SUM: WEIGHT * cosines.double().clamp(min=0).sum(), _COUNT: count}


def clip_score(sums: Mapping[str, Tensor]) -> float | None:
    """The score from the `ClipScorer.sums` of all samples; None where there are none of them."""
    return float(sums[_SUM] / sums[_COUNT]) if _SUM in sums else None


def load_clip(spec: ClipSpec) -> Clip:
    """Load the CLIP in a folder, once per process. Only local safetensors are read, and no code.

    Raises `ConfigError`, one line, without the package transformers, for another SHA-256 and for a folder that holds no
    CLIP with its tokenizer and image processor.
    """
    return _load(Path(spec.path), spec.sha256)


@lru_cache(maxsize=1)
def _load(folder: Path, sha256: str | None) -> Clip:
    key, what = "evaluation.clip_score.path", "CLIP"
    found = check_weights(folder, sha256, key, what, "evaluation.clip_score")
    import transformers

    with refused(folder, key, what):
        network = load_network(folder, "clip", "CLIPModel")
        processor = transformers.CLIPImageProcessor.from_pretrained(folder, local_files_only=True)
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **LOCAL)
    return Clip(network, processor, tokenizer, found)


def _pooled(found: Any) -> Tensor:
    """The projected features (n, D): transformers 4 returns them by themselves."""
    return found if isinstance(found, Tensor) else found.pooler_output
