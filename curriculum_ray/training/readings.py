"""What a log line says beside the loss: the optimiser's, the data's and the device's share. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

__all__ = ["NO_READINGS", "Readings"]


@dataclass(frozen=True, kw_only=True)
class Readings:
    """Of the steps since the previous log line; None where it does not apply or is not known."""

    learning_rate: float | None = None
    """Of the last step."""
    gradient_norm: float | None = None
    """Of the whole gradient at the last step, before it was clipped; None where it was not finite, as in fp16 a step
    that is skipped."""
    data_wait: float | None = None
    """Share of the time that the host waited for batches, in [0, 1], the mean over the workers."""
    mfu: float | None = None
    """Model FLOP utilisation: the operations of the network over the peak of all devices, in [0, 1]; see `flops`."""
    gpu_memory_gib: float | None = None
    """The most memory that tensors took on the first worker's GPU, in GiB."""

    def known(self) -> dict[str, float]:
        """Those that are not None, by name."""
        values = ((field.name, getattr(self, field.name)) for field in fields(self))
        return {name: value for name, value in values if value is not None}

    def words(self) -> Iterator[str]:
        """Each that is known, for a line in the terminal: "lr 2.0e-03", "data 1%"."""
        formats = {
            "learning_rate": "lr {:.1e}",
            "gradient_norm": "gradient {:.3g}",
            "data_wait": "data {:.0%}",
            "mfu": "MFU {:.1%}",
            "gpu_memory_gib": "GPU {:.1f} GiB",
        }
        return (formats[name].format(value) for name, value in self.known().items())


NO_READINGS = Readings()
