"""What may be concluded about a claim, in words: it is seen, or not seen at this size, but never refuted."""

from __future__ import annotations

from curriculum_ray.words import number_of
from tuning.claims.results import ArmResult, ClaimEntry, ClaimResult, Setting
from tuning.evidence.compared import Turn, in_full, verdict
from tuning.evidence.metrics import count
from tuning.evidence.short_names import UNIFORM

__all__ = [
    "against_uniform",
    "conclusion",
    "difference",
    "in_turn",
    "protocol",
    "seeds",
    "setting",
    "size",
    "verdict",
]

_AGAINST = {"reverse": "its reverse", "control": "its control", "rival": "the rival"}


def conclusion(entry: ClaimEntry) -> str:
    """What may be said of a claim: "seen", with what it also beat, or "not seen at this size"; and what failed."""
    result = entry.result
    if result is None:
        return "not run"
    return "; ".join(filter(None, [_answer(entry, result), _failures(result)]))


def _answer(entry: ClaimEntry, result: ClaimResult) -> str:
    first, (least, most) = result.arms[0].against_uniform, entry.allowed
    so_far = "" if result.settled or result.seeds >= most else " so far"
    if first is None and result.seeds < least:
        return f"not finished: {result.seeds} of {least} seeds"
    if first is None:
        return f"no answer{so_far}: fewer than three seeds to compare"
    if first.word != "beats":
        return f"not seen at this size{so_far}"
    beaten, open_ = [], ""
    for arm in result.arms[1:]:
        if not arm.asked:
            break
        found = arm.against_claim
        words = f"{_AGAINST[arm.role]} ({arm.name})"
        if found is not None and found.word == "beats":
            beaten.append(words)
        else:
            link = "to" if found is not None and found.word == "equal" else "against"
            word = "unknown" if found is None else verdict(found, entry.margin)
            open_ = f"{word} {link} {words}"
    more = [f"also beats {' and '.join(beaten)}"] if beaten else []
    return "; ".join(["seen", *more, *([open_] if open_ else [])])


def _failures(result: ClaimResult) -> str:
    """On how many seeds each arm failed: "min_snr failed on 1 seed"; empty where none did."""
    failed = {**{arm.name: arm.failed for arm in result.arms}, UNIFORM: result.uniform_failed}
    return ", ".join(f"{name} failed on {number_of(many, 'seed')}" for name, many in failed.items() if many)


def seeds(entry: ClaimEntry) -> str:
    """Seeds that were run, of those that are allowed: "4 of 3–6"."""
    run = 0 if entry.result is None else entry.result.seeds
    # An earlier start may have allowed more than the last one.
    least, most = entry.allowed[0], max(entry.allowed[1], run)
    allowed = f"{least}" if least == most else f"{least}–{most}"
    return allowed if entry.result is None else f"{run} of {allowed}"


def setting(found: Setting) -> str:
    """E.g. "digits, ddpm-epsilon, 45k images"."""
    return f"{found.data}, {found.process}, {count(found.images)} images"


def size(found: Setting) -> str:
    """The size in full: data, network and budget."""
    shape = "×".join(map(str, found.shape))
    network = f"{found.network} with {count(found.parameters)} parameters"
    return f"{found.data} ({shape}), {found.process}, {network}, {found.images:,} images a run"


def protocol(result: ClaimResult) -> str:
    """The fingerprint of the protocol; a dash without a finished run."""
    return result.fingerprint or "–"


def difference(arm: ArmResult) -> str:
    """That from uniform sampling: "+18.2% [4.1, 30.3], 5 seeds, failed on 1 more"."""
    return in_full(arm.against_uniform, "uniform sampling")


def against_uniform(arm: ArmResult, margin: float) -> str:
    """The arm against uniform sampling: a word and the difference."""
    found = arm.against_uniform
    return "–" if found is None else f"{verdict(found, margin)}: {difference(arm)}"


def in_turn(entry: ClaimEntry, arm: ArmResult) -> str:
    """The claim's arm against another one: a word and the difference, or that it is not asked."""
    turn = Turn(name=entry.name, against=arm.name, compared=arm.against_claim, asked=arm.asked)
    return turn.in_words(entry.margin)
