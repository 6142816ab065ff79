"""The schedule: the specification of a curriculum, one small YAML file to search, log, ship and reuse."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import model_validator

from curriculum_ray.config import ConfigError, Spec, check_path, flatten, load_yaml, parse
from curriculum_ray.config.plain_yaml import write_yaml
from curriculum_ray.config.spec import union_at
from curriculum_ray.curriculum.active import ActiveSpec, CumulativeSet, NewestWeightedSet, WindowSet
from curriculum_ray.curriculum.base import BaseSpec, Changing, Uniform
from curriculum_ray.curriculum.clusters import ClustersSpec, ExplicitClusters, UniformClusters, cluster_edges
from curriculum_ray.curriculum.importance import ImportanceSpec, NoImportance
from curriculum_ray.curriculum.order import (
    LEAST_RANDOM,
    ExplicitOrder,
    NoOrder,
    OrderSpec,
    RandomOrder,
    SortedOrder,
    check_ranking,
    join_order,
    random_ranking,
)
from curriculum_ray.curriculum.pacing import FamilyPacing, PacingSpec, SingleStepPacing
from curriculum_ray.curriculum.pacing.base import check_begins
from curriculum_ray.diffusion.levels import NoiseLevels
from curriculum_ray.words import number_of

__all__ = ["CurriculumSchedule"]

# Groups and keys of a schedule that may name a difficulty file.
FILES = (("clusters", "difficulty"), ("order", "by"))


class CurriculumSchedule(Spec):
    """Which part of u-space to draw when: base, clusters, order, pacing, active set and importance.

    The default is no curriculum: plain draws from the base distribution.
    """

    version: Literal[1] = 1
    """Version of the file format."""
    base: BaseSpec = Uniform()
    """The distribution of noise levels that u runs over."""
    clusters: ClustersSpec = UniformClusters(count=1)
    """How u is cut into clusters."""
    order: OrderSpec = NoOrder()
    """In which order the clusters join."""
    pacing: PacingSpec | None = None
    """When the next cluster joins; required with an order, does not apply without one."""
    active: ActiveSpec = CumulativeSet()
    """How densely the clusters are drawn; does not apply without an order."""
    importance: ImportanceSpec = NoImportance()
    """Whether levels with large losses are drawn more and weigh less; with or without an order."""

    @model_validator(mode="after")
    def _check(self) -> CurriculumSchedule:
        if self.order.direction != "none":
            if self.pacing is None:
                raise ValueError(f"pacing is required with order.direction {self.order.direction}")
            if isinstance(self.order, RandomOrder) and self.clusters.count < LEAST_RANDOM:
                raise ValueError(
                    f"order.direction random needs {LEAST_RANDOM} clusters or more, since fewer have sorted orders "
                    f"only, but clusters.count is {self.clusters.count}"
                )
            if isinstance(self.order, ExplicitOrder):
                check_ranking(self.order, self.clusters.count)
            if self.pacing.start_stage >= self.num_stages:
                raise ValueError(
                    f"pacing.start_stage must be below {number_of(self.num_stages, 'stage')}, but got "
                    f"{self.pacing.start_stage}"
                )
            return self
        if self.pacing is not None:
            raise ValueError(
                "pacing does not apply with order.direction none, where all is active from the start"
            )
        if self.active != CumulativeSet():
            raise ValueError(
                "active does not apply with order.direction none, where all is active from the start"
            )
        return self

    @classmethod
    def uniform(cls) -> CurriculumSchedule:
        """No curriculum, uniform base distribution: the control that every search compares with."""
        return cls()

    @classmethod
    def from_file(cls, path: str | Path) -> CurriculumSchedule:
        """Read a schedule; raises `ConfigError` of one line that names the file and the key.

        Difficulty files are looked up beside the schedule first, then from the working directory.
        """
        data = load_yaml(path)
        if "version" not in data:
            raise ConfigError(f"{path}: version is required but missing")
        for group, key in FILES:
            settings = data.get(group)
            if not isinstance(settings, dict):
                continue
            name = settings.get(key)
            if isinstance(name, str) and name != "noise_level":
                try:
                    check_path(Path(name))
                    beside = Path(path).parent / name
                    found = beside if beside.exists() else Path(name)
                    there = found.exists()
                except (OSError, ValueError) as error:
                    raise ConfigError(f"{path}: {group}.{key} cannot be looked for: {error}") from None
                if not there:
                    raise ConfigError(f"{path}: {group}.{key} names {name}, which does not exist")
                data = {**data, group: {**settings, key: str(found)}}
        return cls.from_dict(data, str(path))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], source: str = "schedule") -> CurriculumSchedule:
        """Check a mapping as read from YAML or JSON; `source` is what the `ConfigError` names."""
        return parse(cls, dict(data), source)

    def to_dict(self) -> dict[str, Any]:
        """The content as JSON-safe values, without settings that are not given."""
        data = self.to_plain()
        if self.importance == NoImportance():
            # Parts that most schedules lack must not change their id.
            del data["importance"]
        for key in data:
            if (union := union_at(type(self), key)) is not None:
                # The kind of a group comes first in it.
                data[key] = dict(sorted(data[key].items(), key=lambda item: item[0] != union.tag))
        return data

    def to_yaml(self) -> str:
        """The content of schedule.yaml."""
        return write_yaml(self.to_dict())

    def to_file(self, path: str | Path) -> None:
        """Write schedule.yaml."""
        Path(path).write_text(self.to_yaml(), encoding="utf-8")

    def flat(self) -> dict[str, Any]:
        """Dotted keys to values, for logging, e.g. {"clusters.count": 20}."""
        return flatten(self.to_dict())

    @property
    def schedule_id(self) -> str:
        """Twelve hexadecimal digits that are equal for equal content; difficulty files count by name."""
        content = self.to_dict()
        for group, key in FILES:
            if key in content[group]:
                content[group][key] = Path(content[group][key]).name
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]

    def densities(self, order: Sequence[int], stage: int) -> list[float]:
        """Relative density of each cluster 0 (cleanest) .. N-1 at `stage`; see `ActiveSpec`. All are 1 without order.

        order: the clusters in the order in which they join.
        """
        return [1.0] * len(order) if self.pacing is None else self.active.densities(order, stage)

    def describe(self) -> str:
        """One line for people, e.g. "20 log_snr clusters, easy_to_hard, plateau patience 200, cumulative"."""
        words = [] if self.base == Uniform() else [f"base {self.base.describe()}"]
        if self.importance != NoImportance():
            words.append(f"importance by {self.importance.rule}")
        if self.pacing is None:
            return ", ".join([*words, "no curriculum"])
        words.append(f"{self.clusters.count} {self.clusters.by} clusters")
        order = self.order
        if isinstance(order, RandomOrder):
            words.append(f"random order {order.seed}")
        elif isinstance(order, SortedOrder) and order.by != "noise_level":
            words.append(f"{order.direction} by {Path(order.by).name}")
        else:
            words.append(order.direction)
        words += [self.pacing.describe(), self.active.set]
        if self.active.floor:
            words.append(f"floor {self.active.floor:.3g}")
        return ", ".join(words)

    @property
    def num_stages(self) -> int:
        """The stages that clusters and active set give; 1 without a curriculum."""
        return 1 if self.pacing is None else self.active.num_stages(self.clusters.count)

    def check_ladder(self, step: int, total_images: int | None = None) -> None:
        """Refuse a curriculum that cannot be walked in optimizer steps of `step` images over all ranks.

        A change of the base that begins too late is refused too, and importance whose histories never fill.
        total_images: the run's budget. The `ConfigError` says what would fit.
        """
        if total_images is not None:
            self._check_effect(step, total_images)
        if self.pacing is not None:
            self.pacing.check(self.num_stages, total_images, step)

    def _check_effect(self, step: int, total_images: int) -> None:
        if isinstance(self.base, Changing):
            check_begins("base: the change", "it begins", self.base.span(total_images)[0], step, total_images)
        steps = -(-total_images // step)
        if not isinstance(self.importance, NoImportance) and self.importance.history >= steps:
            raise ConfigError(
                f"importance.history must be below {steps}, the steps of {step} images in the budget of "
                f"{total_images:,}, since draws are plain until it is full, but got {self.importance.history}"
            )

    def check_window(self, window: int, step: int, total_images: int | None = None) -> None:
        """Refuse a `window` of steps between exchanges of losses after which the pacing would see a plateau too late.

        step, total_images: as `check_ladder` takes them. The `ConfigError` says what would fit.
        """
        if self.pacing is not None:
            self.pacing.check_window(window, self.num_stages, total_images, step)

    def without_curriculum(self) -> CurriculumSchedule:
        """The same base and importance, without clusters, order and pacing."""
        return CurriculumSchedule(base=self.base, importance=self.importance)

    def reversed_order(self) -> CurriculumSchedule:
        """The control with the order reversed and everything else the same; ValueError for random and none."""
        order = self.order
        if isinstance(order, SortedOrder):
            turned = "hard_to_easy" if order.direction == "easy_to_hard" else "easy_to_hard"
            return self._with_order(order.model_copy(update={"direction": turned}))
        if isinstance(order, ExplicitOrder):
            return self._with_order(ExplicitOrder(ranking=order.ranking[::-1]))
        raise ValueError(f"an order of direction {order.direction} has no reverse")

    def random_order(self, seed: int) -> CurriculumSchedule:
        """The control with a random order and everything else the same.

        ValueError without a curriculum, and for fewer than 3 clusters, which have sorted orders only.
        """
        if isinstance(self.order, NoOrder) or self.clusters.count < LEAST_RANDOM:
            raise ValueError(f"{self.describe()} has no random control")
        return self._with_order(RandomOrder(seed=seed))

    def simplest(self) -> CurriculumSchedule:
        """The plainest schedule with the same draws, bit for bit: equal for two schedules that train alike."""
        count, active, order, pacing = self.clusters.count, self.active, self.order, self.pacing
        even = count == 1 or (active.floor == 1 and not isinstance(active, NewestWeightedSet))
        if pacing is None or even or pacing.start_stage == self.num_stages - 1:
            return self.without_curriculum()
        if isinstance(active, WindowSet) and active.width >= count:
            active = CumulativeSet(floor=active.floor)
        if isinstance(order, RandomOrder):
            order = ExplicitOrder(ranking=random_ranking(count, order.seed))
        elif isinstance(order, ExplicitOrder) and order.ranking == tuple(range(count)):
            order = SortedOrder(direction="hard_to_easy")
        elif isinstance(order, ExplicitOrder) and order.ranking == tuple(reversed(range(count))):
            order = SortedOrder(direction="easy_to_hard")
        if isinstance(pacing, FamilyPacing) and pacing.rule == "step":
            pacing = SingleStepPacing(
                start_stage=pacing.start_stage,
                start_fraction=pacing.start_fraction,
                step_images=pacing.full_images,
                step_share=pacing.full_share,
            )
        return self.model_copy(update={"active": active, "order": order, "pacing": pacing})

    def pinned(self, levels: NoiseLevels) -> CurriculumSchedule:
        """The same schedule with explicit clusters and order, so that it needs no difficulty file."""
        edges = cluster_edges(self.clusters, self.base, levels)
        changes: dict[str, Any] = {"clusters": ExplicitClusters(edges=tuple(edges.tolist()))}
        if not isinstance(self.order, NoOrder):
            changes["order"] = ExplicitOrder(ranking=join_order(self.order, edges, self.base, levels))
        return self.model_copy(update=changes)

    def _with_order(self, order: OrderSpec) -> CurriculumSchedule:
        return self.model_copy(update={"order": order})
