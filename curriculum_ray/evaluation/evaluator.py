"""An evaluation protocol with its reference, which scores models on one rank or on several."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from curriculum_ray.config import ConfigError
from curriculum_ray.data import NO_CONDITIONING, Conditioning, is_image
from curriculum_ray.data.autoencoder import Decoder
from curriculum_ray.diffusion import Process
from curriculum_ray.evaluation.clip_score import NAME as CLIP_SCORE
from curriculum_ray.evaluation.clip_score import ClipScorer, clip_score
from curriculum_ray.evaluation.extractors import Extractor
from curriculum_ray.evaluation.fidelity import Statistics, calculate
from curriculum_ray.evaluation.inception_score import NAME as INCEPTION_SCORE
from curriculum_ray.evaluation.inception_score import class_sums, inception_score
from curriculum_ray.evaluation.reference import Reference, do_nothing, tally_of
from curriculum_ray.evaluation.sampling import WHOLE, Conditions, Share, draw_blocks, draw_samples
from curriculum_ray.evaluation.spec import EvaluationSpec, fingerprint
from curriculum_ray.evaluation.tally import Tally, merged

__all__ = ["SHOWN", "Evaluator"]

SHOWN = 64
"""Samples that are kept to look at."""


@dataclass(frozen=True)
class Evaluator:
    """Scores models against one set of real items; built by `prepare`.

    drawn: the shape of an item that the model draws. shape: that of an item that is scored, which differs where latents
    are decoded by `decoder`. `protocol` describes in JSON values how the numbers are obtained,
    `fingerprint` identifies it, and numbers with different fingerprints are not comparable.
    """

    spec: EvaluationSpec
    drawn: tuple[int, ...]
    shape: tuple[int, ...]
    protocol: dict[str, Any]
    extractor: Extractor
    reference: Reference
    decoder: Decoder | None = None
    clip: ClipScorer | None = None

    @property
    def fingerprint(self) -> str:
        """12 hexadecimal digits that change with everything that affects the numbers."""
        return fingerprint(self.protocol)

    @property
    def note(self) -> str | None:
        """Which metrics are missing because of the reference, in one line; None where none is."""
        if self.reference.features or not self.spec.features:
            return None
        return f"evaluation.reference {self.reference.name} holds no features: no kid, precision or recall"

    @property
    def names(self) -> tuple[str, ...]:
        """The metrics that it gives, for each scale of guidance.

        No kid, precision and recall where either side has no features; an inception_score where the extractor is a
        classifier, and a clip_score where a CLIP is given.
        """
        both = self.spec.features and self.reference.features
        names: tuple[str, ...] = ("fid", *(("kid", "precision", "recall") if both else ()))
        names += (INCEPTION_SCORE,) if self.extractor.classifies else ()
        names += () if self.clip is None else (CLIP_SCORE,)
        return tuple(f"{name}{suffix}" for suffix, _ in self.scales() for name in names)

    def scales(self) -> Iterator[tuple[str, Evaluator]]:
        """An evaluator for each scale of guidance, with what its metrics' names end in: nothing for the first."""
        for number, scale in enumerate(self.spec.scales):
            suffix = f"_at_{scale:g}" if number else ""
            yield suffix, replace(self, spec=self.spec.model_copy(update={"guidance": scale}))

    def draw(
        self,
        process: Process,
        model: nn.Module,
        conditioning: Conditioning = NO_CONDITIONING,
        device: str | torch.device = "cpu",
        share: Share = WHOLE,
        on_block: Callable[[], None] = do_nothing,
    ) -> Tally:
        """Draw a share of the samples and keep what the metrics need, in memory that does not grow with their number.

        Of several scales of guidance, at the first.

        conditioning: that of the model, which gets conditions in the proportions of the reference. on_block: called
        after each block. The modes of the model's modules and the global random state are restored.
        """
        device = torch.device(device)
        tally = Tally.empty()
        condition = self._conditions(conditioning)
        for block, items in draw_blocks(self.spec, process, model, self.drawn, condition, device, share):
            tally.add(
                self._tally(items if self.decoder is None else self.decoder(items, device), block, device)
            )
            on_block()
        return tally

    def generate(
        self,
        process: Process,
        model: nn.Module,
        conditioning: Conditioning = NO_CONDITIONING,
        device: str | torch.device = "cpu",
    ) -> Tensor:
        """All samples that `draw` counts: uint8 images or float32 items, (num_samples, *shape), on the CPU."""
        condition = self._conditions(conditioning)
        samples = draw_samples(self.spec, process, model, self.drawn, condition, device)
        return samples if self.decoder is None else self.decoder(samples, device)

    def score(self, samples: Tensor, device: str | torch.device = "cpu") -> dict[str, float]:
        """Return the metrics of all `samples`: uint8 images or float32 items, (num_samples, *shape).

        FID and KID: 0 is best, and KID may be slightly negative. Precision and recall: in [0, 1], 1 is best. Inception
        Score: from 1 to the number of classes, which is best. CLIP score: in [0, 2.5], of samples that were drawn for
        the captions of this evaluation.
        """
        expected = (self.spec.num_samples, *self.shape)
        kind = torch.uint8 if is_image(self.shape) else torch.float32
        if samples.dtype != kind or tuple(samples.shape) != expected:
            raise ValueError(
                f"samples must be {kind} of shape {expected}, "
                f"but are {samples.dtype} of {tuple(samples.shape)}"
            )
        device, whole = torch.device(device), Tally.empty()
        for block in WHOLE.blocks(len(samples), self.extractor.batch_size):
            whole.add(self._tally(samples[block.start : block.stop], block, device))
        return self.metrics([whole], device=device)

    def evaluate(
        self,
        process: Process,
        model: nn.Module,
        conditioning: Conditioning = NO_CONDITIONING,
        device: str | torch.device = "cpu",
    ) -> tuple[dict[str, float], Tensor]:
        """`draw` all samples from a model on `device`, at each scale of guidance.

        Returns the metrics, and the first samples of the first scale, at most `SHOWN`.
        """
        metrics: dict[str, float] = {}
        first: Tensor | None = None
        for suffix, one in self.scales():
            tally = one.draw(process, model, conditioning, device)
            metrics |= with_suffix(one.metrics([tally], device=device), suffix)
            first = shown(tally) if first is None else first
        assert first is not None
        return metrics, first

    def metrics(
        self,
        drawn: Sequence[Tally],
        real: Sequence[Tally] = (),
        device: str | torch.device = "cpu",
    ) -> dict[str, float]:
        """The metrics of the samples in the shares `drawn`.

        real: the shares of the reference; without them, and where its statistics are not known, they are taken here.
        """
        reference = self.reference.known(self.extractor, self.spec.features)
        if reference is None:
            parts = real or [self.tally_reference(device)]
            reference = self.reference.keep(self.extractor, self.spec.features, merged(parts))
        whole = merged(drawn)
        found = calculate(
            Statistics.of(whole),
            reference,
            kid_subsets=self.protocol["kid_subsets"],
            kid_subset_size=self.protocol["kid_subset_size"],
        )
        summed = {INCEPTION_SCORE: inception_score(whole.sums), CLIP_SCORE: clip_score(whole.sums)}
        return found | {name: value for name, value in summed.items() if value is not None}

    @property
    def lacks_reference(self) -> bool:
        """Whether the items of the reference are still to be read, by all ranks together or at the first score."""
        return self.reference.known(self.extractor, self.spec.features) is None

    def tally_reference(
        self,
        device: str | torch.device = "cpu",
        share: Share = WHOLE,
        on_block: Callable[[], None] = do_nothing,
    ) -> Tally:
        """Read a share of the reference's items; on_block: called after each block."""
        return self.reference.tally(self.extractor, self.spec.features, torch.device(device), share, on_block)

    def _conditions(self, conditioning: Conditioning) -> Conditions | None:
        if not conditioning:
            if self.clip is not None:
                raise ConfigError(
                    "evaluation.clip_score needs a model that takes the captions, but it takes none"
                )
            return None
        if self.reference.condition is None or self.reference.conditioning != conditioning:
            raise ConfigError(
                f"a model conditioned on {conditioning} needs reference data with the same, "
                f"but {self.reference.name} has {self.reference.conditioning}"
            )
        return Conditions(self.reference.condition, self.spec.num_samples, self.spec.seed)

    @cached_property
    def _captions(self) -> Conditions:
        """Those that the samples are drawn for."""
        assert self.reference.condition is not None
        return Conditions(self.reference.condition, self.spec.num_samples, self.spec.seed)

    def _tally(self, items: Tensor, block: range, device: torch.device) -> Tally:
        numbers = torch.arange(block.start, block.stop)
        wanted = torch.arange(min(self.spec.features, self.spec.num_samples))
        features, logits = self.extractor.features_and_logits(items, device)
        tally = tally_of(features, numbers, wanted)
        if logits is not None:
            tally.sums.update(class_sums(logits, numbers, self.spec.num_samples))
        if self.clip is not None:
            captions = self._captions[block.start : block.stop]
            tally.sums.update(self.clip.sums(items, captions, device))
        tally.shown.add(numbers[numbers < SHOWN], items[: max(0, SHOWN - block.start)].cpu())
        return tally


def with_suffix(metrics: Mapping[str, float], suffix: str) -> dict[str, float]:
    """The same metrics by their names at a scale of guidance."""
    return {f"{name}{suffix}": value for name, value in metrics.items()}


def shown(tally: Tally) -> Tensor:
    """The samples to look at in the tally of all shares."""
    rows = tally.shown.rows
    assert rows is not None
    return rows
