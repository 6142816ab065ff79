"""What a study will cost, in lines for a terminal: what was measured, what was counted, and what is unknown."""

from __future__ import annotations

from curriculum_ray.words import number_of
from tuning.study.calibration import Calibration, Unmeasured
from tuning.study.cost import Estimate
from tuning.study.memory import Memory

__all__ = ["cost_lines", "driver_line", "memory_lines"]

_SUSTAINED = 1e14
_QUIET = 0.8
"""The share of time on a core from which on a machine counts as quiet."""
_GIB = 2**30
_MIB = 2**20


def cost_lines(
    found: Calibration | Unmeasured,
    cost: Estimate,
    images: int,
    pack: int = 1,
    price: float | None = None,
    elsewhere: bool = False,
) -> list[str]:
    """Times and prices of the study, or why they are unknown, and what can be said all the same.

    images: the budget of a trial. price: of one worker-hour. elsewhere: whether other machines will train.
    """
    trials = f"{number_of(sum(cost.trials.values()), 'trial')} at most"
    counted = None if cost.flops is None else f"{cost.flops:.2g} operations of the network"
    if isinstance(found, Unmeasured):
        lines = [f"time: unknown: {found}"]
        if counted is not None:
            hours = cost.flops_hours(_SUSTAINED)
            lines.append(
                f"  {trials}, {counted}: {hours:.3g} hours of a GPU that sustains 100 TFLOP/s on it, if yours does"
            )
        return [*lines, *(["cost: unknown, as the time is"] if price is not None else [])]
    assert cost.trial_seconds is not None
    assert cost.wall_seconds is not None
    assert cost.least_wall_seconds is not None
    assert cost.worker_hours is not None
    step = found.seconds_per_step
    each = f"{1000 * step:.0f} ms" if step < 10 else _clock(step)
    lines = [
        f"measured on {found.device}: {each} a step, {_clock(found.seconds_per_evaluation)} an evaluation; "
        f"{_clock(cost.trial_seconds)} a trial of {images:,} images"
    ]
    if found.share is not None:
        lines.append(f"  from {found.share}; the rest by the number of operations")
    if found.seconds_to_read is not None:
        where = "which is counted in" if found.device == "CPU" else "by two tasks beside the GPU"
        lines.append(
            f"  a step's images take {1000 * found.seconds_to_read:.3g} ms to read from shards, {where}"
        )
    if found.on_a_core is not None and found.on_a_core < _QUIET:
        lines.append(
            f"  while other programs kept the machine busy: steps had a core for {100 * found.on_a_core:.0f}% of this "
            "time, and take less on quiet cores"
        )
    if elsewhere:
        lines.append("  the workers of the cluster may be faster or slower than this machine")
    if found.packing_gain is not None:
        lines.append(
            f"packing {pack}: {found.packing_gain:.2f} times as many steps a second as one trial after another"
        )
    least = f"{_clock(cost.least_wall_seconds)} to " if cost.least_wall_seconds < cost.wall_seconds else ""
    lines.append(f"expected: {least}{_clock(cost.wall_seconds)} with {cost.concurrent} at a time, {trials}")
    spent = f"worker-hours: {cost.worker_hours:,.2f}"
    lines.append(spent if cost.gpu_hours is None else f"{spent}, GPU-hours: {cost.gpu_hours:,.2f}")
    if cost.price is not None:
        assert cost.least_price is not None
        least = f"{cost.least_price:,.2f} to " if f"{cost.least_price:.2f}" != f"{cost.price:.2f}" else ""
        lines.append(f"cost: {least}{cost.price:,.2f}, at {price:g} a worker-hour, without start-up")
    return lines


def memory_lines(memory: Memory, peak: int | None = None) -> list[str]:
    """What a worker holds on its device. peak: the most that was measured, in bytes."""
    parts = {
        "weights": memory.weights,
        "gradients": memory.gradients,
        "two moments": memory.moments,
        "averages": memory.averages,
        "data": memory.data,
    }
    if memory.activations is not None:
        parts["activations"] = memory.activations
    lines = [
        f"memory of a worker: {_size(memory.total)}" + (" and activations" * (memory.activations is None)),
        "  " + ", ".join(f"{name} {_size(size)}" for name, size in parts.items()),
    ]
    if memory.activations is None:
        lines.append("  the activations are unknown: the network cannot be counted without running it")
    if memory.shared:
        lines.append(
            f"  and in the memory of each node {_size(memory.shared)} of the stream's items, which its workers share; "
            "each reads two shards at a time"
        )
    if peak is not None:
        return [*lines, f"  counted; a step that was measured held {_size(peak)} at most"]
    return [*lines, "  counted, not measured; torch itself, workspaces and evaluations come on top"]


def driver_line(size: int, slots: int) -> str:
    """What Ray's and our own processes hold on the driver's node, in bytes."""
    return f"memory of the driver's node: {_size(size)} beside the workers, at {number_of(slots, 'slot')}"


def _size(size: int) -> str:
    return f"{size / _GIB:.1f} GiB" if size >= _GIB / 10 else f"{size / _MIB:.1f} MiB"


def _clock(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    if seconds < 48 * 3600:
        return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:,.1f} days"
