"""The answer of a study, in a sentence that claims no more than its intervals do."""

from __future__ import annotations

import math
from collections.abc import Sequence

from curriculum_ray.words import capitalized, number_of
from tuning.evidence.arms import Ranking, side_by_side
from tuning.evidence.boundary import FIRST_SEEDS
from tuning.evidence.devices import mixed_pairs
from tuning.evidence.differences import Difference, against_rival, against_uniform, surest
from tuning.evidence.metrics import count, direction, metric_name, number, percent, within
from tuning.evidence.scale import gain
from tuning.evidence.short_names import UNIFORM

__all__ = ["answer", "as_sentence", "rival_verdict", "verdict"]


def verdict(differences: Sequence[Difference], metric: str, images: int, noun: str = "schedule") -> str:
    """Say the outcome of a confirmation in one sentence that claims no more than the intervals do.

    noun: what the arms are, besides rivals.
    """
    compared = [found for found in differences if found.low is not None and not found.rival]
    if not compared:
        return f"no {noun} was compared with uniform sampling on three or more fresh seeds"
    best = surest(compared)
    words = f"{best.in_words(metric)}, {count(images)} images"
    if best.beats:
        return f"{best.name} beats uniform sampling by {words}"
    if all(found.loses for found in differences if not found.rival):
        return f"uniform sampling beats every confirmed {noun} (the best, {best.name}: a gain of {words})"
    if best.verdict == "equal":
        return f"{best.name} and uniform sampling are equal within {within(best.margin)}: a gain of {words}"
    return (
        f"undecided: no {noun} beat uniform sampling beyond noise (the best, {best.name}: a gain of {words})"
    )


def rival_verdict(first: Sequence[Difference], second: Sequence[Difference], metric: str) -> str:
    """Say whether a schedule beats the best rival: `first` against uniform sampling, `second` against the rival."""
    if not second:
        return ""
    best = max(second, key=lambda found: (found.asked, found.beats, found.mean))
    rival = next((found for found in first if found.rival and found.name == best.against), None)
    beside = (
        ""
        if rival is None
        else f"; {rival.name}, against uniform sampling: a gain of {rival.in_words(metric)}"
    )
    words = f"the best, {best.name}: a gain of {best.in_words(metric)}"
    if not best.asked:
        return f"not asked about the best rival, {best.against}, as no schedule beat uniform sampling ({words}){beside}"
    if best.beats:
        return f"{best.name} beats the best rival, {best.against}, by {best.in_words(metric)}{beside}"
    if rival is not None and rival.beats and all(found.asked and found.loses for found in second):
        return f"the best rival, {best.against}, beats every confirmed schedule ({words}){beside}"
    if best.verdict == "equal":
        equal = f"{best.name} and the best rival, {best.against}, are equal within {within(best.margin)}"
        return f"{equal}: a gain of {best.in_words(metric)}{beside}"
    return f"no schedule beat the best rival, {best.against}, beyond noise ({words}){beside}"


def answer(ranking: Ranking) -> str:
    """Say what a study found, in one sentence: on fresh seeds where it has them, else with that caveat."""
    return "; ".join([_found(ranking), *_failed(ranking)])


def _failed(ranking: Ranking) -> list[str]:
    """Say of arms that failed and finished on too few seeds for an interval; of others, their difference says it."""
    failed: dict[str, list[str]] = {}
    for record in ranking.failed:
        failed.setdefault(UNIFORM if record.control == "uniform" else record.arm_id, []).append(record.arm)
    done = {UNIFORM if arm.is_uniform else arm.arm_id: len(arm.confirmed) for arm in ranking.confirmed}
    return [
        f"{names[0]} failed on {number_of(len(names), 'fresh seed')} and finished on {done.get(key) or 'none'}"
        for key, names in failed.items()
        if done.get(key, 0) < FIRST_SEEDS
    ]


def _found(ranking: Ranking) -> str:
    metric, uniform = ranking.metric, ranking.uniform
    if not ranking.tried:
        return "only uniform sampling has finished" if uniform else "no trial has finished"
    best = ranking.tried[0]
    images = best.records[0].images
    differences = against_uniform(ranking)
    if any(difference.low is not None for difference in differences):
        sentences = (
            verdict(differences, metric, images, ranking.noun),
            _of_curricula(ranking, differences),
            rival_verdict(differences, against_rival(ranking), metric),
            mixed_pairs(ranking),
        )
        return "; ".join(filter(None, sentences))
    value, beside, seeds = side_by_side(best, uniform, metric)
    name, budget = metric_name(metric), f"after {count(images)} images"
    if beside is None:
        reached = f"{best.name} reached {name} {number(value)} {budget}"
        return f"{reached}; uniform sampling has no finished run beside it"
    behind = (beside < value) == (direction(metric) == "min") and beside != value
    better = gain([beside], [value], metric) if behind else gain([value], [beside], metric)
    share = "" if math.isnan(better) else f"{percent(abs(better))}% better than "
    fresh = "seed" if seeds == 1 else "seeds"
    few = (
        f"{seeds} fresh {fresh}: too few for an interval"
        if best.confirmed
        else "not confirmed on fresh seeds"
    )
    caveat = f"{budget} ({few})"
    if behind:
        against = f"{share}{number(value)} of the best {ranking.noun}, {best.name},"
        return f"uniform sampling is the best: {name} {number(beside)}, {against} {caveat}"
    return (
        f"{best.name} reached {name} {number(value)}, {share}{number(beside)} of uniform sampling, {caveat}"
    )


def _of_curricula(ranking: Ranking, differences: Sequence[Difference]) -> str:
    """What is known of the best curriculum, where the sentence before spoke of an arm without one."""
    compared = [found for found in differences if found.low is not None and not found.rival]
    ours = [found for found in compared if ranking.arm(found.key).has_curriculum]
    if not ours or surest(compared) in ours:
        return ""
    best = surest(ours)
    found = f"{best.verdict}, a gain of {best.in_words(ranking.metric)}"
    return f"the best curriculum, {best.name}, against uniform sampling: {found}"


def as_sentence(text: str, ranking: Ranking) -> str:
    """The text from a capital letter to a full stop; an arm's name at its beginning stays as it is."""
    named = [arm.name for arm in ranking.arms if not arm.is_uniform]
    name = any(text.startswith((f"{each} ", f"{each},")) for each in named)
    return f"{text if name else capitalized(text)}."
