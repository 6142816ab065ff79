"""Difficulty of noise levels in a report: curves that need no model, with the best schedule's cluster edges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from curriculum_ray.config import ConfigError
from tuning.figures.draw import drawn
from tuning.figures.levels import levels_axis
from tuning.figures.page import Html
from tuning.figures.run_files import read_config
from tuning.figures.theme import Theme, new_panels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from curriculum_ray.runs.config import RunConfig
    from tuning.evidence.records import TrialRecord

__all__ = ["Difficulty", "difficulty", "read_difficulty"]

_POINTS = 200
_MOST_NUMBERS = 1024
_MOST_EDGES = 60


@dataclass(frozen=True)
class Difficulty:
    """Difficulty over u, from 0 (clean) to 1 (noise), of a run's process, base distribution and data."""

    edges: list[float]
    """The N + 1 edges of the clusters."""
    log_snr: list[tuple[float, float]]
    """(u, log-SNR)."""
    entropy: list[tuple[float, float]]
    """(u, nats between neighbouring levels), the data taken as one Gaussian; empty where that is not known."""


def read_difficulty(record: TrialRecord) -> Difficulty | None:
    """Compute the curves from the settings in the run's folder; None where these cannot be read.

    Relative entropy is computed only for embedded data of at most 1,024 numbers per item: for others, loading or the
    eigenvalues of their covariance take long.
    """
    import torch

    from curriculum_ray.curriculum import cluster_edges
    from curriculum_ray.curriculum.base import level_of
    from curriculum_ray.diffusion import build_process

    config = None if record.folder is None else read_config(record.folder)
    if config is None:
        return None
    schedule = config.schedule
    try:
        levels = build_process(config.process).levels
        edges = cluster_edges(schedule.clusters, schedule.base, levels).tolist()
        u = (torch.arange(_POINTS, dtype=torch.float64) + 0.5) / _POINTS
        log_snr = levels.log_snr(level_of(schedule.base, u, levels)).double().clamp(-50, 50)
        entropy = _entropy(config)
    except (ConfigError, ValueError):  # e.g. a difficulty file or data that are gone
        return None
    return Difficulty(edges, list(zip(u.tolist(), log_snr.tolist(), strict=True)), entropy)


def _entropy(config: RunConfig) -> list[tuple[float, float]]:
    from curriculum_ray.curriculum.difficulty import (
        gaussian_relative_entropy,
        level_scales,
        principal_moments,
    )
    from curriculum_ray.data import load_data
    from curriculum_ray.data.spec import EMBEDDED
    from curriculum_ray.diffusion import build_process

    signal, noise_std, base = level_scales(build_process(config.process).levels, config.schedule.base)
    if base != config.schedule.base or config.data.name not in EMBEDDED:
        return []
    data = load_data(config.data)
    if data.stored[0].numel() > _MOST_NUMBERS:
        return []
    values = gaussian_relative_entropy(*principal_moments(data.items), signal, noise_std).tolist()
    return [((t + 0.5) / len(signal), value) for t, value in enumerate(values, 1)]


def difficulty(found: Difficulty | None) -> Html | None:
    """Draw the curves side by side."""
    if found is None:
        return None
    caption = "Lines across: the edges of the schedule's clusters." if _few(found) else ""
    if found.entropy:
        caption += (
            " Relative entropy is that of the data as one Gaussian, which is too low at the clean end; "
            "python -m tune difficulty measures it on the data themselves."
        )
    return drawn(lambda theme: _curves(found, theme), "log-SNR and relative entropy over u", caption.strip())


def _few(found: Difficulty) -> bool:
    return 2 < len(found.edges) <= _MOST_EDGES


def _curves(found: Difficulty, theme: Theme) -> Figure:
    panels = [("Log-SNR of each noise level", "log-SNR (nats)", found.log_snr)]
    if found.entropy:
        panels.append(("Relative entropy of neighbouring levels", "nats (more: harder)", found.entropy))
    figure, axes = new_panels(len(panels), 3.2, theme, len(panels))
    for place, (panel, (title, label, curve)) in enumerate(zip(axes, panels, strict=True)):
        heights, values = zip(*curve, strict=True)
        panel.plot(values, heights, color=theme.series[0], linewidth=1.8)
        if curve is found.entropy and min(values) > 0:
            panel.set_xscale("log")
            panel.minorticks_off()
        if _few(found):
            for edge in found.edges[1:-1]:
                panel.axhline(edge, color=theme.faint, linewidth=0.7, alpha=0.6)
        levels_axis(panel, theme, title)
        panel.set_xlabel(label)
        if place and not theme.narrow:
            panel.set_ylabel("")
    return figure
