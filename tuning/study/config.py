"""Settings of a study: the run that every trial varies, the search space, and the number of trials."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from curriculum_ray.config import Spec, flatten
from curriculum_ray.config.shown import shown
from curriculum_ray.distributed.resources import ResourceSpec
from curriculum_ray.runs.config import RunConfig
from curriculum_ray.training.packed import check_packable
from tuning.evidence.records import Control, Role
from tuning.study.halving import FullBudget, HalvingSpec

if TYPE_CHECKING:
    from tuning.study.controls import Controls

__all__ = ["FRESH_SEEDS", "Metric", "SamplerName", "StudyConfig"]

Metric = Literal["fid", "kid", "precision", "recall", "inception_score", "clip_score"]
SamplerName = Literal["tpe", "gp", "cmaes", "random", "grid", "nsgaii"]
_ASKED = {"trials", "confirm_top", "confirm_seeds", "futility", "margin", "hours"}
_OF_A_SEARCH = (
    "space",
    "trials",
    "confirm_top",
    "futility",
    "rivals",
    "sampler",
    "storage",
    "halving",
    "hours",
)
_MOST_TWINS = 2
"""Of the best schedule with another order, see `tuning.study.twins`."""
FRESH_SEEDS = 1000
"""Seeds of confirmations start here, above every seed that a search may use."""


class StudyConfig(Spec):
    """Everything that determines a study; equal values continue the same one."""

    run: RunConfig = RunConfig()
    """The settings that all trials share, without a seed and a schedule; the searched keys are laid over them."""
    space: str = "default"
    """A shipped search space, or the path of a YAML file."""
    trials: int = Field(default=8, ge=1, le=100_000)
    """Schedules that the search tries, beside the controls."""
    confirm_top: int = Field(default=1, ge=0, le=1000)
    """How many of the best schedules are run again on fresh seeds beside uniform sampling; 0 for none."""
    confirm_seeds: int | tuple[int, int] = (3, 10)
    """The least and the most fresh seeds of each, or their one number; seeds are added until every answer stands."""
    futility: float = Field(default=0.05, ge=0, lt=1)
    """No further seed is added where the chance that the seeds still allowed settle an open answer, predicted from five
    or more seeds, is below this; 0 for never, as with arms."""
    margin: float = Field(default=0.02, gt=0, lt=1)
    """A difference known to be smaller than this share of uniform sampling's metric counts as equal."""
    rivals: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """One-line rivals besides those of the space: a name and dotted keys, e.g. {weighting.kind: min_snr}."""
    arms: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Arms to train on fresh seeds beside uniform sampling, instead of a search: a name and dotted keys each, e.g.
    {laplace: {schedule.base.kind: laplace_logsnr}}; the first is also compared with the others, in turn."""
    sampler: SamplerName = "tpe"
    """Optuna's sampler; nsgaii has two objectives (`tuning.evidence.front`) and needs many trials, as cmaes does."""
    storage: str | None = None
    """Storage of Optuna's study: null for a journal in the study's folder, sqlite, or an RDB URL."""
    halving: HalvingSpec = FullBudget()
    """Successive halving: whether the worse schedules are dropped before they have used a full budget."""
    previews: int = Field(default=0, ge=0, le=64)
    """Points at which confirmations, and with nsgaii searched trials, are scored; 8 of 500 samples add a third."""
    metric: Metric = "fid"
    """The metric that the search optimises."""
    seed: int = Field(default=0, ge=0, lt=FRESH_SEEDS)
    """Seed of the search, and of the initialisation, data order and noise of every trial in it."""
    resources: ResourceSpec = ResourceSpec()
    """The resources of each trial."""
    pack: int = Field(default=1, ge=1, le=256)
    """Trials that one worker trains at a time as a vmapped ensemble, for small networks on a GPU."""
    share: float = Field(default=1.0, gt=0, le=1)
    """The part of the workers that the cluster can hold which this study may have; what is left is for others."""
    hours: float | None = Field(default=None, gt=0, le=100_000)
    """Hours for the whole study, over all of its starts, or null for no limit: fewer schedules are tried where they
    would not leave time for the confirmations."""

    @classmethod
    def completed(cls, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """The settings as they are; a ValueError names the key that an earlier one has become."""
        if "fidelity" in values:
            raise ValueError("the key fidelity is now called halving")
        return values

    @model_validator(mode="after")
    def _a_range_of_seeds(self) -> StudyConfig:
        least, most = self.least_and_most_seeds
        if not 2 <= least <= most <= 1000:
            raise ValueError(
                f"confirm_seeds must be between 2 and 1000, one number or the least and the most, but got "
                f"{least} to {most}"
                if isinstance(self.confirm_seeds, tuple)
                else f"confirm_seeds must be between 2 and 1000, or a least and a most, but got {least}"
            )
        return self

    @model_validator(mode="after")
    def _evaluated(self) -> StudyConfig:
        if self.run.evaluation is None:
            raise ValueError("run.evaluation must be set in a study: trials are compared by it, but got null")
        if self.run.preview and self.run.preview.asynchronous:
            raise ValueError(
                "run.preview.asynchronous is for `tune train`: a study's trials use all there is"
            )
        return self

    @model_validator(mode="after")
    def _left_to_the_trials(self) -> StudyConfig:
        """Every trial has a seed and a schedule of its own: those of `run` would be ignored."""
        run = self.run
        if run.seed != type(run).model_fields["seed"].default:
            raise ValueError(
                f"run.seed must be left out of a study, whose trials get theirs from seed, but is {run.seed}: set seed"
            )
        usual = flatten(RunConfig(process=run.process).schedule.model_dump(mode="json"))
        for key, value in flatten(run.schedule.model_dump(mode="json")).items():
            if value != usual.get(key):
                raise ValueError(
                    f"run.schedule must be left out of a study, whose trials have schedules of their own, but "
                    f"run.schedule.{key} is {shown(value)}: name it in arms, rivals or the space"
                )
        return self

    @model_validator(mode="after")
    def _no_search(self) -> StudyConfig:
        if not self.arms:
            return self
        for key in _OF_A_SEARCH:
            if self._is_given(key):
                raise ValueError(
                    f"arms are compared without a search: leave {key} out, which is {shown(getattr(self, key))}"
                )
        return self

    @model_validator(mode="after")
    def _confirmed(self) -> StudyConfig:
        """Settings of confirmations need some, and no more schedules are confirmed than there can be."""
        if self.arms:
            return self
        most = self.halving.full_trials(self.trials) + _MOST_TWINS
        if self.confirm_top > most:
            raise ValueError(
                f"confirm_top must be at most {most}, the schedules of {self.trials} trials that are run at the full "
                f"budget and {_MOST_TWINS} twins of the best, but got {self.confirm_top}"
            )
        unused = ("confirm_seeds", "futility", *(() if self.two_objectives else ("previews",)))
        for key in unused if self.confirm_top == 0 else ():
            if self._is_given(key):
                raise ValueError(
                    f"{key} is for confirmations, of which confirm_top 0 has none, but got {shown(getattr(self, key))}"
                )
        return self

    def _is_given(self, key: str) -> bool:
        """Whether a setting has another value than by default."""
        usual: object = type(self).model_fields[key].get_default(call_default_factory=True)
        return bool(getattr(self, key) != usual)

    @model_validator(mode="after")
    def _packs(self) -> StudyConfig:
        if self.pack == 1:
            return self
        if self.resources.workers != (1, 1):
            raise ValueError(
                f"pack trains {self.pack} trials in one worker: resources.num_workers must be 1, but is "
                f"{'-'.join(map(str, dict.fromkeys(self.resources.workers)))}"
            )
        if self.resources.isolate:
            raise ValueError(
                f"pack trains {self.pack} trials in one process, but resources.isolate gives each its own"
            )
        check_packable([self.run.train])
        return self

    @model_validator(mode="after")
    def _two_objectives(self) -> StudyConfig:
        if not self.two_objectives:
            return self
        if not self.previews:
            raise ValueError(
                "sampler nsgaii weighs the metric against the images to reach uniform sampling: it needs previews, "
                "e.g. previews=8, but previews is 0"
            )
        if self.halving.rule != "none":
            raise ValueError(
                f"sampler nsgaii has two objectives, where Optuna cannot prune: halving must be none, but is "
                f"{self.halving.rule}"
            )
        return self

    @property
    def least_and_most_seeds(self) -> tuple[int, int]:
        """The fewest and the most fresh seeds of a confirmation."""
        seeds = self.confirm_seeds
        return seeds if isinstance(seeds, tuple) else (seeds, seeds)

    @property
    def two_objectives(self) -> bool:
        """Whether the search weighs the metric against the images to reach uniform sampling."""
        return self.sampler == "nsgaii"

    def with_previews(
        self, settings: Mapping[str, Any], role: Role, control: Control | None
    ) -> dict[str, Any]:
        """A run's settings, with the previews that the study itself needs laid over its own.

        These are for confirmations, for two objectives, and for looks. role, control: those of the trial's record.
        """
        asked = self._previews(role, control)
        own = settings.get("preview")
        return {**settings, "preview": {**(own or {}), **asked} if asked else own}

    def _previews(self, role: Role, control: Control | None) -> dict[str, Any]:
        images, rule = self.run.total_images, self.halving
        looked_at = role == "searched" or control == "uniform"
        if self.previews and (role == "confirmation" or (self.two_objectives and looked_at)):
            return {"every_images": max(1, images // self.previews)}
        if role == "searched" and rule.rule == "after_last_stage":
            return {**rule.preview(images), "metric": True}
        return {}

    def phases(self, controls: Controls) -> dict[str, int]:
        """The maximum number of trials of each phase, with these controls."""
        arms, (_, most) = self.confirm_top + 1 + controls.confirmed, self.least_and_most_seeds
        if self.arms:
            none = dict.fromkeys(("controls", "smaller budgets", "searched", "twins of the best"), 0)
            return {**none, "confirmations": (len(self.arms) + 1) * most}
        return {
            "controls": 1 + controls.rivals,
            "smaller budgets": self.halving.low_trials(self.trials),
            "searched": self.halving.full_trials(self.trials),
            "twins of the best": _MOST_TWINS + controls.plain_twin,
            "confirmations": arms * most * bool(self.confirm_top),
        }

    def maximum_trials(self, controls: Controls) -> int:
        """The maximum number of trials of the study with these controls, at any budget."""
        return sum(self.phases(controls).values())

    def decisive(self) -> dict[str, Any]:
        """The settings that determine the trials' results; their number and their resources do not."""
        # Without arms, studies keep the content that they had before there were any.
        unused = set() if self.arms else {"arms"}
        return self.model_dump(
            mode="json", exclude={"resources", "pack", "share", "storage", *_ASKED, *unused}
        )

    def asked(self) -> dict[str, Any]:
        """The settings that say how much to try and when to stop."""
        return self.model_dump(mode="json", include=_ASKED)
