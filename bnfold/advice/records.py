"""What advice is made of: a finding for the user, a remark of a rule, and the row that a rule has in the table."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from bnfold.io.rendered import Rendered

if TYPE_CHECKING:
    from bnfold.advice.draft import Draft, Written
    from bnfold.algebra.records import FoldReport
    from bnfold.net import Net

# error: Caffe stops there, or the net computes something else than its author meant. warning: it works, and differs
# from what BatchNorm promises. note: there is a simpler or a safer way to write it.
Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One piece of advice on one layer of a prototxt.

    Attributes:
        rule: the rule's name; docs/advice.md has all of them.
        layer: the name of the layer.
        severity: "error", "warning" or "note".
        message: what was found, a clause about the layer.
        why: what it does to training or to inference.
        instead: what to write.
        line: the 1-based line where the layer begins, None where the file does not tell.
    """

    rule: str
    layer: str
    severity: Severity
    message: str
    why: str
    instead: str
    line: int | None = None


class Remark(NamedTuple):
    """What a rule has to say of one layer; what it leaves empty is said by the rule's row."""

    about: Written
    message: str
    instead: str = ""
    severity: Severity | None = None


class Rule(NamedTuple):
    """A row of the table of rules; the docstring of `check` says what it looks for."""

    check: Callable[[Draft], Iterator[Remark]]
    severity: Severity
    why: str
    instead: str


@dataclass(frozen=True, slots=True, repr=False)
class Inspection(Rendered):
    """What folding would do, and what is to be said about the prototxt: what `bnfold inspect` finds out.

    Attributes:
        net: the net as it was read.
        fold: what would fold, what would stay and why.
        findings: advice, in the order of the file.
        has_weights: False when placeholders took the place of the weights, so that the plan is the cautious one.

    Examples:
        >>> net = bnfold.load("deploy.prototxt", "net.caffemodel")
        >>> findings = tuple(bnfold.advise("deploy.prototxt", net))
        >>> report = bnfold.Inspection(net, bnfold.fold(net).report, findings, has_weights=True)
        >>> report.to_dict()["schema"], len(report.findings)
        ('bnfold-inspection', 0)
    """

    net: Net
    fold: FoldReport
    findings: tuple[Finding, ...]
    has_weights: bool

    def __repr__(self) -> str:
        return f"<Inspection of {self.net!r}: {len(self.findings)} findings; {self.fold!r}>"
