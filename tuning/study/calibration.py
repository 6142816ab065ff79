"""A short measurement of a study's steps and evaluations on this machine, of so small a share that it takes seconds."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from curriculum_ray.data import DataInfo, Dataset, is_image, to_uint8
from curriculum_ray.distributed.resources import ResourceSpec
from curriculum_ray.distributed.threads import worker_threads
from curriculum_ray.evaluation import Evaluator, prepare
from curriculum_ray.evaluation.spec import EvaluationSpec
from curriculum_ray.models import DiTSpec, ModelSpec
from curriculum_ray.models.dit import SIZES
from curriculum_ray.runs.config import RunConfig
from curriculum_ray.training.config import TrainConfig
from curriculum_ray.training.footprint import Footprint, footprint
from curriculum_ray.training.packed import PackedTrainer
from curriculum_ray.training.trainer import Trainer
from curriculum_ray.training.world import World
from tuning.study.reading import seconds_to_read, with_reading

__all__ = [
    "Calibration",
    "MeasuredPart",
    "TrialSpeed",
    "Unmeasured",
    "Work",
    "calibrate",
    "evaluation_flops",
    "measuring_device",
    "part_of_a_step",
]

_SECONDS = 4.0
"""For the steps, and for the generated images."""
_LEAST_SAMPLES = 16
# What a step that is measured may need: about a second of two cores, or of a large GPU.
_MOST_FLOPS = {"cpu": 1.5e11, "cuda": 1e14}
_MOST_PARAMETERS = {"cpu": 150_000_000, "cuda": 3_000_000_000}
# Of a larger data set, or of more features, whose covariances take minutes, only the extractor is timed.
_MOST_REFERENCE = 20_000
_MOST_FEATURES = 1_000


class Unmeasured(Exception):
    """Why a study's steps were not measured, in words that follow "unknown: "."""


@dataclass(frozen=True)
class Work:
    """What a trial has to do."""

    images: int
    evaluations: float
    """The one at its end, and its previews by their numbers of samples."""


@dataclass(frozen=True)
class TrialSpeed:
    """How fast each of the trials is that run at a time, in packs if they are packed."""

    seconds_per_image: float
    seconds_per_evaluation: float

    def seconds(self, work: Work) -> float:
        """How long a trial takes."""
        return work.images * self.seconds_per_image + work.evaluations * self.seconds_per_evaluation


@dataclass(frozen=True)
class Calibration:
    """Times of a short run of the study's model on this machine."""

    device: str
    seconds_per_step: float
    """One optimiser step of one worker on its share of a trial's batch; for packed trials, their share of the pack's
    step."""
    seconds_per_evaluation: float
    """Generating and scoring all samples of a trial, extrapolated from a part of them; the trials of a pack take
    turns."""
    packing_gain: float | None = None
    """Steps per second of all packed trials over those of as many trials one after another; None without a pack."""
    share: str | None = None
    """What was measured, where that was less than a whole step; times go by the operations of both."""
    peak_bytes: int | None = None
    """The most memory that a whole step held on a GPU."""
    seconds_to_read: float | None = None
    """Reading a worker's share of a batch from shards on one core, counted in `seconds_per_step`; None for data in
    memory."""
    on_a_core: float | None = None
    """The share of the time of the steps that this process had a core, in (0, 1]: well below 1, other programs kept
    the machine busy. None for a GPU."""

    def speed(self, batch_size: int, pack: int) -> TrialSpeed:
        """The speed of trials of this batch size, whose workers do not wait for each other.

        pack: how many of them a worker trains at a time. Each then takes as long as all of them: their steps are
        taken together, and they wait for each other's evaluations. A pack that is not full counts as a full one.
        """
        return TrialSpeed(pack * self.seconds_per_step / batch_size, pack * self.seconds_per_evaluation)


def measuring_device(for_gpu: bool) -> torch.device:
    """The device on which a study's steps can be measured here; Unmeasured where it is for GPUs and none is here."""
    if for_gpu and not torch.cuda.is_available():
        raise Unmeasured(
            "this machine has no GPU, and the speed of a CPU says nothing about a GPU's: plan on a machine that has one"
        )
    return torch.device("cuda" if for_gpu else "cpu")


