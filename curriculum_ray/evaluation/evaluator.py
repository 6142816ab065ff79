"""An evaluation protocol with its reference images: check before training, score after it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from curriculum_ray.config import ConfigError
from curriculum_ray.data import NO_CONDITIONING, Conditioning, Dataset, is_image, to_uint8
from curriculum_ray.diffusion import DDPMSpec, Process, build_process
from curriculum_ray.evaluation import fidelity, inception
from curriculum_ray.evaluation.digits_cnn import DIGITS_CNN_WEIGHTS, load_digits_cnn
from curriculum_ray.evaluation.dinov2 import load_dinov2
from curriculum_ray.evaluation.sampling import draw_condition, draw_samples
from curriculum_ray.evaluation.simple_features import RandomCNN, RawFeatures, weights_hash
from curriculum_ray.evaluation.spec import EvaluationSpec, fingerprint

__all__ = ["Evaluator", "prepare", "resolve_sampler"]


@dataclass(frozen=True)
class _Extractor:
    """What depends on the extractor: how images are resized, and what KID can afford."""

    resize: str
    batch_size: int
    kid_subsets: int
    kid_subset_size: int


_EXTRACTORS = {
    # One subset with all digits: as precise as ten of 1,000 each, at half their cost.
    "digits-cnn": _Extractor("none", 500, kid_subsets=1, kid_subset_size=1_797),
    # Bińkowski et al. 2018, §4, as in the defaults of torch-fidelity.
    "inception-v3": _Extractor("299x299 bilinear", 64, kid_subsets=100, kid_subset_size=1_000),
    "dinov2": _Extractor("224x224 bicubic", 64, kid_subsets=100, kid_subset_size=1_000),
    "random-cnn": _Extractor("none", 500, kid_subsets=10, kid_subset_size=1_000),
    "raw": _Extractor("none", 2_000, kid_subsets=10, kid_subset_size=1_000),
}
_DIGITS_SHAPE = (1, 8, 8)
_MIN_IMAGES = 16

_references: dict[tuple[str, str], Tensor] = {}
"""Features by extractor and data fingerprint, only of the last reference: large sets take gigabytes."""


@dataclass(frozen=True)
class Evaluator:
    """Scores models against one set of real images; built by `prepare`.

    `protocol` describes in JSON values how the numbers are obtained, `fingerprint` identifies it, and numbers
    with different fingerprints are not comparable.
    """

    spec: EvaluationSpec
    data: Dataset
    protocol: dict[str, Any]
    network: nn.Module = field(repr=False)

    @property
    def fingerprint(self) -> str:
        """12 hexadecimal digits that change with everything that affects the numbers."""
        return fingerprint(self.protocol)

    @property
    def extractor(self) -> str:
        """Name under which the network with exactly these weights is registered with torch-fidelity."""
        return f"{self.protocol['extractor']}-{self.protocol['weights'][:16]}"

    def score(self, samples: Tensor, device: str | torch.device = "cpu") -> dict[str, float]:
        """Return fid, kid, precision and recall of `samples`: uint8 images or float32 items, (n, *shape).

        FID and KID: 0 is best, and KID may be slightly negative. Precision and recall: in [0, 1], 1 is best.
        """
        expected = (self.spec.num_samples, *self.data.shape)
        kind = torch.uint8 if is_image(self.data.shape) else torch.float32
        if samples.dtype != kind or tuple(samples.shape) != expected:
            raise ValueError(
                f"samples must be {kind} of shape {expected}, "
                f"but are {samples.dtype} of {tuple(samples.shape)}"
            )
        device = torch.device(device)
        network = fidelity.register_extractor(self.extractor, self.network).to(device)
        batch_size = _EXTRACTORS[self.protocol["extractor"]].batch_size
        if kind != torch.uint8:
            samples = fidelity.extract_features(network, samples, batch_size, device)
        return fidelity.calculate(
            self.extractor,
            samples.cpu(),
            self._reference(network, device),
            batch_size=batch_size,
            kid_subsets=self.protocol["kid_subsets"],
            kid_subset_size=self.protocol["kid_subset_size"],
            device=device,
        )

    def generate(
        self,
        process: Process,
        model: nn.Module,
        conditioning: Conditioning = NO_CONDITIONING,
        device: str | torch.device = "cpu",
    ) -> Tensor:
        """Draw the items that `evaluate` scores: uint8 images or float32 items, (num_samples, *shape).

        conditioning: that of the model, which gets conditions in the proportions of the reference.
        """
        condition = None
        if conditioning:
            if self.data.condition is None or self.data.conditioning != conditioning:
                raise ConfigError(
                    f"a model conditioned on {conditioning} needs reference data with the same, "
                    f"but {self.data.name} has {self.data.conditioning}"
                )
            condition = draw_condition(self.data.condition, self.spec.num_samples, self.spec.seed)
        return draw_samples(self.spec, process, model, self.data.shape, condition, device)

    def evaluate(
        self,
        process: Process,
        model: nn.Module,
        conditioning: Conditioning = NO_CONDITIONING,
        device: str | torch.device = "cpu",
    ) -> tuple[dict[str, float], Tensor]:
        """`generate` from a model on `device`, then `score`; returns (metrics, samples).

        The modes of the model's modules and the global random state are restored.
        """
        samples = self.generate(process, model, conditioning, device)
        return self.score(samples, device), samples

    def _reference(self, network: nn.Module, device: torch.device) -> Tensor:
        key = (self.extractor, self.data.fingerprint)
        if key not in _references:
            batch_size = _EXTRACTORS[self.protocol["extractor"]].batch_size
            images = to_uint8(self.data.stored) if is_image(self.data.shape) else self.data.items
            features = fidelity.extract_features(network, images, batch_size, device)
            _references.clear()
            _references[key] = features
        return _references[key]


def prepare(spec: EvaluationSpec, data: Dataset, process: Process | None = None) -> Evaluator:
    """Check before training that the evaluation after it can run; `ConfigError` says what is missing.

    Inception-v3's weights are downloaded here if needed, verified by hash, and loaded. Sampler and steps are
    checked against `process`, by default DDPM. The features of `data` are extracted at the first score, once
    per Python process.
    """
    if min(len(data), spec.num_samples) < _MIN_IMAGES:
        raise ConfigError(
            f"evaluation needs at least {_MIN_IMAGES} real and {_MIN_IMAGES} generated images, but "
            f"{data.name} has {len(data)} and evaluation.num_samples is {spec.num_samples}"
        )
    process = process or build_process(DDPMSpec())
    spec = resolve_sampler(spec, process)
    name, network, weights = _load_extractor(spec, data)
    extractor = _EXTRACTORS[name]
    protocol: dict[str, Any] = {
        "protocol": 1,
        "extractor": name,
        "weights": weights,
        "reference": data.fingerprint,
        "reference_items": len(data),
        "num_samples": spec.num_samples,
        "sampler": spec.sampler,
        "steps": spec.steps,
        "seed": spec.seed,
        "ema": spec.ema,
        "resize": extractor.resize,
        "kid_subsets": extractor.kid_subsets,
        "kid_subset_size": min(extractor.kid_subset_size, spec.num_samples, len(data)),
        "torch_fidelity": version("torch-fidelity"),
    }
    if spec.sampler in ("ancestral", "stochastic"):
        protocol["batch_size"] = spec.batch_size  # each step draws its noise batch by batch
    protocol |= process.protocol(spec.sampler, clip=is_image(data.shape))
    return Evaluator(spec, data, protocol, network)


def resolve_sampler(
    spec: EvaluationSpec,
    process: Process,
    names: tuple[str, str] = ("evaluation.sampler", "evaluation.steps"),
) -> EvaluationSpec:
    """Resolve the sampler `auto`; `ConfigError` if `process` does not support the sampler or the steps.

    names: the two settings in the words of the user.
    """
    if spec.sampler == "auto":
        spec = spec.model_copy(update={"sampler": process.samplers[0]})
    if spec.sampler not in process.samplers:
        raise ConfigError(
            f"{names[0]} must be one of {', '.join(process.samplers)} for {process.name}, "
            f"but got {spec.sampler}"
        )
    if process.levels.count is not None and spec.steps > process.levels.count:
        raise ConfigError(
            f"{names[1]} must be at most {process.levels.count}, the number of timesteps, but got {spec.steps}"
        )
    return spec


def _load_extractor(spec: EvaluationSpec, data: Dataset) -> tuple[str, nn.Module, str]:
    """Return the extractor's name, network and weights' SHA-256; `ConfigError` if it does not take `data`."""
    name: str = spec.extractor
    if name == "auto":
        name = _automatic(data)
    size = "x".join(str(side) for side in data.shape)
    if name == "raw":
        raw = RawFeatures(spectrum=len(data.shape) == 2 and data.shape[0] == 1)
        return name, raw, weights_hash(raw)
    if not is_image(data.shape):
        raise ConfigError(
            f"evaluation.extractor {name} takes images, but the items of {data.name} are {size}: use raw"
        )
    if name == "random-cnn":
        if min(data.shape[1:]) < 8:
            raise ConfigError(f"evaluation.extractor random-cnn takes images of at least 8x8, but got {size}")
        network = RandomCNN(data.shape[0], min(data.shape[1:])).eval()
        return name, network, weights_hash(network)
    if name == "digits-cnn":
        if data.shape != _DIGITS_SHAPE:
            raise ConfigError(
                f"evaluation.extractor digits-cnn takes 1x8x8 images, but those of {data.name} are "
                f"{size}: use inception-v3"
            )
        return name, *_digits_cnn()
    if name == "dinov2":
        assert spec.weights is not None
        return name, *_dinov2(Path(spec.weights), spec.sha256)
    path = inception.find_weights(spec.weights)
    return name, *_inception(path, spec.sha256 or inception.INCEPTION_SHA256)


def _automatic(data: Dataset) -> str:
    """Return the extractor that `auto` selects; embedded sets need no download."""
    if not is_image(data.shape):
        return "raw"
    if data.shape == _DIGITS_SHAPE:
        return "digits-cnn"
    return "random-cnn" if data.name in ("photos", "shapes") else "inception-v3"


@lru_cache(maxsize=1)
def _digits_cnn() -> tuple[nn.Module, str]:
    try:
        content = DIGITS_CNN_WEIGHTS.read_bytes()
    except OSError as error:
        raise ConfigError(f"{DIGITS_CNN_WEIGHTS} cannot be read: {error.strerror}") from None
    return load_digits_cnn(content, str(DIGITS_CNN_WEIGHTS))[0], hashlib.sha256(content).hexdigest()


@lru_cache(maxsize=1)
def _dinov2(folder: Path, sha256: str | None) -> tuple[nn.Module, str]:
    return load_dinov2(folder, sha256)


@lru_cache(maxsize=1)
def _inception(path: Path, sha256: str) -> tuple[nn.Module, str]:
    return inception.load_inception(inception.read_verified(path, sha256), str(path)), sha256
