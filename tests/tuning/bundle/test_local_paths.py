"""No path and no secret of a machine leaves it in a bundle, and none of a stranger's is opened here."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from curriculum_ray.config import ConfigError
from tuning.bundle import local_paths
from tuning.bundle.local_paths import Portable, given_paths

ROOT = Path(__file__).parents[3]
RUN = {
    "data": {"name": "/home/alice/my images", "vae": "/models/vae", "text_encoder": None},
    "schedule": {"clusters": {"by": "loss", "difficulty": "runs/curve.json"}, "order": {"by": "noise_level"}},
}
PORTABLE = Portable([Path("/srv/alice/runs/first")], RUN)


def test_every_setting_that_names_a_file_is_known() -> None:
    named = {
        match[1]
        for path in (ROOT / "curriculum_ray").rglob("*.py")
        for match in re.finditer(r"^    (\w+): (?:LocalPath|FilePath)\b", path.read_text(), re.MULTILINE)
    }
    assert {key.rpartition(".")[2] for key in local_paths._KEYS} == {*named, "name"}


def test_settings_keep_the_last_part_of_each_path() -> None:
    packed = PORTABLE.settings(RUN)
    assert packed["data"] == {"name": "local:my images", "vae": "local:vae", "text_encoder": None}
    assert packed["schedule"]["clusters"]["difficulty"] == "local:curve.json"
    assert packed["schedule"]["order"] == {"by": "noise_level"}


def test_texts_are_without_paths_and_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://alice:hunter22@host/mlflow")
    said = PORTABLE.text(
        "python -m tune best --output /srv/alice/runs: '/home/alice/my images' and /home/alice/x/secret.png at "
        "https://alice:hunter22@host/mlflow, 7/8 stages, and/or ~/notes/today"
    )
    assert said == (
        "python -m tune best --output .: 'my images' and …/secret.png at https://host/mlflow, 7/8 stages, "
        "and/or …/today"
    )
    assert PORTABLE.value({"a": ["/srv/alice/runs/first/x"]}) == {"a": ["first/x"]}


def test_pictures_of_a_page_stay_as_they_are() -> None:
    page = '<p>/home/alice/x</p><img src="data:image/png;base64,iVBO/home/alice/x+/AA=="></p>'
    assert PORTABLE.page(page) == '<p>…/x</p><img src="data:image/png;base64,iVBO/home/alice/x+/AA=="></p>'


def test_files_that_a_bundle_names_are_opened_only_where_the_user_says() -> None:
    packed = PORTABLE.settings(RUN)
    with pytest.raises(ConfigError, match=r"trained with my images as data.name.*--data PATH"):
        given_paths(
            packed, {"data.vae": ("--path", "a"), "schedule.clusters.difficulty": ("--path", "b")}, "a.zip"
        )
    with pytest.raises(ConfigError, match=r"--path data.vae=PATH"):
        given_paths(
            packed, {"data.name": ("--data", "a"), "schedule.clusters.difficulty": ("--path", "b")}, "a.zip"
        )
    # A bundle that was made by hand may name a path of this machine.
    with pytest.raises(ConfigError, match="say where it lies"):
        given_paths({"data": {"name": "digits", "vae": "/etc"}}, {}, "a.zip")
    with pytest.raises(ConfigError, match=r"names no file as data\.name"):
        given_paths({"data": {"name": "digits"}}, {"data.name": ("--data x", "x")}, "a.zip")
    found = given_paths({"data": {"name": "local:x"}}, {"data.name": ("--data", "here")}, "a.zip")
    assert found == {"data": {"name": "here"}}
