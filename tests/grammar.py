"""Ordinary, extreme and nonsensical settings, by a grammar that reads the settings' own declarations."""

from __future__ import annotations

import random
import types
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from curriculum_ray.config import ConfigError, Spec
from curriculum_ray.config.plain_yaml import write_yaml
from curriculum_ray.config.spec import holds_mapping, union_at

# What stands for a value in a text, and was meant for another place, another language or nothing.
TOKENS = (
    *(
        "{{ images }}",
        "{{images}}",
        "${IMAGES}",
        "<TODO>",
        "?",
        "-",
        "- 1",
        "|",
        ">",
        "|\n  text\n",
        "&",
        "*",
        "*x",
        "!",
        "%",
        "@",
        "`",
    ),
    *(
        "yes",
        "no",
        "on",
        "off",
        "y",
        "true",
        "True",
        "1",
        "0",
        "-0",
        "010",
        "0o17",
        "0x1F",
        "0x_",
        "1_000",
        "1:30",
        "1:30:59.5",
    ),
    *(
        "2001-01-01",
        "2001-99-99",
        "2001-01-01T25:00:00Z",
        "12e03",
        "1e-3",
        "1e999",
        "-1e999",
        ".inf",
        "-.inf",
        ".nan",
        "nan",
        "inf",
    ),
    *("9" * 30, "9" * 5000, "-" + "9" * 5000, "0." + "1" * 5000, "1e" + "9" * 400, ":".join(["59"] * 900)),
    *(
        "[" * 500 + "]" * 500,
        "[" * 70,
        "{a: " * 80 + "1" + "}" * 80,
        "[[1]]",
        "[]",
        "{}",
        "[1, 2]: 3",
        "? [1]\n: 2",
        "? {a: 1}\n: 2",
    ),
    *(
        "!!int abc",
        "!!int 3",
        "!!float 1",
        "!!bool maybe",
        "!!timestamp abc",
        "!!binary ===",
        "!!set {a}",
        "!!map [1]",
        "!!seq {a: 1}",
    ),
    *(
        "!!python/object:os.system {}",
        "!!python/name:os.system",
        "!custom x",
        "!<tag:x> y",
        "!!null x",
        "!!str 1",
        "!!omap [a: 1]",
    ),
    *(
        "&a [*a]",
        "&a {b: *a}",
        "&a {*a : 1}",
        "{&k key: 1, *k : 2}",
        "<<",
        "{<<: {a: 1}}",
        "{<<: *x}",
        "=",
        "~",
        "null",
        "''",
        '""',
    ),
    *(
        '"\\0"',
        '"\\n"',
        '"a\\u202Eb"',
        '"\\ud800"',
        '"\\ud83d\\ude00"',
        '"\\x7f"',
        '"\\UFFFFFFFF"',
        '"\\q"',
        "'",
        '"',
        '"\\u2028"',
    ),
    *(
        "[final]",
        "[/final]",
        "[bold red]x[/]",
        ":cat:",
        "x" * 300,
        "x" * 5000,
        "/" + "x/" * 3000,
        "../../x",
        "~nobody-here/x",
        "é" * 200,
    ),
    *(
        "{a: 1, a: 2}",
        "{? : 1}",
        "{: 1}",
        "{1: 2}",
        "{true: 1}",
        "{null: 1}",
        "a: b: c",
        "\t1",
        "#",
        "--- 1",
        "...",
        "\x00",
        "\x07",
        "\ufffe",
    ),
)
# Ten anchors, each ten times the one before it.
LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10)
)
_EXTREMES = (
    0,
    -1,
    1,
    2,
    5e-324,
    1e-300,
    1e-9,
    1 - 2**-53,
    1 + 2**-52,
    1e9,
    1e30,
    1e300,
    -1e300,
    2**31,
    2**53,
    2**62,
)
_TEXTS = (
    "x",
    "yes",
    "1e-3",
    "0.5",
    "[final]",
    ":cat:",
    "a b",
    "é\u0301",
    "漢字",
    "x" * 300,
    "{{ x }}",
    "../x",
    "noise_level",
    "",
)
_OBJECTS: tuple[Any, ...] = (True, False, None, "5", "true", [], {}, [1], {"a": 1}, [[]], 3.5, -1, "x" * 400)


