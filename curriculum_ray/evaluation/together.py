"""An evaluation by all ranks of a run: each draws its share, and rank 0 scores what all have drawn.

Each rank draws with the whole averaged weights: under DDP it holds them, and under FSDP they are gathered whole before
(`Trainer.whole_model`). So drawing needs no collective, ranks need not keep in step, and the shares are handed over
through an `Exchange`, which no timeout of a collective ends.
"""

from __future__ import annotations

from torch import Tensor, nn

from curriculum_ray.data import Conditioning
from curriculum_ray.diffusion import Process
from curriculum_ray.evaluation.evaluator import Evaluator, shown, with_suffix
from curriculum_ray.evaluation.sampling import Share
from curriculum_ray.evaluation.tally import Tally, merged
from curriculum_ray.training.world import World

__all__ = ["evaluate_together"]


def evaluate_together(
    evaluator: Evaluator, process: Process, model: nn.Module, conditioning: Conditioning, world: World
) -> tuple[dict[str, float], Tensor] | None:
    """What `Evaluator.evaluate` returns, on rank 0; None on the others, which do not wait for it.

    Every rank must call it, with the same weights. If the reference is still to be read, the ranks share that too.
    """
    metrics: dict[str, float] = {}
    first: Tensor | None = None
    for suffix, one in evaluator.scales():
        scored = _at_one_scale(one, process, model, conditioning, world)
        if scored is not None:
            metrics |= with_suffix(scored[0], suffix)
            first = scored[1] if first is None else first
    return None if first is None else (metrics, first)


def _at_one_scale(
    evaluator: Evaluator, process: Process, model: nn.Module, conditioning: Conditioning, world: World
) -> tuple[dict[str, float], Tensor] | None:
    exchange, share = world.exchange, Share(world.rank, world.size)
    lacks = exchange.tell(b"lacks" if evaluator.lacks_reference else b"") == b"lacks"
    drawn = evaluator.draw(process, model, conditioning, world.device, share, exchange.work)
    if world.size == 1:
        return evaluator.metrics([drawn], device=world.device), shown(drawn)
    real = evaluator.tally_reference(world.device, share, exchange.work) if lacks else Tally.empty()
    gathered_real = exchange.gather(real.to_bytes()) if lacks else None
    gathered = exchange.gather(drawn.to_bytes())
    if gathered is None:
        return None
    tallies = [Tally.from_bytes(content) for content in gathered]
    parts = [Tally.from_bytes(content) for content in gathered_real or ()]
    return evaluator.metrics(tallies, parts, world.device), shown(merged(tallies))
