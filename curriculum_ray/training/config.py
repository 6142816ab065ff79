"""Settings of one training run. Lengths are in images seen, so that they hold for any batch and world size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from curriculum_ray.config import ConfigError, Shorthand, Spec
from curriculum_ray.curriculum import CurriculumSchedule, Uniform, default_base
from curriculum_ray.curriculum.pacing.plateau import WINDOWS
from curriculum_ray.data import DataSpec
from curriculum_ray.diffusion import DDPMSpec, ProcessSpec, WeightingSpec
from curriculum_ray.diffusion.uncertainty import EDM2Uncertainty, IntervalUncertaintySpec
from curriculum_ray.diffusion.weighting import NoWeighting
from curriculum_ray.models import ModelSpec, UNetSpec
from curriculum_ray.models.lora import LoraSpec
from curriculum_ray.training.batch_size import DEFAULT_BATCH_SIZE, batch_sizes, choice_line
from curriculum_ray.training.ema import EmaSpec
from curriculum_ray.training.heldout_spec import MEASUREMENTS, HeldoutSpec
from curriculum_ray.training.initial_weights import InitSpec
from curriculum_ray.training.prediction import with_prediction
from curriculum_ray.training.rates import ELEMENTWISE, OptimizerSpec
from curriculum_ray.training.spikes import StabilitySpec
from curriculum_ray.words import number_of

__all__ = ["CheckpointSpec", "PreviewSpec", "TrainConfig"]


class CheckpointSpec(Spec):
    """When training saves its whole state."""

    every_images: int = Field(default=25_600, ge=1)
    """Images between checkpoints, rounded up to a multiple of the logging interval."""
    keep: int = Field(default=2, ge=1)
    """How many of the newest checkpoints stay on disk."""
    best: bool = False
    """Whether the one with the lowest preview FID is kept too, in the folder `best` of the run."""


class PreviewSpec(Spec):
    """Samples, and a metric, during training, which is the same with and without them."""

    every_images: int = Field(default=25_600, ge=1)
    """Images between previews, rounded up to a multiple of the logging interval; the end of the run is one too."""
    num_samples: int = Field(default=500, ge=16, le=1_000_000)
    """Images to generate for each preview; FID falls as it grows, so only equal numbers are comparable."""
    metric: bool = True
    """Whether they are also scored by the evaluation's metrics, or only shown as a grid."""
    asynchronous: bool = False
    """Whether a Ray task generates them while training continues; for single runs, not for studies."""
    num_gpus: float = Field(default=0, ge=0, le=1)
    """The share of a GPU for such a task, beside the workers; 0 uses CPUs, without reserving any."""

    @model_validator(mode="after")
    def _a_gpu_is_for_a_task(self) -> PreviewSpec:
        if self.num_gpus and not self.asynchronous:
            raise ValueError(
                f"num_gpus is for previews that are asynchronous, but got {self.num_gpus} without that"
            )
        return self


