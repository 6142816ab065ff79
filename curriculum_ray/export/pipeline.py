"""A diffusers pipeline that samples like curriculum-ray: DDIM, Euler for EDM, Euler or Heun for flow."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, ClassVar

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

_OUTPUTS = ("pt", "pil", "latent")


class CurriculumRayPipeline(DiffusionPipeline):
    """A network with a scheduler of diffusers, for items of any shape.

    The scheduler of a flow model may be replaced by FlowMatchHeunDiscreteScheduler(), i.e. our sampler
    `heun`. No scheduler of diffusers implements EDM's Heun (its HeunDiscreteScheduler supports only timesteps
    of betas).

    shape: that of one item, comma-separated. num_classes: 0 for an unconditional network. null_label: the
    null class, None if the network takes no class labels. bounded: whether the data are within [-1, 1].
    noisiest: the timestep at which DDIM starts, to end at 0; None for the trailing timesteps of a zero terminal
    SNR, and for other schedulers. cross_attention_dim: channels of the captions that the network could read, in
    whose place it gets zeros; None if it reads none. vae: decodes the samples, which are latents, divided by
    `scale` and with `shift` added; None for a network whose samples are left as they are.
    """

    _optional_components: ClassVar[list[str]] = ["vae"]

    def __init__(
        self,
        denoiser: Any,
        scheduler: Any,
        shape: str = "",
        num_classes: int = 0,
        null_label: int | None = None,
        bounded: bool = True,
        noisiest: int | None = None,
        cross_attention_dim: int | None = None,
        vae: Any = None,
        scale: float = 1.0,
        shift: float = 0.0,
    ) -> None:
        super().__init__()
        self.register_modules(denoiser=denoiser, scheduler=scheduler, vae=vae)
        self.register_to_config(
            shape=shape, num_classes=num_classes, null_label=null_label, bounded=bounded, noisiest=noisiest
        )
        self.register_to_config(cross_attention_dim=cross_attention_dim, scale=scale, shift=shift)

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
        """Generate samples (batch_size, *shape), or PIL images if output_type is "pil", not "pt".

        Samples are within [-1, 1] if `bounded`, and so are the images (batch_size, C, H, W) to which `vae` decodes
        latents; output_type "latent" gives those themselves. class_labels: one for each sample, from 0 to
        num_classes - 1; by default the null class. Where they are given, batch_size may be left out.
        guidance_scale: of classifier-free guidance, 1 is none; it needs class_labels. noise: standard normal,
        (batch_size, *shape); by default it is drawn. Raises ValueError where they do not fit together.
        """
        if output_type not in _OUTPUTS:
            raise ValueError(f"output_type must be one of {', '.join(_OUTPUTS)}, but got {output_type!r}")
        if class_labels is not None and not self.config.num_classes:
            raise ValueError("this model takes no classes, but got class_labels")
        if guidance_scale != 1 and class_labels is None:
            raise ValueError("guidance_scale needs class_labels")
        device = self._execution_device
        shape = tuple(int(length) for length in self.config.shape.split(","))
        count = batch_size if class_labels is None else len(class_labels)
        if batch_size not in (1, count):
            raise ValueError(f"class_labels must be one for each of {batch_size} samples, but got {count}")
        if strange := [label for label in class_labels or () if not 0 <= label < self.config.num_classes]:
            raise ValueError(
                f"class_labels must be from 0 to {self.config.num_classes - 1}, but got {strange[0]}"
            )
        if noise is not None and tuple(noise.shape) != (count, *shape):
            raise ValueError(f"noise must have the shape {(count, *shape)}, but got {tuple(noise.shape)}")
        if noise is None:
            noise = randn_tensor((count, *shape), generator=generator, device=device)
        x = noise.to(device)
        labels = None if class_labels is None else torch.tensor(class_labels, device=device)

        def predict(x: Tensor, level: float) -> Tensor:
            output = self._network(x, level, labels)
            if guidance_scale == 1:
                return output
            unconditional = self._network(x, level, None)
            return unconditional + guidance_scale * (output - unconditional)

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
        if self.vae is not None and output_type != "latent":
            decoded = self.vae.decode(x.to(self.vae.dtype) / self.config.scale + self.config.shift).sample
            x = decoded.to(x.dtype).clamp(-1, 1)
        if output_type != "pil":
            return x
        images = (x / 2 + 0.5).cpu().permute(0, 2, 3, 1).numpy()
        return self.numpy_to_pil(images)

    def _start(self, steps: int, device: torch.device) -> float:
        """Set the scheduler to `steps` steps; return the standard deviation of the noise at the first."""
        if isinstance(self.scheduler, DDIMScheduler):
            self.scheduler.set_timesteps(steps, device=device)
            self.scheduler.timesteps = self._timesteps(steps).to(device)
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
        # The scheduler's own times end at 0.001, not 0; ours are even, all but the first and last repeated.
        self.scheduler.set_timesteps(steps, device=device)
        twice = torch.tensor([times[0], *(time for time in times[1:] for _ in range(2)), 0.0], device=device)
        self.scheduler.sigmas = twice
        self.scheduler.timesteps = 1000 * twice[:-1]
        return 1.0

    def _timesteps(self, steps: int) -> Tensor:
        """Return our timesteps, long (at most `steps`,), the noisiest first.

        The scheduler's own start at T-1, and a single one is the cleanest; trailing ones are rounded otherwise, and may
        go on to -1.
        """
        if self.config.noisiest is None:
            count = self.scheduler.config.num_train_timesteps
            return torch.tensor([round(count - i * count / steps) - 1 for i in range(steps)])
        steps = min(steps, self.config.noisiest + 1)
        return torch.linspace(self.config.noisiest, 0, steps, dtype=torch.float64).round().long()

    def _unclipped(self) -> bool:
        """Return whether sampling starts from pure noise: for EDM, and for DDIM of unbounded data."""
        if isinstance(self.scheduler, DDIMScheduler):
            return not self.config.bounded
        return isinstance(self.scheduler, EDMEulerScheduler)

    def _from_pure_noise(self, x0: Tensor, noise: Tensor) -> Tensor:
        """Return the result of a first step that starts from pure `noise`, with the estimate `x0`."""
        if isinstance(self.scheduler, EDMEulerScheduler):
            return x0 + self.scheduler.sigmas[1] * noise
        after = self.scheduler.timesteps[1:2]
        return self.scheduler.add_noise(x0, noise, after) if len(after) else x0

    def _steps(self) -> Iterator[tuple[Any, float, dict[str, Any]]]:
        """Iterate over the steps: the scheduler's timestep, the network's noise level, and options."""
        if not isinstance(self.scheduler, DDIMScheduler):
            # The network takes 1000 times EDM's c_noise = ln(sigma)/4; flow's time is scaled already.
            unit = 1000.0 if isinstance(self.scheduler, EDMEulerScheduler) else 1.0
            for t in self.scheduler.timesteps:
                yield t, unit * float(t), {}
            return
        timesteps = self.scheduler.timesteps.tolist()
        for t, after in zip(timesteps, [*timesteps[1:], -1], strict=True):
            # The scheduler steps by T // num_inference_steps, but rounded timesteps are not evenly spaced.
            self.scheduler.num_inference_steps = Fraction(
                self.scheduler.config.num_train_timesteps, t - after
            )
            yield t, float(t), {"use_clipped_model_output": True}

    def _network(self, x: Tensor, level: float, labels: Tensor | None) -> Tensor:
        condition: dict[str, Tensor] = {}
        if self.config.null_label is not None:
            null = torch.full((len(x),), self.config.null_label, device=x.device)
            condition["class_labels"] = null if labels is None else labels
        if self.config.cross_attention_dim is not None:
            condition["encoder_hidden_states"] = torch.zeros(
                len(x), 1, self.config.cross_attention_dim, dtype=self.denoiser.dtype, device=x.device
            )
        # Only the network runs in half precision: the solver and the noise level would lose accuracy.
        level_B = torch.full((len(x),), level, device=x.device)
        return self.denoiser(x.to(self.denoiser.dtype), level_B, **condition).sample.to(x.dtype)

    def save_pretrained(self, save_directory: str | os.PathLike[str], **options: Any) -> None:
        """Save as diffusers does, together with the code that loading the folder needs."""
        if options.pop("push_to_hub", False):
            raise ValueError(
                "save_pretrained with push_to_hub would omit the code: save, then upload the folder"
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
    """Return the source file of a class."""
    return str(sys.modules[code.__module__].__file__)
