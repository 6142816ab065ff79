"""The protocol of an evaluation: everything that its numbers depend on, in JSON values."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from curriculum_ray.data import LatentShape, is_image
from curriculum_ray.diffusion import Process
from curriculum_ray.evaluation.clip_score import ClipScorer
from curriculum_ray.evaluation.extractors import Extractor
from curriculum_ray.evaluation.reference import Reference
from curriculum_ray.evaluation.sampling import block_size
from curriculum_ray.evaluation.spec import EvaluationSpec

__all__ = ["protocol_of"]


def protocol_of(
    spec: EvaluationSpec,
    process: Process,
    shape: tuple[int, ...],
    extractor: Extractor,
    reference: Reference,
    clip: ClipScorer | None = None,
    captions: str = "",
) -> dict[str, Any]:
    """The protocol that `fingerprint` identifies. spec: with its sampler resolved. shape: that of what is drawn.

    captions: a hash of those that `clip` scores samples by, where nothing else of the protocol tells them apart.

    What was not there when numbers were first published is added only where it applies, so that those stay comparable.
    """
    kept = [spec.features, spec.num_samples]
    if reference.features is not None:
        kept.append(reference.features)
    protocol: dict[str, Any] = {
        "protocol": 1,
        "extractor": extractor.name,
        "weights": extractor.weights,
        "reference": reference.fingerprint,
        "reference_items": reference.count,
        "num_samples": spec.num_samples,
        "sampler": spec.sampler,
        "steps": spec.steps,
        "seed": spec.seed,
        "ema": spec.ema,
        "resize": extractor.resize,
        "kid_subsets": extractor.kid_subsets,
        "kid_subset_size": min(extractor.kid_subset_size, *kept),
        "torch_fidelity": version("torch-fidelity"),
    }
    if spec.features < max(spec.num_samples, reference.count or 0):
        protocol["features"] = spec.features
    if spec.scales != (1.0,):
        protocol["guidance"] = list(spec.scales)
        protocol["guidance_interval"] = (
            None if spec.guidance_interval is None else list(spec.guidance_interval)
        )
    if clip is not None:
        protocol["clip_score"] = clip.clip.protocol()
        if captions:
            protocol["captions"] = captions
    if spec.sampler in ("ancestral", "stochastic"):
        protocol["block"] = block_size(spec)  # each step draws its noise block by block
    if isinstance(shape, LatentShape) and is_image(tuple(shape)):
        protocol["drawn"] = "latents"  # of as many channels as images, which are clipped
    return protocol | dict(reference.described) | process.protocol(spec.sampler, clip=is_image(shape))
