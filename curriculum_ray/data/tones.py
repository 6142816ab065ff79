"""Short one-channel sounds: sinusoids, chords and chirps, with the kind as class."""

from __future__ import annotations

import math

import torch

from curriculum_ray.data.dataset import Dataset

__all__ = ["TONE_COUNT", "TONE_KINDS", "TONE_LENGTH", "load_tones"]

TONE_COUNT = 8_192
TONE_LENGTH = 64
TONE_KINDS = ("low", "high", "chord", "rising", "falling")


def load_tones(classes: bool = True) -> Dataset:
    """Return 8,192 signals within [-1, 1], shape (8192, 1, 64), of random frequency, phase and loudness.

    low and high: one sinusoid of 1 .. 3 or 8 .. 12 cycles; chord: two sinusoids, a fifth (3:2) apart; rising
    and falling: linear chirps between about 2 and 10 cycles per length.
    """
    import numpy

    # The stream of RandomState is frozen by NumPy's compatibility policy (NEP 19): the signals never change.
    source = numpy.random.RandomState(0)
    kind = torch.from_numpy(source.randint(len(TONE_KINDS), size=TONE_COUNT)).long()
    share, phase, phase_2, loudness = torch.from_numpy(source.random_sample((4, TONE_COUNT, 1)))
    t = torch.arange(TONE_LENGTH, dtype=torch.float64) / TONE_LENGTH

    def wave(cycles: torch.Tensor, offset: torch.Tensor) -> torch.Tensor:
        return (2 * math.pi * (cycles + offset)).sin()

    pitch = 3 + 3 * share
    sweep = (2 + share) * t + (3 + share) * t.square()
    every = torch.stack(
        [
            wave((1 + 2 * share) * t, phase),
            wave((8 + 4 * share) * t, phase),
            0.5 * wave(pitch * t, phase) + 0.5 * wave(1.5 * pitch * t, phase_2),
            wave(sweep, phase),
            wave(sweep.flip(1), phase),
        ]
    )
    signals = every.gather(0, kind[None, :, None].expand(1, -1, TONE_LENGTH))[0] * (0.6 + 0.4 * loudness)
    return Dataset(
        "tones", signals.float()[:, None], kind if classes else None, TONE_KINDS if classes else ()
    )
