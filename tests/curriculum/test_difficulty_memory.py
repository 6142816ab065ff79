"""Relative entropy of 50,000 colour images of 32x32 stays within 4 GiB, data and torch included."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import resource, torch
from curriculum_ray.curriculum.difficulty import Mixture, relative_entropy
images = torch.randn(50_000, 3, 32, 32)
alphas = torch.linspace(0.999, 0.001, 100, dtype=torch.float64)
scales = alphas.sqrt(), (1 - alphas).sqrt()
relative_entropy(Mixture.of(images), *scales, timesteps=[1, 50, 99], num_samples=512)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB on Linux only")
def test_fifty_thousand_images_fit_in_four_gigabytes() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 4.0
