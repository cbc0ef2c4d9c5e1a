"""The model around the nodes: names, shapes, shared weights, metadata, versions, determinism."""

from __future__ import annotations

import nets
import numpy as np
import onnx
import pytest
from cases import golden, goldens
from onnx import numpy_helper
from single_layer import layer_net

from bnfold.algebra import fold
from bnfold.errors import UnsupportedError, UsageError, WeightsError
from bnfold.net import Net
from bnfold.onnx import to_onnx
from bnfold.runtime import Session

RESIDUAL = """
name: "residual"
input: "data" input_shape { dim: 1 dim: 4 dim: 6 dim: 6 }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
        convolution_param { num_output: 4 kernel_size: 3 pad: 1 } }
layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "conv" }
layer { name: "scale" type: "Scale" bottom: "conv" top: "conv" scale_param { bias_term: true } }
layer { name: "sum" type: "Eltwise" bottom: "conv" bottom: "data" top: "sum" }
layer { name: "drop" type: "Dropout" bottom: "sum" top: "sum" }
layer { name: "prob" type: "Softmax" bottom: "sum" top: "prob" }
"""


def residual() -> Net:
    return nets.net(RESIDUAL)


def test_layer_names_are_node_names_and_blob_names_tensor_names() -> None:
    nodes = {node.name: list(node.output) for node in to_onnx(residual()).graph.node}
    assert nodes == {
        "conv": ["conv@conv"],
        "bn": ["conv@bn"],
        "scale": ["conv"],
        "sum": ["sum@sum"],
        "drop": ["sum"],
        "prob": ["prob"],
    }


def test_every_node_says_which_layer_it_comes_from() -> None:
    for node in to_onnx(residual()).graph.node:
        assert node.doc_string.startswith(f"layer '{node.name.split('/')[0]}' (")


def test_every_blob_has_its_shape() -> None:
    graph = to_onnx(residual()).graph
    shapes = {info.name: [dim.dim_value for dim in info.type.tensor_type.shape.dim] for info in graph.value_info}
    assert shapes == {blob: [1, 4, 6, 6] for blob in ("conv@conv", "conv@bn", "conv", "sum@sum", "sum")}


def test_outputs_are_what_the_net_gives_or_what_is_asked_for() -> None:
    assert [value.name for value in to_onnx(residual()).graph.output] == ["prob"]
    asked = to_onnx(residual(), outputs=["conv@bn", "prob", "data"])
    assert [value.name for value in asked.graph.output] == ["conv@bn", "prob", "data"]
    x = np.ones((1, 4, 6, 6), np.float32)
    np.testing.assert_array_equal(Session(asked).run({"data": x})["data"], x)


@pytest.mark.parametrize(
    ("outputs", "said"),
    [
        (["porb"], r"outputs porb: the network has no blob of that name \(did you mean 'prob'\?\)"),
        ([], "outputs .*: a model gives one blob at least, and each once"),
        (["prob", "prob"], "a model gives one blob at least, and each once"),
    ],
)
def test_outputs_that_a_model_cannot_give_are_a_usage_error(outputs: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        to_onnx(residual(), outputs=outputs)


@pytest.mark.parametrize("opset", [10, 22])
def test_an_opset_that_is_not_known_is_a_usage_error(opset: int) -> None:
    with pytest.raises(UsageError, match=f"opset {opset}: known are 11 to 21"):
        to_onnx(residual(), opset=opset)


def test_half_precision_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="float16"):
        to_onnx(residual(), dtype=np.float16)


@pytest.mark.parametrize(("opset", "version"), [(11, 6), (13, 7), (17, 8), (19, 9), (21, 10)])
def test_the_format_is_no_newer_than_the_opset_needs(opset: int, version: int) -> None:
    model = to_onnx(residual(), opset=opset)
    assert model.ir_version == version
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", opset)]


def test_metadata_is_carried_in_a_fixed_order() -> None:
    model = to_onnx(residual(), metadata={"weights": "b", "net": "a"})
    assert [(entry.key, entry.value) for entry in model.metadata_props] == [("net", "a"), ("weights", "b")]
    assert model.producer_name == "bnfold"
    assert model.graph.name == "residual"


@pytest.mark.parametrize("name", goldens())
def test_the_same_net_gives_the_same_bytes(name: str) -> None:
    case = golden(name)
    once, again = (to_onnx(case.load(case.prototxt, case.caffemodel)).SerializeToString() for _ in range(2))
    assert once == again


@pytest.mark.parametrize("name", goldens())
def test_every_node_and_tensor_has_a_name_of_its_own(name: str) -> None:
    graph = to_onnx(golden(name).load()).graph
    nodes = [node.name for node in graph.node]
    tensors = [tensor for node in graph.node for tensor in node.output]
    tensors += [value.name for value in graph.input] + [weight.name for weight in graph.initializer]
    assert len(nodes) == len(set(nodes))
    assert len(tensors) == len(set(tensors))
    assert "" not in nodes + tensors


