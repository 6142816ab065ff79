"""What one worker of a trial holds in memory, counted before anything is trained."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from curriculum_ray.data import DataInfo, Dataset
from curriculum_ray.runs.config import RunConfig
from curriculum_ray.training.footprint import Footprint

__all__ = ["Memory", "memory_per_worker"]

_FP32 = 4


@dataclass(frozen=True)
class Memory:
    """Bytes on the device of one worker; torch itself, workspaces and evaluations come on top."""

    weights: int
    gradients: int
    moments: int
    """AdamW's two; other optimisers have as many or fewer."""
    averages: int
    """The average of the weights, and those by power functions."""
    data: int
    """The items, conditions and held-out items of a data set, which every worker holds whole, once for all runs of a
    pack; 0 for a stream."""
    activations: int | None
    """What autograd keeps for the backward pass of a worker's share of the batch; None where it cannot be counted, and
    with gradient checkpointing."""
    shared: int = 0
    """In the memory of each node, not on the device: the items of a stream that its workers share."""

    @property
    def total(self) -> int:
        """What the device holds, without the activations where they are unknown."""
        return self.without_activations + (self.activations or 0)

    @property
    def without_activations(self) -> int:
        """What is held between two steps."""
        return self.weights + self.gradients + self.moments + self.averages + self.data


def memory_per_worker(
    run: RunConfig, network: Footprint, data: Dataset | DataInfo, workers: int = 1, pack: int = 1
) -> Memory:
    """Count what each of `workers` workers holds while it trains `pack` runs at a time."""
    shards = workers if run.parallel == "fsdp" else 1
    copy = -(-_FP32 * network.parameters * pack // shards)
    trained = copy if network.trained is None else -(-_FP32 * network.trained * pack // shards)
    averages = (1 + (len(run.ema.power.sigma_rels) if run.ema.power else 0)) * trained
    if shards > 1:
        averages += (
            copy - trained
        )  # Whole workers share what is frozen between weights and averages; shards do not.
    activations = None
    if network.kept_bytes is not None and not run.gradient_checkpointing:
        assert network.kept_once_bytes is not None
        items = run.batch_size // workers // run.accumulate
        activations = pack * (items * network.kept_bytes + network.kept_once_bytes)
    held = _size(data)
    own, shared = (held, 0) if isinstance(data, Dataset) else (0, held)
    return Memory(copy, trained, 2 * trained, averages, own, activations, shared)


def _size(data: Dataset | DataInfo) -> int:
    parts = [part for part in (data.reference, data.heldout) if part is not None]
    held: list[Tensor] = [
        tensor for part in parts for tensor in (part.stored, part.condition) if tensor is not None
    ]
    return sum(tensor.nbytes for tensor in held)
