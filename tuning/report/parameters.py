"""The searched parameters in a report: the importance of each, and the metric against its values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tuning.evidence.metrics import metric_name
from tuning.figures.draw import drawn
from tuning.figures.page import Html, paragraph, section
from tuning.figures.theme import Theme, dress, new_figure, new_panels

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

__all__ = ["SearchedParameters", "read_parameters", "searched_parameters"]

_FEW = 30


@dataclass(frozen=True)
class SearchedParameters:
    """The complete trials of an Optuna study."""

    values: Mapping[str, Sequence[tuple[Any, float]]]
    """For each parameter, its value and the metric of each complete trial that has it."""
    importance: Mapping[str, float]
    """Share of each parameter that all trials have, the largest first; empty where it cannot be computed."""
    trials: int
    """Number of complete trials."""


def read_parameters(storage: BaseStorage, name: str) -> SearchedParameters | None:
    """Read the Optuna study `name`; None where it cannot be read, or no trial of it is complete."""
    import optuna

    try:
        study = optuna.load_study(study_name=name, storage=storage)
        trials = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
    except Exception:  # the report is written even if the database is gone or of another version
        return None
    if not trials:
        return None
    values: dict[str, list[tuple[Any, float]]] = {}
    for trial in trials:
        for key, value in trial.params.items():
            values.setdefault(key, []).append((value, trial.values[0]))
    shared = [key for key, found in values.items() if len(found) == len(trials)]
    return SearchedParameters(values, _importance(study, len(trials), shared), len(trials))


def _importance(study: Any, trials: int, shared: list[str]) -> dict[str, float]:
    """PED-ANOVA (Watanabe et al. 2023, arXiv 2304.10255) of the first objective, over the parameters `shared`.

    A parameter that only some trials have is left out: two lucky trials could make it the most important one.
    """
    import warnings

    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
    from optuna.study import StudyDirection

    sign = -1.0 if study.directions[0] == StudyDirection.MAXIMIZE else 1.0

    def lower_is_better(
        trial: FrozenTrial,
    ) -> float:  # Optuna ignores the study's direction where it has a target
        return sign * float(trial.values[0])

    if trials < 4 or not shared:
        return {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return dict(
                get_param_importances(
                    study, evaluator=PedAnovaImportanceEvaluator(), params=shared, target=lower_is_better
                )
            )
    except (ValueError, RuntimeError):  # e.g. every trial has the same value
        return {}


def searched_parameters(found: SearchedParameters | None, metric: str) -> Html:
    """Return the section; empty without complete trials or searched parameters."""
    if found is None or not found.values:
        return Html()
    few = f" {found.trials} trials are few: read the shares as hints." if found.trials < _FEW else ""
    note = (
        "Importance is PED-ANOVA's, over the parameters that every trial has: how far the better trials' values "
        f"differ from all trials' values, not how large the effect is.{few}"
    )
    return section(
        "Searched parameters",
        paragraph(note, faint=True),
        drawn(lambda theme: _bars(found, theme), "importance of the searched parameters"),
        drawn(lambda theme: _slices(found, metric, theme), f"{metric_name(metric)} against each parameter"),
    )


def _bars(found: SearchedParameters, theme: Theme) -> Figure | None:
    if not found.importance:
        return None
    names = list(found.importance)
    figure, axes = new_figure(0.9 + 0.34 * len(names), theme)
    axes.barh(range(len(names)), list(found.importance.values()), 0.6, color=theme.series[0])
    dress(axes, theme, "Importance of each parameter", grid="x")
    axes.set_yticks(range(len(names)), [name.removeprefix("schedule.") for name in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlim(0, 1)
    axes.set_xlabel("share")
    return figure


def _whole(settings: Sequence[Any]) -> bool:
    return all(isinstance(value, int) for value in settings)


def _slices(found: SearchedParameters, metric: str, theme: Theme) -> Figure:
    from matplotlib.ticker import MaxNLocator, NullFormatter

    names = list(found.values)
    columns = min(2 if theme.narrow else 3, len(names))
    figure, panels = new_panels(len(names), 2.0 if theme.narrow else 2.5, theme, columns, columns)
    for place, (name, axes) in enumerate(zip(names, panels, strict=True)):
        settings = [value for value, _ in found.values[name]]
        scores = [score for _, score in found.values[name]]
        if all(isinstance(value, int | float) and not isinstance(value, bool) for value in settings):
            axes.scatter(settings, scores, s=26, color=theme.series[0], alpha=0.8)
            if min(settings) > 0 and max(settings) > 20 * min(settings):
                axes.set_xscale("log")
                axes.xaxis.set_minor_formatter(NullFormatter())
            else:
                axes.xaxis.set_major_locator(MaxNLocator(4, integer=_whole(settings)))
        else:
            kinds = sorted({str(value) for value in settings})
            places = [kinds.index(str(value)) for value in settings]
            axes.scatter(places, scores, s=26, color=theme.series[0], alpha=0.8)
            axes.set_xticks(range(len(kinds)), [kind.replace("_", "\n") for kind in kinds])
            axes.set_xlim(-0.5, len(kinds) - 0.5)
        title = name.removeprefix("schedule.")
        dress(axes, theme, title.replace(".", ".\n") if theme.narrow else title, grid="y")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        if place % columns == 0:
            axes.set_ylabel(metric_name(metric))
    return figure
