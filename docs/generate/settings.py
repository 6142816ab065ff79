"""The reference of settings: every key of every declared model, with type, range, default and docstring."""

from __future__ import annotations

import functools
import inspect
import json
import types
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from commands import cell
from pydantic.fields import FieldInfo

from curriculum_ray.config import Spec
from curriculum_ray.data.autoencoder import CacheSpec
from tuning.difficulty import DifficultyConfig
from tuning.study.config import StudyConfig
from tuning.study.space import SearchSpace

__all__ = ["link_to", "settings_pages"]

_ROOTS: tuple[tuple[type[Spec], str], ...] = (
    (StudyConfig, ""),
    (SearchSpace, ""),
    (CacheSpec, ""),
    (DifficultyConfig, ""),
)
# The page of each room's models; the longest prefix of a model's module decides.
_PAGES = {
    "tuning": "study",
    "curriculum_ray.distributed": "study",
    "tuning.study.space": "space",
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
keys are refused, and so are settings that do not apply.

A key is written with dots on the command line (`--set optimizer.learning_rate=1e-3`) and as nested mappings in a file.
Where one of several models is chosen, a tag says which (`rule`, `kind`, `by`, …), and the other keys are those of the
model that it names.

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
            waiting += [(inner, f"{at}.{name}".lstrip(".")) for inner in _inner(field.annotation)]
    return found


def _inner(annotation: Any) -> Iterator[type[Spec]]:
    if inspect.isclass(annotation) and issubclass(annotation, Spec):
        yield annotation
    for argument in get_args(annotation):
        yield from _inner(argument)


def _page(model: type[Spec]) -> str:
    module = model.__module__
    return _PAGES[max((prefix for prefix in _PAGES if f"{module}.".startswith(f"{prefix}.")), key=len)]


def _section(model: type[Spec], places: list[str]) -> str:
    tags = [
        f"`{name}: {_tags(field)[0]}`"
        for name, field in model.model_fields.items()
        if _tags(field) and name != "version"
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
    about = field.description or ("Names this model." if _tags(field) else "")
    assert about, f"{model.__name__}.{name} has no docstring"
    kind = _type(field.annotation, _page(model))
    limits = _limits(field.metadata)
    return f"| `{name}` | {kind}{f', {limits}' if limits else ''} | {_default(field)} | {cell(about)} |"


def _type(annotation: Any, page: str) -> str:
    """A type in words; models are links."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        limits = _limits(arguments[1:])
        return _type(arguments[0], page) + (f" {limits}" if limits else "")
    if origin is Literal:
        return " \\| ".join(f"`{json.dumps(value)}`" for value in arguments)
    if origin in (Union, types.UnionType):
        return " \\| ".join(_type(argument, page) for argument in arguments)
    if inspect.isclass(annotation) and issubclass(annotation, Spec):
        target = "" if _page(annotation) == page else f"{_page(annotation)}.md"
        return f"[{annotation.__name__}]({target}#{_anchor(annotation)})"
    if origin is dict:
        return f"mapping of {_type(arguments[1], page)}"
    if origin in (tuple, list):
        if origin is tuple and Ellipsis not in arguments:
            return "[" + ", ".join(_type(argument, page) for argument in arguments) + "]"
        return f"list of {_type(arguments[0], page)}"
    names = {
        int: "integer",
        float: "number",
        str: "text",
        bool: "true or false",
        type(None): "null",
        Any: "any",
    }
    return names.get(annotation) or str(getattr(annotation, "__name__", annotation))


def _limits(metadata: Any) -> str:
    """Bounds and lengths in words."""
    words = []
    for item in metadata:
        if isinstance(item, FieldInfo):
            words.append(_limits(item.metadata))
        for attribute, sign in (("gt", ">"), ("ge", ">="), ("lt", "&lt;"), ("le", "&lt;=")):
            if (bound := getattr(item, attribute, None)) is not None:
                words.append(f"{sign} {bound:,}".replace(",", " "))
        if least := getattr(item, "min_length", None):
            words.append("not empty" if least == 1 else f"at least {least} long")
        if most := getattr(item, "max_length", None):
            words.append(f"at most {most} long")
        if pattern := getattr(item, "pattern", None):
            words.append(f"`{cell(str(pattern))}`")
    return ", ".join(filter(None, words))


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True, validated_data={})
    if isinstance(value, Spec):
        tags = {name: tag[0] for name, each in type(value).model_fields.items() if (tag := _tags(each))}
        changed = {name: each for name, each in _differences(value).items() if name not in tags}
        shown = {**{name: tag for name, tag in tags.items() if name != "version"}, **changed}
        return f"`{cell(_flow(shown))}`" if shown else "its defaults"
    return f"`{cell(_flow(value))}`"


def _differences(value: Spec) -> dict[str, Any]:
    """What the keys of a default hold where that is not what they hold by themselves."""
    plain = value.model_dump(mode="json")
    fields = type(value).model_fields
    required = {name: plain[name] for name, field in fields.items() if field.is_required()}
    usual = type(value).model_validate(required).model_dump(mode="json")
    return {name: each for name, each in plain.items() if each != usual[name] or name in required}


def _tags(field: FieldInfo) -> tuple[Any, ...]:
    """The value that a key must have where it names its model, e.g. `rule: plateau`; else nothing."""
    values = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
    return values if len(values) == 1 else ()


def _flow(value: Any) -> str:
    """A value as YAML would have it on one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_flow(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_flow, value)) + "]"
    return value if isinstance(value, str) and value else json.dumps(value, default=str)


def _anchor(model: type[Spec]) -> str:
    """A name that no other model has: two rooms may call theirs alike."""
    return f"{model.__module__.rpartition('.')[2]}-{model.__name__}".lower()
