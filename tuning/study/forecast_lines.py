"""A forecast of a study in lines for a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from tuning.evidence.metrics import metric_name
from tuning.study.controls import Controls
from tuning.study.cost_lines import cost_lines, driver_line, memory_lines
from tuning.study.forecast import Forecast

__all__ = ["forecast_lines"]


def forecast_lines(found: Forecast, price: float | None = None) -> Iterator[str]:
    """All but the pictures of its schedules. price: of one worker-hour, if the cost is asked for."""
    config, cost = found.config, found.cost
    if config.arms:
        yield f"arms, beside uniform sampling: {', '.join(config.arms)}"
    else:
        yield f"space {found.space.name}, chosen by {config.sampler}"
        for key, span in found.space.search.items():
            yield f"  {key:34} {span.in_words()}"
        rivals = len(found.controls) - 1
        plain = ", no curriculum" if Controls.of(rivals, found.space, config.run).plain_twin else ""
        yield f"controls and rivals: {', '.join(found.controls)}; twins of the best: reversed, random order{plain}"
    counted = {phase: count for phase, count in cost.trials.items() if count or not config.arms}
    yield f"trials, at most: {', '.join(f'{count} {phase}' for phase, count in counted.items())}"
    yield f"room: {found.room.in_words}"
    images, elsewhere = config.run.total_images, found.room.elsewhere
    yield from cost_lines(found.measured, cost, images, config.pack, price, elsewhere)
    peak = None if found.calibration is None else found.calibration.peak_bytes
    yield from memory_lines(found.memory, peak)
    yield driver_line(found.driver_bytes, found.room.slots)
    yield from _seeds(found)
    if found.fitting is not None:
        yield found.fitting.in_words(config.trials)
    elif config.hours is not None:
        yield f"in {config.hours:g} hours: unknown, since the speed is"
    if found.unvisited is not None:
        yield found.unvisited


def _seeds(found: Forecast) -> Iterator[str]:
    config, noise = found.config, found.noise
    if not (config.confirm_top or config.arms):
        return
    least, most = config.least_and_most_seeds
    many = f"{least}" if least == most else f"{least} to {most}"
    what = "trained" if config.arms else "confirmed"
    if noise is None:
        yield (
            f"{what} on {many} fresh seeds; how many an effect needs is known once a study of this data has "
            "confirmations"
        )
        return
    percent = f"{100 * noise.share:.0f}% of {metric_name(config.metric)}"
    yield f"{what} on {many} fresh seeds; paired differences vary by {percent} ({noise.source}):"
    for each in found.expected:
        yield f"  {each.in_words()}"
