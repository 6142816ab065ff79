"""Numbers that are drawn from numbers: by the published generator, each from another seed."""

from __future__ import annotations

from curriculum_ray.splitmix import mix, splitmix64


def test_the_generator_is_splitmix64() -> None:
    """The first numbers of java.util.SplittableRandom(0), whose state grows by the golden gamma each time."""
    states = (gamma * 0x9E3779B97F4A7C15 for gamma in range(3))
    assert [splitmix64(state) for state in states] == [
        0xE220A8397B1DCDAF,
        0x6E789E6AA1B965F4,
        0x06C45D188009454F,
    ]


def test_mixed_seeds_do_not_collide() -> None:
    values = {
        mix(seed, rank, images) for seed in range(4) for rank in range(8) for images in range(0, 4096, 128)
    }
    assert len(values) == 4 * 8 * 32
    assert all(0 <= value < 2**63 for value in values)
