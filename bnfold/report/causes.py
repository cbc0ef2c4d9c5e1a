"""Layers that stay, grouped by cause: one sentence for all that differ in nothing but their names."""

from __future__ import annotations

import re
from collections.abc import Iterable

from bnfold.algebra.records import Kept
from bnfold.errors import first_of, with_article

_LAYER = re.compile(r"(?:layer )?'[^']*' \((\w+)\)")
_NAMED = re.compile(r"\b((?:its|unknown) \w+) '[^']*'")
_NAME = re.compile(r"(?<!\w)'[^']*'")  # and no apostrophe
_BOTH = re.compile(r"^backward: (.*); forward: \1$")
_NUMBER = re.compile(r"\d+")


def kept_by_cause(records: Iterable[Kept]) -> list[tuple[str, list[Kept]]]:
    """The layers that stay, by the sentence that they share; the largest group first.

    A group of one sentence keeps it, names included.
    """
    groups: dict[tuple[str, str], list[Kept]] = {}
    for record in records:
        groups.setdefault((record.type, cause(record.reason)), []).append(record)
    ordered = sorted(groups.items(), key=lambda group: -len(group[1]))
    return [
        (found[0].reason if len({record.reason for record in found}) == 1 else shared, found)
        for (_, shared), found in ordered
    ]


def cause(reason: str) -> str:
    """A reason without the names of the one place that it was said of.

    Examples:
        >>> cause("backward: 'a' has 2 uses; forward: layer 'relu1' (ReLU): a shift would move its threshold")
        'backward: a blob has 2 uses; forward: a ReLU: a shift would move its threshold'
        >>> cause("this net's layers stand in front of 'a'")
        "this net's layers stand in front of a blob"
        >>> cause("backward: layer 's1' (Sigmoid) lets nothing pass; forward: layer 's2' (Sigmoid) lets nothing pass")
        'both ways: a Sigmoid lets nothing pass'
        >>> cause("backward: layer 'conv1' (Conv): its weight 'w1' is computed by layer 'cast1' (Cast)")
        'backward: a Conv: its weight is computed by a Cast'
    """
    general = _NAMED.sub(r"\1", _LAYER.sub(lambda found: with_article(found.group(1)), reason))
    return _BOTH.sub(r"both ways: \1", _NAME.sub("a blob", general))


def said_once(sentences: Iterable[str]) -> list[str]:
    """Sentences with those that differ only in names and numbers from an earlier one counted and not repeated.

    Examples:
        >>> said_once(["'a' stays", "'b' stays", "line 3: odd"])
        ["'a' stays (and 1 more like this)", 'line 3: odd']
    """
    alike: dict[str, list[str]] = {}
    for sentence in dict.fromkeys(sentences):
        alike.setdefault(_NUMBER.sub("0", cause(sentence)), []).append(sentence)
    return [*map(first_of, alike.values())]