def default_model(data: Any) -> dict[str, Any]:
    """The default network for `data`, a mapping or a DataSpec."""
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
    """The mapping `schedule`, {} if None, with the default base of `process`; None where it needs no such base."""
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
    init_from: Annotated[InitSpec | None, Shorthand.of("path", str)] = None
    """The weights that the network and its averages start from, or null to draw them by the seed. A run that resumes
    continues from its own checkpoint."""
    lora: Annotated[LoraSpec | None, Shorthand.of("rank", int)] = None
    """Low-rank adapters on the weights of `init_from`, which stay as they are, or null to train the weights."""
    schedule: CurriculumSchedule = Field(default_factory=CurriculumSchedule.uniform)
    """Which noise levels are trained when; the base, if not given, is log_normal_sigma for edm, else uniform."""
    optimizer: OptimizerSpec = OptimizerSpec()
    """How the weights are updated."""
    ema: EmaSpec = EmaSpec()
    """How the weights are averaged; the average is what is sampled and evaluated."""
    batch_size: int = Field(default=DEFAULT_BATCH_SIZE, ge=1, le=1_000_000)
    """Images per step over all workers; a multiple of their number. If not given, 128, or the largest smaller power of
    two with which the schedule's stages fit into the budget."""
    images: int = Field(default=44_800, ge=1, le=10**13)
    """The budget: images seen in the whole run, rounded up to whole steps."""
    seed: int = Field(default=0, ge=0, lt=2**31)
    """Seed of the initialisation, the data order and the noise; schedules with equal seeds are paired."""
    stratified: bool = True
    """Whether the noise levels of a batch are spread evenly over what is drawn; false for independent draws."""
    window: int | None = Field(default=None, ge=0, le=10_000)
    """Steps over which workers collect losses before the schedule decides: at most those of the run, and a
    plateau's patience; if not given, see `TimestepSampler`."""
    log_every_images: int = Field(default=6_400, ge=1)
    """Images between log lines, rounded up to whole windows."""
    checkpoint: CheckpointSpec = CheckpointSpec()
    """When the whole state is saved."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Arithmetic of the network by autocast; weights stay fp32. fp16 scales its gradients, and needs a GPU."""
    tf32: bool = True
    """Whether fp32 products on a GPU are rounded to TF32, in training and sampling; no effect on a CPU, nor on the
    networks whose features samples are compared by."""
    compile: bool | Literal["blocks"] = False
    """Whether the network is compiled by torch.compile, with static shapes: true for the whole as one graph, blocks for
    one block of a dit, or of a network of diffusers, that all others share. A deep network then starts much sooner."""
    accumulate: int = Field(default=1, ge=1)
    """Parts into which each worker splits its share of the batch to save memory; it must divide the share."""
    gradient_checkpointing: bool = False
    """Whether the blocks of a unet, a dit or a network of diffusers are computed again in the backward pass: that takes
    less memory and about a third more time."""
    parallel: Literal["ddp", "fsdp"] = "ddp"
    """Several workers hold whole replicas, or shards of weights and optimiser (fully_shard)."""
    preview: PreviewSpec | None = None
    """Samples and a metric during training, or null for none."""
    heldout: HeldoutSpec | None = HeldoutSpec()
    """The loss by noise level on held-out items, or null for none; not measured where the data hold nothing out."""
    stability: StabilitySpec = StabilitySpec()
    """How single bad updates are handled."""

    @model_validator(mode="after")
    def _best_has_a_metric(self) -> TrainConfig:
        if self.checkpoint.best and not (self.preview and self.preview.metric):
            raise ValueError("checkpoint.best needs the preview's metric, but preview.metric is not on")
        if self.checkpoint.best and self.preview and self.preview.asynchronous:
            raise ValueError(
                "checkpoint.best needs the weights of the moment, which are gone when an asynchronous preview is scored"
            )
        return self

    @model_validator(mode="after")
    def _the_ladder_can_be_walked(self) -> TrainConfig:
        """Refuse a schedule whose stages do not fit; a batch size that is not given is chosen so that they do."""
        given = "batch_size" in self.model_fields_set
        for size in [self.batch_size] if given else batch_sizes(self.accumulate):
            try:
                self.schedule.check_ladder(size, -(-self.images // size) * size)
            except ConfigError as error:
                fault = error
                continue
            # The model is frozen. This must not count as a field that was set: no user gave it.
            object.__setattr__(self, "batch_size", size)
            return self
        raise ValueError(f"schedule.{fault}")

    @model_validator(mode="after")
    def _the_window_is_read_in_time(self) -> TrainConfig:
        if not self.window:
            return self
        if self.window > self.total_steps:
            raise ValueError(
                f"window must be at most the {number_of(self.total_steps, 'step')} of the run, but got {self.window}"
            )
        self.schedule.check_window(self.window, self.batch_size, self.total_images)
        return self

    @model_validator(mode="after")
    def _shards_are_updated_by_themselves(self) -> TrainConfig:
        if self.parallel == "fsdp" and self.optimizer.kind not in ELEMENTWISE:
            raise ValueError(
                "parallel fsdp needs an optimizer.kind that updates each number by itself, "
                f"{', '.join(sorted(ELEMENTWISE))}, but got {self.optimizer.kind}"
            )
        return self

    @model_validator(mode="after")
    def _the_rate_comes_to_fall(self) -> TrainConfig:
        rate = self.optimizer
        if rate.schedule in ("cosine", "linear") and rate.warmup_images >= self.total_images:
            raise ValueError(
                f"optimizer.warmup_images must be less than the {self.total_images:,} images of the run where "
                f"optimizer.schedule is {rate.schedule}, but got {rate.warmup_images}"
            )
        return self

    @model_validator(mode="after")
    def _blocks_can_be_recomputed(self) -> TrainConfig:
        if self.gradient_checkpointing and self.model.kind in ("mlp", "python"):
            raise ValueError(
                "gradient_checkpointing is for a unet, a dit or a network of diffusers, but model.kind is "
                f"{self.model.kind}"
            )
        return self

    @model_validator(mode="after")
    def _blocks_can_be_compiled(self) -> TrainConfig:
        if self.compile == "blocks" and self.model.kind not in ("dit", "diffusers"):
            raise ValueError(
                f"compile blocks is for a dit or a network of diffusers, but model.kind is {self.model.kind}"
            )
        return self

    @model_validator(mode="after")
    def _adapters_have_weights_to_adapt(self) -> TrainConfig:
        if self.lora is None:
            return self
        if self.init_from is None:
            raise ValueError(
                "lora adapts weights that stay frozen, but init_from is null: name the weights to start from"
            )
        if self.lora.dropout and self.gradient_checkpointing:
            raise ValueError(
                "lora.dropout must be 0 with gradient_checkpointing, which would drop other inputs when it computes a "
                f"block again, but got {self.lora.dropout}"
            )
        return self

    @model_validator(mode="after")
    def _importance_knows_the_loss(self) -> TrainConfig:
        learned = isinstance(self.weighting, EDM2Uncertainty | IntervalUncertaintySpec)
        rule = self.schedule.importance.rule
        if learned and rule != "none":
            raise ValueError(
                f"schedule.importance.rule {rule} needs a weighting that is not learned, whose loss is 0 at best, but "
                f"weighting.kind is {self.weighting.kind}"
            )
        return self

    @classmethod
    def completed(cls, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """`process: {num_timesteps: 500}` means the default kind of process; the same for weighting and network.

        Defaults that depend on other settings are filled in.
        """
        groups = {"process": with_prediction(values.get("process", {}), values.get("data"))}
        if isinstance(values.get("weighting"), Mapping):
            groups["weighting"] = {"kind": NoWeighting().kind, **values["weighting"]}
        default, network = default_model(values.get("data")), values.get("model", {})
        if (
            isinstance(network, Mapping)
            and "kind" not in network
            and ("model" in values or default["kind"] != "unet")
        ):
            groups["model"] = {**default, **network}
        if (schedule := _with_base(values.get("schedule"), values.get("process"))) is not None:
            groups["schedule"] = schedule
        return {**values, **groups}

    def batch_size_line(self) -> str | None:
        """Why the chosen batch size is not the default; None where it is, or was given."""
        if "batch_size" in self.model_fields_set or self.batch_size == DEFAULT_BATCH_SIZE:
            return None
        count = self.schedule.num_stages
        stages = f"the schedule's {count} stages" if count > 1 else "the schedule"
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
        """Steps between log lines: whole windows, so that every worker has the same losses."""
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
