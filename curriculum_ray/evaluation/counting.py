"""Count a data set for a reference file: in memory or a stream, a share at a time, in bounded memory."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor

from curriculum_ray.config import ConfigError, LocalPath, Spec
from curriculum_ray.data import DataInfo, Dataset, DataSpec, data_info, is_image, load_data, to_uint8
from curriculum_ray.data.autoencoder import Decoder, load_decoder
from curriculum_ray.data.dataset import as_float
from curriculum_ray.data.headers import Fetch, Unit
from curriculum_ray.data.shard_rows import make_condition, open_unit, read_image, read_rows
from curriculum_ray.data.shards import scan
from curriculum_ray.data.spec import EMBEDDED
from curriculum_ray.evaluation.extractors import Extractor, load_extractor
from curriculum_ray.evaluation.fidelity import Statistics
from curriculum_ray.evaluation.reference import evenly_spaced, tally_of
from curriculum_ray.evaluation.reference_file import About, classes_hash, reference_bytes
from curriculum_ray.evaluation.sampling import WHOLE, Share
from curriculum_ray.evaluation.spec import EvaluationSpec, ExtractorName
from curriculum_ray.evaluation.tally import NumberedRows, Tally

__all__ = ["Counted", "Counting", "ReferenceSpec", "decoder_of"]

_LEAST = 16
"""The fewest items of a reference, and the fewest whose features are kept, if any are."""
_ROWS = 256
"""The most items that are read, or decoded, at a time."""
_IMAGE_BYTES = 1 << 26
"""The most bytes of these as images."""
_CONDITION_BYTES = 1 << 28
"""The most bytes of conditions that a file holds."""


class ReferenceSpec(Spec):
    """Settings of `tune reference`."""

    data: DataSpec = DataSpec()
    """The data set, all of whose items are counted."""
    extractor: ExtractorName = "auto"
    """Network whose features are counted; see `evaluation.extractor`."""
    weights: LocalPath | None = None
    """Its weights; see `evaluation.weights`."""
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    """SHA-256 that they must have; see `evaluation.sha256`."""
    features: int = Field(default=10_000, ge=0, le=1_000_000)
    """Items, evenly spaced, whose features are kept for KID, precision and recall, at least 16; 0 keeps none."""

    @field_validator("data")
    @classmethod
    def _as_they_are(cls, data: DataSpec) -> DataSpec:
        if data.flip or data.crop is not None or data.holdout_share:
            raise ValueError(
                "data.flip, data.crop and data.holdout_share are for training, and all items are counted as they are"
            )
        return data.model_copy(update={"holdout_share": 0.0})

    @model_validator(mode="after")
    def _extractor_applies(self) -> ReferenceSpec:
        self.evaluation  # noqa: B018 - checks weights, sha256 and features
        return self

    @property
    def evaluation(self) -> EvaluationSpec:
        """The evaluation whose reference this is."""
        return EvaluationSpec(
            extractor=self.extractor, weights=self.weights, sha256=self.sha256, features=self.features
        )


@dataclass(frozen=True)
class Counted:
    """What a share of the items leaves behind."""

    tally: Tally
    condition: NumberedRows
    left_out: list[str] = field(default_factory=list)
    """Names of the images that cannot be read, with the kind of error; only where `data.corrupt` is skip."""


class Counting:
    """The counting of a data set; every worker makes one, and counts its share."""

    def __init__(self, spec: ReferenceSpec) -> None:
        """ConfigError where the extractor does not take the data."""
        self.spec = spec
        data = spec.data
        self.data: Dataset | DataInfo = data_info(data) if data.streamed else load_data(data)
        if len(self.data) < _LEAST:
            raise ConfigError(
                f"a reference needs at least {_LEAST} items, but {self.data.name} has {len(self.data)}"
            )
        self.decoder = decoder_of(data, spec.extractor)
        shape = self.data.shape
        self.shape = shape if self.decoder is None else self.decoder.shape(shape)
        self.extractor: Extractor = load_extractor(
            spec.evaluation, self.shape, self.data.name, data.name in EMBEDDED
        )
        self._rows = max(1, min(_ROWS, _IMAGE_BYTES // math.prod(self.shape)))

    def count(self, device: str | torch.device = "cpu", share: Share = WHOLE) -> Counted:
        """Read a share of the items. A corrupt image raises ConfigError; if `data.corrupt` is skip, it is left out."""
        device = torch.device(device)
        total = len(self.data)
        counted = Counted(Tally.empty(), NumberedRows())
        wanted = evenly_spaced(total, self.spec.features)
        kept = evenly_spaced(total, self._most_conditions())
        for numbers, items, condition in self._read(share, counted.left_out):
            features = self.extractor.features(self._comparable(items, device), device)
            counted.tally.add(tally_of(features, numbers, wanted))
            if condition is not None:
                mine = torch.isin(numbers, kept)
                counted.condition.add(numbers[mine], condition[mine])
        return counted

    def file(self, shares: Sequence[Counted]) -> bytes:
        """The content of the reference file, from all shares; ConfigError where too few items could be read."""
        tally, condition = Tally.empty(), NumberedRows()
        for share in shares:
            tally.add(share.tally)
            condition.extend(share.condition)
        self._check_enough(tally)
        data, extractor = self.data, self.extractor
        about = About(
            name=data.name,
            data=data.fingerprint,
            count=tally.moments.count,
            shape=self.shape,
            extractor=extractor.name,
            weights=extractor.weights,
            resize=extractor.resize,
            decoder="" if self.decoder is None else self.decoder.sha256,
            conditioning=data.conditioning.as_json(),
            classes=classes_hash(data),
        )
        return reference_bytes(about, Statistics.of(tally), condition.rows)

    def _check_enough(self, tally: Tally) -> None:
        read, kept = tally.moments.count, len(tally.features.numbers)
        if read < _LEAST:
            raise ConfigError(
                f"a reference needs at least {_LEAST} items, but {self.data.name} has {read} that can be read"
            )
        if self.spec.features and kept < _LEAST:
            raise ConfigError(
                f"a reference keeps the features of at least {_LEAST} items, but only {kept} of those chosen of "
                f"{self.data.name} can be read: set features higher than {self.spec.features}, or to 0"
            )

    def _comparable(self, items: Tensor, device: torch.device) -> Tensor:
        if self.decoder is not None:
            return self.decoder(items, device)
        return to_uint8(items) if is_image(self.shape) else as_float(items)

    def _most_conditions(self) -> int:
        conditioning = self.data.conditioning
        width = {"class": 1, "tokens": conditioning.length}.get(
            conditioning.kind, conditioning.length * conditioning.size
        )
        return _CONDITION_BYTES // (8 * max(1, width))

    def _read(self, share: Share, left_out: list[str]) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
        """Their numbers, the items and their conditions, some at a time; names of corrupt ones go to `left_out`."""
        if isinstance(self.data, Dataset):
            stored, condition = self.data.stored, self.data.condition
            for block in share.blocks(len(stored), self._rows):
                part = slice(block.start, block.stop)
                yield torch.tensor(block), stored[part], None if condition is None else condition[part]
            return
        spec, info, first = self.spec.data, self.data, 0
        for number, unit in enumerate(scan(spec).units):
            if number % share.size == share.rank:
                if spec.format == "latents":
                    items, found, _ = read_rows(spec, info, unit, range(unit.rows))
                    for start in range(0, unit.rows, self._rows):
                        part = slice(start, start + self._rows)
                        numbers = torch.arange(first, first + unit.rows)[part]
                        yield numbers, items[part], None if found is None else found[part]
                else:
                    fetch = open_unit(spec, info, unit)
                    for start in range(0, unit.rows, self._rows):
                        rows = range(start, min(start + self._rows, unit.rows))
                        sound, images, found = self._images(info, unit, rows, fetch, left_out)
                        if sound:
                            yield first + torch.tensor(sound), torch.stack(images), found
            first += unit.rows

    def _images(
        self, info: DataInfo, unit: Unit, rows: range, fetch: Fetch, left_out: list[str]
    ) -> tuple[list[int], list[Tensor], Tensor | None]:
        """The rows that can be read, their images and conditions."""
        spec = self.spec.data
        sound: list[int] = []
        images: list[Tensor] = []
        values: list[int | str | None] = []
        for row in rows:
            read = read_image(spec, info, unit, row, fetch)
            if isinstance(read, str):
                left_out.append(read)
                continue
            sound.append(row)
            images.append(read[0])
            values.append(read[1])
        return sound, images, make_condition(info, values)


def decoder_of(data: DataSpec | None, extractor: ExtractorName) -> Decoder | None:
    """The decoder by which items are scored as images; None where they are compared as they are.

    ConfigError for latents without an autoencoder, unless the extractor is `raw` by name.
    """
    if data is None or data.format != "latents" or extractor == "raw":
        return None
    if data.vae is None:
        raise ConfigError(
            f"latents are compared as images: set data.vae to the autoencoder of {data.name}, or the extractor to raw "
            "for their raw values"
        )
    return load_decoder(data)
