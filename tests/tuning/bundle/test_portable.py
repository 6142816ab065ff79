"""No path and no secret of a machine leaves it in the texts, settings and pages of a bundle."""

from __future__ import annotations

from pathlib import Path

import pytest

from tuning.bundle.portable import Portable, paths_in

RUN = {
    "data": {"name": "/home/alice/my images", "vae": "/models/vae", "text_encoder": None},
    "schedule": {"clusters": {"by": "loss", "difficulty": "runs/curve.json"}, "order": {"by": "noise_level"}},
}
PORTABLE = Portable([Path("/srv/alice/runs/first")], paths_in(RUN))


def test_settings_keep_the_last_part_of_each_path() -> None:
    assert {*paths_in(RUN)} == {"/home/alice/my images", "/models/vae", "runs/curve.json"}
    packed = PORTABLE.value(RUN)
    assert packed["data"] == {"name": "local:my images", "vae": "local:vae", "text_encoder": None}
    assert packed["schedule"]["clusters"]["difficulty"] == "local:curve.json"
    assert packed["schedule"]["order"] == {"by": "noise_level"}


@pytest.mark.parametrize(
    "settings",
    [
        {"init_from": "a/b"},
        {"evaluation": {"clip_score": "a/b"}},
        {"rivals": {"warm": {"evaluation.clip_score.path": "a/b"}}},
        {"search": {"schedule.order.by": {"choices": ["a/b"]}}},
        {"start": [{"init_from.path": "a/b"}]},
        {"run": {"data": {"name": "s3://bucket/a/b?version=7"}}},
        {"run": {"data": {"name": "s3://bucket/a/b?endpoint_override=http://host:1"}}},
        {"space": "a/b"},
    ],
)
def test_a_path_is_found_wherever_and_however_a_setting_names_it(settings: dict[str, object]) -> None:
    (path,) = paths_in(settings)
    portable = str(Portable([], [path]).value(settings))
    assert "'local:b'" in portable
    assert "a/b" not in portable


@pytest.mark.parametrize("value", ["S/2", "7/8", "python:a.b.C", "noise_level", 5, None])
def test_what_is_no_path_stays(value: object) -> None:
    settings = {
        "model": {"size": value},
        "optimizer": {"kind": value},
        "schedule": {"order": {"by": "noise_level"}},
    }
    assert PORTABLE.value(settings) == settings


@pytest.mark.parametrize(
    ("text", "portable"),
    [
        ("cannot read /home/jane doe/pictures/x.png", "cannot read …/x.png"),
        ("/home/Doe (Jane)/secret/x.png and /a/b", "…/x.png and …/b"),
        ("/secretdir is full", "… is full"),
        ("file:///home/alice/p/q", "…/q"),
        ("sqlite:////home/alice/o.db", "…/o.db"),
        ("PATH=/a/b:/home/alice/c --data=/home/alice/x", "PATH=…/b:…/c --data=…/x"),
        ("--config /a/b/c.yaml --into d/e", "--config …/c.yaml --into d/e"),
        ('"/home/alic\\u00e9/sec/x"', '"…/x"'),
        ("~alice/notes/today, /home/alice/", "…/today, …/"),
        ("/home/alice//x///y", "…/y"),
        ("copy /home/a/x to /home/b/y", "copy …/x to …/y"),
        ("on /srv/alice/runs/other/y and /srv/alice/runs/first/trials/x", "on …/y and first/trials/x"),
        ("by runs/curve.json, not my/runs/curve.json", "by curve.json, not my/runs/curve.json"),
        ("3/4 at 5 images/s, n/a, +/-, 1 / 2, and/or", "3/4 at 5 images/s, n/a, +/-, 1 / 2, and/or"),
        ("https://host/mlflow, s3://bucket/a/b", "https://host/mlflow, s3://bucket/a/b"),
    ],
)
def test_texts_keep_at_most_the_last_part_of_a_path(text: str, portable: str) -> None:
    assert PORTABLE.text(text) == portable
    assert PORTABLE.text(portable) == portable


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


def test_a_page_keeps_its_pictures_styles_and_tags() -> None:
    page = '<p>/home/alice/x</p><img src="data:image/png;base64,iVBO/home/alice/x+/AA==" alt="/home/alice/y">'
    assert PORTABLE.page(page) == page.replace(">/home/alice/x<", ">…/x<").replace("/home/alice/y", "…/y")
    kept = "<style>a { font: 16px/1.5 b; } /* /a/b/c */</style><br /><p>1 &lt; 2, 7/8 &#34;x&#34;</p>"
    assert PORTABLE.page(kept) == kept
    assert (
        PORTABLE.page("<pre>&#34;vae&#34;: &#34;/a&amp;b/c/d&#34;</pre>")
        == "<pre>&quot;vae&quot;: &quot;…/d&quot;</pre>"
    )
