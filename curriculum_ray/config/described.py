"""Settings in words: the type, range and default of a key, as the reference and `tune settings` show them."""

from __future__ import annotations

import inspect
import json
import types
from collections.abc import Callable
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from curriculum_ray.config.spec import Spec

__all__ = ["default_in_words", "fixed_value", "range_in_words", "type_in_words"]

_NAMES = {int: "integer", float: "number", str: "text", bool: "true or false", type(None): "null", Any: "any"}


def _plain(text: str) -> str:
    return text


def _name(model: type[Spec]) -> str:
    return model.__name__


def type_in_words(
    annotation: Any,
    model: Callable[[type[Spec]], str] = _name,
    code: Callable[[str], str] = _plain,
) -> str:
    """A type in words: "integer | null". model: how settings are named; code: how literal values are written."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        limits = range_in_words(arguments[1:], code)
        return type_in_words(arguments[0], model, code) + (f" {limits}" if limits else "")
    if origin is Literal:
        return " | ".join(code(json.dumps(value)) for value in arguments)
    if origin in (Union, types.UnionType):
        return " | ".join(type_in_words(argument, model, code) for argument in arguments)
    if inspect.isclass(annotation) and issubclass(annotation, Spec):
        return model(annotation)
    if origin is dict:
        return f"mapping of {type_in_words(arguments[1], model, code)}"
    if origin in (tuple, list):
        if origin is tuple and Ellipsis not in arguments:
            return "[" + ", ".join(type_in_words(argument, model, code) for argument in arguments) + "]"
        return f"list of {type_in_words(arguments[0], model, code)}"
    return _NAMES.get(annotation) or str(getattr(annotation, "__name__", annotation))


def range_in_words(metadata: Any, code: Callable[[str], str] = _plain) -> str:
    """Bounds, lengths and patterns of a field's metadata: ">= 1, <= 64"."""
    words = []
    for item in metadata:
        if isinstance(item, FieldInfo):
            words.append(range_in_words(item.metadata, code))
        for attribute, sign in (("gt", ">"), ("ge", ">="), ("lt", "<"), ("le", "<=")):
            if (bound := getattr(item, attribute, None)) is not None:
                words.append(f"{sign} {bound:,}".replace(",", " "))
        if least := getattr(item, "min_length", None):
            words.append("not empty" if least == 1 else f"at least {least} long")
        if most := getattr(item, "max_length", None):
            words.append(f"at most {most} long")
        if pattern := getattr(item, "pattern", None):
            words.append(code(str(pattern)))
    return ", ".join(filter(None, words))


def default_in_words(field: FieldInfo, code: Callable[[str], str] = _plain) -> str:
    """The default as YAML on one line, of settings what differs from their own; "required" without one."""
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True, validated_data={})
    if isinstance(value, Spec):
        fields = type(value).model_fields
        tags = {name: tag for name, each in fields.items() if (tag := fixed_value(each)) is not None}
        changed = {name: each for name, each in _differences(value).items() if name not in tags}
        told = {**{name: tag for name, tag in tags.items() if name != "version"}, **changed}
        return code(_flow(told)) if told else "its defaults"
    return code(_flow(value))


def fixed_value(field: FieldInfo) -> Any:
    """The one value that a key must have where it names its settings, e.g. `rule: plateau`; else None."""
    values = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
    return values[0] if len(values) == 1 else None


def _differences(value: Spec) -> dict[str, Any]:
    """What the keys of a default hold where that is not what they hold by themselves."""
    plain = value.model_dump(mode="json")
    fields = type(value).model_fields
    required = {name: plain[name] for name, field in fields.items() if field.is_required()}
    usual = type(value).model_validate(required).model_dump(mode="json")
    return {name: each for name, each in plain.items() if each != usual[name] or name in required}


def _flow(value: Any) -> str:
    """A value as YAML would have it on one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_flow(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_flow, value)) + "]"
    return value if isinstance(value, str) and value else json.dumps(value, default=str)
