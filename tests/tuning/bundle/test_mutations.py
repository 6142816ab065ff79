"""A bundle, or the folder of a study, with a value changed or gone: it is read, or refused in one line."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from curriculum_ray.config import ConfigError
from curriculum_ray.runs.result import HeldoutLosses
from tests.tuning.bundle.packed import opened, write_journal, write_study
from tests.tuning.studies import UNIFORM, fresh, record, trials
from tuning.bundle.archive import MANIFEST_FILE, Bundle, Manifest
from tuning.bundle.course import compared
from tuning.bundle.pack import pack_study
from tuning.bundle.packed_study import PackedStudy
from tuning.bundle.replay import run_of
from tuning.bundle.restore import restore_study
from tuning.cli.verify import _resources
from tuning.evidence.records import load_records

SEED = 7
OF_A_BUNDLE, OF_A_FOLDER, OF_A_RESTORED = 500, 60, 300
JUNK: tuple[Any, ...] = (
    *(None, True, 5, -1, 10**30, math.inf, math.nan, "", "x", "/etc/passwd", "\u2028", "one\ntwo"),
    *([], {}, [5], [[1]], {"a": 1}, {"kind": [1]}),
)
GONE = object()
_HELDOUT = HeldoutLosses(fingerprint="a", u=(0.5,), items=4, held_out=8, history=((150, (0.5,)),))
RECORDS = (
    record(12.0, **UNIFORM),
    *trials(8),
    *fresh([8.0], 8, heldout=_HELDOUT, history=((6400, {"fid": 9.0}),), stage_starts=((0, 0),)),
    *fresh([12.0], 1),
    record(None, key="search-004", reason="no room"),
)

Place = tuple[str | int, ...]


def _places(value: Any, place: Place = ()) -> Iterator[Place]:
    """All places in a JSON value; of a list, the first two."""
    yield place
    pairs = (
        value.items() if isinstance(value, dict) else enumerate(value[:2]) if isinstance(value, list) else ()
    )
    for key, inner in pairs:
        yield from _places(inner, (*place, key))


def _changed(value: Any, place: Place, junk: Any) -> Any:
    """A JSON value with `junk` at a place, or without what stands there."""
    if not place:
        return {} if junk is GONE else junk
    copied = dict(value) if isinstance(value, dict) else list(value)
    key, *below = place
    if not below and junk is GONE:
        del copied[key]
    else:
        copied[key] = _changed(copied[key], tuple(below), junk)
    return copied


def _mutations(files: dict[str, Any], many: int) -> Iterator[tuple[str, Any, str]]:
    """The name of a file, its content with one change, and that change in words."""
    chance = random.Random(SEED)
    places = {name: [*_places(value)] for name, value in files.items()}
    for _ in range(many):
        name = chance.choice(sorted(files))
        place, junk = chance.choice(places[name]), chance.choice((*JUNK, GONE, GONE))
        yield name, _changed(files[name], place, junk), f"{place} -> {'gone' if junk is GONE else junk!r}"


def _use(study: PackedStudy) -> None:
    """What `verify` does with a bundle before it trains a run of it again, and after."""
    chosen = study.by_default
    run_of(study, chosen, {}, trusted=False)
    _resources(study, None, None)
    course = study.course(chosen)
    assert [found.in_words() for found in compared(course, {}).mismatches]
    if study.environment is not None:
        study.environment.differences(study.environment)


def _check(error: Exception, source: str, change: str) -> None:
    """Fail unless an error is one line that names the source of the fault."""
    if not isinstance(error, ConfigError) or source not in str(error):
        pytest.fail(f"{change}: {error!r}")


def test_a_bundle_with_a_changed_value_is_read_or_refused_in_one_line(tmp_path: Path) -> None:
    study = opened(tmp_path / "a.zip", pack_study(write_study(tmp_path / "first", RECORDS)).content)
    bundle, settings = study.bundle, study.settings_file(study.by_default.key)
    files = {name: json.loads(text) for name, text in bundle.files.items() if name.endswith(".json")}
    files |= {MANIFEST_FILE: bundle.manifest.to_json(), settings: yaml.safe_load(bundle.files[settings])}
    refused = 0
    for name, content, change in _mutations(files, OF_A_BUNDLE):
        try:
            if name == MANIFEST_FILE:
                _use(
                    PackedStudy(
                        Bundle("a.zip", Manifest.from_json(content, f"{name} in a.zip"), bundle.files)
                    )
                )
            else:
                parts = {**bundle.files, name: json.dumps(content).encode()}
                _use(PackedStudy(Bundle("a.zip", bundle.manifest, parts)))
        except Exception as error:
            _check(error, "a.zip", f"{name}: {change}")
            refused += 1
    assert OF_A_BUNDLE / 4 < refused < OF_A_BUNDLE


def test_a_bundle_with_a_changed_value_is_restored_or_refused_in_one_line(tmp_path: Path) -> None:
    folder = write_study(tmp_path / "first", RECORDS)
    write_journal(folder)
    (folder / "time.json").write_text('{"version": 1, "seconds": 5.5, "measured": [[0.1, 2.0]]}')
    (folder / "data.json").write_text(json.dumps({"path": "", "notes": ["x"]}))
    study = opened(tmp_path / "a.zip", pack_study(folder).content)
    bundle = study.bundle
    files = {name: json.loads(text) for name, text in bundle.files.items() if name.endswith(".json")}
    files |= {name: yaml.safe_load(text) for name, text in bundle.files.items() if name.endswith(".yaml")}
    files["optuna.journal"] = [json.loads(line) for line in bundle.files["optuna.journal"].splitlines()]
    refused = 0
    for number, (name, content, change) in enumerate(_mutations(files, OF_A_RESTORED)):
        lines = content if name == "optuna.journal" and isinstance(content, list) else [content]
        text = "".join(f"{json.dumps(line)}\n" for line in lines)
        there = tmp_path / "there" / str(number)
        there.parent.mkdir(exist_ok=True)
        try:
            restore_study(
                PackedStudy(Bundle("a.zip", bundle.manifest, {**bundle.files, name: text.encode()})),
                there,
                {},
            )
            load_records(there)
        except Exception as error:
            _check(error, "a.zip", f"{name}: {change}")
            assert not there.exists()
            refused += 1
    assert OF_A_RESTORED / 4 < refused < OF_A_RESTORED
    assert len(list(there.parent.iterdir())) == OF_A_RESTORED - refused


def test_a_folder_with_a_changed_value_is_packed_or_refused_in_one_line(tmp_path: Path) -> None:
    folder = write_study(tmp_path / "first", RECORDS)
    (folder / "data.json").write_text(json.dumps({"path": "/a/b", "notes": ["x"]}))
    files = {str(path): json.loads(path.read_text()) for path in sorted(folder.rglob("*.json"))}
    refused = 0
    for name, content, change in _mutations(files, OF_A_FOLDER):
        Path(name).write_text(json.dumps(content))
        try:
            packed = pack_study(folder)
            opened(tmp_path / "a.zip", packed.content)
        except Exception as error:
            _check(error, str(folder), f"{name}: {change}")
            refused += 1
        Path(name).write_text(json.dumps(files[name]))
    assert OF_A_FOLDER / 4 < refused < OF_A_FOLDER
