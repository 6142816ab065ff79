"""Files that a stranger's bundle names are opened only where the user says that they lie."""

from __future__ import annotations

import pytest

from curriculum_ray.config import ConfigError
from curriculum_ray.runs.config import RunConfig
from tuning.bundle.local_paths import with_given_paths

LATENTS = {"name": "local:my images", "format": "latents", "vae": "local:vae"}
PACKED = RunConfig.model_validate({"images": 640, "data": LATENTS, "init_from": "local:first"})
HERE = {
    "data.name": ("--data /here/images", "/here/images"),
    "data.vae": ("--path data.vae=/here/vae", "/here/vae"),
    "init_from.path": ("--path init_from.path=/here/first", "/here/first"),
}


def test_a_run_of_a_bundle_has_the_users_paths_in_place_of_its_own() -> None:
    found = with_given_paths(PACKED, HERE, "a.zip")
    assert (found.data.name, found.data.vae) == ("/here/images", "/here/vae")
    assert found.init_from is not None
    assert found.init_from.path == "/here/first"
    other = {"data": PACKED.data, "init_from": PACKED.init_from}
    assert found.model_copy(update=other) == PACKED


@pytest.mark.parametrize(
    ("key", "name", "option"),
    [
        ("data.name", "my images", "--data PATH"),
        ("data.vae", "vae", "--path data.vae=PATH"),
        ("init_from.path", "first", "--path init_from.path=PATH"),
    ],
)
def test_a_file_that_the_user_does_not_name_is_asked_for(key: str, name: str, option: str) -> None:
    given = {other: option for other, option in HERE.items() if other != key}
    with pytest.raises(ConfigError) as caught:
        with_given_paths(PACKED, given, "a.zip")
    assert str(caught.value) == (
        f"a.zip was trained with {name} as {key}, which a bundle does not hold: say where it lies with {option}"
    )


def test_a_file_that_a_run_does_not_name_is_refused() -> None:
    digits = RunConfig(images=640)
    assert with_given_paths(digits, {}, "a.zip") == digits
    with pytest.raises(
        ConfigError, match=r"^--data /here/images: a\.zip names no file as data\.name: leave it out$"
    ):
        with_given_paths(digits, {"data.name": HERE["data.name"]}, "a.zip")
