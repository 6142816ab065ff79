"""A real study is proven in another folder, and one whose record was edited is not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.door import start_tune
from tests.tuning.test_main_job import TINY
from tuning.bundle.archive import archived, read_bundle


def tune(folder: Path, *arguments: str, code: int = 0) -> dict[str, Any]:
    """The object that a command prints in a folder, which is made where there is none."""
    folder.mkdir(exist_ok=True)
    process = start_tune(folder, *arguments, "--json", dropped=("OMP_NUM_THREADS",))
    out, _ = process.communicate(timeout=280)
    assert process.returncode == code, out
    return json.loads(out[out.index("{") :])


@pytest.mark.slow
def test_a_study_is_proven_in_another_folder(tmp_path: Path) -> None:
    search, elsewhere = tmp_path / "here", tmp_path / "there"
    tune(search, "search", *TINY, "--name", "first")
    packed = tune(search, "bundle", "first", "--into", "../first.zip")
    assert packed["trials"] == 9
    proven = tune(elsewhere, "verify", "../first.zip", "--arm", "best", "--arm", "uniform")
    assert [run["equal"] for run in proven["runs"]] == [True, True]
    assert all(run["weights"] for run in proven["runs"])
    early = tune(elsewhere, "verify", "../first.zip", "--images", "1000", "--into", "early")
    assert early["runs"][0]["equal"]
    assert 1000 <= early["runs"][0]["images"] < 3200

    bundle = read_bundle(tmp_path / "first.zip")
    name = f"trials/{proven['runs'][0]['trial']}/metrics.jsonl"
    first, *rest = bundle.files[name].decode().splitlines()
    line = {**json.loads(first), "loss": 0.125}
    edited = {**bundle.files, name: "\n".join([json.dumps(line), *rest, ""]).encode()}
    (tmp_path / "edited.zip").write_bytes(archived("first", bundle.manifest.id, edited))
    other = tune(elsewhere, "verify", "../edited.zip", code=1)["runs"][0]
    assert (other["differences"], other["first"]["images"], other["first"]["recorded"]) == (
        1,
        line["images"],
        0.125,
    )
