"""The reference of settings: every key of every declared model, with type, range, default and docstring."""

from __future__ import annotations

import functools
import inspect
from functools import partial

from commands import cell
from pydantic.fields import FieldInfo

from curriculum_ray.config import Spec
from curriculum_ray.config.described import default_in_words, fixed_value, range_in_words, type_in_words
from curriculum_ray.config.spec import specs_in
from curriculum_ray.data.latent_cache import CacheSpec
from curriculum_ray.evaluation.counting import ReferenceSpec
from tuning.claims.claim import Claim
from tuning.difficulty import DifficultyConfig
from tuning.study.config import StudyConfig
from tuning.study.space import SearchSpace

__all__ = ["link_to", "settings_pages"]

_ROOTS: tuple[tuple[type[Spec], str], ...] = (
    (StudyConfig, ""),
    (SearchSpace, ""),
    (Claim, ""),
    (CacheSpec, ""),
    (ReferenceSpec, ""),
    (DifficultyConfig, ""),
)
# The page of each room's models; the longest prefix of a model's module decides.
_PAGES = {
    "tuning": "study",
    "curriculum_ray.distributed": "study",
    "tuning.study.space": "space",
    "tuning.claims": "claim",
    "curriculum_ray": "run",
    "curriculum_ray.curriculum": "schedule",
    "curriculum_ray.diffusion": "process",
    "curriculum_ray.models": "model",
    "curriculum_ray.data": "data",
    "curriculum_ray.training.difficulty": "difficulty",
    "tuning.difficulty": "difficulty",
}
_INTRODUCTIONS = {
    "study": (
        "Study",
        "Settings of `python -m tune search` and `plan`: a file for `--config`, or `--set key=value`. Every trial is a "
        "variation of the run under `run`.",
    ),
    "space": ("Search space", "The file that `--space` takes; see [Search](../../howto/search.md)."),
    "run": (
        "Run",
        "Settings of `python -m tune train`, and of each trial of a study under `run`. `config.yaml` in a run's folder "
        "has all of them.",
    ),
    "schedule": ("Schedule", "The file that `--schedule` takes; see [Schedule](../../concepts/schedule.md)."),
    "claim": ("Claim", "A file in `examples/claims/`; see [Test a claim](../../howto/claims.md)."),
    "process": (
        "Process and weighting",
        "The diffusion process that a run trains, and how its losses are weighed.",
    ),
    "model": ("Network", "The networks; see [Use your own network](../../howto/own-model.md)."),
    "data": ("Data", "What is read, and how; see [Use your own data](../../howto/own-data.md)."),
    "difficulty": ("Difficulty", "Settings of `python -m tune difficulty`."),
}
_HEAD = """# Settings

Settings are declared types, and these pages are generated from them: key, type and range, default, meaning. Unknown
keys are refused, and so are settings that do not apply. `python -m tune settings optimizer` lists those of a group in a
terminal.

A key is written with dots on the command line (`--set optimizer.learning_rate=1e-3`) and as nested mappings in a file.
Where one of several models is chosen, a tag says which (`rule`, `kind`, `by`, …), and the other keys are those of the
model that it names. The tag's value may stand alone where they are left out: `--set weighting=min_snr`, and in a
schedule `order: random`.

| page | holds |
|---|---|
"""


def settings_pages() -> dict[str, str]:
    """Text by path of the index and of each page."""
    paths = _models()
    pages: dict[str, list[str]] = {name: [] for name in _INTRODUCTIONS}
    for model, where in paths.items():
        pages[_page(model)].append(_section(model, where))
    texts = {
        f"reference/settings/{name}.md": f"# {title}\n\n{about}\n\n" + "\n".join(pages[name])
        for name, (title, about) in _INTRODUCTIONS.items()
    }
    rows = "\n".join(f"| [{title}]({name}.md) | {about} |" for name, (title, about) in _INTRODUCTIONS.items())
    return {"reference/settings/index.md": _HEAD + rows + "\n", **texts}


def link_to(model: type[Spec]) -> str | None:
    """Where a model's keys are listed, from a page of the reference; None where no settings hold it."""
    return f"settings/{_page(model)}.md#{_anchor(model)}" if model in _models() else None


@functools.cache
def _models() -> dict[type[Spec], list[str]]:
    """All models that can be reached, in the order of their first mention, and the keys where they stand."""
    found: dict[type[Spec], list[str]] = {}
    waiting = list(_ROOTS)
    while waiting:
        model, at = waiting.pop(0)
        places = found.setdefault(model, [])
        if at in places:
            continue
        places.append(at)
        if len(places) > 1:
            continue
        for name, field in model.model_fields.items():
            waiting += [(inner, f"{at}.{name}".lstrip(".")) for inner in specs_in(field.annotation)]
    return found


def _page(model: type[Spec]) -> str:
    module = model.__module__
    return _PAGES[max((prefix for prefix in _PAGES if f"{module}.".startswith(f"{prefix}.")), key=len)]


def _section(model: type[Spec], places: list[str]) -> str:
    tags = [
        f"`{name}: {fixed_value(field)}`"
        for name, field in model.model_fields.items()
        if fixed_value(field) is not None and name != "version"
    ]
    where = ", ".join(f"`{place}`" for place in places if place)
    place = ", ".join([*(f"with {tag}" for tag in tags), *([f"at {where}"] if where else [])])
    rows = [_row(model, name, field) for name, field in model.model_fields.items()]
    return "\n".join(
        [
            f"## {model.__name__} {{ #{_anchor(model)} }}\n",
            *([f"{place[0].upper()}{place[1:]}.\n"] if place else []),
            f"{inspect.getdoc(model)}\n",
            "| key | type | default | meaning |",
            "|---|---|---|---|",
            *rows,
            "",
        ]
    )


def _row(model: type[Spec], name: str, field: FieldInfo) -> str:
    about = field.description or ("" if fixed_value(field) is None else "Names this model.")
    assert about, f"{model.__name__}.{name} has no docstring"
    kind = type_in_words(field.annotation, partial(_link, page=_page(model)), _code)
    limits = range_in_words(field.metadata, _code)
    words = f"{kind}, {limits}" if limits else kind
    return f"| `{name}` | {cell(words)} | {cell(default_in_words(field, _code))} | {cell(about)} |"


def _code(text: str) -> str:
    return f"`{text}`"


def _link(model: type[Spec], page: str) -> str:
    target = "" if _page(model) == page else f"{_page(model)}.md"
    return f"[{model.__name__}]({target}#{_anchor(model)})"


def _anchor(model: type[Spec]) -> str:
    """A name that no other model has: two layers may call theirs alike."""
    return f"{model.__module__.rpartition('.')[2]}-{model.__name__}".lower()
