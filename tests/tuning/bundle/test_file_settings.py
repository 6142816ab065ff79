"""Every setting of a run that names a file is known, in every form in which it may be written."""

from __future__ import annotations

import builtins
import io
import os
from collections.abc import Iterator
from types import NoneType
from typing import Any, Literal, get_args, get_origin

import pytest
from pydantic import BeforeValidator, PlainValidator, WrapValidator
from pydantic.fields import FieldInfo

from curriculum_ray.config import ConfigError, FilePath, LocalPath, Shorthand, Spec, parse
from curriculum_ray.config.spec import specs_in
from curriculum_ray.runs.config import RunConfig
from curriculum_ray.training.file_settings import file_keys, files_named
from tests.tuning.studies import schedule
from tuning.bundle.local_paths import with_given_paths

PATH = "/telling/x"
CAPTIONS = {"name": "shapes", "conditioning": "text"}
LOSS = {**schedule(8), "clusters": {"by": "loss", "count": 8, "difficulty": PATH}}
ORDER = {**schedule(8), "order": {"direction": "easy_to_hard", "by": PATH}}

NAMED: dict[str, dict[str, Any]] = {
    "data.name": {"data": {"name": PATH}},
    "data.text_encoder": {"data": {**CAPTIONS, "text_encoder": PATH}},
    "data.vae": {"data": {"name": PATH, "format": "latents", "vae": PATH}},
    "evaluation.clip_score.path": {"data": CAPTIONS, "evaluation": {"clip_score": {"path": PATH}}},
    "evaluation.reference": {"evaluation": {"reference": PATH}},
    "evaluation.weights": {"evaluation": {"extractor": "dinov2", "weights": PATH}},
    "init_from.path": {"init_from": {"path": PATH}},
    "schedule.clusters.difficulty": {"schedule": LOSS},
    "schedule.order.by": {"schedule": ORDER},
}
"""Settings of a run that name a file, by its key."""
SHORT: dict[str, dict[str, Any]] = {
    "evaluation.clip_score.path": {"data": CAPTIONS, "evaluation": {"clip_score": PATH}},
    "init_from.path": {"init_from": PATH},
}
"""The same in short."""
NO_FILES = {
    *("data.image_column", "data.caption_column", "data.label_column", "data.split"),
    *("evaluation.sha256", "evaluation.clip_score.sha256", "init_from.sha256"),
    *("model.class_name", "model.config", "model.path", "model.size"),
    *("lora.targets", "optimizer.kind", "optimizer.options"),
}
"""Strings, and settings of any kind, that name no file: names within the data, digests, names of classes."""
CHANGES = {
    "Spec._written_out": "a kind, and what is declared as a Shorthand",
    "TrainConfig.completed": "defaults only",
    "DiTSpec._a_known_size": "no shorthand",
    "LoraSpec._one_may_stand_alone": "the name of a layer",
}
"""What changes settings before they are checked, and what it accepts."""
SHORTHANDS = {
    "evaluation.clip_score": "a path, which is in SHORT",
    "init_from": "a path, which is in SHORT",
    "lora": "a number",
    "model": "a class or a size",
}
"""What a declared shorthand stands for."""


def _fields(spec: type[Spec], prefix: str = "") -> Iterator[tuple[str, type[Spec], FieldInfo]]:
    for name, field in spec.model_fields.items():
        yield f"{prefix}{name}", spec, field
        for inner in specs_in(field.annotation):
            yield from _fields(inner, f"{prefix}{name}.")


FIELDS = tuple(_fields(RunConfig))


def _may_be_text(annotation: Any) -> bool:
    if annotation in (Any, object) or (
        isinstance(annotation, type) and issubclass(annotation, str | os.PathLike)
    ):
        return True
    return get_origin(annotation) is not Literal and any(map(_may_be_text, get_args(annotation)))


def test_a_new_string_is_declared_as_a_path_or_listed_as_none() -> None:
    """A new setting that names a file must be a LocalPath or a FilePath; any other string is listed above."""
    texts = {
        key
        for key, _, field in FIELDS
        if _may_be_text(field.annotation) and not [*specs_in(field.annotation)]
    }
    assert texts - file_keys(RunConfig) == NO_FILES
    assert file_keys(RunConfig) == NAMED.keys()


def test_paths_stand_where_they_are_looked_for() -> None:
    """Not in lists, nor under two names: `files_named` looks at plain keys."""
    for key, _, field in FIELDS:
        assert (field.alias, field.validation_alias) == (None, None), key
        if key in file_keys(RunConfig):
            assert {*(get_args(field.annotation) or [field.annotation])} <= {
                str,
                NoneType,
                LocalPath,
                FilePath,
            }, key
        for part in _parts(field.annotation):
            if get_origin(part) in (list, tuple, dict, set, frozenset):
                assert not [*specs_in(part)], key


def _parts(annotation: Any) -> Iterator[Any]:
    yield annotation
    for part in get_args(annotation):
        yield from _parts(part)


def test_a_new_shorthand_is_listed() -> None:
    """Whoever adds a shorthand, or what runs before the types are checked, says here what it accepts."""
    found = {spec.completed.__func__.__qualname__ for _, spec, _ in FIELDS} - {"Spec.completed"}
    assert SHORTHANDS.keys() == {
        key for key, _, field in FIELDS if any(isinstance(mark, Shorthand) for mark in field.metadata)
    }
    for key, spec, field in FIELDS:
        decorators = spec.__pydantic_decorators__
        for each in (decorators.field_validators, decorators.model_validators):
            found |= {
                decorator.func.__qualname__ for decorator in each.values() if decorator.info.mode != "after"
            }
        assert not {*decorators.validators, *decorators.root_validators}, key
        annotated = (mark for part in _parts(field.annotation) for mark in getattr(part, "__metadata__", ()))
        for mark in (*field.metadata, *annotated):
            assert not isinstance(mark, BeforeValidator | PlainValidator | WrapValidator), key
    assert found == CHANGES.keys()


@pytest.mark.parametrize(
    ("key", "settings"),
    [*NAMED.items(), *SHORT.items()],
    ids=[*NAMED, *(f"{key} in short" for key in SHORT)],
)
def test_a_bundles_file_is_found_asked_for_and_replaced_and_never_opened(
    key: str, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    touched: list[object] = []
    for module, name in [
        (builtins, "open"),
        (io, "open"),
        *((os, name) for name in ("open", "stat", "lstat", "scandir")),
    ]:
        usual = getattr(module, name)

        def spied(path: object, *rest: Any, usual: Any = usual, **more: Any) -> Any:
            touched.append(path)
            return usual(path, *rest, **more)

        monkeypatch.setattr(module, name, spied)
    config = parse(RunConfig, {"images": 76800, **settings}, "a.zip")
    named = files_named(config)
    assert named[key] == PATH
    assert {*named.values()} == {PATH}
    given = dict.fromkeys(named, ("--path", "/here"))
    with pytest.raises(ConfigError, match=f"trained with {PATH} as {key}"):
        with_given_paths(config, {each: path for each, path in given.items() if each != key}, "a.zip")
    assert {*files_named(with_given_paths(config, given, "a.zip")).values()} == {"/here"}
    monkeypatch.undo()
    assert not [path for path in touched if "telling" in str(path) or "/here" in str(path)]
