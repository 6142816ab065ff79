"""Makes the evaluator of a protocol, and says before training what would keep it from scoring."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from curriculum_ray.config import ConfigError
from curriculum_ray.data import DataInfo, Dataset, DataSpec, is_image
from curriculum_ray.data.content import condition_content
from curriculum_ray.data.spec import EMBEDDED
from curriculum_ray.diffusion import DDPMSpec, Process, build_process
from curriculum_ray.evaluation.clip_score import ClipScorer, load_clip
from curriculum_ray.evaluation.counting import decoder_of
from curriculum_ray.evaluation.evaluator import Evaluator
from curriculum_ray.evaluation.extractors import load_extractor
from curriculum_ray.evaluation.protocol import protocol_of
from curriculum_ray.evaluation.reference import data_reference
from curriculum_ray.evaluation.reference_file import classes_hash, conditioned, read_reference
from curriculum_ray.evaluation.spec import EvaluationSpec

__all__ = ["prepare", "resolve_sampler"]

_LEAST = 16


def prepare(
    spec: EvaluationSpec,
    data: Dataset | DataInfo,
    process: Process | None = None,
    source: DataSpec | None = None,
) -> Evaluator:
    """Check before training that the evaluation after it can run; `ConfigError` says what is missing.

    data: what is trained on, which is also the reference, unless that is a file; of a stream its `reference` is.
    source: its settings; latents are decoded by the autoencoder that it names. Without them, data of the name of an
    embedded set are that set. Inception-v3's weights are downloaded
    here if needed, verified by hash, and loaded. Sampler and steps are checked against `process`, by default DDPM. The
    features of `data` are extracted at the first score, once per Python process.
    """
    process = process or build_process(DDPMSpec())
    spec = resolve_sampler(spec, process)
    file = None if spec.reference is None else read_reference(spec.reference)
    items = data.reference
    if file is not None and spec.extractor == "auto":
        spec = file.with_extractor(spec)
    decoder = decoder_of(source, spec.extractor)
    shape = data.shape if decoder is None else decoder.shape(data.shape)
    clip = _clip_scorer(spec, shape, data)
    extractor = load_extractor(
        spec, shape, data.name, (data.name if source is None else source.name) in EMBEDDED
    )
    described = {} if decoder is None else {"decoder": decoder.sha256}
    captions = ""
    if file is not None:
        file.check(extractor, shape, described.get("decoder", ""))
        reference = conditioned(file.reference(spec.features), file.classes, items or data)
    else:
        assert items is not None
        if decoder is not None and isinstance(data, Dataset):
            items = held_out(data)
        reference = data_reference(items, data.shape, decoder)
        captions = "" if clip is None else _captions_hash(items, classes_hash(data))
    needs = f"evaluation needs at least {_LEAST} real items and {_LEAST} samples, but"
    if reference.count is not None and reference.count < _LEAST:
        raise ConfigError(f"{needs} {reference.name} has {reference.count}")
    if spec.num_samples < _LEAST:
        raise ConfigError(f"{needs} evaluation.num_samples is {spec.num_samples}")
    reference = replace(reference, described={**described, **reference.described})
    protocol = protocol_of(spec, process, data.shape, extractor, reference, clip, captions)
    return Evaluator(spec, data.shape, shape, protocol, extractor, reference, decoder, clip)


def _clip_scorer(spec: EvaluationSpec, shape: tuple[int, ...], data: Dataset | DataInfo) -> ClipScorer | None:
    """The CLIP of `spec` with the words of the data; ConfigError for data that are no images with captions."""
    if spec.clip_score is None:
        return None
    kind = data.conditioning.kind
    if kind == "embedding":
        raise ConfigError(
            f"evaluation.clip_score needs captions as words, but those of {data.name} are vectors of a text encoder"
        )
    if kind != "tokens":
        raise ConfigError(f"evaluation.clip_score needs captions, but {data.name} has {data.conditioning}")
    if not is_image(shape):
        size = "x".join(str(side) for side in shape)
        raise ConfigError(f"evaluation.clip_score takes images, but the items of {data.name} are {size}")
    return ClipScorer(load_clip(spec.clip_score), data.vocabulary)


def _captions_hash(items: Dataset, words: str) -> str:
    """A hash of the captions of the items. words: that of the vocabulary that their numbers stand for."""
    digest = hashlib.sha256(words.encode())
    digest.update(condition_content(items))
    return digest.hexdigest()[:16]


def held_out(latents: Dataset) -> Dataset:
    """The held-out items of cached latents: to decode all of them would take long."""
    if latents.heldout is None:
        raise ConfigError(
            f"decoded samples of {latents.name} are compared with held-out latents, but none are held out: set "
            "data.holdout_share, or evaluation.reference to a file of `python -m tune reference`"
        )
    return latents.heldout


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
