"""Options of `verify` that contradict each other, and a bundle that would open a file of its reader's."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from curriculum_ray.distributed.resources import ResourceSpec
from tests.tuning.bundle.packed import opened, write_study
from tuning.bundle.archive import archived
from tuning.bundle.course import CourseComparison, Mismatch
from tuning.bundle.pack import pack_study
from tuning.bundle.replay import Replay
from tuning.cli import main
from tuning.cli.verify import _lines, _reasons
from tuning.folder.environment import Environment, note_environment, this_environment


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


def _likely(tmp_path: Path, here: ResourceSpec, *starts: Environment) -> list[str]:
    """What is said of a number that differs, of a study that these starts continued."""
    folder = write_study(tmp_path / "first")
    for start in starts:
        note_environment(folder, start)
    study = opened(tmp_path / "a.zip", pack_study(folder).content)
    first = Mismatch(images=6400, what="loss", recorded=0.5, here=0.25)
    comparison = CourseComparison(numbers=9, until=6400, mismatches=(first,), weights=False)
    replay = Replay(
        record=study.by_default, comparison=comparison, result=None, resumed=False, other_protocol=None
    )
    lines = _lines(replay, _reasons(study, here))
    begin = next(place for place, line in enumerate(lines) if line.startswith("likely"))
    return [line[10:] for line in lines[begin:]]


def test_a_start_that_only_asked_for_more_is_no_other_environment(tmp_path: Path) -> None:
    more = this_environment(ResourceSpec(), asked={"trials": 99})
    assert _likely(tmp_path, ResourceSpec(), more) == [
        "versions and hardware are those of the bundle: were its records changed?"
    ]


def test_a_study_that_went_on_elsewhere_is_not_accused_where_its_last_machine_is_like_this_one(
    tmp_path: Path,
) -> None:
    here = this_environment(ResourceSpec())
    torch, elsewhere = here.packages["torch"], here.model_copy(update={"processor": "Abacus 1"})
    older = elsewhere.model_copy(update={"packages": {**here.packages, "torch": "0.4"}})
    found = _likely(tmp_path, ResourceSpec(), elsewhere, older, here)
    assert found == [
        "the study had starts in 3 environments, and which of them trained this run is not recorded",
        f"processor Abacus 1 -> {here.processor}",
        f"torch 0.4 -> {torch}",
    ]


def test_starts_with_other_numbers_of_workers_are_named(tmp_path: Path) -> None:
    two, some = (this_environment(ResourceSpec(num_workers=count)) for count in (2, (1, 4)))
    assert _likely(tmp_path, ResourceSpec(num_workers=2), some, two) == [
        "the study had starts in 3 environments, and which of them trained this run is not recorded",
        "its trials had 1 or 1-4 or 2 workers: --num-workers, with another --into, tries others",
        "workers of a trial 1 -> 2",
        "workers of a trial 1-4 -> 2",
        "losses and gradients are summed in another order where the number of workers differs",
    ]