def test_a_step_steps_aside_for_a_blob_of_its_name() -> None:
    layer = 'name: "p" type: "Power" bottom: "x" top: "p/scale" power_param { scale: 2 shift: 1 }'
    net = nets.net(f'input: "x" input_shape {{ dim: 1 dim: 2 }} layer {{ {layer} }}')
    session = Session(to_onnx(net))
    np.testing.assert_array_equal(session.run({"x": np.ones((1, 2), np.float32)})["p/scale"], [[3, 3]])


def test_layers_of_one_name_make_nodes_of_two() -> None:
    twins = RESIDUAL.replace('"drop"', '"sum"').replace('"prob" type', '"sum" type')
    net = nets.net(twins)
    # Reading numbers them; a net that was made in another way may still have them.
    assert [layer.name for layer in net.layers][-3:] == ["sum", "sum#2", "sum#3"]
    for names in (["sum", "sum#2", "sum#3"], ["sum", "sum_2", "sum_3"]):
        model = to_onnx(net)
        assert [node.name for node in model.graph.node][-3:] == names
        Session(model)
        for layer in net.layers[-3:]:
            layer.name = "sum"


def test_a_folded_weight_of_several_pieces_comes_whole() -> None:
    """The pieces of a lazy weight are joined, each in its place."""
    net = nets.net(
        'input: "x" input_shape { dim: 1 dim: 400 }'
        'layer { name: "ip" type: "InnerProduct" bottom: "x" top: "y" inner_product_param { num_output: 1500 } }'
        'layer { name: "bn" type: "BatchNorm" bottom: "y" top: "y" }'
    )
    (layer,) = fold(net).net.layers[-1:]
    weight = layer.blobs.stored[0]
    assert not isinstance(weight, np.ndarray)
    assert sum(1 for _ in weight.chunks()) > 1
    (stored,) = [tensor for tensor in to_onnx(fold(net).net).graph.initializer if tensor.name == "ip/weight"]
    np.testing.assert_array_equal(numpy_helper.to_array(stored), layer.blobs[0])


@pytest.mark.parametrize("folded", [False, True])
def test_weights_that_are_shared_by_name_are_one_initialiser(folded: bool) -> None:
    net = golden("shared_everything").load()
    model = to_onnx(fold(net).net if folded else net)
    readers: dict[str, int] = {}
    for node in model.graph.node:
        if node.op_type == "Conv":
            readers[node.input[1]] = readers.get(node.input[1], 0) + 1
    assert sorted(readers.values()) == [2]


def test_weights_that_are_shared_by_name_but_differ_stay_apart() -> None:
    text = """
    input: "x" input_shape { dim: 1 dim: 2 dim: 3 dim: 3 }
    layer { name: "a" type: "Convolution" bottom: "x" top: "a" param { name: "w" }
            convolution_param { num_output: 2 kernel_size: 1 bias_term: false } }
    layer { name: "b" type: "Convolution" bottom: "a" top: "b" param { name: "w" }
            convolution_param { num_output: 2 kernel_size: 1 bias_term: false } }
    """
    one, other = np.ones((2, 2, 1, 1)), 2 * np.ones((2, 2, 1, 1))
    weights = [
        numpy_helper.to_array(weight) for weight in to_onnx(nets.net(text, a=[one], b=[other])).graph.initializer
    ]
    assert sorted(float(weight.flat[0]) for weight in weights) == [1, 2]


def test_everything_unsupported_is_named_at_once_and_nothing_else() -> None:
    text = """
    input: "x" input_shape { dim: 1 dim: 2 dim: 8 dim: 8 }
    layer { name: "a" type: "Python" bottom: "x" top: "a" python_param { module: "m" layer: "L" } }
    layer { name: "r" type: "ReLU" bottom: "a" top: "r" }
    layer { name: "p" type: "Pooling" bottom: "r" top: "p" pooling_param { kernel_size: 2 } }
    layer { name: "o" type: "Oracle" bottom: "x" top: "o" }
    """
    with pytest.raises(UnsupportedError) as refused:
        to_onnx(nets.net(text))
    assert refused.value.cases == (
        "layer 'a' (Python): what it computes is Python code outside the network",
        "layer 'o' (Oracle): bnfold does not know what layers of this type compute",
    )
    assert str(refused.value).startswith("2 layers cannot be written as ONNX (--allow-custom-ops ")