class Grammar:
    """Draws settings of any `Spec` as plain data, and texts of them; equal seeds draw equally."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def settings(self, cls: type[Spec], strange: float = 0.02) -> dict[str, Any]:
        """Keys of `cls`, most of them left out where they may be; `strange`: the share of values of another kind."""
        data = {}
        for name, field in cls.model_fields.items():
            # What a group is stands in a Literal, and is needed.
            if field.is_required() or get_origin(field.annotation) is Literal or self.random.random() < 0.4:
                union = None if holds_mapping(field.annotation) else union_at(cls, name)
                alone = union is not None and self.random.random() < 0.1
                data[name] = (
                    self.random.choice(list(union.members))
                    if union is not None and alone
                    else self._field(field, strange)
                )
        if self.random.random() < strange:
            data[self.random.choice(("", "unknown", "a.b", "kind", "x" * 300, *data))] = self.strange()
        return data

    def strange(self) -> Any:
        """A value that fits few places."""
        return self.random.choice(_OBJECTS)

    def text(self, data: Mapping[str, Any], changes: int) -> str:
        """`data` as YAML with so many changes made to its letters."""
        text = write_yaml(dict(data))
        for _ in range(changes):
            text = self._changed(text)
        return text

    def _changed(self, text: str) -> str:
        lines = text.splitlines() or [""]
        at = self.random.randrange(len(lines))
        match self.random.randrange(8):
            case 0 | 1 | 2:
                key, colon, _ = lines[at].partition(":")
                lines[at] = f"{key}{colon} {self.random.choice(TOKENS)}"
            case 3:
                lines.insert(at, self.random.choice((*TOKENS, "extra: 1", LAUGHS)))
            case 4:
                lines.insert(at, lines[self.random.randrange(len(lines))])
            case 5:
                del lines[at]
            case 6:
                cut = self.random.randrange(len(lines[at]) + 1)
                lines[at] = (
                    lines[at][:cut]
                    + self.random.choice("{}[]:,&*!|>'\"%@`#\t ~\u0000\u0085é-?")
                    + lines[at][cut:]
                )
            case _:
                cut = self.random.randrange(len(lines[at]) + 1)
                lines[at] = lines[at][:cut]
        return "\n".join(lines) + "\n"

    def _field(self, field: FieldInfo, strange: float) -> Any:
        if self.random.random() < strange:
            return self.strange()
        if field.default is not None and not field.is_required() and self.random.random() < 0.15:
            default = field.get_default(call_default_factory=True, validated_data={})
            return default.model_dump(mode="json") if isinstance(default, Spec) else default
        return self._value(field.annotation, field.metadata, strange)

    def _value(self, annotation: Any, metadata: Any, strange: float) -> Any:
        origin, arguments = get_origin(annotation), get_args(annotation)
        if origin is Annotated:
            return self._value(arguments[0], [*arguments[1:], *metadata], strange)
        if origin is Literal:
            return self.random.choice(arguments)
        if origin in (Union, types.UnionType):
            return self._value(self.random.choice(arguments), metadata, strange)
        if isinstance(annotation, type) and issubclass(annotation, Spec):
            return self.settings(annotation, strange)
        if origin is tuple and arguments[-1] is not ...:
            return [self._value(part, [], strange) for part in arguments]
        if origin in (tuple, list):
            return [self._value(arguments[0], [], strange) for _ in range(self.random.randrange(5))]
        if origin is dict:
            inner = (self._value(arguments[1], [], strange) for _ in range(self.random.randrange(3)))
            return {
                self.random.choice(("a", "weighting.kind", "optimizer", "schedule.base")): value
                for value in inner
            }
        if annotation is bool:
            return self.random.random() < 0.5
        if annotation in (int, float):
            return self._number(annotation, metadata)
        if annotation is type(None):
            return None
        if annotation is str:
            return self.random.choice(_TEXTS)
        return self.random.choice((1, "x", [1, {"a": None}], {"b": 2.5}))

    def _number(self, kind: type, metadata: Any) -> int | float:
        """Mostly within the bounds that `metadata` sets, else one of the extremes."""
        if self.random.random() < 0.15:
            return self.random.choice(_EXTREMES)
        low, high = 0.0, 100.0
        for bound in metadata:
            low = next(
                (float(v) for name in ("ge", "gt") if (v := getattr(bound, name, None)) is not None), low
            )
            high = next(
                (float(v) for name in ("le", "lt") if (v := getattr(bound, name, None)) is not None), high
            )
        high = min(max(high, low + 1), low + 10.0 ** self.random.randrange(1, 5)) if high > low + 1 else high
        value = self.random.uniform(low, high)
        return round(value) if kind is int else self.random.choice((low, value, value, round(value, 2)))


def accepted(act: Any) -> Any:
    """What `act` returns, or None where it refuses its input in one printable line of readable length."""
    try:
        return act()
    except ConfigError as error:
        line = str(error)
        assert line.isprintable(), line
        assert 10 < len(line) <= 700, line
        return None
