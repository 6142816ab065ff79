"""Options of `verify` that contradict each other, and a bundle that would open a file of its reader's."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.tuning.bundle.packed import opened, write_study
from tuning.bundle.archive import archived
from tuning.bundle.pack import pack_study
from tuning.cli import main


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    path = tmp_path / "a.zip"
    path.write_bytes(pack_study(write_study(tmp_path / "first")).content)
    return path


def _refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line of a command that ends with exit code 2."""
    with pytest.raises(SystemExit) as caught:
        main(["verify", *arguments])
    assert caught.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    return line.removeprefix("error: ")


def test_a_path_that_is_given_twice_is_refused(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _refused(capsys, str(bundle), "--path", "data.vae=/nope1", "--path", "data.vae=/nope2") == (
        "--path data.vae=/nope1 and --path data.vae=/nope2 both say where data.vae lies: leave one out"
    )
    assert _refused(capsys, str(bundle), "--path", "data.name=/nope1", "--data", "/nope2") == (
        "--path data.name=/nope1 and --data /nope2 both say where data.name lies: leave one out"
    )


def test_a_strangers_bundle_names_no_file_in_short(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study = opened(bundle, bundle.read_bytes())
    name = study.settings_file(study.by_default.key)
    private = tmp_path / "private"
    private.mkdir()
    settings = yaml.safe_dump({"images": 640, "init_from": str(private)}).encode()
    bundle.write_bytes(archived("first", "abc", {**study.bundle.files, name: settings}))
    monkeypatch.chdir(tmp_path)
    assert _refused(capsys, "a.zip") == (
        f"a.zip was trained with {private} as init_from.path, which a bundle does not hold: say where it lies with "
        "--path init_from.path=PATH"
    )
    assert not (tmp_path / "proof-first").exists()
