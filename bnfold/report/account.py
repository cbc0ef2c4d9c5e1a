"""What a rendering renders: the account of one run, or of one bare comparison."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from bnfold.algebra.records import FoldReport
    from bnfold.compare.records import DiffReport
    from bnfold.net import Net


class Account(Protocol):
    """What a run did and found; `bnfold.pipeline.Report` is one."""

    @property
    def original(self) -> Net | None:
        """The network as it was read."""

    @property
    def folded(self) -> Net | None:
        """The network that came of it; None where nothing was folded."""

    @property
    def fold(self) -> FoldReport | None:
        """What folded into what, and what stayed and why."""

    @property
    def written(self) -> Sequence[Path]:
        """The files written."""

    @property
    def proofs(self) -> Sequence[DiffReport]:
        """The comparisons."""

    @property
    def notes(self) -> Sequence[str]:
        """Sentences about assumptions made."""

    @property
    def passed(self) -> bool:
        """Whether every comparison passed its gates."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """The account of `bnfold diff`: one comparison, nothing folded.

    `original` and `folded` may be given for the picture of the graphs.
    """

    proofs: tuple[DiffReport, ...]
    original: Net | None = None
    folded: Net | None = None
    fold: FoldReport | None = None
    written: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, report: DiffReport) -> Comparison:
        """One report as an account."""
        return cls((report,))

    @property
    def passed(self) -> bool:
        """Whether every gate is passed."""
        return all(proof.passed for proof in self.proofs)


def verdict(account: Account) -> str:
    """The result in a sentence or two: that of each comparison, the failed ones first."""
    if not account.proofs:
        return "Nothing was compared."
    several = len(account.proofs) > 1
    ordered = sorted(account.proofs, key=lambda proof: proof.passed)
    return " ".join(f"{proof.candidate}: {proof.verdict}" if several else proof.verdict for proof in ordered)
