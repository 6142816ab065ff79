"""Short names of schedules and of a study's arms, e.g. "3u h2e p.003": the same in the terminal, MLflow and the report.

The parts of a name, each left out where it is the default:

    8u              clusters and how they are cut: u uniform, s log-SNR, d log-SNR by dynamic programming, e relative
                    entropy, l loss, c convergence, g gradient, x given edges
    e2h  h2e  rnd   order: easy to hard, hard to easy, random (with its seed); given
    p.3             pacing: p plateau, fix fixed stages, else the rule's name; with its length, of a stage or of the
                    budget, or in images or iterations
    w2  n2  f.1     active set: a window, the newest weighted, a floor
    logit-normal    base distribution, importance, weighting, and what else the search chose, e.g. lr.002
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pydantic

    from curriculum_ray.curriculum import CurriculumSchedule
    from curriculum_ray.curriculum.base import BaseSpec
    from curriculum_ray.curriculum.order import OrderSpec

__all__ = ["UNIFORM", "arm_name", "short_name"]

UNIFORM = "uniform"
"""The name of uniform sampling."""

_CUTS = {
    "uniform": "u",
    "log_snr": "s",
    "log_snr_dp": "d",
    "relative_entropy": "e",
    "loss": "l",
    "convergence": "c",
    "gradient": "g",
    "explicit": "x",
}
_ORDERS = {"easy_to_hard": "e2h", "hard_to_easy": "h2e", "random": "rnd", "explicit": "given"}
_RULES = {"plateau": "p", "fixed": "fix", "fixed_exponential": "fexp", "single_step": "once"}
_SETS = {"cumulative": "", "window": "w", "newest_weighted": "n"}
# Of kinds of base distributions, weightings and importance, and of keys; the others are written with hyphens.
_WORDS = {
    "min_snr": "min-SNR",
    "soft_min_snr": "soft-min-SNR",
    "p2": "P2",
    "laplace_logsnr": "Laplace",
    "log_normal_sigma": "log-normal",
    "speed": "SpeeD",
    "clts": "CLTS",
    "edm2_uncertainty": "EDM2-uncertainty",
    "ant_uncertainty": "ANT-uncertainty",
    "learning_rate": "lr",
    "weight_decay": "wd",
    "batch_size": "batch ",
}
# Settings of a pacing rule that are no length of its own.
_BESIDE = ("start_stage", "start_fraction", "finish_by")
# Figures, and whether all settings are named, from the shortest name on.
_DETAILS = ((2, False), (3, False), (3, True), (6, True), (17, True))


def arm_name(
    arm_id: str,
    schedule: CurriculumSchedule,
    settings: Mapping[str, Any],
    known: Mapping[str, str],
    *,
    rival: str | None = None,
    given: str | None = None,
) -> str:
    """The name of an arm in its study: that which it has in `known`, names by arm, else a short one that no other has.

    settings: dotted keys that distinguish the arm besides its schedule. rival: its name, where it is one. given: a
    name that it has without regard to its settings: "uniform" of the control without a curriculum, or that of a study
    of named arms.
    """
    if arm_id in known:
        return known[arm_id]
    if given is not None:
        names = [given]
    else:
        names = [
            short_name(schedule, settings, rival, digits=digits, whole=whole) for digits, whole in _DETAILS
        ]
    taken = set(known.values())
    return next((name for name in names if name not in taken), f"{names[0]} #{arm_id}")


def short_name(
    schedule: CurriculumSchedule,
    settings: Mapping[str, Any] | None = None,
    rival: str | None = None,
    *,
    digits: int = 2,
    whole: bool = False,
) -> str:
    """A short name for a schedule with other settings, by dotted key; "uniform" for none of either.

    A rival whose name is a word keeps it, with numbers where it is the name of what the rival does. digits: figures of
    each number. whole: whether settings are named that short names leave out.
    """
    words = [*_schedule(schedule, digits, whole), *_settings(settings or {}, digits)]
    name = " ".join(words) or UNIFORM
    if rival is None or " " in rival:
        return name
    own = _word(rival)
    return name if own in words or any(word.startswith(f"{own} ") for word in words) else own


def _schedule(schedule: CurriculumSchedule, digits: int, whole: bool) -> list[str]:
    words = []
    pacing, active = schedule.pacing, schedule.active
    if pacing is not None:
        clusters = schedule.clusters
        words = [f"{clusters.count}{_CUTS.get(clusters.by, clusters.by)}", _order(schedule.order)]
        given = _given(pacing)
        length = next((key for key in given if key not in _BESIDE), next(iter(given), None))
        name = _RULES.get(pacing.rule, _word(pacing.rule))
        words.append(name if length is None else name + _number(given[length], digits))
        width = [_number(value, digits) for key, value in _numbers(active).items() if key != "floor"]
        words.append(_SETS.get(active.set, _word(active.set)) + "".join(width))
        words.append(f"f{_number(active.floor, digits)}" if active.floor else "")
        if whole:
            words += [
                f"{_word(key)}{_number(value, digits)}" for key, value in given.items() if key != length
            ]
    words.append(_base(schedule.base, digits))
    if schedule.importance.rule != "none":
        words.append(_kind(schedule.importance.rule, _given(schedule.importance).values(), digits))
    return [word for word in words if word]


def _order(order: OrderSpec) -> str:
    word = _ORDERS.get(order.direction, _word(order.direction))
    if seed := getattr(order, "seed", 0):
        word += str(seed)
    by = getattr(order, "by", "noise_level")
    return word if by == "noise_level" else f"{word}:{by.replace(chr(92), '/').rpartition('/')[2]}"


def _base(base: BaseSpec, digits: int) -> str:
    if base.kind == "uniform":
        return ""
    if base.kind == "changing":
        first, then = (_base(each, digits) or UNIFORM for each in (base.first, base.then))
        numbers = [_number(value, digits) for value in _numbers(base).values()]
        return f"{first}→{then} {'+'.join(numbers)}"
    inner = getattr(base, "of", None)
    name = _kind(base.kind, _given(base).values(), digits)
    return name if inner is None or inner.kind == "uniform" else f"{name} {_base(inner, digits)}"


def _settings(settings: Mapping[str, Any], digits: int) -> list[str]:
    words = []
    kinds = {key.rpartition(".")[0]: value for key, value in settings.items() if key.endswith(".kind")}
    for group, kind in kinds.items():
        inner = [
            value
            for key, value in settings.items()
            if key.startswith(f"{group}.") and not key.endswith(".kind")
        ]
        if kind != "none":
            words.append(_kind(str(kind), inner, digits))
    for key, value in settings.items():
        group, _, last = key.rpartition(".")
        if group not in kinds:
            words.append(f"{_word(last)}{_value(value, digits)}")
    return words


def _kind(kind: str, values: Iterable[Any], digits: int) -> str:
    numbers = [_number(value, digits) for value in values if _is_number(value)]
    return " ".join([_word(kind), *numbers])


def _given(spec: pydantic.BaseModel) -> dict[str, Any]:
    """The numbers among its settings that are not its defaults, by key, in the order of their declaration."""
    fields = type(spec).model_fields
    return {key: value for key, value in _numbers(spec).items() if value != fields[key].default}


def _numbers(spec: pydantic.BaseModel) -> dict[str, Any]:
    return {key: value for key in type(spec).model_fields if _is_number(value := getattr(spec, key))}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _word(name: str) -> str:
    return _WORDS.get(name, name.replace("_", "-"))


def _value(value: Any, digits: int) -> str:
    return _number(value, digits) if _is_number(value) else f" {value}"


def _number(value: float, digits: int) -> str:
    """A number without the zero before its point: ".3"; thousands of a short name as "12.8k"."""
    if isinstance(value, int):
        return f"{value / 1000:.3g}k" if digits < 3 and value >= 1000 else str(value)
    text = f"{value:.{digits}g}".replace("e-0", "e-").replace("e+0", "e")
    return text.replace("0.", ".", 1) if text.startswith(("0.", "-0.")) else text
