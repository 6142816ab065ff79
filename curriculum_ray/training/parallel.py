"""Several workers as one model: replicas by DDP, or shards by FSDP2, gathered whole for checkpoints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

__all__ = ["full", "is_sharded", "load_into", "local", "quiet", "shard", "spread_like", "whole"]


def shard(module: nn.Module, device: torch.device) -> nn.Module:
    """Shard the parameters of `module` over all ranks, in place (torch's fully_shard).

    Each member of a list of blocks is gathered when it is used, so that only one block at a time is whole.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    for group in reversed([child for child in module.modules() if isinstance(child, nn.ModuleList)]):
        for block in group:
            if not isinstance(block, nn.ModuleList | nn.ModuleDict) and any(True for _ in block.parameters()):
                fully_shard(block, mesh=mesh)
    fully_shard(module, mesh=mesh)
    return module


def is_sharded(tensor: Any) -> bool:
    """Whether `tensor` is spread over the ranks (torch's DTensor)."""
    return hasattr(tensor, "full_tensor")


def local(tensor: Tensor) -> Tensor:
    """The part of `tensor` that this rank holds, sharing its memory; all of it where it is not sharded."""
    whole: Any = tensor
    return whole.to_local() if is_sharded(tensor) else tensor


def full(tensor: Tensor) -> Tensor:
    """`tensor`, gathered where it is sharded; every rank must call it."""
    mixed: Any = tensor
    return mixed.full_tensor() if is_sharded(tensor) else tensor


def whole(tensors: Mapping[str, Tensor], keep: bool) -> dict[str, Tensor]:
    """Gather sharded tensors, onto the CPU of the ranks that `keep` them; every rank must call it.

    Only one tensor at a time is whole on a device, which may not have room for all. Goes by the order of the names:
    ranks that read a checkpoint may hold the tensors in different orders, and would mix up parts of different ones.
    """
    gathered = {}
    for name, value in sorted(tensors.items()):
        found = full(value).cpu() if is_sharded(value) else value
        if keep:
            gathered[name] = found
    return gathered


def spread_like(target: Tensor, value: Tensor) -> Tensor:
    """`value`, whole on every rank, sharded as `target` is; unchanged where `target` is not sharded."""
    if not is_sharded(target):
        return value
    from torch.distributed.tensor import distribute_tensor

    # Without a source rank, each takes its part from its own copy: nothing is sent, so the order does not matter.
    mesh, placements = target.device_mesh, target.placements  # type: ignore[attr-defined]
    return distribute_tensor(value, mesh, placements, src_data_rank=None)


@torch.no_grad()
def load_into(targets: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    """Copy whole tensors into the targets of the same names; each rank copies its part."""
    for name, target in targets.items():
        value = spread_like(target, values[name].to(target.device))
        local(target).copy_(local(value))


@contextmanager
def quiet(module: nn.Module, wanted: bool) -> Iterator[None]:
    """Do not exchange gradients while `wanted`: in the parts of an accumulated batch before its last."""
    if not wanted:
        yield
    elif isinstance(module, DistributedDataParallel):
        with module.no_sync():
            yield
    elif (switch := getattr(module, "set_requires_gradient_sync", None)) is not None:
        switch(False)
        try:
            yield
        finally:
            switch(True)
    else:
        yield
