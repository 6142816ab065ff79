"""Keys of a study's trials: each gives the purpose of the trial, and names its folder.

control-uniform                      uniform sampling
rival-NAME                           a one-line rival
arm-NAME                             an arm of a study without a search; only its confirmations are run
search-007                           the searched schedule number 7 at the full budget
rung0-007                            the same at the smallest budget; rung1-007 at the next one
twin-search-007-reversed             a twin of the schedule of search-007
confirm-search-007-seed1000          the arm of search-007, or of any other trial, on a fresh seed
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator, GetCoreSchemaHandler

__all__ = ["TrialKey"]

_KINDS = re.compile(
    r"search-(?P<searched>\d{3,})"
    r"|rung(?P<rung>\d+)-(?P<tried>\d{3,})"
    r"|control-uniform"
    r"|rival-[\w-]+"
    r"|arm-(?P<arm>[\w-]+)"
    r"|twin-(?P<varied>.+)-\w+"
    r"|confirm-(?P<confirmed>.+)-seed\d+"
)


class TrialKey(str):
    """The key of a trial: a string of one of the forms above, equal to the plain string; ValueError for any other."""

    __slots__ = ()

    def __new__(cls, text: str) -> TrialKey:
        match = _KINDS.fullmatch(text)
        if match is None:
            raise ValueError(f"a trial's key must be like search-007 or control-uniform, but got {text!r}")
        if origin := match["varied"] or match["confirmed"]:
            cls(origin)
        return super().__new__(cls, text)

    @classmethod
    def uniform(cls) -> TrialKey:
        """Of the study's uniform sampling."""
        return cls("control-uniform")

    @classmethod
    def rival(cls, name: str) -> TrialKey:
        """Of a one-line rival."""
        return cls(f"rival-{name}")

    @classmethod
    def arm(cls, name: str) -> TrialKey:
        """Of a named arm of a study without a search."""
        return cls(f"arm-{name}")

    @classmethod
    def search(cls, index: int) -> TrialKey:
        """Of a searched schedule at the full budget; `index` counts from 0."""
        return cls(f"search-{index:03d}")

    def at_rung(self, rung: int) -> TrialKey:
        """Of the same searched schedule at a smaller budget; 0 is the smallest."""
        return TrialKey(f"rung{rung}-{self.number:03d}")

    def twin(self, variant: str) -> TrialKey:
        """Of a twin of this trial's schedule, e.g. "reversed"."""
        return TrialKey(f"twin-{self}-{variant}")

    def confirmation(self, seed: int) -> TrialKey:
        """Of this trial's arm on a fresh seed."""
        return TrialKey(f"confirm-{self}-seed{seed}")

    @classmethod
    def searches(cls, text: str) -> bool:
        """Whether a string is the key of a trial of a searched schedule at the full budget."""
        match = _KINDS.fullmatch(text)
        return match is not None and match["searched"] is not None

    @property
    def _parts(self) -> re.Match[str]:
        match = _KINDS.fullmatch(self)
        assert match is not None
        return match

    @property
    def number(self) -> int:
        """The number of the trial's searched schedule, at any budget; ValueError for other trials."""
        number = self._parts["searched"] or self._parts["tried"]
        if number is None:
            raise ValueError(f"{self} tries no searched schedule")
        return int(number)

    @property
    def named(self) -> str | None:
        """The name of the named arm that the trial runs; None for other trials."""
        parts = self._parts
        return parts["arm"] if parts["confirmed"] is None else TrialKey(parts["confirmed"]).named

    @property
    def rung(self) -> int | None:
        """The index of the trial's smaller budget, 0 the smallest; None at the full one."""
        rung = self._parts["rung"]
        return None if rung is None else int(rung)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> Any:
        return handler.generate_schema(Annotated[str, AfterValidator(cls)])
