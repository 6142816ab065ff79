"""`tune claims` says what its studies say: that nothing finished, what was not stored, where a page was kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from tests.tuning.claims.studied import write_study
from tests.tuning.claims.test_claim import GOOD
from tuning.claims.claim import load_claim
from tuning.cli import cli
from tuning.evidence.records import load_records
from tuning.search.launch import Outcome

FIDS = [10.0, 11.0, 12.0]
PROBLEM = "the metrics of arm-mine were not stored"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run `tune claims` on two claims with these FIDs of the arms of each, without training."""
    claims = tmp_path / "claims"
    claims.mkdir()
    for name in ("first", "second"):
        (claims / f"{name}.yaml").write_text(yaml.safe_dump(GOOD, sort_keys=False))

    def run(*words: str, **fids: list[float | None]) -> Result:
        def studied(config: Any, output: Path, name: str, *_: Any) -> Outcome:
            claim = load_claim(claims / f"{name.removeprefix('claim-')}.yaml")
            values = fids[claim.name]
            folder = write_study(claim, output, uniform=values, claim=values, rival=values)
            records = list(load_records(folder).values())
            return Outcome(
                name, folder, records, "digits/ddpm", folder / "report.html", "mlflow ui", [PROBLEM]
            )

        monkeypatch.setattr("tuning.search.launch.run_study", studied)
        arguments = ["claims", "--from", str(claims), "--output", str(tmp_path / "runs"), *words]
        return CliRunner().invoke(cli, arguments, catch_exceptions=False, standalone_mode=False)

    return run


@pytest.mark.parametrize("words", [(), ("--json",)])
def test_a_study_in_which_nothing_finished_is_a_failure_though_another_follows(
    run: Any, words: tuple[str, ...]
) -> None:
    assert run(*words, first=[None] * 3, second=FIDS).return_value == 1
    assert run(*words, first=[None, *FIDS[1:]], second=FIDS).return_value == 0


def test_what_mlflow_did_not_store_is_said_of_every_study(run: Any) -> None:
    assert run(first=FIDS, second=FIDS).stdout.count(f"MLflow: {PROBLEM}\n") == 2
    assert run("--json", first=FIDS, second=FIDS).stderr.count(f"MLflow: {PROBLEM}\n") == 2


def test_a_page_that_was_edited_is_said_to_be_kept_whichever_claim_wrote_over_it(
    run: Any, tmp_path: Path
) -> None:
    run(first=FIDS, second=FIDS)
    page = tmp_path / "runs" / "claims.md"
    page.write_text(f"{page.read_text()}\nMy notes.\n")
    assert run(first=FIDS, second=FIDS).stderr == f"an edited page was kept as {page}.kept-1\n"
    assert "My notes." in Path(f"{page}.kept-1").read_text()
