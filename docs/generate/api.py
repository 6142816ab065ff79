"""The reference of the Python API: what the packages declare as public, for mkdocstrings to render."""

from __future__ import annotations

import importlib
import inspect
from typing import Annotated, Any, get_args, get_origin

from settings import link_to

from curriculum_ray.config import Spec

__all__ = ["api_page"]

_PACKAGES = {
    "curriculum_ray.curriculum": "Schedules, their parts, and the sampler. Needs the core alone.",
    "curriculum_ray.curriculum.difficulty": "How hard each noise level is, without a model. Needs the core alone.",
    "curriculum_ray.diffusion": "Processes, noise levels and generation. Needs the core alone.",
    "curriculum_ray.models": "Networks. Needs `curriculum-ray[train]`.",
    "curriculum_ray.data": "Data sets. Needs `curriculum-ray[train]`.",
    "curriculum_ray.evaluation": "Evaluation under a protocol. Needs `curriculum-ray[train]`.",
    "curriculum_ray.export": "Trained models elsewhere. Needs `curriculum-ray[export]`.",
    "curriculum_ray.export.trainers": "Schedules for other trainers. Needs `curriculum-ray[train]`.",
}
# What a reader looks for first.
_FIRST = ("TimestepSampler", "CurriculumSchedule", "DifficultyCurve")


def api_page() -> str:
    """A section for each package, an entry for each class, function or union of settings in its `__all__`."""
    parts = [
        "# Python API\n\nImports are absolute and from the package that is named, not from its modules.\n"
    ]
    for package, about in _PACKAGES.items():
        module = importlib.import_module(package)
        parts.append(f"## {package}\n\n{about}\n")
        names = sorted(module.__all__, key=lambda name: (name not in _FIRST, name))
        parts += filter(None, (_entry(name, getattr(module, name)) for name in names))
    return "\n".join(parts)


def _entry(name: str, value: Any) -> str:
    """A directive for a class or function, whose keys as settings are on their own pages; the members of a union."""
    if get_origin(value) is Annotated:
        kinds = ", ".join(f"`{kind.__name__}`" for kind in get_args(get_args(value)[0]))
        return f"### {name}\n\nOne of {kinds}.\n"
    if not (inspect.isclass(value) or inspect.isfunction(value)):
        return ""
    lines = [f"::: {value.__module__}.{value.__qualname__}"]
    if not (inspect.isclass(value) and issubclass(value, Spec)):
        return f"{lines[0]}\n"
    hidden = ("_", "model_")
    members = [name for name in vars(value) if not name.startswith(hidden) and name not in value.model_fields]
    lines += ["    options:", f"      members: [{', '.join(members)}]" if members else "      members: false"]
    link = link_to(value)
    return "\n".join([*lines, "", *([f"Its keys: [{value.__name__}]({link})\n"] if link else [])])
