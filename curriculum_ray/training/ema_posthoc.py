"""Power-function EMA, and any of its widths rebuilt after training from snapshots (Karras et al. 2024, §3)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from safetensors.torch import save as save_bytes
from torch import Tensor, nn

from curriculum_ray.config import ConfigError, Spec
from curriculum_ray.config.plain_yaml import read_own_json
from curriculum_ray.files import replace_file
from curriculum_ray.training.parallel import local

__all__ = [
    "PowerEma",
    "PowerEmaSpec",
    "combination",
    "find_snapshots",
    "gamma_of",
    "rebuild",
    "write_snapshot",
]

_DTYPES = {"fp16": torch.float16, "fp32": torch.float32}
_PREFIX = "ema-"


class PowerEmaSpec(Spec):
    """Averages with power-function profiles, saved as snapshots to rebuild others from (Karras et al. 2024, §3)."""

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
        if len(set(self.sigma_rels)) < len(self.sigma_rels):
            raise ValueError(
                f"ema.power.sigma_rels must name each width once, but got {list(self.sigma_rels)}"
            )
        return self


def gamma_of(sigma_rel: float) -> float:
    """The exponent of the profile of relative width `sigma_rel` in (0, 0.2887).

    The positive root of gamma^3 + 7 gamma^2 + (16 - s) gamma + (12 - s) = 0 with s = sigma_rel^-2, which is the
    variance of the profile, sigma_rel^2 = (gamma + 1) / ((gamma + 2)^2 (gamma + 3)), multiplied out.
    """
    s = sigma_rel**-2
    return float(np.roots([1, 7, 16 - s, 12 - s]).real.max())


class PowerEma:
    """Averages of a model's trained parameters, weighted by (images seen)^gamma."""

    def __init__(self, model: nn.Module, spec: PowerEmaSpec) -> None:
        self.spec = spec
        self.gammas = [gamma_of(width) for width in spec.sigma_rels]
        trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
        self._names, self._sources = list(trained), list(trained.values())
        self.averages = [[parameter.detach().clone() for parameter in self._sources] for _ in spec.sigma_rels]

    @torch.no_grad()
    def update(self, images: int, batch_size: int) -> None:
        """Move the averages by the step that brought the count to `images`.

        average = lerp(weight, average, beta), beta = (1 - batch / images)^(gamma + 1) (§3.1, in images).
        """
        sources = [local(source) for source in self._sources]
        for gamma, averages in zip(self.gammas, self.averages, strict=True):
            beta = max(1.0 - batch_size / images, 0.0) ** (gamma + 1)
            torch._foreach_lerp_([local(average) for average in averages], sources, 1.0 - beta)

    def tensors(self) -> dict[str, Tensor]:
        """The averages under "<index of sigma_rel>/<parameter>"."""
        return {
            f"{index}/{name}": average
            for index, averages in enumerate(self.averages)
            for name, average in zip(self._names, averages, strict=True)
        }


def write_snapshot(folder: Path, spec: PowerEmaSpec, tensors: dict[str, Tensor], images: int) -> Path:
    """Write `PowerEma.tensors` after `images` images into `folder`, whole or not at all; OSError where it cannot."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{_PREFIX}{images:012d}.safetensors"
    stored = {name: value.to("cpu", _DTYPES[spec.dtype]).contiguous() for name, value in tensors.items()}
    about = {
        "sigma_rels": json.dumps(list(spec.sigma_rels)),
        "images": str(images),
        "sha256": _digest(stored),
    }
    replace_file(path, save_bytes(stored, metadata=about))
    return path


def _digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of names and values."""
    total = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        total.update(name.encode())
        total.update(value.contiguous().numpy().tobytes())
    return total.hexdigest()


def find_snapshots(folder: Path) -> list[Path]:
    """All snapshots in `folder`, the oldest first."""
    return sorted(folder.glob(f"{_PREFIX}{'[0-9]' * 12}.safetensors"))