def evaluation_flops(spec: EvaluationSpec, network: Footprint) -> int | None:
    """Operations of the network in generating the samples of one evaluation, at all scales of guidance.

    Those of the extractor are not counted; guidance counts at every step, also where it has an interval.
    """
    if network.sample_flops is None:
        return None
    # Both are of second order: two evaluations of the network a step (Karras et al. 2022, Alg. 1 and 2).
    calls = spec.steps * (2 if spec.sampler in ("heun", "stochastic") else 1) * sum(map(_calls, spec.scales))
    return spec.num_samples * calls * network.sample_flops


def _calls(scale: float) -> int:
    """How often the network is asked at a scale of guidance, 1 for none: with the condition, and without it."""
    return 1 if scale == 1 else 2


@dataclass(frozen=True)
class MeasuredPart:
    """What of a step is measured."""

    config: TrainConfig
    share: float
    """The operations of the part over those of the whole step, in (0, 1]."""
    words: str | None
    """None for the whole step."""


def calibrate(
    run: RunConfig,
    data: Dataset | DataInfo,
    network: Footprint,
    device: torch.device,
    resources: ResourceSpec,
    pack: int = 1,
    steps: int = 30,
    share: int = 8,
) -> Calibration:
    """Train at most `steps` steps in this process, without Ray, and evaluate at most 1/`share` of the samples.

    resources: of a run, whose most workers share its batch, each on as many threads as it has CPUs. pack: how many
    runs a worker will train at a time; if more than 1, the steps of a pack are timed too. A step that would take long
    is measured on fewer images, and through fewer blocks of a large transformer. Raises Unmeasured where that is not
    possible either, or where the memory of the device does not suffice. Of a stream, steps are measured on the items
    that are in memory, and reading is measured apart.
    """
    items = data.reference
    assert items is not None
    plain = run.model_copy(update={"schedule": run.schedule.without_curriculum()}).train
    # How long a step takes does not depend on what the weights are.
    update = {"batch_size": run.batch_size // resources.workers[1], "compile": False, "init_from": None}
    plain = plain.model_copy(update=update)
    try:
        with worker_threads(resources):
            part = part_of_a_step(plain, items, network, device)
            trainer = Trainer(part.config, items, World(device=device))
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(device)
            (seconds, on_a_core), gain = _per_step(trainer.step, steps, device), None
            peak = (
                torch.cuda.max_memory_allocated(device) if device.type == "cuda" and part.share == 1 else None
            )
            seconds /= part.share
            # A trial generates its samples by itself, also in a pack.
            per_image = seconds / plain.batch_size
            if pack > 1 and part.share == 1:
                seeds = [plain.model_copy(update={"seed": plain.seed + place}) for place in range(pack)]
                packed = PackedTrainer(seeds, items, World(device=device))
                together, on_a_core = _per_step(packed.step, max(1, steps // pack), device)
                alone, seconds = seconds, together / pack
                gain = alone / seconds
            evaluation, left_out = _evaluation(run, items, network, trainer, device, per_image, share)
    except torch.OutOfMemoryError:
        raise Unmeasured("a step does not fit into the memory of the GPU of this machine") from None
    reading = None
    if isinstance(data, DataInfo):
        reading = plain.batch_size * seconds_to_read(run.data, data)
        seconds = with_reading(seconds, reading, device)
    notes = (part.words, "no torch.compile" if run.compile else None, left_out)
    said = ", ".join(note for note in notes if note is not None) or None
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    return Calibration(name, seconds, evaluation, gain, said, peak, reading, on_a_core)


def part_of_a_step(
    config: TrainConfig, data: Dataset, network: Footprint, device: torch.device
) -> MeasuredPart:
    """Choose what of a step of `config` is measured on `device` within a second or so; Unmeasured where nothing is."""
    images, flops = config.batch_size, network.train_flops
    small = network.parameters <= _MOST_PARAMETERS[device.type]
    most = _MOST_FLOPS[device.type]
    if small and (flops is None or images * flops <= 2 * most):
        return MeasuredPart(config, 1.0, None)
    if flops is None:
        raise Unmeasured("the network is large, and its operations cannot be counted")
    model, each, words = config.model, flops, ""
    if isinstance(model, DiTSpec) and (not small or flops > most):
        model, words = _shallow(model)
        less = footprint(model, data.shape, data.conditioning, lora=config.lora)
        assert less.train_flops is not None
        each, small = less.train_flops, less.parameters <= _MOST_PARAMETERS[device.type]
    if not small or each > 4 * most:
        raise Unmeasured(
            f"a step of {network.parameters / 1e6:,.0f} million weights would take this machine too long"
        )
    few = max(1, min(images, int(most / each)))
    config = config.model_copy(update={"model": model, "batch_size": few, "accumulate": 1})
    said = f"{few} of {images:,} images of a worker's step{words}"
    return MeasuredPart(config, few * each / (images * flops), said)


def _shallow(model: DiTSpec) -> tuple[ModelSpec, str]:
    depth = model.depth or SIZES[model.size.partition("/")[0]][0]
    few = min(depth, 2)
    return model.model_copy(update={"depth": few}), f", {few} of {depth} blocks"


def _per_step(step: Callable[[], None], steps: int, device: torch.device) -> tuple[float, float | None]:
    """Seconds of a step, the median of as many as fit into some seconds, at most `steps`; on a CPU, the share of them
    in which this thread had a core."""
    step()  # The first one allocates memory that later ones reuse.
    times: list[float] = []
    start = time.thread_time()
    while len(times) < steps and sum(times) < _SECONDS:
        times.append(_timed(step, device))
    had = time.thread_time() - start
    return statistics.median(times), None if device.type == "cuda" else min(1.0, had / sum(times))


def _evaluation(
    run: RunConfig,
    data: Dataset,
    network: Footprint,
    trainer: Trainer,
    device: torch.device,
    seconds_per_image: float,
    share: int,
) -> tuple[float, str | None]:
    """Seconds to generate and score an evaluation's samples, from a part of each; words for what is left out.

    seconds_per_image: of a step of the whole network, by whose operations the generation is estimated where `trainer`
    has only a part of the network, or it would take long.
    """
    assert run.evaluation is not None
    whole, scales = prepare(run.evaluation, data, trainer.process, run.data), run.evaluation.scales
    wanted, flops = run.evaluation.num_samples, evaluation_flops(whole.spec, network)
    scored, expected = max(64, wanted // share), None
    few = scored
    if flops is not None and network.train_flops is not None:
        expected = seconds_per_image * flops / network.train_flops
        few = min(few, max(_LEAST_SAMPLES, int(wanted * _SECONDS / expected))) if expected > 0 else few
    part = prepare(run.evaluation.model_copy(update={"num_samples": scored}), data, trainer.process, run.data)
    scoring, left_out = _scoring(part, device)
    whole_network = trainer.config.model == run.model
    if expected is not None and (not whole_network or expected * few / wanted > 2 * _SECONDS):
        return expected + len(scales) * wanted * scoring, left_out
    evaluator = prepare(
        run.evaluation.model_copy(update={"num_samples": few}), data, trainer.process, run.data
    )

    def generate() -> None:
        evaluator.generate(trainer.process, trainer.ema.model, trainer.conditioning, device)

    # `generate` is at the first scale.
    generating = _timed(generate, device) / few * sum(map(_calls, scales)) / _calls(scales[0])
    return wanted * (generating + len(scales) * scoring), left_out


def _scoring(evaluator: Evaluator, device: torch.device) -> tuple[float, str | None]:
    """Seconds of scoring one sample, and words for what of it was not timed."""
    few, extractor = evaluator.spec.num_samples, evaluator.extractor
    samples = torch.randn(few, *evaluator.shape, generator=torch.Generator().manual_seed(0))
    samples = to_uint8(samples) if is_image(evaluator.shape) else samples
    several = samples[:_LEAST_SAMPLES]
    features = extractor.features(several, device).shape[1]
    if features > _MOST_FEATURES or (evaluator.reference.count or 0) > _MOST_REFERENCE:
        seconds = _timed(lambda: extractor.features(several, device), device) / len(several)
        return seconds, f"no metric of {features:,} features"

    def score() -> None:
        evaluator.score(samples, device)

    score()  # The features of the data are extracted once per process.
    return _timed(score, device) / few, None


def _timed(work: Callable[[], object], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start
