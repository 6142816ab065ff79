"""Settings of one training run, in images seen so that batch and world size can change without the rest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from curriculum_ray.config import ConfigError, Spec
from curriculum_ray.curriculum import CurriculumSchedule, GradientNorm, Uniform, default_base
from curriculum_ray.curriculum.pacing.plateau import WINDOWS
from curriculum_ray.data import DataSpec
from curriculum_ray.diffusion import DDPMSpec, ProcessSpec, WeightingSpec
from curriculum_ray.diffusion.uncertainty import EDM2Uncertainty, IntervalUncertaintySpec
from curriculum_ray.diffusion.weighting import NoWeighting
from curriculum_ray.models import ModelSpec, UNetSpec, normalise_model
from curriculum_ray.training.batch_size import DEFAULT_BATCH_SIZE, batch_sizes, choice_line
from curriculum_ray.training.heldout_spec import MEASUREMENTS, HeldoutSpec
from curriculum_ray.training.prediction import with_prediction

__all__ = [
    "CheckpointSpec",
    "EmaSpec",
    "OptimizerSpec",
    "PowerEmaSpec",
    "PreviewSpec",
    "StabilitySpec",
    "TrainConfig",
]


class OptimizerSpec(Spec):
    """AdamW (Loshchilov & Hutter 2019) with a linear warm-up and a decay."""

    learning_rate: float = Field(default=2e-3, gt=0, le=1)
    """Peak learning rate of AdamW."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Decoupled weight decay."""
    betas: tuple[float, float] = (0.9, 0.99)
    """Decay rates of the first and second moment, each in [0, 1)."""
    warmup_images: int = Field(default=2560, ge=0)
    """Images over which the learning rate rises linearly from 0."""
    schedule: Literal["constant", "cosine", "linear", "inverse_sqrt"] = "constant"
    """How the rate goes on after the warm-up; cosine and linear end with the budget."""
    final_share: float = Field(default=0.0, ge=0, le=1)
    """The share of the peak at which cosine and linear end."""
    reference_images: int | None = Field(default=None, ge=1)
    """Images after which inverse_sqrt begins to fall (EDM2's t_ref, Karras et al. 2024, Eq. 67)."""
    clip_grad_norm: float = Field(default=1.0, gt=0)
    """Largest norm of the whole gradient; larger ones are scaled down to it."""

    @model_validator(mode="after")
    def _betas_in_range(self) -> OptimizerSpec:
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"optimizer.betas must lie in [0, 1), but got {list(self.betas)}")
        return self

    @model_validator(mode="after")
    def _schedule_applies(self) -> OptimizerSpec:
        falls = self.schedule == "inverse_sqrt"
        if falls != (self.reference_images is not None):
            raise ValueError(
                f"optimizer.reference_images belongs to the schedule inverse_sqrt and is needed there, "
                f"but it is {self.reference_images} with {self.schedule}"
            )
        if self.final_share and self.schedule not in ("cosine", "linear"):
            raise ValueError(
                f"optimizer.final_share belongs to the schedules cosine and linear, "
                f"but it is {self.final_share} with {self.schedule}"
            )
        return self


class PowerEmaSpec(Spec):
    """Averages with power-function profiles, kept as snapshots to rebuild others from (Karras et al. 2024, §3)."""

    sigma_rels: tuple[float, ...] = (0.05, 0.10)
    """Relative widths of the profiles that are tracked, each in (0, 0.28)."""
    every_images: int = Field(default=25_600, ge=1)
    """Images between snapshots, rounded up to whole steps; the end of the run is one too."""
    dtype: Literal["fp16", "fp32"] = "fp16"
    """Precision in which snapshots are stored."""

    @model_validator(mode="after")
    def _widths_in_range(self) -> PowerEmaSpec:
        # The flattest profile, gamma = 0, has the width 1/sqrt(12) = 0.2887.
        if not self.sigma_rels or not all(0 < width < 0.28 for width in self.sigma_rels):
            raise ValueError(
                f"ema.power.sigma_rels must be one or more numbers in (0, 0.28), but got {list(self.sigma_rels)}"
            )
        return self


class EmaSpec(Spec):
    """Exponential moving average of the weights, by half-life as in EDM (Karras et al. 2022, App. F.2)."""

    half_life_images: int = Field(default=10_000, ge=1)
    """Images after which a weight's share in the average has halved."""
    ramp_up: float = Field(default=0.05, gt=0, le=1)
    """The half-life is at most this share of the images seen, so that early averages forget the start."""
    power: PowerEmaSpec | None = None
    """Power-function averages beside this one, or null for none."""


class CheckpointSpec(Spec):
    """When training saves its whole state."""

    every_images: int = Field(default=25_600, ge=1)
    """Images between checkpoints, rounded up to a multiple of the logging interval."""
    keep: int = Field(default=2, ge=1)
    """How many of the newest checkpoints stay on disk."""
    best: bool = False
    """Whether the one with the lowest preview FID is kept too, in the folder `best` of the run."""


