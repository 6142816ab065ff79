"""A range of workers: what is refused before anything is started."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from curriculum_ray.config import ConfigError, parse
from curriculum_ray.distributed.resources import ResourceSpec
from curriculum_ray.runs.config import RunConfig
from tuning.cli import cli
from tuning.study.check_run import check_run
from tuning.study.config import StudyConfig


def test_every_number_of_workers_of_a_range_must_divide_the_batch() -> None:
    config = RunConfig.model_validate({"evaluation": None, "batch_size": 16})
    check_run(config, ResourceSpec(num_workers=(1, 2)))
    with pytest.raises(ConfigError, match="a multiple of 12 for 1 to 4 workers, but got 16"):
        check_run(config, ResourceSpec(num_workers=(1, 4)))


@pytest.mark.parametrize(
    ("settings", "resources", "line"),
    [
        ({"accumulate": 3}, {}, "share of the batch, 16 with --num-workers 1, but got 3"),
        ({"accumulate": 16}, {"num_workers": (1, 2)}, "8 with --num-workers 2, but got 16"),
        ({"precision": "fp16"}, {}, "precision fp16 needs a GPU: add --use-gpu"),
        ({"parallel": "fsdp"}, {}, "parallel fsdp shards a model over several workers"),
    ],
)
def test_what_the_workers_cannot_do_is_refused_before_they_start(
    settings: dict[str, object], resources: dict[str, object], line: str
) -> None:
    config = RunConfig.model_validate({"evaluation": None, "batch_size": 16, **settings})
    with pytest.raises(ConfigError, match=line):
        check_run(config, parse(ResourceSpec, resources, "settings"))


@pytest.mark.parametrize("workers", [[2, 1], [0, 2], 0])
def test_a_range_of_workers_goes_upwards_from_one_or_more(workers: object) -> None:
    with pytest.raises(ConfigError, match="num_workers must be 1 or more, or a range"):
        parse(ResourceSpec, {"num_workers": workers}, "settings")


def test_a_range_of_workers_is_refused_with_a_pack_and_what_is_none_on_the_command_line() -> None:
    with pytest.raises(ConfigError, match=r"num_workers must be 1, but is 1-2"):
        parse(StudyConfig, {"resources": {"num_workers": [1, 2]}, "pack": 2}, "settings")
    with pytest.raises(ConfigError, match="resize_seconds applies to a range"):
        parse(ResourceSpec, {"num_workers": 2, "resize_seconds": 5}, "settings")
    for wrong in ("0-2", "two", "1-2-3"):
        refused = CliRunner().invoke(cli, ["train", "--num-workers", wrong])
        assert refused.exit_code == 2
        assert "neither a number of workers nor a range" in refused.output
