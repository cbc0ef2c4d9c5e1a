"""A rule about names, by which Caffe finds the weights of a layer.

It gives remarks on a draft, and its docstring says what it looks for; `bnfold.advice.rules` has the table.
"""

from __future__ import annotations

from collections.abc import Iterator

from bnfold.advice.draft import Draft, Written
from bnfold.advice.records import Remark
from bnfold.caffe import layer_types


def layers_of_one_name(draft: Draft) -> Iterator[Remark]:
    """A layer that is called as an earlier one of the same net is."""
    for view in draft.views:
        first: dict[str, Written] = {}
        for written in view.layers:
            other = first.setdefault(written.name, written)
            if other is not written and written.name:
                learns = {written.type, other.type} & layer_types.LEARNED
                yield Remark(written, f"called as {other.place} is", severity="error" if learns else None)
