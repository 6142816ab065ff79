"""What conditions the images of shards: the labels or captions of all of them, and the names of the classes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from curriculum_ray.config import ConfigError
from curriculum_ray.data.conditioning import NO_CONDITIONING, Conditioning
from curriculum_ray.data.headers import Header
from curriculum_ray.data.spec import DataSpec
from curriculum_ray.data.vocabulary import build_vocabulary, merged_captions_note, words

__all__ = ["labels_of", "shard_conditioning"]


def labels_of(spec: DataSpec, headers: list[Header]) -> tuple[list[int | str], list[int]]:
    """Return the sorted labels of all shards, and the number of images with each."""
    if headers[0].wanted != "class":
        return [], []
    found: Counter[int | str] = Counter()
    places: dict[int | str, str] = {}
    for header in headers:
        for label, count in zip(header.values, header.counts, strict=True):
            found[label] += count
            places[label] = header.path
    numbers = sorted(label for label in found if isinstance(label, int))
    strings = sorted(label for label in found if isinstance(label, str))
    if numbers and strings:
        both = " and ".join(f"{label!r} in {Path(places[label]).name}" for label in (numbers[0], strings[0]))
        raise ConfigError(f"{spec.name} must hold either integers or strings as labels, but has {both}")
    ordered: list[int | str] = [*numbers, *strings]
    return ordered, [found[label] for label in ordered]


def shard_conditioning(
    spec: DataSpec, headers: list[Header], labels: list[int | str]
) -> tuple[Conditioning, tuple[str, ...], tuple[str, ...], str]:
    """Derive conditioning, class names and vocabulary from the headers, with a note on captions."""
    wanted = headers[0].wanted
    if wanted == "none":
        return NO_CONDITIONING, (), (), ""
    name = "labels" if wanted == "class" else "captions"
    if not any(header.values for header in headers):
        raise ConfigError(f"data.conditioning {wanted} needs {name}, but {spec.name} has none")
    annotated = next(header.path for header in headers if header.annotated)
    bare = next((header.path for header in headers if header.rows and not header.annotated), None)
    if bare is not None:
        raise ConfigError(
            f"{spec.name} must hold {name} in all its files, but {Path(annotated).name} has some "
            f"and {Path(bare).name} has none"
        )
    if wanted == "text":
        texts = [str(text) for text in dict.fromkeys(text for header in headers for text in header.values)]
        vocabulary = build_vocabulary(texts)
        longest = max(1, *(len(words(text)) for text in texts))
        return Conditioning("tokens", len(vocabulary), longest), (), vocabulary, merged_captions_note(texts)
    return Conditioning("class", len(labels)), _class_names(spec, headers, labels), (), ""


def _class_names(spec: DataSpec, headers: list[Header], labels: list[int | str]) -> tuple[str, ...]:
    """Return the class names: the labels, or the names of numbers, which must agree in all shards."""
    named = {header.class_names for header in headers if header.values}
    if len(named) > 1:
        raise ConfigError(
            f"{spec.name} must have the same class names in all files, but their schemas differ"
        )
    names = named.pop()
    known = [
        names[label] if isinstance(label, int) and 0 <= label < len(names) else str(label) for label in labels
    ]
    return tuple(known) if len({*known}) == len(known) else tuple(map(str, labels))
