"""Hooks made of functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from curriculum_ray.training.hooks import NoHooks

__all__ = ["calling"]


def calling(**functions: Callable[..., Any]) -> NoHooks:
    """Hooks of which those that are named, e.g. `on_log`, call a function, and the others do nothing."""
    hooks = NoHooks()
    vars(hooks).update(functions)
    return hooks
