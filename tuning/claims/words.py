"""What may be concluded about a claim, in words: it is seen, or not seen at this size, but never refuted."""

from __future__ import annotations

from tuning.claims.results import ArmResult, ClaimEntry, ClaimResult, Setting
from tuning.evidence.compared import Turn, difference, verdict
from tuning.evidence.metrics import count

__all__ = ["conclusion", "difference", "in_turn", "seeds", "setting", "size", "verdict"]

_AGAINST = {"reverse": "its reverse", "control": "its control", "rival": "the rival"}


def conclusion(entry: ClaimEntry) -> str:
    """What may be said of a claim: "seen", with what it also beat, or "not seen at this size"."""
    result = entry.result
    if result is None:
        return "not run"
    first = result.arms[0].against_uniform
    if first is None:
        return f"not finished: {result.seeds} of {entry.seeds[0]} seeds"
    if first.word != "beats":
        return f"not seen at this size{'' if _ended(entry, result) else ' so far'}"
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


def seeds(entry: ClaimEntry) -> str:
    """Seeds that were run, of the most that are allowed: "4 of 3–6"."""
    least, most = entry.seeds
    allowed = f"{least}" if least == most else f"{least}–{most}"
    return allowed if entry.result is None else f"{entry.result.seeds} of {allowed}"


def setting(found: Setting) -> str:
    """E.g. "digits, ddpm-epsilon, 45k images"."""
    return f"{found.data}, {found.process}, {count(found.images)} images"


def size(found: Setting) -> str:
    """The size in full: data, network and budget."""
    shape = "×".join(map(str, found.shape))
    network = f"{found.network} with {count(found.parameters)} parameters"
    return f"{found.data} ({shape}), {found.process}, {network}, {found.images:,} images a run"


def in_turn(entry: ClaimEntry, arm: ArmResult) -> str:
    """The claim's arm against another one: a word and the difference, or that it is not asked."""
    turn = Turn(name=entry.name, against=arm.name, compared=arm.against_claim, asked=arm.asked)
    return turn.in_words(entry.margin)


def _ended(entry: ClaimEntry, result: ClaimResult) -> bool:
    """Whether no further seed is to come by the file of the claim."""
    return result.settled or result.seeds >= entry.seeds[1]
