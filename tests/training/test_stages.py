"""How much of a ladder was walked: counts and lengths by stage, gaps included."""

from curriculum_ray.training.stages import Walked, stages_walked


def test_each_stage_that_was_asked_for_has_its_length_and_the_lengths_sum_to_the_run():
    found = stages_walked(range(3), [[0, 0], [64, 1], [160, 2]], 256)
    assert found == Walked(stages_asked=3, stages_walked=3, images_in_stage=[64, 96, 96])


def test_a_stage_that_was_skipped_or_not_reached_is_seen():
    skipped = stages_walked(range(4), [[0, 0], [64, 3]], 256)
    assert (skipped.stages_walked, skipped.images_in_stage) == (2, [64, 0, 0, 192])
    short = stages_walked((2, 3, 9), [[0, 2], [8, 3]], 24)
    assert (short.stages_asked, short.stages_walked, short.images_in_stage) == (3, 2, [8, 16, 0])


def test_a_run_without_a_curriculum_is_one_stage():
    assert stages_walked((0,), [[0, 0]], 128).images_in_stage == [128]