class PreviewSpec(Spec):
    """Samples, and a metric, on the way; training goes on as it would without them."""

    every_images: int = Field(default=25_600, ge=1)
    """Images between previews, rounded up to a multiple of the logging interval; the end of the run is one too."""
    num_samples: int = Field(default=500, ge=16, le=1_000_000)
    """Images to generate for each preview; FID falls with it, so that only equal numbers compare."""
    metric: bool = True
    """Whether they are scored by the evaluation's metrics too, or only drawn as a grid."""
    asynchronous: bool = False
    """Whether a Ray task draws them while the training goes on, in runs of their own and not in studies."""
    num_gpus: float = Field(default=0, ge=0, le=1)
    """The share of a GPU that such a task gets beside the workers; 0 draws on CPUs that nobody is kept off."""

    @model_validator(mode="after")
    def _a_gpu_is_for_a_task(self) -> PreviewSpec:
        if self.num_gpus and not self.asynchronous:
            raise ValueError(
                f"num_gpus is for previews that are asynchronous, but got {self.num_gpus} without that"
            )
        return self


class StabilitySpec(Spec):
    """What is done about single bad updates."""

    spike_factor: float | None = Field(default=None, gt=1)
    """Skip an update whose gradient norm or loss exceeds this multiple of its running median; null never skips."""
    spike_window: int = Field(default=64, ge=8)
    """Updates of a stage over which the medians run, skipped ones too; none is skipped before the window is full."""

    @model_validator(mode="after")
    def _window_applies(self) -> StabilitySpec:
        if self.spike_factor is None and self.spike_window != type(self).model_fields["spike_window"].default:
            raise ValueError(f"spike_window is for a spike_factor, but got {self.spike_window} without one")
        return self


def default_model(data: Any) -> dict[str, Any]:
    """The network for the `data` of settings, a mapping or a DataSpec, where they name none."""
    values = data if isinstance(data, Mapping) else vars(data) if isinstance(data, DataSpec) else {}
    small = {"kind": "dit", "depth": 4, "width": 128, "heads": 4}
    match values.get("name"), values.get("set_size"):
        case "mixture2d", None:
            return {"kind": "mlp"}
        case "mixture2d", _:
            return {**small, "positional": False}
        case "tones", _:
            return small
    return {"kind": "unet"}


def _with_base(schedule: Any, process: Any) -> Any:
    """`schedule` of settings, a mapping or not given, with the base of the `process` where it names none, else None."""
    kind = process.get("kind") if isinstance(process, Mapping) else getattr(process, "kind", None)
    base = default_base(str(kind))
    if base == Uniform() or not (schedule is None or isinstance(schedule, Mapping)):
        return None
    named = schedule or {}
    return None if "base" in named else {**named, "base": base.model_dump()}


