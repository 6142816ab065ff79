"""`python -m tune settings`: every key of the settings, with its range, default and meaning."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import click

from curriculum_ray.config import ConfigError
from curriculum_ray.config.described import default_in_words, fixed_value, range_in_words, type_in_words
from curriculum_ray.config.keys import Key, closest, in_words, keys_of
from curriculum_ray.config.spec import holds_mapping, specs_in, union_at
from tuning.cli.options import example, shared
from tuning.cli.output import json_text

__all__ = ["settings"]

_WIDTH = 79


@dataclass(frozen=True)
class _Setting:
    """A key as it is shown."""

    key: str
    type: str
    """Type, and range or choices."""
    default: str
    meaning: str
    tag: str = ""
    """The key that chooses the kind of settings that has it; empty where all have it."""
    kinds: tuple[str, ...] = ()
    """The values of `tag` that do."""


@click.command(
    short_help="List all settings, with their ranges and defaults.",
    epilog=example("python -m tune settings optimizer\npython -m tune settings schedule.pacing --for train"),
)
@click.argument("group", required=False)
@click.option(
    "--for", "command", type=click.Choice(["search", "train"]), help="Only the keys of this command."
)
@shared("json")
def settings(group: str | None, command: str | None, as_json: bool) -> int:
    """List the keys of GROUP (all without it), e.g. `optimizer` or `schedule.pacing`, for --set and settings files.

    Those of a run, which `run` lists, are for `train` and, with `run.` before them in a file, for `search` and `plan`.
    """
    from curriculum_ray.runs.config import RunConfig
    from tuning.study.config import StudyConfig

    whole_run = group is not None and group.strip(".") == "run"
    own = [key for key in keys_of(StudyConfig) if key.name.partition(".")[0] != "run"]
    names = {key.name for key in own}
    keys = [] if command == "train" or whole_run else own
    # A key that both have is the study's, for `search`.
    keys = [*keys, *(key for key in keys_of(RunConfig) if command != "search" or key.name not in names)]
    found = _merged([_setting(key) for key in keys if fixed_value(key.field) is None])
    if group is not None and not whole_run:
        asked = group.removeprefix("run.").strip(".")
        chosen = [each for each in found if each.key == asked or each.key.startswith(f"{asked}.")]
        if not chosen:
            meant = closest(asked, [each.key for each in found])
            hint = "" if meant is None else f"; did you mean {meant}?"
            raise ConfigError(f"GROUP must be a key or a group of keys, but got {group!r}{hint}")
        found = chosen
    if as_json:
        click.echo(json_text([asdict(each) for each in found], indent=1))
    else:
        click.echo("\n\n".join(map(_shown, found)))
    return 0


def _setting(key: Key) -> _Setting:
    union = union_at(key.model, key.name.rpartition(".")[2])
    if union is not None:
        alone = "" if holds_mapping(key.field.annotation) else ", or one of these alone"
        kind = f"group with {union.tag}: {' | '.join(map(str, union.members))}{alone}"
    elif any(specs_in(key.field.annotation)):
        kind = type_in_words(key.field.annotation, lambda model: "group")
    else:
        kind = type_in_words(key.field.annotation)
    limits = range_in_words(key.field.metadata)
    return _Setting(
        key=key.name,
        type=f"{kind}, {limits}" if limits else kind,
        default=default_in_words(key.field),
        meaning=" ".join((key.field.description or "").split()),
        tag=key.tag,
        kinds=key.kinds,
    )


def _merged(found: Sequence[_Setting]) -> list[_Setting]:
    """Settings of several kinds that say the same once, with all those kinds."""
    result: dict[_Setting, tuple[str, ...]] = {}
    for each in found:
        alike = replace(each, kinds=())
        result[alike] = tuple(dict.fromkeys((*result.get(alike, ()), *each.kinds)))
    return [replace(each, kinds=kinds) for each, kinds in result.items()]


def _shown(setting: _Setting) -> str:
    facts = f"{setting.type}; default {setting.default}"
    if setting.default == "required":
        facts = f"{setting.type}; required"
    lines = [facts, *([in_words(setting.tag, setting.kinds)] if setting.tag else []), setting.meaning]
    return "\n".join([setting.key, *(_wrapped(line) for line in lines)])


def _wrapped(text: str) -> str:
    return textwrap.fill(
        text,
        _WIDTH,
        initial_indent="  ",
        subsequent_indent="  ",
        break_long_words=False,
        break_on_hyphens=False,
    )
