"""Which settings of a data set are accepted."""

from pathlib import Path
from typing import Any

import pytest

from curriculum_ray.config import ConfigError, parse
from curriculum_ray.data import DataSpec, load_data


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"image_size": 16}, "data.image_size must be 8 or left out for the digits, but got 16"),
        ({"channels": 3}, "data.channels must be 1 or left out for the digits, but got 3"),
        ({"name": "x", "channels": 2}, "channels must be 1, 3 or None|channels must be 1 or 3"),
        ({"name": "x", "image_size": 0}, "image_size must be greater than or equal to 4, but got 0"),
        ({"name": ""}, "name"),
        (
            {"name": "s3://me:secret@bucket/x"},
            "data.name must hold no keys: .* and the address as 's3://bucket/x'$",
        ),
        (
            {"name": "s3://bucket/x"},
            "data.format must be parquet, webdataset or latents for data at an address, .* data.name is s3://bucket/x$",
        ),
        ({"path": "x"}, "path is not a known key"),
    ],
)
def test_settings_that_do_not_apply_are_refused_in_one_line(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as error:
        parse(DataSpec, settings, "test.yaml")
    assert "\n" not in str(error.value)


def test_the_digits_own_size_may_be_said() -> None:
    assert DataSpec(image_size=8, channels=1).image_size == 8


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'digits' or a folder of images, but '.*nowhere' is neither"):
        load_data(DataSpec(name=str(tmp_path / "nowhere")))


def test_paths_are_from_the_root_since_workers_have_other_working_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    spec = DataSpec(name="photos/", format="latents", vae="vae")
    assert (spec.name, spec.vae) == (str(tmp_path / "photos"), str(tmp_path / "vae"))
    assert DataSpec.model_validate_json(spec.model_dump_json()) == spec
    assert DataSpec(name="photos").name == "photos"
