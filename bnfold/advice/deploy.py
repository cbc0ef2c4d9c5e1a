"""Rules about a net that is meant for inference and still has layers that only training or measuring needs.

Each rule gives remarks on a draft, and its docstring says what it looks for; `bnfold.advice.rules` has the table.
"""

from __future__ import annotations

from collections.abc import Iterator

from bnfold.advice.draft import Draft, Written
from bnfold.advice.records import Remark
from bnfold.caffe import layer_types
from bnfold.errors import with_article


def data_in_deploy(draft: Draft) -> Iterator[Remark]:
    """A data layer in the TEST net of a file for inference: named deploy, with inputs, or impossible to train."""
    if not draft.deploys:
        return
    for written in draft.test.layers:
        if written.is_data and written.type != "DummyData":
            yield Remark(written, f"brings samples of its own, while {draft.deploys}", _input(written))


def loss_in_deploy(draft: Draft) -> Iterator[Remark]:
    """A loss, an accuracy or another metric in the TEST net of a file that is for inference."""
    if not draft.deploys:
        return
    for written in draft.test.layers:
        loss = layer_types.loss(written.type) if written.is_loss else None
        if loss is not None and loss.becomes:
            bottom = written.layer.bottoms[0]
            top = written.layer.tops[0] if loss.goes_on and written.layer.tops else "prob"
            instead = f'layer {{ name: "{written.name}" type: "{loss.becomes}" bottom: "{bottom}" top: "{top}" }}'
            yield Remark(written, f"{with_article(written.type)}, while {draft.deploys}", instead)
        elif loss is not None or written.is_metric:
            yield Remark(written, f"{with_article(written.type)}, while {draft.deploys}", "leave the layer out")


def _input(written: Written) -> str:
    """An Input layer for the samples of a data layer; a label is for nobody."""
    top = written.layer.tops[0]
    size = written.layer.param.transform_param.crop_size
    height, width = (size, size) if size else ("H", "W")
    channels = 3 if size else "C"
    shape = f"shape {{ dim: 1 dim: {channels} dim: {height} dim: {width} }}"
    return f'layer {{ name: "{top}" type: "Input" top: "{top}" input_param {{ {shape} }} }}'
