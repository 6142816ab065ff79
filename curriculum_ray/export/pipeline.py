"""A diffusers pipeline that samples as curriculum-ray does: DDIM for DDPM, Euler for EDM, Euler or Heun for flow."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    DDIMScheduler,
    DiffusionPipeline,
    EDMEulerScheduler,
    FlowMatchEulerDiscreteScheduler,
    FlowMatchHeunDiscreteScheduler,
)
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor


class CurriculumRayPipeline(DiffusionPipeline):
    """A network and a scheduler of diffusers, for items of any shape.

    The scheduler of a flow model may be replaced by FlowMatchHeunDiscreteScheduler(), i.e. our sampler `heun`. EDM's
    Heun exists in no scheduler of diffusers (its HeunDiscreteScheduler knows timesteps of betas only).

    shape: that of one item, numbers with commas. num_classes: 0 where the network is told none. null_label: the
    class of an item whose class is not told, None where the network takes no classes.
    bounded: whether the data lie within [-1, 1]. noisiest: the timestep that DDIM starts at, None for others.
    """

    def __init__(
        self,
        denoiser: Any,
        scheduler: Any,
        shape: str = "",
        num_classes: int = 0,
        null_label: int | None = None,
        bounded: bool = True,
        noisiest: int | None = None,
    ) -> None:
        super().__init__()
        self.register_modules(denoiser=denoiser, scheduler=scheduler)
        self.register_to_config(
            shape=shape, num_classes=num_classes, null_label=null_label, bounded=bounded, noisiest=noisiest
        )

    @torch.no_grad()
    def __call__(
        self,
        batch_size: int = 1,
        generator: torch.Generator | None = None,
        num_inference_steps: int = 20,
        class_labels: list[int] | None = None,
        guidance_scale: float = 1.0,
        noise: Tensor | None = None,
        output_type: str = "pt",
    ) -> Tensor | list[Any]:
        """Samples (batch_size, *shape), within [-1, 1] where `bounded`, for output_type "pt", or PIL images for "pil".

        class_labels: one for each sample; without them, none is told. guidance_scale: of classifier-free guidance,
        1 is none; it needs class_labels. noise: standard normal, (batch_size, *shape), drawn where it is None.
        """
        if class_labels is not None and not self.config.num_classes:
            raise ValueError("this model is not told classes, but got class_labels")
        if guidance_scale != 1 and class_labels is None:
            raise ValueError("guidance_scale needs class_labels")
        device = self._execution_device
        shape = tuple(int(length) for length in self.config.shape.split(","))
        count = batch_size if class_labels is None else len(class_labels)
        if noise is None:
            noise = randn_tensor((count, *shape), generator=generator, device=device)
        x = noise.to(device)
        labels = None if class_labels is None else torch.tensor(class_labels, device=device)

        def predict(x: Tensor, level: float) -> Tensor:
            output = self._network(x, level, labels)
            if guidance_scale == 1:
                return output
            without = self._network(x, level, None)
            return without + guidance_scale * (output - without)

        noise, x = x, x * self._start(num_inference_steps, device)
        for place, (t, level, options) in enumerate(self._steps()):
            scaled = x
            if isinstance(self.scheduler, EDMEulerScheduler):
                scaled = self.scheduler.scale_model_input(x, t)
            step = self.scheduler.step(predict(scaled, level), t, x, **options)
            x = step.prev_sample
            if place == 0 and self._unclipped():
                x = self._from_pure_noise(step.pred_original_sample, noise)
        if self.config.bounded:
            x = x.clamp(-1, 1)
        if output_type == "pt":
            return x
        images = (x / 2 + 0.5).cpu().permute(0, 2, 3, 1).numpy()
        return self.numpy_to_pil(images)

    def _start(self, steps: int, device: torch.device) -> float:
        """Set the scheduler to `steps` steps; the standard deviation of the noise at the first."""
        if isinstance(self.scheduler, DDIMScheduler):
            self.scheduler.set_timesteps(steps, device=device)
            if self.config.noisiest is not None:
                # The scheduler's own end at the noisiest of all, and one step alone would be the cleanest.
                count = min(steps, self.config.noisiest + 1)
                spaced = torch.linspace(self.config.noisiest, 0, count, dtype=torch.float64)
                self.scheduler.timesteps = spaced.round().long().to(device)
            return 1.0
        if isinstance(self.scheduler, EDMEulerScheduler):
            self.scheduler.set_timesteps(steps, device=device)
            return float(self.scheduler.sigmas[0])
        times = [1 - i / steps for i in range(steps)]
        if isinstance(self.scheduler, FlowMatchEulerDiscreteScheduler):
            self.scheduler.set_timesteps(sigmas=times, device=device)
            return 1.0
        if not isinstance(self.scheduler, FlowMatchHeunDiscreteScheduler):
            raise ValueError(f"this pipeline does not know the scheduler {type(self.scheduler).__name__}")
        # Its own times end at 0.001 in place of 0; ours are even, and all but the first and last stand twice.
        self.scheduler.set_timesteps(steps, device=device)
        twice = torch.tensor([times[0], *(time for time in times[1:] for _ in range(2)), 0.0], device=device)
        self.scheduler.sigmas = twice
        self.scheduler.timesteps = 1000 * twice[:-1]
        return 1.0

    def _unclipped(self) -> bool:
        """Whether the noise holds more noise than the first level says: EDM, and DDIM of unbounded data."""
        if isinstance(self.scheduler, DDIMScheduler):
            return not self.config.bounded
        return isinstance(self.scheduler, EDMEulerScheduler)

    def _from_pure_noise(self, x0: Tensor, noise: Tensor) -> Tensor:
        """What follows the first step: `noise`, of which nothing is data, and the first estimate of the data."""
        if isinstance(self.scheduler, EDMEulerScheduler):
            return x0 + self.scheduler.sigmas[1] * noise
        after = self.scheduler.timesteps[1:2]
        return self.scheduler.add_noise(x0, noise, after) if len(after) else x0

    def _steps(self) -> Iterator[tuple[Any, float, dict[str, Any]]]:
        """Each step's number for the scheduler, the noise level that the network is told, and the step's options."""
        if not isinstance(self.scheduler, DDIMScheduler):
            # The network is told EDM's c_noise = ln(sigma)/4 in thousandths, and flow's time already is.
            unit = 1000.0 if isinstance(self.scheduler, EDMEulerScheduler) else 1.0
            for t in self.scheduler.timesteps:
                yield t, unit * float(t), {}
            return
        timesteps = self.scheduler.timesteps.tolist()
        for t, after in zip(timesteps, [*timesteps[1:], -1], strict=True):
            # The scheduler steps by T // num_inference_steps, but rounded timesteps are not all equally far apart.
            self.scheduler.num_inference_steps = Fraction(
                self.scheduler.config.num_train_timesteps, t - after
            )
            yield t, float(t), {"use_clipped_model_output": True}

    def _network(self, x: Tensor, level: float, labels: Tensor | None) -> Tensor:
        told: dict[str, Tensor] = {}
        if self.config.null_label is not None:
            null = torch.full((len(x),), self.config.null_label, device=x.device)
            told["class_labels"] = null if labels is None else labels
        # In half precision the network alone computes so: the solver and the noise level would lose too much.
        level_B = torch.full((len(x),), level, device=x.device)
        return self.denoiser(x.to(self.denoiser.dtype), level_B, **told).sample.to(x.dtype)

    def save_pretrained(self, save_directory: str | os.PathLike[str], **options: Any) -> None:
        """As diffusers' own, with the code that the folder needs: without it nothing could load it again."""
        if options.pop("push_to_hub", False):
            raise ValueError(
                "save_pretrained with push_to_hub would leave the code out: save, then upload the folder"
            )
        super().save_pretrained(save_directory, **options)
        folder = Path(save_directory)
        shutil.copyfile(_source(type(self)), folder / "pipeline.py")
        index = json.loads((folder / "model_index.json").read_text())
        index["_class_name"] = ["pipeline", type(self).__name__]
        library = type(self.denoiser).__module__.rpartition(".")[2]
        if not type(self.denoiser).__module__.startswith("diffusers."):
            shutil.copyfile(_source(type(self.denoiser)), folder / "denoiser" / f"{library}.py")
            index["denoiser"] = [library, type(self.denoiser).__name__]
        (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")


def _source(code: type) -> str:
    """The file that a class stands in."""
    return str(sys.modules[code.__module__].__file__)
