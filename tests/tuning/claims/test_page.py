"""The table says what the records support: seen or not seen at this size, never refuted, and no stale result."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from curriculum_ray.config import ConfigError
from tests.door import ROOT
from tests.tuning.claims.studied import write_study
from tests.tuning.evidence.test_in_turn import UNIFORM, better
from tuning.claims import words
from tuning.claims.claim import CLAIMS, Claim, load_claim, load_claims
from tuning.claims.files import PAGE_FILE, TABLE_FILE, check_writable, read_table, write_table
from tuning.claims.page import claims_page
from tuning.claims.results import ClaimEntry, ClaimsTable
from tuning.claims.seen import entry_of, updated

DOCS = ROOT / "docs/results"


@pytest.fixture(scope="module")
def claim() -> Claim:
    return load_claim(ROOT / CLAIMS / "min_snr.yaml")


def _run(tested: Claim, output: Path, /, **fids: Sequence[float | None]) -> ClaimEntry:
    """Write the claim's study, and read what was seen. fids: of uniform sampling and by role."""
    write_study(tested, output, **fids)
    return entry_of(tested, output)


def test_a_claim_that_wins_is_seen_and_said_to_beat_what_it_beat(claim: Claim, tmp_path: Path) -> None:
    entry = _run(claim, tmp_path, uniform=UNIFORM, claim=better(5), reverse=better(-3, 1), rival=better(5, 2))
    reverse, rival = (name for name, arm in claim.arms.items() if arm.role != "claim")
    assert words.conclusion(entry) == (
        f"seen; also beats its reverse ({reverse}); equal within ±5% to the rival ({rival})"
    )
    assert entry.result is not None
    first = entry.result.arms[0]
    assert first.against_uniform is not None
    ratio = np.exp(np.log(np.divide(better(5), UNIFORM)).mean())
    assert first.against_uniform.percent == pytest.approx(100 * (1 - ratio))
    assert entry.result.seeds == 4
    assert entry.result.fingerprint == "f00dcafe"


@pytest.mark.parametrize("gain", [-5.0, 0.0])
def test_a_claim_that_does_not_win_is_not_seen_at_this_size_and_never_refuted(
    claim: Claim, tmp_path: Path, gain: float
) -> None:
    more = [*UNIFORM, 11.0, 12.0]
    entry = _run(
        claim,
        tmp_path,
        uniform=more,
        claim=[value - gain + 0.3 * (seed % 3 - 1) for seed, value in enumerate(more)],
        reverse=[value + 0.4 * (seed % 2) for seed, value in enumerate(more)],
        rival=[value + 0.3 for value in more],
    )
    assert words.conclusion(entry) == "not seen at this size"
    page = claims_page(ClaimsTable.of([entry]))
    assert "44,800 images a run" in page
    assert "refuted" not in page
    assert "not asked" in page


def test_a_claim_is_not_judged_before_three_seeds_and_open_ones_say_so_far(
    claim: Claim, tmp_path: Path
) -> None:
    start = {"uniform": UNIFORM[:2], "claim": better(5)[:2], "reverse": better(1)[:2], "rival": better(2)[:2]}
    assert words.conclusion(_run(claim, tmp_path, **start)) == "not finished: 2 of 3 seeds"
    noisy = [9.0, 12.0, 12.5, 10.0]
    entry = _run(claim, tmp_path, uniform=UNIFORM, claim=noisy, reverse=better(1), rival=better(2))
    assert words.conclusion(entry) == "not seen at this size so far"


def test_earlier_results_stay_unless_the_settings_of_the_claim_changed(claim: Claim, tmp_path: Path) -> None:
    entry = _run(claim, tmp_path, uniform=UNIFORM, claim=better(5), reverse=better(1), rival=better(2))
    target, elsewhere = tmp_path / "docs", tmp_path / "other"
    target.mkdir()
    write_table(ClaimsTable.of([entry]), target)
    assert read_table([claim], elsewhere, target).claims[0].result == entry.result
    changed = claim.model_copy(update={"metric": "kid"})
    assert read_table([changed], elsewhere, target).claims[0].result is None


def test_files_of_others_are_not_written_over(tmp_path: Path) -> None:
    check_writable(tmp_path)
    (tmp_path / TABLE_FILE).write_text('{"mine": 1}')
    with pytest.raises(ConfigError, match="kind is required but missing"):
        check_writable(tmp_path)
    (tmp_path / TABLE_FILE).unlink()
    (tmp_path / PAGE_FILE).write_text("# My notes\n")
    with pytest.raises(ConfigError, match="was not written by this command"):
        check_writable(tmp_path)


def test_the_page_of_the_docs_is_that_of_its_table_and_has_all_claims_as_they_are_now() -> None:
    table = ClaimsTable.load(DOCS / TABLE_FILE)
    assert (DOCS / PAGE_FILE).read_text().startswith(claims_page(table))
    assert table == updated(table, load_claims([], ROOT / CLAIMS), Path("nowhere"))
