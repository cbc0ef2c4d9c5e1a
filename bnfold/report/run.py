"""What one run did and found: the record that every rendering renders. Nothing of comparing is imported for it."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bnfold.errors import UsageError, counted, few
from bnfold.io.rendered import Rendered
from bnfold.options import require_type

if TYPE_CHECKING:
    from pathlib import Path

    from bnfold.algebra.records import FoldReport
    from bnfold.compare.records import DiffReport
    from bnfold.net import Net


MAX_SAID = 3  # verdicts of comparisons that differ
_FIGURE = re.compile(r"\d\.\de[-+]\d+")


@dataclass(frozen=True, slots=True, repr=False)
class RunReport(Rendered):
    """What one run did and found: what every rendering renders.

    The command makes one; made of a fold and its proof, it renders the page that `bnfold fold --html` writes.

    Attributes:
        original: the net as it was read; None where only two models were compared.
        folded: the net that was written; None when nothing was folded.
        fold: what folded into what, and what stayed and why.
        written: the files.
        rejected: the files that were not written, since their proof failed.
        proofs: one comparison with the original for each output, or the one that was asked for.
        notes: assumptions made while reading.

    Raises:
        UsageError: a field is of another type.

    Examples:
        >>> net = bnfold.load("model.onnx")
        >>> result = bnfold.fold(net)
        >>> proof = bnfold.compare(net, result.net)
        >>> report = bnfold.RunReport(net, result.net, result.report, proofs=(proof,))
        >>> report.passed, report.to_html().startswith("<!doctype html>")
        (True, True)
    """

    original: Net | None = None
    folded: Net | None = None
    fold: FoldReport | None = None
    written: tuple[Path, ...] = ()
    rejected: tuple[Path, ...] = ()
    proofs: tuple[DiffReport, ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("original", "folded"):
            require_type(name, getattr(self, name), "Net | None")
        if hasattr(self.fold, "report"):
            raise UsageError("fold is what folded into what: give the .report of what bnfold.fold gave")
        require_type("fold", self.fold, "FoldReport | None")
        proofs = self.proofs if isinstance(self.proofs, tuple | list) else ()
        if proofs is not self.proofs or not all(hasattr(proof, "gates") for proof in proofs):
            raise UsageError("proofs is a tuple of what bnfold.compare gave, of one proof (proof,)")
        for name, kinds, what in (
            ("written", (str, os.PathLike), "paths"),
            ("rejected", (str, os.PathLike), "paths"),
            ("notes", (str,), "sentences"),
        ):
            said = getattr(self, name)
            if not isinstance(said, tuple | list) or not all(isinstance(one, kinds) for one in said):
                raise UsageError(f"{name} is a tuple of {what}, and not {type(said).__name__} {said!r:.60}")

    def __repr__(self) -> str:
        return f"<RunReport: {len(self.proofs)} proofs, {'passed' if self.passed else 'FAILED'}; {self.fold!r}>"

    @property
    def all_notes(self) -> list[str]:
        """The notes of reading, and those of folding."""
        return [*self.notes, *(self.fold.notes if self.fold is not None else ())]

    @property
    def passed(self) -> bool:
        """Whether every comparison passed its gates."""
        return all(proof.passed for proof in self.proofs)

    @property
    def verdict(self) -> str:
        """The result in a sentence or two: of several comparisons how many failed, and what each kind of them says."""
        if not self.proofs:
            return "Nothing was compared."
        alike: dict[str, list[DiffReport]] = {}
        for proof in sorted(self.proofs, key=lambda proof: proof.passed):
            alike.setdefault(_FIGURE.sub("", proof.verdict) if proof.passed else proof.verdict, []).append(proof)
        failed = sum(not proof.passed for proof in self.proofs)
        verdicts = []
        for proofs in alike.values():  # of those that pass alike the worst speaks
            if failed and proofs[0].passed:
                break
            worst = max(proofs, key=lambda proof: proof.judged)
            verdicts.append((few([proof.candidate for proof in proofs], 3), worst.verdict))
        if len(alike) == 1:
            return verdicts[0][1]
        how = f"{failed:,} of {counted(len(self.proofs), 'comparison')} failed" if failed else "All comparisons passed"
        return " ".join([f"{how}.", *(f"{files}: {verdict}" for files, verdict in verdicts[:MAX_SAID])])