def test_a_type_that_is_misspelt_is_guessed_for_each_of_its_layers() -> None:
    text = """
    input: "x" input_shape { dim: 1 dim: 2 dim: 8 dim: 8 }
    layer { name: "a" type: "Rellu" bottom: "x" top: "a" }
    layer { name: "b" type: "Rellu" bottom: "a" top: "b" }
    """
    with pytest.raises(UnsupportedError) as refused:
        to_onnx(nets.net(text))
    said = "(Rellu): bnfold does not know what layers of this type compute (did you mean 'ReLU'?)"
    assert refused.value.cases == (f"layer 'a' {said}", f"layer 'b' {said}")


def test_a_custom_node_carries_its_parameters_and_weights() -> None:
    text = """
    input: "x" input_shape { dim: 1 dim: 2 dim: 8 dim: 8 }
    layer { name: "a" type: "Python" bottom: "x" top: "a" top: "b"
            python_param { module: "m" layer: "L" share_in_parallel: true } }
    layer { name: "r" type: "ReLU" bottom: "a" top: "r" }
    layer { name: "p" type: "Pooling" bottom: "r" top: "p" pooling_param { kernel_size: 2 pool: AVE } }
    """
    model = to_onnx(nets.net(text, a=[np.ones((2, 3))]), allow_custom_ops=True)
    custom, relu, pool = model.graph.node
    assert (custom.domain, custom.op_type) == ("caffe", "Python")
    assert list(custom.input) == ["x", "a/blob0"]
    assert list(custom.output) == ["a", "b"]
    values = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in custom.attribute}
    assert values == {
        "python_param_module": b"m",
        "python_param_layer": b"L",
        "python_param_share_in_parallel": 1,
    }
    assert (relu.domain, relu.op_type) == ("", "Relu")
    assert (pool.domain, pool.op_type) == ("caffe", "Pooling")
    assert onnx.helper.get_attribute_value(pool.attribute[1]) in (2, b"AVE")
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 17), ("caffe", 1)]


def test_a_custom_node_carries_parameters_that_no_dialect_has() -> None:
    text = """
    input: "x" input_shape { dim: 1 dim: 2 dim: 8 dim: 8 }
    layer { name: "a" type: "Oracle" bottom: "x" top: "a"
            oracle_param { words: "yes" words: 'n\\'t' size: 3 size: 4 # 5
                           ratio: [1, 0.5] how: BOTH deep { sure: true } empty: [] } }
    """
    (node,) = to_onnx(nets.net(text), allow_custom_ops=True).graph.node
    values = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
    assert values == {
        "oracle_param_words": [b"yes", b"n't"],
        "oracle_param_size": [3, 4],
        "oracle_param_ratio": [1, 0.5],
        "oracle_param_how": b"BOTH",
        "oracle_param_deep_sure": 1,
    }


def test_without_leave_no_custom_node_is_written() -> None:
    net = layer_net('type: "DenseCRF"', [(1, 3, 8, 8)])
    with pytest.raises(UnsupportedError, match=r"layer 'l' \(DenseCRF\): it infers by iterations over all pairs"):
        to_onnx(net)
    assert [node.domain for node in to_onnx(net, allow_custom_ops=True).graph.node] == ["caffe"]


@pytest.mark.parametrize("allowed", [False, True])
def test_a_learned_layer_without_its_weights_is_an_error_and_no_custom_node(allowed: bool) -> None:
    with pytest.raises(WeightsError, match=r"layer 'l' \(PReLU\): it has no learned slope"):
        to_onnx(layer_net('type: "PReLU"', [(1, 3, 4, 4)], blobs=[]), allow_custom_ops=allowed)


def test_a_batchnorm_without_its_weights_is_an_error() -> None:
    with pytest.raises(WeightsError, match="it has no learned statistics"):
        to_onnx(layer_net('type: "BatchNorm"', [(1, 3, 4, 4)], blobs=[]))


def test_what_fixes_the_batch_does_not_become_a_custom_node() -> None:
    net = layer_net('type: "Slice" slice_param { axis: 0 }', [(2, 3, 4)])
    with pytest.raises(UnsupportedError, match="it cuts the batch"):
        to_onnx(net, dynamic_batch=True, allow_custom_ops=True)


def test_a_scale_along_the_channels_is_one_batch_normalization_of_the_same_numbers() -> None:
    (node,) = [node for node in to_onnx(residual()).graph.node if node.name == "scale"]
    model = to_onnx(residual())
    values = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    scale, bias, mean, variance = (values[name] for name in node.input[1:])
    learned = next(layer for layer in residual().layers if layer.name == "scale").blobs
    assert node.op_type == "BatchNormalization"
    assert node.attribute[0].f == 0.0
    for found, wanted in zip((scale, bias), learned, strict=True):
        np.testing.assert_array_equal(found, wanted)
    assert not mean.any()
    assert (variance == 1).all()
