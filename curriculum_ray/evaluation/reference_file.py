"""Statistics of a reference as a file: made once from any data set, or as ADM and EDM publish them.

An `.npz` with `mu`, shape (D,), and `sigma`, (D, D), is what ADM (Dhariwal & Nichol 2021) and EDM (Karras et al. 2022)
publish, of Inception-v3's features. Those written here hold `features`, (N, D), too, and `about`, which says what
they were computed from. Nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy
import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor

from curriculum_ray.config import ConfigError, parse
from curriculum_ray.data import NO_CONDITIONING, Conditioning, DataInfo, Dataset
from curriculum_ray.data.content import condition_content
from curriculum_ray.evaluation.extractors import Extractor
from curriculum_ray.evaluation.fidelity import Statistics
from curriculum_ray.evaluation.reference import Reference, evenly_spaced
from curriculum_ray.evaluation.spec import EvaluationSpec

__all__ = ["About", "ReferenceFile", "classes_hash", "conditioned", "read_reference", "reference_bytes"]

_LEAST = 16
_TOLERANCE = 1e-4


class About(BaseModel):
    """What the statistics in a file are of."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    name: str
    """Of the data."""
    data: str
    """Their fingerprint."""
    count: int
    shape: tuple[int, ...]
    """Of an item, as it was compared: (C, H, W) for images."""
    extractor: str
    weights: str
    """SHA-256 of the extractor's weights."""
    resize: str
    decoder: str = ""
    """SHA-256 of the autoencoder's weights, where latents were decoded."""
    conditioning: dict[str, Any] = {}
    classes: str = ""
    """A hash of the names of the classes, or of the words, that the conditions stand for."""


class ReferenceFile:
    """The content of a reference file; `fingerprint` is that of its values, not of its place or compression."""

    def __init__(self, path: str, arrays: dict[str, Tensor], about: About | None) -> None:
        self.path, self.about = path, about
        self.mean, self.covariance = arrays["mu"].double(), arrays["sigma"].double()
        self.features = arrays.get("features")
        self.condition = arrays.get("condition")
        digest = hashlib.sha256(b"" if about is None else about.model_dump_json().encode())
        for name in sorted(arrays):
            digest.update(name.encode())
            digest.update(arrays[name].contiguous().numpy().data)
        self.fingerprint = digest.hexdigest()

    def with_extractor(self, spec: EvaluationSpec) -> EvaluationSpec:
        """`spec` with the extractor of these statistics."""
        name = "inception-v3" if self.about is None else self.about.extractor
        found = {**spec.model_dump(mode="json"), "extractor": name}
        return parse(EvaluationSpec, found, f"evaluation.reference {self.path}")

    @property
    def classes(self) -> str:
        """A hash of what its conditions stand for; see `classes_hash`."""
        return "" if self.about is None else self.about.classes

    def check(self, extractor: Extractor, shape: tuple[int, ...], decoder: str) -> None:
        """Refuse, in one line, statistics that samples of `shape` cannot be compared with by `extractor`."""
        about, path = self.about, self.path
        if about is None:
            if extractor.name != "inception-v3":
                raise ConfigError(
                    f"evaluation.reference {path} holds published statistics, which are of inception-v3, but "
                    f"evaluation.extractor is {extractor.name}"
                )
        else:
            for what, theirs, ours in (
                ("extractor", about.extractor, extractor.name),
                ("weights of the extractor", about.weights, extractor.weights),
                ("resize", about.resize, extractor.resize),
                ("shape of items", about.shape, shape),
                # Decoded samples may be compared with images that no autoencoder has seen.
                ("autoencoder", about.decoder, decoder if about.decoder else ""),
            ):
                if theirs != ours:
                    raise ConfigError(
                        f"evaluation.reference {path} was made with another {what}: {theirs or 'none'}, but samples "
                        f"are compared with {ours or 'none'}"
                    )
        found = extractor.dimension(shape)
        if len(self.mean) != found:
            raise ConfigError(
                f"evaluation.reference {path} must hold statistics of {found} features, as {extractor.name} has, but "
                f"holds {len(self.mean)}"
            )

    def reference(self, limit: int) -> Reference:
        """As an evaluation takes it, with the features of up to `limit` items."""
        about, features = self.about, self.features
        if features is not None:
            features = features[evenly_spaced(len(features), limit)] if limit else None
        return Reference(
            name=Path(self.path).name,
            fingerprint=self.fingerprint,
            count=None if about is None else about.count,
            features=0 if features is None else len(features),
            condition=self.condition,
            conditioning=NO_CONDITIONING if self.condition is None else self.conditioning,
            statistics=Statistics(self.mean, self.covariance, features),
        )

    @property
    def conditioning(self) -> Conditioning:
        """That of its conditions."""
        assert self.about is not None
        return Conditioning.from_json(self.about.conditioning)