def combination(times: Sequence[float], gammas: Sequence[float], time: float, gamma: float) -> np.ndarray:
    """The weights, shape (n,), sum 1, with which n snapshots best approximate the profile of `gamma` at `time`.

    times: the image counts of the snapshots, > 0; gammas: their exponents. Least squares over profiles
    p(tau) = (gamma + 1) tau^gamma / t^(gamma + 1) on [0, t]: the Gram system of the paper's Algorithm 3, whose
    solution is divided by its sum as in the paper's released code. Every profile integrates to 1, so only
    weights that sum to 1 give a profile again, and return parameters that never changed as they were. Least squares
    alone leaves the sum free, and shrinks parameters where too few snapshots cover the wanted profile.
    """
    t, g = np.asarray(times, dtype=np.float64), np.asarray(gammas, dtype=np.float64)
    gram = _inner(t[:, None], g[:, None], t[None], g[None]) * time
    wanted = _inner(t, g, np.full(1, time), np.full(1, gamma)) * time
    solution: Any = np.linalg.lstsq(gram, wanted, rcond=None)[0]
    return solution / solution.sum()


def _inner(t_a: Any, g_a: Any, t_b: Any, g_b: Any) -> Any:
    """Inner products of profiles, arrays that broadcast: the integral of p_a p_b over [0, min(t_a, t_b)]."""
    least = np.minimum(t_a, t_b)
    decay = (least / t_a) ** (g_a + 1) * (least / t_b) ** (g_b + 1) / least
    return (g_a + 1) * (g_b + 1) / (g_a + g_b + 1) * decay


def rebuild(
    paths: Sequence[Path], sigma_rel: float, images: int | None = None
) -> tuple[dict[str, Tensor], int]:
    """The average of relative width `sigma_rel` at `images` (the last snapshot's if None), and that count.

    paths: snapshots of one run. Returns fp32 parameters by name. Raises ConfigError, one line, where there is
    no snapshot, where one is damaged or not finite, and for a width outside (0, 0.28).
    """
    if not 0 < sigma_rel < 0.28:
        raise ConfigError(f"--sigma-rel must be in (0, 0.28), but got {sigma_rel}")
    if not paths:
        raise ConfigError("there are no snapshots to rebuild an average from: train with ema.power")
    heads = [_head(path) for path in paths]
    end = images or heads[-1][0]
    entries = [
        (path, index, count, gamma_of(width))
        for path, (count, widths, _) in zip(paths, heads, strict=True)
        for index, width in enumerate(widths)
        if count <= end
    ]
    if not entries:
        raise ConfigError(f"there is no snapshot at or before {end} images")
    weights = combination([e[2] for e in entries], [e[3] for e in entries], end, gamma_of(sigma_rel))
    shares: dict[Path, dict[str, float]] = {}
    for (path, index, _, _), weight in zip(entries, weights, strict=True):
        shares.setdefault(path, {})[str(index)] = float(weight)
    total: dict[str, Tensor] = {}
    for path, (_, _, digest) in zip(paths, heads, strict=True):
        for name, value in (_values(path, digest) if path in shares else {}).items():
            prefix, _, parameter = name.partition("/")
            part = value.double() * shares[path][prefix]
            total[parameter] = total[parameter] + part if parameter in total else part
    return {name: value.float() for name, value in total.items()}, end


def _head(path: Path) -> tuple[int, list[float], str | None]:
    """The image count, the widths and the digest of a snapshot, None in snapshots older than digests."""
    try:
        with safe_open(path, framework="pt") as file:
            about = file.metadata()
        return int(about["images"]), read_own_json(about["sigma_rels"]), about.get("sha256")
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"snapshot {path} is damaged: {' '.join(str(error).split())}") from None


def _values(path: Path, digest: str | None) -> dict[str, Tensor]:
    """The averages of a snapshot."""
    tensors = load_file(path)
    if digest not in (None, _digest(tensors)):
        raise ConfigError(f"snapshot {path} is damaged: it does not match its SHA-256")
    if not all(value.isfinite().all() for value in tensors.values()):
        raise ConfigError(f"snapshot {path} holds averages that are not finite")
    return tensors
