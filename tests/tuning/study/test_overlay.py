"""Settings over settings: what still applies stays, and what does not goes."""

from __future__ import annotations

from typing import Any

import pytest

from tuning.study.overlay import merge


@pytest.mark.parametrize(
    ("below", "above", "result"),
    [
        # The same settings under another kind.
        (
            {"clusters": {"by": "uniform", "count": 9}},
            {"clusters": {"by": "log_snr"}},
            {"by": "log_snr", "count": 9},
        ),
        # Settings of one name that mean something else.
        (
            {"base": {"kind": "logit_normal", "mean": 0.5, "std": 2.0}},
            {"base": {"kind": "log_normal_sigma", "std": 1.0}},
            {"kind": "log_normal_sigma", "std": 1.0},
        ),
        # Another file for the same order: `by` says no kind here.
        (
            {"order": {"direction": "easy_to_hard", "by": "one.json"}},
            {"order": {"by": "other.json"}},
            {"direction": "easy_to_hard", "by": "other.json"},
        ),
        # A kind within a kind.
        (
            {"base": {"kind": "changing", "at_share": 0.5, "first": {"kind": "mode", "scale": 1.2}}},
            {"base": {"first": {"kind": "logit_normal"}}},
            {"kind": "changing", "at_share": 0.5, "first": {"kind": "logit_normal"}},
        ),
    ],
)
def test_a_change_of_kind_drops_what_does_not_apply(
    below: dict[str, Any], above: dict[str, Any], result: dict[str, Any]
) -> None:
    (group,) = below
    assert merge({"schedule": below}, {"schedule": above})["schedule"][group] == result


def test_neither_side_changes() -> None:
    below: dict[str, Any] = {"schedule": {"order": {"direction": "none"}}}
    above: dict[str, Any] = {"schedule": {"order": {"direction": "random"}}}
    merged = merge(below, above)
    merged["schedule"]["order"]["seed"] = 3
    assert below == {"schedule": {"order": {"direction": "none"}}}
    assert above == {"schedule": {"order": {"direction": "random"}}}
