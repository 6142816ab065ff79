"""What the doctor asks of a GPU."""

from __future__ import annotations

import socket

import pytest
import torch

from clusters.probe import Probe

pytestmark = pytest.mark.gpu


def test_matrices_multiply_correctly_on_every_gpu() -> None:
    assert Probe().matmul() == []


def test_nccl_sums_over_one_rank(cuda: torch.device) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    assert Probe().all_reduce(address, 0, 1, "nccl", 30.0) > 0
