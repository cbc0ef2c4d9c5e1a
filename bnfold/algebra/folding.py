"""Folding a net as its user asks for it: what has to stay, what is left alone, and the nets in its layers."""

from __future__ import annotations

import fnmatch
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from bnfold.algebra.frontend import FoldContext, InnerNet
from bnfold.algebra.records import Dropped, FoldReport, Kept
from bnfold.algebra.sweep import Sweep
from bnfold.errors import UsageError, did_you_mean_blob, did_you_mean_of, one_by_one, telling_which
from bnfold.io.rendered import Rendered
from bnfold.net import Net, blobs_of, require_net
from bnfold.options import require_type

NOTHING_ASSUMED = "--assume-global-stats changes nothing: no layer that may fold has statistics and follows its batch"


@dataclass(frozen=True, slots=True, repr=False)
class FoldResult(Rendered):
    """A folded net, and the record of how it came about."""

    net: Net
    report: FoldReport

    def __repr__(self) -> str:
        return f"<FoldResult: {self.net!r}; {self.report!r}>"


def fold(
    net: Net,
    *,
    keep: str | Collection[str] = (),
    exclude: str | Sequence[str] = (),
    assume_global_stats: bool = False,
    join: bool = True,
) -> FoldResult:
    """Fold every per-channel affine of a net into the weights around it.

    Args:
        net: a loaded net; it is not changed.
        keep: blobs, by name or pattern (or one of either), that must survive with their values, besides the outputs;
            those in bodies of If, Loop and Scan among them. Only a pattern with an @ means versions made in place too,
            `conv1@bn1`.
        exclude: layer names, or patterns with `*` and `?`, that are left exactly as they are, likewise.
        assume_global_stats: fold a BatchNorm with `use_global_stats: false` as if it used its stored statistics.
        join: make one convolution of parallel ones that are summed, where that costs no more (RepVGG, MobileOne).

    Returns:
        A net of its own, in which every blob that survives has its old value, and the report.

    Raises:
        UsageError: `keep` or `exclude` names nothing in the net, or an argument is of another type.
        ModelError: a layer's statistics make no sense or can be read in two ways (the sentence names the layer), or a
            file that the net was read from was written to since.

    Examples:
        >>> result = bnfold.fold(bnfold.load("deploy.prototxt", "net.caffemodel"))
        >>> result.report
        <FoldReport: 66 -> 36 layers, 30 folded, 0 kept>
        >>> result.report.folded[0]
        Folded(layer='bn_conv1', type='BatchNorm', into=('conv1',), through=(), forward=False)
    """
    require_net(net, "fold")
    keep, exclude = _patterns("keep", keep), _patterns("exclude", exclude)
    require_type("assume_global_stats", assume_global_stats, "bool")
    require_type("join", join, "bool")
    if net.front is None:
        raise UsageError("fold takes a net that bnfold.load has read, and this one has no language")
    asked = _FoldOptions(keep, exclude, assume_global_stats, join)
    with telling_which(net.file), np.errstate(all="ignore"):  # what is not finite is refused with the layer's name
        _require_named(net, asked)
        result, assumed = _folded(net, asked)
    if assume_global_stats and not assumed:
        result.report.notes.append(NOTHING_ASSUMED)
    return result


class _FoldOptions(NamedTuple):
    """What the user asks of a fold, as the arguments of `fold` say it."""

    keep: tuple[str, ...]
    exclude: tuple[str, ...]
    assume_global_stats: bool
    join: bool


