"""Every published formula in the package beside an independent computation of it; seconds on one core.

    python benchmarks/check_published.py

Each line is a formula: where it was published, the package's value, the other one (SciPy, numerical integration, brute
force, or the paper's formula written out in NumPy) where they differ most, that difference, and "off" where it is more
than rounding or sampling explains. The last line is JSON: "checks", how many, and "off", how many of them differ; the
exit code is 1 where any does.

A new formula gets a function of rows in a file of `published/`, and that file's `checks` a place in `GROUPS`.
"""

from __future__ import annotations

import json
import os
import sys

# Small arrays gain nothing by threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from published import Check, averages, bases, clusters, entropy, pacing, processes, rivals, weightings

GROUPS = (processes, bases, rivals, weightings, clusters, pacing, averages, entropy)


def table(checks: list[Check]) -> str:
    """One line for each."""
    head = f"{'formula':<46}{'source':<36}{'ours':>14}{'independent':>14}{'differ by':>11}"
    lines = [
        f"{check.formula:<46}{check.source:<36}{check.ours:>14.6g}{check.independent:>14.6g}{check.error:>11.1e}"
        f"{'  off' if check.off else ''}"
        for check in checks
    ]
    return "\n".join([head, *lines])


def main() -> int:
    """The table, its summary, and the exit code."""
    checks = [check for group in GROUPS for check in group.checks()]
    off = sum(check.off for check in checks)
    print(table(checks))
    print(json.dumps({"checks": len(checks), "off": off}))
    return int(off > 0)


if __name__ == "__main__":
    sys.exit(main())
