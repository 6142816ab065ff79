"""The reference of the Python API: what the packages declare as public, for mkdocstrings to render."""

from __future__ import annotations

import importlib

__all__ = ["api_page"]

_PACKAGES = {
    "curriculum_ray.curriculum": "Schedules, their parts, and the sampler. Needs the core alone.",
    "curriculum_ray.curriculum.difficulty": "How hard each noise level is, without a model. Needs the core alone.",
    "curriculum_ray.diffusion": "Processes, noise levels and generation. Needs the core alone.",
    "curriculum_ray.models": "Networks. Needs `curriculum-ray[train]`.",
    "curriculum_ray.data": "Data sets. Needs `curriculum-ray[train]`.",
    "curriculum_ray.evaluation": "Evaluation under a protocol. Needs `curriculum-ray[train]`.",
    "curriculum_ray.export": "Trained models elsewhere. Needs `curriculum-ray[export]`.",
}


def api_page() -> str:
    """A section for each package, an entry for each name in its `__all__` that is a class or a function."""
    parts = [
        "# Python API\n\nImports are absolute and from the package that is named, not from its modules.\n"
    ]
    for package, about in _PACKAGES.items():
        module = importlib.import_module(package)
        parts.append(f"## {package}\n\n{about}\n")
        parts += [
            f"::: {value.__module__}.{value.__qualname__}\n"
            for value in (getattr(module, name) for name in module.__all__)
            if hasattr(value, "__qualname__") and value.__module__.startswith("curriculum_ray.")
        ]
    return "\n".join(parts)