def conditioned(reference: Reference, classes: str, data: Dataset | DataInfo) -> Reference:
    """The reference with conditions of the kind of `data`, in whose proportions samples are drawn.

    Those in the file, if they stand for the same as the data's, by the hash `classes`; else those of the data, if they
    are in memory; else every class equally often, as published numbers have it. The protocol says which.
    """
    wanted = data.conditioning
    if not wanted or (reference.conditioning == wanted and classes == classes_hash(data)):
        return reference
    if isinstance(data, Dataset) and data.condition is not None:
        digest = hashlib.sha256(condition_content(data)).hexdigest()[:16]
        condition, said = data.condition, f"of the data, {digest}"
    elif wanted.kind == "class":
        condition, said = torch.arange(wanted.size), "all classes equally often"
    else:
        raise ConfigError(
            f"evaluation.reference {reference.name} holds no captions like those of {data.name}, by which samples are "
            "drawn: make it of data with the same captions by `python -m tune reference`"
        )
    return replace(reference, condition=condition, conditioning=wanted, described={"condition": said})


def classes_hash(data: Dataset | DataInfo) -> str:
    """A hash of the names of the classes, or of the words, that conditions stand for; empty where there are none."""
    names = [list(data.class_names), list(data.vocabulary)]
    return hashlib.sha256(json.dumps(names).encode()).hexdigest()[:16] if any(names) else ""


def reference_bytes(about: About, statistics: Statistics, condition: Tensor | None) -> bytes:
    """The content of a reference file. condition: of some of the items, (N, …), as in `Dataset`."""
    arrays: dict[str, Any] = {
        "mu": statistics.mean.numpy(),
        "sigma": statistics.covariance.numpy(),
        "about": numpy.array(about.model_dump_json()),
    }
    if statistics.features is not None:
        arrays["features"] = statistics.features.numpy()
    if condition is not None:
        arrays["condition"] = condition.numpy()
    file = io.BytesIO()
    numpy.savez(file, **arrays)
    return file.getvalue()


def read_reference(path: str | Path) -> ReferenceFile:
    """Read a reference file; ConfigError says in one line what is wrong with it. Kept while the file is unchanged."""
    try:
        stamp = Path(path).stat()
    except OSError as error:
        raise ConfigError(f"evaluation.reference {path} cannot be read: {error.strerror}") from None
    return _read(str(path), stamp.st_size, stamp.st_mtime_ns)


@lru_cache(maxsize=2)
def _read(path: str, size: int, changed: int) -> ReferenceFile:
    try:
        # Only the arrays that are needed: ADM's files hold the images too.
        with numpy.load(path, allow_pickle=False) as file:
            if not isinstance(file, numpy.lib.npyio.NpzFile):
                raise ValueError("it is a single array")
            about = About.model_validate_json(str(file["about"])) if "about" in file.files else None
            names = ["mu", "sigma", *(["features", "condition"] if about else [])]
            arrays = {name: torch.from_numpy(file[name]) for name in names if name in file.files}
        found = ReferenceFile(path, _checked(arrays), about)
        if found.condition is not None:
            _check_condition(found.condition, found.conditioning)
        return found
    except ValidationError as error:
        reason = f"about.{error.errors()[0]['loc'][0] if error.errors()[0]['loc'] else ''} is invalid"
    except OSError as error:
        reason = error.strerror or str(error)
    # A damaged archive fails in any way: in zlib, zipfile, numpy or torch.
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
    raise ConfigError(
        f"evaluation.reference {path} must be an .npz with mu and sigma, as `tune reference` writes it and ADM and EDM "
        f"publish it, but: {reason}"
    )


def _check_condition(condition: Tensor, kind: Conditioning) -> None:
    """Refuse, by a ValueError, conditions that are not of the kind that the file says."""
    shapes = {"class": (), "tokens": (kind.length,), "embedding": (kind.length, kind.size)}
    least = {"class": -1, "tokens": 0}.get(kind.kind)
    sound = kind.kind in shapes and len(condition) > 0 and tuple(condition.shape[1:]) == shapes[kind.kind]
    if sound and least is not None:
        sound = condition.dtype == torch.long and bool(((condition >= least) & (condition < kind.size)).all())
    elif sound:
        sound = condition.is_floating_point() and bool(condition.isfinite().all())
    if not sound:
        raise ValueError(f"condition must be one of {kind} for each item, but is {tuple(condition.shape)}")


def _checked(arrays: dict[str, Tensor]) -> dict[str, Tensor]:
    """The arrays, if their shapes and values can be statistics; else ValueError."""
    for name in ("mu", "sigma"):
        if name not in arrays:
            raise ValueError(f"it has no {name}")
    width = arrays["mu"].numel()
    shapes = {"mu": (width,), "sigma": (width, width)}
    for name, shape in shapes.items():
        if tuple(arrays[name].shape) != shape or not width:
            raise ValueError(
                f"{name} has the shape {tuple(arrays[name].shape)}, where mu has {width} numbers"
            )
    features = arrays.get("features")
    if features is not None and (features.ndim != 2 or features.shape[1] != width or len(features) < _LEAST):
        raise ValueError(f"features have the shape {tuple(features.shape)}, where mu has {width} numbers")
    for name in ("mu", "sigma", "features"):
        if name in arrays and not (arrays[name].is_floating_point() and arrays[name].isfinite().all()):
            raise ValueError(f"{name} holds values that are not finite floating-point numbers")
    sigma = arrays["sigma"]
    if (sigma - sigma.T).abs().max() > _TOLERANCE * sigma.abs().max():
        raise ValueError("sigma is not symmetric")
    return arrays
