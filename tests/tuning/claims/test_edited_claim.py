"""Protects: results stand beside the settings that they were measured with, and are judged by the claim's margin."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from PIL import Image

from tests.door import ROOT
from tests.tuning.claims.studied import write_study
from tests.tuning.claims.test_failed_runs import FIDS
from tuning.claims import words
from tuning.claims.claim import CLAIMS, Claim, load_claim
from tuning.claims.files import TABLE_FILE, write_table
from tuning.claims.results import ClaimsTable
from tuning.claims.seen import entry_of, updated
from tuning.cli import cli

ORIGINAL = yaml.safe_load((ROOT / CLAIMS / "min_snr.yaml").read_text())


def _edited(folder: Path, change: Callable[[dict[str, Any]], object] = lambda content: None) -> Claim:
    """The claim min_snr with this change of its file."""
    content = json.loads(json.dumps(ORIGINAL))
    change(content)
    path = folder / "min_snr.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return load_claim(path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda content: content["run"].update(images=448000), "run.images was 44800 and is 448000"),
        (
            lambda content: content["run"].update(optimizer={"learning_rate": 0.001}),
            "run.optimizer.learning_rate was 0.002 and is 0.001",
        ),
        (
            lambda content: content["arms"]["min_snr"]["set"]["weighting"].update(gamma=1.0),
            "arms.min_snr.weighting.gamma was 5.0 and is 1.0",
        ),
        (lambda content: content["arms"].pop("p2"), "arms.p2.weighting.kind was 'p2' and is None"),
        (lambda content: content.update(metric="kid"), "metric was 'fid' and is 'kid'"),
        (
            lambda content: content["run"].update(evaluation={"reference": "/other.npz"}),
            "run.evaluation.reference was None and is '/other.npz'",
        ),
    ],
)
def test_a_study_of_other_settings_is_passed_over_and_said_to_be(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], says: str
) -> None:
    original = _edited(tmp_path / "before")
    folder = write_study(original, tmp_path, **FIDS)
    earlier = ClaimsTable.of([entry_of(original, tmp_path)])
    assert earlier.claims[0].result is not None
    lines: list[str] = []
    (entry,) = updated(earlier, [_edited(tmp_path / "now", change)], tmp_path, lines.append).claims
    assert words.conclusion(entry) == "not run"
    assert lines == [
        f"{folder} holds a study of other settings than claim min_snr has ({says}): its runs are passed over"
    ]


def test_what_determines_no_run_may_be_edited(tmp_path: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        content.update(says="Otherwise.", margin=0.5, seeds=[4, 9])
        content["arms"]["clean_levels"].update(role="control", about="other words")
        content["run"].update(batch_size=128)
        content["arms"]["p2"]["set"] = {"weighting.kind": "p2"}

    write_study(_edited(tmp_path / "before"), tmp_path, **FIDS)
    lines: list[str] = []
    entry = entry_of(_edited(tmp_path / "now", change), tmp_path, lines.append)
    assert lines == []
    assert entry.result is not None
    assert (entry.result.seeds, entry.result.setting.images) == (6, 44800)


def test_a_study_that_started_from_weights_counts_by_their_path_and_hash(tmp_path: Path) -> None:
    folder = write_study(_edited(tmp_path / "before"), tmp_path, **FIDS)
    file = folder / "study.json"
    stored = json.loads(file.read_text())
    path, known, other = str(tmp_path / "weights"), "a" * 64, "b" * 64
    stored["run"]["init_from"] = {"path": path, "raw": False, "new_condition": False, "sha256": known}
    file.write_text(json.dumps(stored))

    def seen(**start: str) -> bool:
        def change(content: dict[str, Any]) -> None:
            content["run"].update(init_from=start)

        return entry_of(_edited(tmp_path / "now", change), tmp_path).result is not None

    assert seen(path=path)
    assert seen(path=path, sha256=known)
    assert not seen(path=path, sha256=other)
    assert not seen(path=f"{path}-of-another")
    assert entry_of(_edited(tmp_path / "before"), tmp_path).result is None


def test_a_study_of_an_earlier_release_counts_and_one_of_unknown_settings_does_not(tmp_path: Path) -> None:
    claim = _edited(tmp_path / "claims")
    file = write_study(claim, tmp_path, **FIDS) / "study.json"
    stored = json.loads(file.read_text())
    del stored["run"]["lora"], stored["run"]["evaluation"]["clip_score"]
    file.write_text(json.dumps(stored))
    (file.parent / "environment.json").unlink()
    entry = entry_of(claim, tmp_path)
    assert entry.result is not None
    assert entry.allowed == (3, 6)
    for damage, says in (
        (lambda: file.write_text("{"), "is not readable JSON"),
        (file.unlink, "does not exist"),
    ):
        damage()
        lines: list[str] = []
        assert entry_of(claim, tmp_path, lines.append).result is None
        (line,) = lines
        assert line.startswith(f"{file.parent} holds a study of unknown settings ({file} {says}")
        assert line.endswith("): its runs are passed over")


def test_the_list_says_what_it_passes_over_and_publishes_none_of_it(tmp_path: Path) -> None:
    output, docs, claims = tmp_path / "runs", tmp_path / "docs", tmp_path / "claims"
    original = _edited(claims)
    folder = write_study(original, output, **FIDS)
    docs.mkdir()
    arguments = ["claims", "--list", "--from", str(claims), "--output", str(output), "--write", str(docs)]
    assert CliRunner().invoke(cli, arguments, catch_exceptions=False).stderr == ""
    published = (docs / "claims.md").read_text()
    assert "44,800 images a run" in published
    _edited(claims, lambda content: content["run"].update(images=448000))
    edited = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert edited.exit_code == 0
    assert edited.stderr == (
        f"{folder} holds a study of other settings than claim min_snr has (run.images was 44800 and is 448000): its "
        "runs are passed over\n"
    )
    assert "448,000" not in (docs / "claims.md").read_text()
    assert json.loads((docs / TABLE_FILE).read_text())["claims"][0]["result"] is None
    # In a clone that has the published table, the study of other settings takes nothing away.
    write_table(ClaimsTable.of([entry_of(original, output)]), docs)
    _edited(claims)
    write_study(_edited(tmp_path / "longer", lambda content: content["run"].update(images=448000)), output)
    assert CliRunner().invoke(cli, arguments, catch_exceptions=False).exit_code == 0
    assert (docs / "claims.md").read_text() == published


def test_an_earlier_result_is_judged_by_the_margin_that_the_claim_has_now(tmp_path: Path) -> None:
    original = _edited(tmp_path / "claims", lambda content: content.update(margin=0.05))
    equal = {"claim": FIDS["rival"], "rival": [value * 1.002 for value in FIDS["rival"] if value is not None]}
    write_study(original, tmp_path, **{**FIDS, **equal})
    before = entry_of(original, tmp_path)
    table = ClaimsTable.of([before])
    assert words.conclusion(before) == (
        "seen; also beats its reverse (clean_levels); equal within ±5% to the rival (p2)"
    )
    assert before.result is not None
    assert before.result.settled
    for margin, says, settled in (
        (0.0001, "seen; also beats its reverse (clean_levels); undecided against the rival (p2)", False),
        (0.5, "seen; also beats its reverse (clean_levels); equal within ±50% to the rival (p2)", True),
    ):

        def change(content: dict[str, Any], margin: float = margin) -> None:
            content.update(margin=margin)
            content["arms"]["p2"].update(about="other words")

        edited = _edited(tmp_path / "now", change)
        (kept,) = updated(table, [edited], tmp_path / "nowhere").claims
        assert words.conclusion(kept) == says
        assert kept.result is not None
        assert kept.result.settled == settled
        assert kept.result.arms[2].about == "other words"
        assert kept == entry_of(edited, tmp_path), "as if the study were still there"
        (back,) = updated(ClaimsTable.of([kept]), [original], tmp_path / "nowhere").claims
        assert back == before


def test_a_result_with_failed_runs_is_equal_by_no_margin(tmp_path: Path) -> None:
    original = _edited(tmp_path / "claims")
    write_study(original, tmp_path, **{**FIDS, "claim": [*FIDS["claim"][:5], None]})
    table = ClaimsTable.of([entry_of(original, tmp_path)])
    wide = _edited(tmp_path / "now", lambda content: content.update(margin=0.9))
    (kept,) = updated(table, [wide], tmp_path / "nowhere").claims
    assert kept.result is not None
    assert kept.result.arms[0].against_uniform is not None
    assert kept.result.arms[0].against_uniform.word == "undecided"
    assert words.conclusion(kept) == "not seen at this size; min_snr failed on 1 seed"


def test_a_claim_on_shards_has_a_setting_whose_data_are_read_once(tmp_path: Path) -> None:
    shards = tmp_path / "shards"
    shards.mkdir()
    image = io.BytesIO()
    Image.new("RGB", (8, 8)).save(image, format="PNG")
    with tarfile.open(shards / "0.tar", "w") as tar:
        for row in range(40):
            for name, content in ((f"{row}.png", image.getvalue()), (f"{row}.cls", b"%d" % (row % 3))):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))

    def change(content: dict[str, Any]) -> None:
        content["run"]["data"] = {"name": str(shards), "format": "webdataset", "image_size": 8}
        content["run"]["evaluation"] = {"extractor": "random-cnn", "num_samples": 64}

    claim = _edited(tmp_path / "claims", change)
    write_study(claim, tmp_path, **FIDS)
    entry = entry_of(claim, tmp_path)
    assert entry.result is not None
    assert (entry.result.setting.data, entry.result.setting.shape) == ("shards", (3, 8, 8))
    shutil.rmtree(shards)
    assert updated(ClaimsTable.of([entry]), [claim], tmp_path).claims == (entry,)
