"""A long run is drawn as a short one, and shows the same."""

from __future__ import annotations

from curriculum_ray.curriculum import CurriculumSchedule
from curriculum_ray.runs.config import RunConfig
from tuning.study.sketches import density


def test_a_budget_of_many_images_is_drawn_like_a_small_one_with_the_same_shares() -> None:
    pictures = []
    for images in (12_800, 51_200_000):
        pacing = {"rule": "fixed", "stage_images": images // 10}
        values = {
            "clusters": {"by": "uniform", "count": 4},
            "order": {"direction": "easy_to_hard"},
            "pacing": pacing,
        }
        schedule = CurriculumSchedule.from_dict({"version": 1, **values}, "test")
        pictures.append(density(schedule, RunConfig(images=images, batch_size=128), 8, 10))
    assert (pictures[0] - pictures[1]).abs().max() < 0.01


def test_a_ladder_that_ends_soon_is_drawn_whole() -> None:
    """In the shortest picture of 500 steps there would not be one for each of its stages."""
    values = {
        "clusters": {"by": "uniform", "count": 20},
        "order": {"direction": "easy_to_hard"},
        "pacing": {"rule": "plateau", "patience_stage_share": 0.4, "finish_by": 0.02},
    }
    schedule = CurriculumSchedule.from_dict({"version": 1, **values}, "test")
    picture = density(schedule, RunConfig(images=512_000, batch_size=128), 4, 100)
    assert (picture[:, 0] > 0).tolist() == [True, False, False, False]
    assert (picture[:, 3:] - 1).abs().max() < 0.01


def test_a_change_at_an_image_count_is_drawn_at_its_share_of_the_budget() -> None:
    pictures = []
    for images in (12_800, 51_200_000):
        base = {"kind": "changing", "at_images": images // 4, "blend_images": images // 2}
        schedule = CurriculumSchedule.from_dict({"version": 1, "base": base}, "test")
        pictures.append(density(schedule, RunConfig(images=images, batch_size=128), 8, 10))
    assert (pictures[0] - pictures[1]).abs().max() < 0.05
    assert (pictures[0][:, 0] - pictures[0][:, -1]).abs().max() > 0.2