class TrainConfig(Spec):
    """Everything that determines one training run; equal values give the same run."""

    data: DataSpec = DataSpec()
    """The images to train on."""
    process: ProcessSpec = DDPMSpec()
    """The diffusion process and what the network predicts; DDPM, if not given, by epsilon for images, which are
    clipped to [-1, 1], and by v for mixture2d, tones and latents, which nothing bounds."""
    weighting: WeightingSpec = NoWeighting()
    """The weight of each noise level in the loss."""
    model: ModelSpec = UNetSpec()
    """The network; if not given, a unet for images, an mlp for mixture2d and a small dit for signals and sets."""
    schedule: CurriculumSchedule = Field(default_factory=CurriculumSchedule.uniform)
    """Which noise levels are trained when; the base, if not given, is log_normal_sigma for edm, else uniform."""
    optimizer: OptimizerSpec = OptimizerSpec()
    """How the weights are updated."""
    ema: EmaSpec = EmaSpec()
    """How the weights are averaged; the average is what is sampled and evaluated."""
    batch_size: int = Field(default=DEFAULT_BATCH_SIZE, ge=1, le=1_000_000)
    """Images per step over all workers, whose number must divide it; if not given, 128, or the largest power of two
    below it in whose steps the schedule can be walked within the budget."""
    images: int = Field(default=44_800, ge=1, le=10**13)
    """The budget: images seen in the whole run, rounded up to whole steps."""
    seed: int = Field(default=0, ge=0, lt=2**31)
    """Seed of the initialisation, the data order and the noise; schedules with equal seeds are paired."""
    window: int | None = Field(default=None, ge=0, le=10_000)
    """Steps over which workers collect losses before the schedule decides; if not given, see `TimestepSampler`."""
    log_every_images: int = Field(default=6_400, ge=1)
    """Images between log lines, rounded up to whole windows."""
    checkpoint: CheckpointSpec = CheckpointSpec()
    """When the whole state is saved."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Arithmetic of the network by autocast; weights stay fp32. fp16 scales its gradients, and needs a GPU."""
    tf32: bool = True
    """Whether fp32 products on a GPU are rounded to TF32; no effect on a CPU."""
    compile: bool = False
    """Whether the network is compiled by torch.compile, with static shapes."""
    accumulate: int = Field(default=1, ge=1)
    """Parts into which each worker splits its share of the batch to save memory; it must divide the share."""
    parallel: Literal["ddp", "fsdp"] = "ddp"
    """Several workers hold whole replicas, or shards of weights and optimiser (fully_shard)."""
    preview: PreviewSpec | None = None
    """Samples and a metric on the way, or null for none."""
    heldout: HeldoutSpec | None = HeldoutSpec()
    """The loss by noise level on held-out items, or null for none; nothing where the data hold none out."""
    stability: StabilitySpec = StabilitySpec()
    """What is done about single bad updates."""

    @model_validator(mode="after")
    def _best_has_a_metric(self) -> TrainConfig:
        if self.checkpoint.best and not (self.preview and self.preview.metric):
            raise ValueError("checkpoint.best goes by the preview's metric, but preview.metric is not on")
        if self.checkpoint.best and self.preview and self.preview.asynchronous:
            raise ValueError(
                "checkpoint.best needs the weights of the moment, which are gone when an asynchronous preview is scored"
            )
        return self

    @model_validator(mode="after")
    def _the_ladder_can_be_walked(self) -> TrainConfig:
        """Refuse a schedule that cannot be; a batch size that is not given is chosen so that it can."""
        given = "batch_size" in self.model_fields_set
        for size in [self.batch_size] if given else batch_sizes(self.accumulate):
            try:
                self.schedule.check_ladder(size, -(-self.images // size) * size)
            except ConfigError as error:
                fault = error
                continue
            # Frozen from here on. It stays out of the fields that are set: nobody gave it.
            object.__setattr__(self, "batch_size", size)
            return self
        raise ValueError(f"schedule.{fault}")

    @model_validator(mode="after")
    def _importance_knows_the_gradient(self) -> TrainConfig:
        learned = isinstance(self.weighting, EDM2Uncertainty | IntervalUncertaintySpec)
        if learned and isinstance(self.schedule.importance, GradientNorm):
            raise ValueError(
                "schedule.importance.rule gradient_norm reads the gradient off the loss, which needs a weighting that "
                f"is not learned, but weighting.kind is {self.weighting.kind}"
            )
        return self

    @model_validator(mode="before")
    @classmethod
    def _default_kinds(cls, values: Any) -> Any:
        """`process: {num_timesteps: 500}` means the default kind of process; the same for weighting and network.

        Defaults that depend on other settings are filled in.
        """
        if not isinstance(values, Mapping):
            return values
        groups = {"process": with_prediction(values.get("process", {}), values.get("data"))}
        if isinstance(values.get("weighting"), Mapping):
            groups["weighting"] = {"kind": NoWeighting().kind, **values["weighting"]}
        default = default_model(values.get("data"))
        if "model" in values or default["kind"] != "unet":
            groups["model"] = normalise_model(values.get("model", {}), default)
        if (schedule := _with_base(values.get("schedule"), values.get("process"))) is not None:
            groups["schedule"] = schedule
        return {**values, **groups}

    def batch_size_line(self) -> str | None:
        """Why the batch size is not the default one, where it was not given."""
        if "batch_size" in self.model_fields_set or self.batch_size == DEFAULT_BATCH_SIZE:
            return None
        stages = f"the schedule's {self.schedule.num_stages} stages"
        return choice_line(self.batch_size, self.images, stages, "batch_size")

    @property
    def total_steps(self) -> int:
        """Optimiser steps in the whole run."""
        return -(-self.images // self.batch_size)

    @property
    def total_images(self) -> int:
        """Images seen in the whole run: the budget rounded up to whole steps."""
        return self.total_steps * self.batch_size

    @property
    def log_steps(self) -> int:
        """Steps between log lines: whole windows, so that every worker has the same losses at hand."""
        window = self.window or WINDOWS[0]
        return -(-self.log_every_images // (self.batch_size * window)) * window

    @property
    def checkpoint_steps(self) -> int:
        """Steps between checkpoints: whole logging intervals, so that a resumed run repeats its log."""
        return -(-self.checkpoint.every_images // (self.batch_size * self.log_steps)) * self.log_steps

    @property
    def preview_steps(self) -> int | None:
        """Steps between previews, or None: whole logging intervals, as for checkpoints."""
        if self.preview is None:
            return None
        return -(-self.preview.every_images // (self.batch_size * self.log_steps)) * self.log_steps

    @property
    def heldout_steps(self) -> int | None:
        """Steps between measurements of the held-out loss, or None."""
        if self.heldout is None:
            return None
        every = self.heldout.every_images or -(-self.total_images // MEASUREMENTS)
        return -(-every // self.batch_size)

    @property
    def snapshot_steps(self) -> int | None:
        """Steps between snapshots of the power-function averages, or None."""
        return -(-self.ema.power.every_images // self.batch_size) if self.ema.power else None
