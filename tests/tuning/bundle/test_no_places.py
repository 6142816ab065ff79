"""A study whose every path lies in a folder with a telling name leaves nothing of it in a bundle, and can be proven."""

from __future__ import annotations

import html
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from curriculum_ray.config import with_key
from curriculum_ray.runs.config import RunConfig
from curriculum_ray.training.config import CheckpointSpec
from curriculum_ray.training.file_settings import file_keys
from tests.tuning.bundle.packed import opened, write_study
from tests.tuning.studies import UNIFORM, record, schedule
from tuning.bundle.pack import pack_study
from tuning.bundle.replay import run_of
from tuning.evidence.keys import TrialKey

TELLING = "telling"
FILES = {
    "data.name": "my images",
    "data.text_encoder": "encoder",
    "data.vae": "autoencoder",
    "evaluation.weights": "dinov2",
    "evaluation.reference": "reference.npz",
    "evaluation.clip_score.path": "clip",
    "init_from.path": "before",
    "schedule.clusters.difficulty": "loss.json",
    "schedule.order.by": "curve.json",
}
SPACE = "first.yaml"


def _study(places: Path, as_written: str) -> tuple[dict[str, str], RunConfig]:
    """Write a study into `places`/first whose every setting and text names files in `places`: those files, and a run.

    as_written: the same folder, for the settings that keep a path as it was written.
    """
    kept = {"schedule.clusters.difficulty", "schedule.order.by"}
    files = {key: f"{as_written if key in kept else places}/{name}" for key, name in FILES.items()}
    folder = places / "first"
    settings: dict[str, Any] = {
        "schedule": schedule(8),
        "data": {"format": "latents", "conditioning": "text"},
    }
    settings = with_key(settings, "schedule.clusters.by", "loss", "")
    settings = with_key(settings, "evaluation.extractor", "dinov2", "")
    for key, path in files.items():
        settings = with_key(settings, key, path, key)
    config = RunConfig.model_validate({"images": 76800, **settings})
    curriculum = settings.pop("schedule")
    warm = {"init_from": f"{as_written}/before", "evaluation.clip_score": f"{as_written}/clip"}
    choices = {"type": "categorical", "choices": [files["schedule.order.by"], f"{as_written}/other.json"]}
    space = {
        "version": 1,
        "fixed": {"schedule": curriculum},
        "search": {"schedule.order.by": choices, "schedule.clusters.difficulty": choices},
        "start": [{"schedule.order.by": files["schedule.order.by"]}],
        "rivals": {"warm": warm},
    }
    reason = (
        f"no room for {places}/a b/x.png, file://{places}/y.png; see '{places}/z' and {as_written}/curve.json"
    )
    protocol = {"weights": files["evaluation.weights"]}
    records = [
        record(12.0, **UNIFORM, protocol=protocol),
        record(8.0, key=TrialKey.search(8), schedule=curriculum, settings=warm, protocol=protocol),
        record(None, key=TrialKey.search(9), schedule=curriculum, reason=reason),
    ]
    write_study(folder, records, {"space": f"{as_written}/{SPACE}", "rivals": {"warm": warm}}, **settings)
    identity = json.loads((folder / "identity.json").read_text())
    identity |= {"space": space, "protocol": protocol}
    (folder / "identity.json").write_text(json.dumps(identity))
    summary = {"path": files["data.name"], "notes": [f"captions of {places}/my images/x y.jsonl"]}
    (folder / "data.json").write_text(json.dumps(summary))
    (folder / "trials" / "search-008" / "config.yaml").write_text(
        yaml.safe_dump(config.model_dump(mode="json"))
    )
    text = html.escape(json.dumps([identity, summary, reason, str(folder)], indent=1))
    (folder / "report.html").write_text(f'<p title="{text}">{text}</p>')
    return files, config


@pytest.mark.parametrize("relative", [False, True])
def test_no_file_of_a_bundle_says_where_anything_lay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, relative: bool
) -> None:
    """relative: as difficulty files may be named."""
    assert FILES.keys() == file_keys(RunConfig)
    lies = tmp_path / "jane doe" / TELLING
    lies.mkdir(parents=True)
    monkeypatch.chdir(lies.parent)
    files, config = _study(lies, TELLING if relative else str(lies))
    content = pack_study(lies / "first").content
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for name in archive.namelist():
            text = archive.read(name).decode()
            assert TELLING not in text, f"{name}: …{text[text.find(TELLING) - 80 :][:160]}"
            assert "jane" not in text
            assert str(tmp_path) not in text
    study = opened(tmp_path / "a.zip", content)
    packed = study.settings(TrialKey.search(8))
    assert packed["data"]["name"] == "local:my images"
    assert packed["schedule"]["order"]["by"] == "local:curve.json"
    identity: Any = study.bundle.json("identity.json")
    assert identity["space"]["rivals"]["warm"]["init_from"] == "local:before"
    assert identity["space"]["search"]["schedule.order.by"]["choices"] == [
        "local:curve.json",
        "local:other.json",
    ]
    assert study.mapping("study.json")["space"] == f"local:{SPACE}"
    # Whoever has the same files trains the same run.
    given = {key: ("--path", path) for key, path in files.items()}
    run = run_of(study, study.chosen("search-008"), given, trusted=False)
    assert run == config.model_copy(update={"checkpoint": CheckpointSpec(keep=1)})
