"""The kinds of device that trials ran on: numbers of one arm on several are paired only where each seed has one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from curriculum_ray.words import number_of
from tuning.evidence.arms import Ranking
from tuning.evidence.records import TrialRecord

__all__ = ["mixed_kinds", "mixed_pairs"]


def mixed_kinds(records: Iterable[TrialRecord]) -> str | None:
    """Say on which kinds of device finished trials ran, where it was not one; None where it was, or is not known."""
    counts = Counter(" and ".join(record.devices) for record in records if record.devices)
    if len(counts) < 2 and not any(len(record.devices) > 1 for record in records):
        return None
    each = ", ".join(f"{name} ({number_of(many, 'trial')})" for name, many in counts.most_common())
    return f"trials ran on several kinds of device: {each}"


def mixed_pairs(ranking: Ranking) -> str | None:
    """Say on how many fresh seeds the confirmed arms ran on several kinds of device; None where on none."""
    by_seed: dict[int, set[str]] = {}
    for arm in ranking.confirmed:
        for record in arm.confirmed:
            by_seed.setdefault(record.seed, set()).update(record.devices)
    mixed = sorted(seed for seed, kinds in by_seed.items() if len(kinds) > 1)
    if not mixed:
        return None
    kinds = ", ".join(sorted(set().union(*(by_seed[seed] for seed in mixed))))
    return (
        f"on {len(mixed)} of {len(by_seed)} fresh seeds the arms ran on several kinds of device ({kinds}), so that "
        "these differences hold the devices' own"
    )