def _folded(net: Net, asked: _FoldOptions, whole: str = "network") -> tuple[FoldResult, bool]:
    """A net folded with its bodies, and whether a normalisation of it was taken by its stored statistics."""
    assert net.front is not None
    own, report = net.with_layers(net.layers), FoldReport()
    keep = _blobs_matching(own, asked.keep)
    context = FoldContext(own, report.shapes, asked.assume_global_stats, whole=whole, keep=keep)
    left_alone = set(_matching([layer.name for layer in own.layers], asked.exclude))
    context.excluded = {id(layer) for layer in own.layers if layer.name in left_alone}
    sweep = Sweep(own, net.front, context, asked.join, report)
    sweep.run()
    assumed = bool(context.assumed)
    for body in net.front.bodies(sweep.net):
        if body.net is not None and id(body.layer) not in context.excluded:
            result, inside = _folded(body.net, asked, "body")
            _fold_inside(body, result, report)
            assumed |= inside
        report.notes += filter(None, [body.why])
    return FoldResult(sweep.net, sweep.report), assumed


def _fold_inside(body: InnerNet, result: FoldResult, report: FoldReport) -> None:
    """Have a layer hold a body in which something was folded, and add to the report what became of its affines."""
    changed = any(not isinstance(record, Dropped | Kept) for record in result.report.records)
    if changed:
        body.put(result.net)
    report.records += result.report.records if changed else result.report.kept
    report.notes += [f"{body.name}: {note}" for note in result.report.notes]


def _patterns(name: str, value: str | Iterable[str]) -> tuple[str, ...]:
    """One pattern, or several. Raises UsageError where they are no words."""
    require_type(name, value, "str | Iterable[str]")
    patterns = (value,) if isinstance(value, str) else tuple(value)
    require_type(name, list(patterns), "str | Iterable[str]")  # what an iterator gave
    return patterns


def _require_named(net: Net, asked: _FoldOptions) -> None:
    """Raises UsageError where a pattern names no blob, or no layer, in a net or in one of its bodies."""
    for pattern in asked.keep:
        if not any(_blobs_matching(inner, [pattern]) for inner in _with_inner(net)):
            if net.front is not None and pattern in net.front.taken_names(net):
                raise UsageError(
                    f"--keep {pattern}: that is a weight, another value that is known before anything runs, inside a "
                    "body that cannot be folded, or a further output that nobody reads, and no blob that can be kept"
                )
            guess = _instead_of("--keep", pattern, blobs_of(net)[::-1])  # the outputs first
            raise UsageError(f"--keep {pattern}: the network has no blob of that name{guess}")
    for pattern in asked.exclude:
        if not any(_matching([layer.name for layer in inner.layers], [pattern]) for inner in _with_inner(net)):
            guess = _instead_of("--exclude", pattern, [layer.name for layer in net.layers])
            raise UsageError(f"--exclude {pattern}: the network has no layer of that name{guess}")


def _instead_of(option: str, pattern: str, names: Sequence[str]) -> str:
    """What to write instead of a pattern that names nothing."""
    if "," in pattern and any(_matching(names, [part.strip()]) for part in pattern.split(",")):
        return one_by_one(option)
    return did_you_mean_blob(pattern, names) if option == "--keep" else did_you_mean_of(pattern, names)


def _with_inner(net: Net) -> Iterator[Net]:
    """A net, and those in its layers."""
    yield net
    for body in net.front.bodies(net) if net.front is not None else ():
        if body.net is not None:
            yield from _with_inner(body.net)


def _blobs_matching(net: Net, patterns: Iterable[str]) -> list[str]:
    """The blobs that patterns mean, each once.

    A version made in place, `conv1@conv1`, is meant by a pattern with an @ alone: `conv1*` is about names of the file,
    of which one stands for all versions, and to keep those in between would stop every fold in place.
    """
    plain = [blob for blob in blobs_of(net) if blob not in net.public]
    found = [_matching(blobs_of(net) if "@" in pattern else plain, [pattern]) for pattern in patterns]
    return list(dict.fromkeys(blob for blobs in found for blob in blobs))


def _matching(names: Sequence[str], patterns: Iterable[str]) -> list[str]:
    """The names that patterns match, each once."""
    return list(dict.fromkeys(name for pattern in patterns for name in names if _is_called(name, pattern)))


def _is_called(name: str, pattern: str) -> bool:
    """Whether this is the name, or the pattern matches it; some names look like patterns themselves."""
    return name == pattern or fnmatch.fnmatchcase(name, pattern)
