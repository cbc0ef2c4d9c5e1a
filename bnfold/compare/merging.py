"""How two parts of a measurement become one: each field of a record says its rule, and merging applies it.

    nan: int = field(default=0, metadata=BY_SUM)
    low: float = field(default=math.inf, metadata=BY_MIN)

Merging is exact for counts, extremes and places, in any order. Sums of floats round, so whoever wants equal bytes
merges equal parts in an equal order.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Record = TypeVar("Record", bound="DataclassInstance")
Item = TypeVar("Item")
Rule = Callable[[Any, Any], Any]


def rule(merging: Rule) -> Mapping[str, Rule]:
    """The metadata of a field whose values in two parts, the earlier one first, `merging` puts together."""
    return {"merge": merging}


def merge(first: Record, second: Record) -> Record:
    """The first part, changed, with the second one, the later, taken in; fields without a rule stay as they are."""
    for known in fields(first):
        merging = known.metadata.get("merge")
        if merging is not None:
            setattr(first, known.name, merging(getattr(first, known.name), getattr(second, known.name)))
    return first


def by_name(merging: Rule) -> Rule:
    """A rule for tables: what both have under one name, `merging` puts together."""
    return lambda first, second: {
        **first,
        **{name: merging(first[name], part) if name in first else part for name, part in second.items()},
    }


def keep_worst(first: list[Item], second: list[Item], key: Callable[[Item], Any], most: int) -> list[Item]:
    """The `most` items of both with the lowest keys, in their order; the keys are a total order."""
    return sorted([*first, *second], key=key)[:most]


BY_SUM, BY_MIN, BY_MAX = rule(operator.add), rule(min), rule(max)
BY_NAME = rule(by_name(merge))
FIRST = rule(lambda first, second: first or second)
OPTIONAL = rule(lambda first, second: merge(first, second) if first and second else first or second)
"""Of a record that may not be there."""
