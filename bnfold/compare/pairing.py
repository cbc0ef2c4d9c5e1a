"""Which blob of the candidate is the partner of which blob of the reference: by name, with care for in-place names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from bnfold.errors import UsageError, did_you_mean_blob, named
from bnfold.net import Net

Chains = dict[tuple[str, int], int]


def pair(
    reference: Iterable[str],
    candidate: Iterable[str],
    named: Mapping[str, str],
    *,
    folded: bool,
    whole: tuple[Iterable[str], Iterable[str]] | None = None,
    misleading: Mapping[str, str | None] | None = None,
) -> dict[str, str]:
    """Reference blob -> candidate blob, in the reference's order.

    Args:
        reference, candidate: blob names in order of execution.
        named: the user's own pairs, which go first.
        folded: whether the candidate was folded from this very reference in memory, where equal names are equal blobs.
        whole: the names with those of blobs that layers make which cannot be run; the same by default.
        misleading: reference blobs whose partner is not the one of the same name -> that partner, or None.

    An in-place version is called `public@writer`. Two files may use one such name for two things: in
    `conv, bn, relu` on one blob `c`, `c@conv` comes before the normalisation, and in the folded `conv, relu` after
    it. So versions are partners only if the same writers come after them in place.

    Raises:
        UsageError: a pair of the user names a blob that is not there.
    """
    left, right = list(reference), list(candidate)
    sides = ("reference", left, [*named]), ("candidate", right, [*named.values()])
    if unknown := [
        f"the {side} has no blob '{name}'{did_you_mean_blob(name, blobs)}"
        for side, blobs, wanted in sides
        for name in wanted
        if name not in blobs
    ]:
        raise UsageError("; ".join(unknown))
    otherwise = {name: partner for name, partner in (misleading or {}).items() if name not in named}
    taken = {*named.values(), *filter(None, otherwise.values())}
    chains: Chains = {}
    after, after_right = (later_writers(names, chains) for names in whole or (left, right))
    pairs, there = {}, set(right)
    for name in left:
        if name in named:
            pairs[name] = named[name]
        elif name in otherwise:
            if (partner := otherwise[name]) is not None and partner not in named.values():
                pairs[name] = partner
        elif name in there and name not in taken and (folded or after[name] == after_right[name]):
            pairs[name] = name
    return pairs


def further_outputs(reference: Iterable[str], candidate: Iterable[str], pairs: Mapping[str, str]) -> Iterator[str]:
    """The note on outputs of the candidate that are none of the reference's; blobs are paired as `pair` does it."""
    known = {name: pairs.get(name) for name in reference}
    if further := [name for name in candidate if name not in known.values()]:
        uncompared = "" if {*pairs.values()}.issuperset(further) else ", so not all of them are compared"
        alone = [name for name, partner in known.items() if partner is None]
        if len(alone) == len(further) == 1:
            uncompared += f"; --map {alone[0]}={further[0]} compares them"
        yield f"the candidate has {named('output', further)}, and the reference no such output{uncompared}"


def named_as(read: Net, written: Net) -> Net:
    """A net that was read back, with its blobs called as in the net that was written, which knows them better; the same
    where its layers are not those that were written.

    In a file, in-place versions share one name: `conv, bn, relu` folded to `conv, relu` calls what the normalisation
    made as it called the convolution's own top before. The net in memory calls each value as the original does, so that
    with its names every value has its partner.
    """
    known = {layer.name: layer for layer in written.layers}
    if Counter(layer.name for layer in read.layers) != Counter(known.keys()) or any(
        len(layer.tops) != len(known[layer.name].tops) for layer in read.layers
    ):
        return read
    names = {top: name for layer in read.layers for top, name in zip(layer.tops, known[layer.name].tops, strict=True)}
    return read.called(names)


def versions(blobs: Iterable[str]) -> dict[str, list[str]]:
    """Blob -> its in-place versions in order of execution, itself last.

    Examples:
        >>> versions(["c@conv", "c@bn", "c", "d"])
        {'c': ['c@conv', 'c@bn', 'c'], 'd': ['d']}
    """
    names = list(blobs)
    known, found = set(names), dict[str, list[str]]()
    for name in names:
        found.setdefault(_public(name, known)[0], []).append(name)
    return found


def later_writers(blobs: Iterable[str], chains: Chains) -> dict[str, int]:
    """Blob -> a number for the suffixes of the in-place versions after it (and `""` for the last version).

    Equal numbers are equal suffixes in one order. A chain is a suffix and the number of the rest, so that a thousand
    layers in place are a thousand entries and not half a million.

    Args:
        blobs: names in order of execution.
        chains: (suffix, number of what comes after) -> number, 0 being nothing; filled here, and shared by networks
            whose numbers are to be compared.

    Examples:
        >>> later_writers(["c@conv", "c@bn", "c", "d"], {})
        {'d': 0, 'c': 0, 'c@bn': 1, 'c@conv': 2}
    """
    names = list(blobs)
    known = set(names)
    after: dict[str, int] = {}
    last: dict[str, int] = {}
    for name in reversed(names):
        public, suffix = _public(name, known)
        after[name] = last.get(public, 0)
        last[public] = chains.setdefault((suffix, after[name]), len(chains) + 1)
    return after


def _public(name: str, known: set[str]) -> tuple[str, str]:
    """The public name and the writer's suffix; a name with an @ of its own has no shorter name beside it."""
    public, at, writer = name.rpartition("@")
    return (public, writer) if at and public in known else (name, "")
