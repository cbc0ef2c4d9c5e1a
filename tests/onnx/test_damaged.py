"""Initialisers and attributes that are damaged, or stand twice, are named; nothing of them is guessed."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import numpy as np
import pytest
from onnx import AttributeProto, ModelProto, helper, numpy_helper
from onnx_cases import run
from onnx_texts import folded, model, reasons, statistics, values

from bnfold import fold
from bnfold.errors import WeightsError
from bnfold.onnx.read import load_bytes

TEXT = """<ir_version: 8, opset_import: ["" : 17]> net (float[n,2,5,5] x) => (float[n,3,3,3] y)
{ c = Conv (x, w) y = BatchNormalization (c, gamma, beta, mean, variance) }"""


def conv_bn() -> ModelProto:
    return model(TEXT, w=values(3, 2, 3, 3), **statistics())


def doubled(proto: ModelProto) -> None:
    proto.graph.initializer.append(numpy_helper.from_array(values(3, seed=5), "beta"))


def of_type(number: int) -> Callable[[ModelProto], None]:
    return lambda proto: setattr(proto.graph.initializer[1], "data_type", number)


def part_of_another(proto: ModelProto) -> None:
    proto.graph.initializer[1].segment.end = 2


def too_long(proto: ModelProto) -> None:
    proto.graph.initializer[1].raw_data += bytes(4)


def too_many(proto: ModelProto) -> None:
    proto.graph.initializer[1].dims[0] = 1 << 62


def too_short(proto: ModelProto) -> None:
    proto.graph.initializer[1].raw_data = proto.graph.initializer[1].raw_data[:-1]


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (doubled, "is stored twice, and runtimes differ in which they take; remove one"),
        (of_type(0), "has the type UNDEFINED, which this version of onnx does not know; update it"),
        (of_type(77), "has the type 77, which this version of onnx does not know; update it"),
        *((damage, "has not the values that") for damage in (part_of_another, too_long, too_many, too_short)),
    ],
)
def test_an_initialiser_that_cannot_be_read_is_named(damage: Callable[[ModelProto], None], sentence: str) -> None:
    before = conv_bn()
    name = "beta" if damage is doubled else before.graph.initializer[1].name
    damage(before)
    with pytest.raises(WeightsError, match=f"^model.onnx: tensor '{name}' {sentence}"):
        load_bytes(before.SerializeToString())


def test_an_initialiser_that_is_stored_twice_alike_is_one() -> None:
    before = conv_bn()
    before.graph.initializer.append(before.graph.initializer[1])
    x = values(2, 2, 5, 5, seed=3)
    np.testing.assert_allclose(run(folded(before), {"x": x})["y"], run(before, {"x": x})["y"], rtol=1e-5, atol=1e-5)


def test_a_sparse_initialiser_with_a_negative_index_is_not_read() -> None:
    """onnxruntime refuses it, where numpy counts from the end."""
    before = conv_bn()
    (at,) = (at for at, tensor in enumerate(before.graph.initializer) if tensor.name == "beta")
    sparse = before.graph.sparse_initializer.add(dims=[3])
    sparse.values.CopyFrom(numpy_helper.from_array(values(2), "beta"))
    for first, kept in ((0, []), (-1, ["BatchNormalization"])):
        sparse.indices.CopyFrom(numpy_helper.from_array(np.array([first, 1])))
        trial = deepcopy(before)
        del trial.graph.initializer[at]
        assert [one.type for one in fold(load_bytes(trial.SerializeToString())).report.kept] == kept


@pytest.mark.parametrize(
    ("attributes", "why"),
    [
        ([("epsilon", 1)], "'epsilon' is none of the operator's, or of another type"),
        ([("epsilon", 0.5), ("epsilon", 0.25)], "'epsilon' is given twice"),
        ([("eps", 0.5)], "'eps' is none of the operator's, or of another type"),
    ],
)
def test_a_node_with_attributes_that_runtimes_refuse_is_left_as_it_is(
    attributes: list[tuple[str, object]], why: str
) -> None:
    """Which number counts, nobody knows: 1e-05, which is the default, gives other values."""
    before = conv_bn()
    before.graph.node[1].attribute.extend(helper.make_attribute(*attribute) for attribute in attributes)
    (reason,) = reasons(before)
    assert why in reason
    assert folded(before) == before
    del before.graph.node[1].attribute[:]
    assert not reasons(before)


@pytest.mark.parametrize("said", ["strides = [2]", "pads = [1, 1]", "output_padding = [1]", "dilations = [1, 1, 1]"])
def test_windows_of_another_number_of_axes_leave_the_plane_open(said: str) -> None:
    text = f"""<ir_version: 8, opset_import: ["" : 17]> net (float[n,2,h,v] x) => (float[n,c,k,l] y)
    {{ c = ConvTranspose <{said}> (x, w) y = Relu (c) }}"""
    net = load_bytes(model(text, w=values(2, 3, 3, 3)).SerializeToString())
    assert net.front is not None
    assert net.front.shapes(net)["c"] is None


@pytest.mark.parametrize(
    ("nodes", "damage"),
    [
        ("m = MatMul (x, w) y = Add (m)", ""),
        ("p = Pad (x, v) y = MatMul (p, w)", ""),
        ("v2 = Gelu (v) m = MatMul (x, w) y = Mul (m, v2)", ""),
        ("v2 = ConstantOfShape <value = 1> (s) m = MatMul (x, w) y = Mul (m, v2)", "value"),
        ("v2 = Constant <value_ints = 1> () m = MatMul (x, w) y = Mul (m, v2)", "value_ints"),
    ],
)
def test_what_no_runtime_takes_is_read_and_left(nodes: str, damage: str) -> None:
    text = f'<ir_version: 8, opset_import: ["" : 17]> net (float[n,4] x) => (float[n,m] y) {{ {nodes} }}'
    before = model(text, w=values(4, 4), v=np.ones(4, np.float32), s=np.array([4]))
    for attribute in before.graph.node[0].attribute if damage else ():
        attribute.CopyFrom(AttributeProto(name=damage, type=AttributeProto.TENSOR))
    assert [node.op_type for node in folded(before).graph.node] == [node.op_type for node in before.graph.node]


def test_a_product_of_fewer_axes_than_its_weight_keeps_what_is_behind() -> None:
    """Its sizes do not fit, so the shape that the file says of it stands."""
    text = """<ir_version: 8, opset_import: ["" : 17]> net (float[4,6] x) => (float[4,8,2] y) <float[4,16] m>
    { m = MatMul (x, t) r = Reshape (m, s) y = BatchNormalization (r, v, v, v, v) }"""
    before = model(text, t=values(6, 16, 1), s=np.array([4, 8, 2]), v=np.ones(8, np.float32))
    assert folded(before) == before
