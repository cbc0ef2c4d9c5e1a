"""The few Python layers that are as good as a layer in C++: public code of which a fork's networks make use."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from contextlib import suppress

from bnfold.caffe.limits import INT_MAX
from bnfold.net import Layer

_LIST = r"(\[[^][()]*\]|\([^][()]*\))"
_ARGUMENT = rf"""['"]?(\w+)['"]?\s*:\s*(?:!!python/tuple\s*)?(?:{_LIST}|(\d+(?:\.\d*)?))\s*,?"""
"""A name and a number, or a list of numbers, of YAML. Compiled when a Python layer is met, which few nets have."""

_OPERATIONS = ("Mul", "", "Maximum", "Div", "Minimum")
_SUMS: dict[tuple[float, ...], str] = {(1.0, 1.0): "Add", (1.0, -1.0): "Sub"}


def _arguments(layer: Layer, module: str, name: str) -> dict[str, tuple[float, ...]]:
    """The numbers that a layer's code is given, by name; none where it is other code, or is given anything else."""
    python = layer.param.python_param
    if layer.type != "Python" or (python.module, python.layer) != (module, name):
        return {}
    arguments: dict[str, tuple[float, ...]] = {}
    with suppress(ValueError):  # then what is said is not in `given`
        for word, listed, single in re.findall(_ARGUMENT, python.param_str):
            arguments[word] = ()
            items = (listed or single).strip("[]()").split(",")
            arguments[word] = tuple(float(item) for item in items if item.strip())
    return {} if re.sub(_ARGUMENT, "", python.param_str).strip("{}, \t\r\n") else arguments


def proposal_words(layer: Layer) -> tuple[int, tuple[float, ...]] | None:
    """The stride and the scales that py-faster-rcnn's ProposalLayer is given; None for any other layer.

    Forks of it under the same name are given more, and compute something else.
    """
    arguments = {"scales": (8.0, 16.0, 32.0), **_arguments(layer, "rpn.proposal_layer", "ProposalLayer")}
    stride, scales = arguments.get("feat_stride", ()), arguments["scales"]
    if arguments.keys() != {"feat_stride", "scales"} or len(stride) != 1:
        return None
    if not stride[0].is_integer() or not 1 <= stride[0] <= INT_MAX:
        return None
    return (int(stride[0]), scales) if scales and all(0 < scale < math.inf for scale in scales) else None


def _eltwise(layer: Layer) -> str:
    """The row of arithmetic that Synopsys' Eltwise in Python computes (python/eltwise.py); empty for any other layer.

    Its sums have coefficients, of which 1 and -1 are read; the other operations look at none.
    """
    arguments = _arguments(layer, "eltwise", "Eltwise")
    operation = arguments.get("operation", ())
    if not arguments.keys() <= {"operation", "coeff"} or len(operation) != 1 or operation[0] not in range(5):
        return ""
    if len(layer.bottoms) != 2 or len(layer.tops) != 1:
        return ""
    return _OPERATIONS[int(operation[0])] or _SUMS.get(arguments.get("coeff", ()), "")


def layer_type_of(layer: Layer) -> str:
    """The type whose row, law and form in ONNX a layer has: its own, but for Python layers that are read."""
    if layer.type != "Python":
        return str(layer.type)
    return "Proposal" if proposal_words(layer) is not None else _eltwise(layer) or "Python"


def python_notes(layers: Sequence[Layer]) -> list[str]:
    """What the code of a Python layer has that its network does not say."""
    notes = []
    for layer in layers:
        if layer.type != "Python":
            continue
        row = layer_type_of(layer)
        if row == "Proposal":
            notes.append(
                f"{layer}: read as py-faster-rcnn's ProposalLayer at the TEST defaults of its config, "
                "RPN_PRE_NMS_TOP_N 6000, RPN_POST_NMS_TOP_N 300, RPN_NMS_THRESH 0.7, RPN_MIN_SIZE 16; no code of it "
                "is run"
            )
        elif row != "Python":
            notes.append(f"{layer}: read as Synopsys' Eltwise in Python, which computes {row}; no code of it is run")
    return notes
