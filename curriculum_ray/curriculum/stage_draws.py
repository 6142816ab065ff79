"""The draws of each stage of a schedule, on the noise levels of a process."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from curriculum_ray.curriculum.cells import inner_cells
from curriculum_ray.curriculum.clusters import cluster_edges
from curriculum_ray.curriculum.importance import NoImportance
from curriculum_ray.curriculum.level_draws import LevelDraws
from curriculum_ray.curriculum.order import join_order
from curriculum_ray.curriculum.schedule import CurriculumSchedule
from curriculum_ray.diffusion.levels import NoiseLevels

__all__ = ["StageDraws"]


class StageDraws(LevelDraws):
    """The draws of a schedule, aimed at one of its stages; initially at all clusters equally.

    total_images: the run's budget, for a base distribution that changes at a share of it. Raises `ConfigError` where
    the schedule does not fit `levels`.
    """

    def __init__(
        self, schedule: CurriculumSchedule, levels: NoiseLevels, total_images: int | None = None
    ) -> None:
        for base in schedule.base.distributions():
            inner_cells(base, levels)
        edges = cluster_edges(schedule.clusters, schedule.base, levels)
        self.order = join_order(schedule.order, edges, schedule.base, levels)
        """The clusters in the order in which they join; cluster 0 is the cleanest."""
        self._schedule = schedule
        importance = schedule.importance
        bins = 1 if isinstance(importance, NoImportance) else importance.bins
        super().__init__(schedule.base, levels, edges, total_images, bins)

    def aim_at(
        self,
        stage: int,
        importance: Callable[[Sequence[float]], Sequence[float] | None] | None = None,
        images: int = 0,
    ) -> None:
        """Draw from the active clusters of `stage`; 0 is the first.

        importance: maps the mass of each bin to the importance of each, or to None while it is not known. images: seen,
        on which the masses depend where the base changes.
        """
        densities = self._schedule.densities(self.order, stage)
        self.aim(densities, None if importance is None else importance(self.bin_masses(densities, images)))
