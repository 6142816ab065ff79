"""Protects: runs that failed are counted and said wherever a claim is shown, and seeds without them count as run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from tests.door import ROOT
from tests.tuning.claims.studied import write_study
from tuning.claims import words
from tuning.claims.claim import CLAIMS, Claim, load_claim
from tuning.claims.page import claims_page
from tuning.claims.results import ClaimEntry, ClaimsTable
from tuning.claims.seen import entry_of

UNIFORM = [10.0, 11.0, 12.0, 10.5, 11.5, 10.2]
NOISE = np.array([0.01, -0.005, 0.0, 0.005, -0.01, 0.0])


def _better(share: float, turn: int = 0) -> list[float | None]:
    """By this share below uniform sampling's FID, with its luck."""
    return list(np.array(UNIFORM) * (1 - share + np.roll(NOISE, turn)))


FIDS: dict[str, Sequence[float | None]] = {
    "uniform": UNIFORM,
    "claim": _better(0.2),
    "reverse": _better(-0.3, 1),
    "rival": _better(0.1, 2),
}


@pytest.fixture(scope="module")
def claim() -> Claim:
    return load_claim(ROOT / CLAIMS / "min_snr.yaml")


def _seen(
    claim: Claim,
    output: Path,
    failed: dict[str, int],
    seeds: int | tuple[int, int] | None = None,
    /,
    **fids: Sequence[float | None],
) -> ClaimEntry:
    """Its entry where the last runs of these roles, so many of each, failed."""
    runs = {
        role: [*values[: len(values) - failed.get(role, 0)], *[None] * failed.get(role, 0)]
        for role, values in (FIDS | fids).items()
    }
    write_study(claim, output, seeds, **runs)
    return entry_of(claim, output)


@pytest.mark.parametrize(
    ("failed", "says"),
    [
        ({}, "seen; also beats its reverse (clean_levels) and the rival (p2)"),
        ({"claim": 6}, "no answer: fewer than three seeds to compare; min_snr failed on 6 seeds"),
        ({"claim": 4}, "no answer: fewer than three seeds to compare; min_snr failed on 4 seeds"),
        ({"claim": 1}, "not seen at this size; min_snr failed on 1 seed"),
        (
            {"rival": 1},
            "seen; also beats its reverse (clean_levels) and the rival (p2); p2 failed on 1 seed",
        ),
        (
            {"rival": 6},
            "seen; also beats its reverse (clean_levels); unknown against the rival (p2); p2 failed on 6 seeds",
        ),
        (
            {"reverse": 2, "uniform": 6},
            "no answer: fewer than three seeds to compare; clean_levels failed on 2 seeds, uniform failed on 6 seeds",
        ),
        (
            dict.fromkeys(FIDS, 6),
            "no answer: fewer than three seeds to compare; min_snr failed on 6 seeds, clean_levels failed on 6 seeds, "
            "p2 failed on 6 seeds, uniform failed on 6 seeds",
        ),
    ],
)
def test_the_conclusion_of_a_study_with_all_seeds_is_no_interim_one_and_names_what_failed(
    claim: Claim, tmp_path: Path, failed: dict[str, int], says: str
) -> None:
    entry = _seen(claim, tmp_path, failed)
    assert words.conclusion(entry) == says
    assert words.seeds(entry) == "6 of 3–6"
    page = claims_page(ClaimsTable.of([entry]))
    assert says in page
    assert "``" not in page


def test_a_claim_that_only_its_rival_keeps_open_is_not_open_for_good(claim: Claim, tmp_path: Path) -> None:
    same = [value * (1 + shift) for value, shift in zip(UNIFORM, NOISE * 20, strict=True)]
    entry = _seen(claim, tmp_path, {"rival": 1}, claim=same)
    assert entry.result is not None
    assert not entry.result.settled
    assert words.conclusion(entry) == "not seen at this size; p2 failed on 1 seed"


def test_a_difference_says_on_how_many_seeds_only_one_of_the_two_failed(claim: Claim, tmp_path: Path) -> None:
    entry = _seen(claim, tmp_path, {"claim": 1, "rival": 3, "uniform": 2})
    assert entry.result is not None
    first, _, rival = entry.result.arms
    assert (first.runs, first.failed, entry.result.uniform_failed) == (5, 1, 2)
    found = first.against_uniform
    assert found is not None
    assert (found.word, found.seeds, found.failed, found.other_failed) == ("beats", 4, 0, 1)
    assert words.difference(first) == (
        f"{found.percent:+.1f}% [{found.low:.1f}, {found.high:.1f}], 4 seeds, uniform sampling failed on 1 more"
    )
    assert words.in_turn(entry, rival).endswith("], 3 seeds, p2 failed on 2 more")
    page = claims_page(ClaimsTable.of([entry]))
    assert f"| {words.difference(first)} | 6 of 3–6 |" in page
    assert f"| beats: {words.difference(first)} | – |" in page


def test_a_seed_counts_once_the_runs_of_all_arms_have_ended(claim: Claim, tmp_path: Path) -> None:
    begun = {role: values[:2] for role, values in FIDS.items()}
    entry = _seen(claim, tmp_path, {"claim": 1}, **{**begun, "uniform": UNIFORM[:1]})
    assert words.conclusion(entry) == "not finished: 1 of 3 seeds; min_snr failed on 1 seed"
    four = {role: values[:4] for role, values in FIDS.items()}
    entry = _seen(claim, tmp_path / "four", {"claim": 2}, **four)
    assert words.conclusion(entry) == (
        "no answer so far: fewer than three seeds to compare; min_snr failed on 2 seeds"
    )


def test_the_seeds_are_of_those_that_the_study_allowed(claim: Claim, tmp_path: Path) -> None:
    twelve = {role: [*values, *values] for role, values in FIDS.items()}
    same = [
        value * (1 + shift)
        for value, shift in zip(twelve["uniform"], [*NOISE * 20, *NOISE * 20], strict=True)
    ]
    entry = _seen(claim, tmp_path, {}, (3, 20), **{**twelve, "claim": same})
    assert entry.allowed == (3, 20)
    assert words.seeds(entry) == "12 of 3–20"
    assert words.conclusion(entry) == "not seen at this size so far"
    again = _seen(claim, tmp_path, {}, None, **{**twelve, "claim": same})
    assert words.seeds(again) == "12 of 3–12"
    assert words.conclusion(again) == "not seen at this size"
    assert words.seeds(again.model_copy(update={"result": None})) == "3–6"
