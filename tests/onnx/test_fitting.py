"""Which shapes a node may read: each row that fits beside one that does not."""

from __future__ import annotations

from typing import Any

import pytest
from onnx import helper

from bnfold.net import Shape
from bnfold.onnx.call import Call
from bnfold.onnx.fitting import RULES, fits

PLANE = (2, 4, 5, 5)

# The operator, its attributes, shapes that fit, and shapes that do not.
ROWS: list[tuple[str, dict[str, Any], list[Shape | None], list[Shape | None]]] = [
    ("Conv", {}, [PLANE, (6, 4, 3, 3), (6,)], [PLANE, (6, 3, 3, 3), (6,)]),
    ("Conv", {}, [PLANE, (6, 4, 3, 3), None], [PLANE, (6, 4, 3, 3), (5,)]),
    ("Conv", {}, [(2, -1, 5, 5), (6, 4, 3, 3)], [PLANE, (6, 4, 3)]),
    ("Conv", {"group": 2}, [PLANE, (6, 2, 3, 3), (6,)], [PLANE, (5, 2, 3, 3), (5,)]),
    ("Conv", {"group": 0}, [PLANE, None], [PLANE, (6, 4, 3, 3)]),
    ("Conv", {}, [(2, 4, 5), (6, 4, 3)], [(2, 4), (6, 4)]),
    ("ConvTranspose", {"group": 2}, [PLANE, (4, 3, 2, 2), (6,)], [PLANE, (4, 3, 2, 2), (3,)]),
    ("ConvTranspose", {}, [PLANE, (4, 3, 2, 2)], [PLANE, (6, 3, 2, 2)]),
    ("MatMul", {}, [(7, 2, 4), (4, 3)], [(7, 2, 4), (3, 3)]),
    ("MatMul", {}, [(2, 4), (4,)], [(2, 4), (2,)]),
    ("MatMul", {}, [(7, 2, 4), (1, 4, 3)], [(7, 2, 4), (6, 4, 3)]),
    ("MatMul", {}, [(4,), (4, 3)], [(4,), ()]),
    ("Gemm", {}, [(2, 4), (4, 3), (3,)], [(2, 4), (4, 3), (4,)]),
    ("Gemm", {"transA": 1}, [(4, 2), (4, 3), (2, 1)], [(2, 4), (4, 3)]),
    ("Gemm", {"transB": 1}, [(2, 4), (3, 4)], [(2, 4), (4, 3)]),
    ("Gemm", {}, [(2, 4), (4, 3), (1, 1)], [(2, 4), (4, 3), (1, 1, 3)]),
    ("Gemm", {}, [(2, 4), (4, 3)], [(2, 4), (4,)]),
    ("BatchNormalization", {}, [PLANE, (4,), (4,), (4,), (4,)], [PLANE, (4,), (4,), (4,), (5,)]),
    ("BatchNormalization", {"spatial": 0}, [PLANE, (4, 5, 5)], [None, (4,)]),
    ("InstanceNormalization", {}, [PLANE, (4,), (4,)], [PLANE, (4,), (4, 1)]),
    ("InstanceNormalization", {}, [(4,), (3,), (3,)], [PLANE, (5,), (5,)]),
    ("LSTM", {}, [(5, 2, 4), (1, 12, 4)], [(5, 2, 4), (1, 12, 3)]),
    ("GRU", {}, [(5, 2, 4), (1, 9, 4)], [(5, 4), (9, 4)]),
    ("RNN", {}, [(5, 2, -1), (1, 3, 4)], [(5, 2, 4), (3, 4)]),
    ("Add", {}, [PLANE, (4, 1, 1)], [PLANE, (3, 1, 1)]),
    ("Sub", {}, [(-1, 3), (2, 3)], [(2, 3), (4, 3)]),
    ("Mul", {}, [(1, 3), (0, 3)], [(2, 3), (0, 3)]),
    ("Div", {}, [(2, 3), (3,)], [(2, 3), (2,)]),
    ("Pow", {}, [(2, 3), ()], [(2, 3), (2, 1, 4)]),
    ("PRelu", {}, [PLANE, (4, 1, 1)], [(4, 1, 1), PLANE]),
    ("PRelu", {}, [PLANE, (5,)], [PLANE, (4,)]),
]


@pytest.mark.parametrize(("op", "attributes", "fitting", "unfit"), ROWS)
def test_what_runtimes_refuse_by_its_sizes_does_not_fit(
    op: str, attributes: dict[str, Any], fitting: list[Shape | None], unfit: list[Shape | None]
) -> None:
    def said(shapes: list[Shape | None], opset: int = 17, domain: str = "") -> bool:
        names = [f"i{place}" for place in range(len(shapes))]
        return fits(Call(helper.make_node(op, names, ["y"], domain=domain, **attributes), opset, (), shapes))

    assert said(fitting)
    assert said(unfit) == (None in unfit)
    assert said(unfit, opset=7) == (None in unfit)
    assert said(unfit, opset=6)
    assert said(unfit, domain="own")
    assert said([None, *unfit[1:]])
    assert said([unfit[0], None, *unfit[2:]])


def test_each_rule_has_a_row_or_is_that_of_another_operator() -> None:
    assert {RULES[op] for op, *_ in ROWS} == set(RULES.values())
