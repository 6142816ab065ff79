"""A network for the tests of slots, which says in what processes it lived and can crash as native code does."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Witness"]


LEAKED: list[Tensor] = []


class Witness(nn.Module):
    """Leaves a file named after its process in `folder`; there, the first `crashes` processes die by SIGSEGV.

    They die in the training step number `after`, counted from 1. With `hungry` a step asks for more memory than any
    machine has. Its first step leaves `leaks` MiB to its process.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        conditioning: Any,
        folder: str,
        crashes: int = 0,
        after: int = 1,
        hungry: bool = False,
        leaks: int = 0,
    ) -> None:
        super().__init__()
        self.layer = nn.Conv2d(shape[0], shape[0], 1)
        self.folder, self.crashes, self.left = Path(folder), crashes, after
        self.hungry, self.leaks = hungry, leaks

    def forward(self, x: Tensor, noise_cond: Tensor, condition: Any = None) -> Tensor:
        """A linear map of each pixel."""
        if torch.is_grad_enabled():
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / str(os.getpid())).touch()
            self.left -= 1
            if self.left == 0 and len(list(self.folder.iterdir())) <= self.crashes:
                ctypes.string_at(0)
            if self.leaks:
                LEAKED.append(torch.ones(self.leaks * 2**20, dtype=torch.uint8))
                self.leaks = 0
            if self.hungry:
                torch.empty(2**58, dtype=torch.uint8)
        return self.layer(x)
