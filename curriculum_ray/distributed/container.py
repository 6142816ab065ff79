"""What the container that this process is in may use, as the files of its control group (cgroup v2, else v1) say."""

from __future__ import annotations

from pathlib import Path

__all__ = ["cpu_quota", "memory_limit"]

_ROOT = Path("/sys/fs/cgroup")


def memory_limit() -> int | None:
    """Bytes of memory that it may use; None without a limit."""
    limits = _numbers("memory.max") or _numbers("memory/memory.limit_in_bytes")
    return limits[0] if limits else None


def cpu_quota() -> float | None:
    """Seconds of CPU time that it may use per second, e.g. 2.5 for `docker run --cpus 2.5`; None without a limit."""
    found = _numbers("cpu.max") or _numbers("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")
    return found[0] / found[1] if found else None


def _numbers(*names: str) -> list[int]:
    """The numbers in these files; empty where a file is missing, or says "max" or -1, which is no limit."""
    try:
        words = [word for name in names for word in (_ROOT / name).read_text().split()]
    except OSError:
        return []
    return [int(word) for word in words] if all(word.isdigit() for word in words) else []
