"""An extractor sees no more of large images at a time than of small ones, and its features do not depend on it."""

from dataclasses import replace

import pytest
import torch

from curriculum_ray.evaluation import EvaluationSpec
from curriculum_ray.evaluation.extractors import load_extractor


@pytest.mark.parametrize(("side", "most"), [(16, 500), (32, 500), (64, 125), (128, 31), (1024, 1)])
def test_large_images_are_seen_few_at_a_time(side: int, most: int) -> None:
    assert load_extractor(EvaluationSpec(extractor="random-cnn"), (3, side, side), "mine").batch_size == most


def test_features_do_not_depend_on_how_many_are_seen_at_a_time() -> None:
    images = torch.randint(256, (40, 3, 64, 64), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    extractor = load_extractor(EvaluationSpec(extractor="random-cnn"), (3, 64, 64), "mine")
    few = replace(extractor, batch_size=7)
    torch.testing.assert_close(*(each.features(images, torch.device("cpu")) for each in (extractor, few)))
