"""The small models of `traps`, damaged at random: what onnxruntime still runs folds to the same numbers."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from io import BytesIO

import numpy as np
import onnx
import pytest
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnx_cases import Array, error, run, values_of
from onnx_traps import Trap, traps
from onnxruntime.capi import onnxruntime_pybind11_state as pybind

from bnfold import fold, save_onnx
from bnfold.algebra import Kept
from bnfold.errors import BnfoldError
from bnfold.onnx.read import load_bytes
from bnfold.onnx.risks import needs_own_process

MUTANTS, PARTS = 480, 8
TOLERANCES = {"float": 3e-4, "double": 1e-9, "float16": 3e-2}
"""Of the range: a mutant may subtract what is nearly equal. A wrong law is off by a thousand times that."""

FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)
ALIKE = (
    ("Add", "Sub", "Mul", "Div", "Max", "Min", "Sum", "Mean"),
    ("Relu", "LeakyRelu", "Abs", "Neg", "Sigmoid", "Identity", "Tanh", "Dropout"),
    ("MaxPool", "AveragePool"),
    ("GlobalMaxPool", "GlobalAveragePool"),
    ("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2"),
)
REFUSALS = (
    BnfoldError,
    onnx.shape_inference.InferenceError,
    pybind.Fail,
    pybind.InvalidArgument,
    pybind.InvalidGraph,
    pybind.NotImplemented,
    pybind.RuntimeException,
)
"""What bnfold, onnx and onnxruntime say of what is no network; anything else is a fault."""

Mutation = Callable[[random.Random, GraphProto, NodeProto], None]


def another_input(choose: random.Random, graph: GraphProto, node: NodeProto) -> None:
    before = [name for other in graph.node[: list(graph.node).index(node)] for name in other.output if name]
    names = [port.name for port in graph.input] + [tensor.name for tensor in graph.initializer] + before
    node.input[choose.randrange(len(node.input))] = choose.choice(names)


def other_order(choose: random.Random, _: GraphProto, node: NodeProto) -> None:
    first, second = choose.sample(range(len(node.input)), 2)
    node.input[first], node.input[second] = node.input[second], node.input[first]


def another_type(choose: random.Random, _: GraphProto, node: NodeProto) -> None:
    node.op_type = choose.choice(next(op_types for op_types in ALIKE if node.op_type in op_types))


def another_attribute(choose: random.Random, _: GraphProto, node: NodeProto) -> None:
    attribute = choose.choice(node.attribute)
    if attribute.type == AttributeProto.INT:
        attribute.i = choose.choice([0, 1, 2, 3, -1])
    elif attribute.type == AttributeProto.INTS:
        attribute.ints[choose.randrange(len(attribute.ints))] = choose.choice([0, 1, 2, 3, -1])
    elif attribute.type == AttributeProto.FLOAT:
        attribute.f = choose.choice([0.0, 1.0, -1.0, 0.5])


def no_attribute(choose: random.Random, _: GraphProto, node: NodeProto) -> None:
    del node.attribute[choose.randrange(len(node.attribute))]


def another_number(choose: random.Random, graph: GraphProto, _: NodeProto) -> None:
    tensor = choose.choice([tensor for tensor in graph.initializer if tensor.data_type == TensorProto.INT64])
    values = numpy_helper.to_array(tensor).copy()
    values.reshape(-1)[choose.randrange(values.size)] += choose.choice([-1, 1, 2])
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


def another_shape(choose: random.Random, graph: GraphProto, _: NodeProto) -> None:
    tensor = choose.choice([tensor for tensor in graph.initializer if tensor.data_type in FLOATS])
    values: Array = numpy_helper.to_array(tensor)
    first = values.reshape(-1)[:1]
    forms = [values[None], values.reshape(-1), values.squeeze(), values.T, first, first.reshape(()), np.abs(values)]
    tensor.CopyFrom(numpy_helper.from_array(choose.choice([*forms, values * 0, values[..., None]]), tensor.name))


def one_more(choose: random.Random, graph: GraphProto, node: NodeProto) -> None:
    """Arithmetic between a node and some of those that read it."""
    read, made = node.output[0], f"more{len(graph.node)}"
    constants = [tensor.name for tensor in graph.initializer if tensor.data_type in FLOATS]
    pair = choose.sample([read, choose.choice(constants)], 2)
    op_type, inputs = choose.choice([(choose.choice(ALIKE[1]), [read]), (choose.choice(ALIKE[0][:4]), pair)])
    place = list(graph.node).index(node) + 1
    behind = [NodeProto.FromString(other.SerializeToString()) for other in graph.node[place:]]
    for other in behind:
        for index, name in enumerate(other.input):
            if name == read and choose.random() < 0.7:
                other.input[index] = made
    del graph.node[place:]
    graph.node.extend([helper.make_node(op_type, inputs, [made]), *behind])
    if not any(made in other.input for other in behind):
        graph.output.add(name=made)


def one_output_more(choose: random.Random, graph: GraphProto, node: NodeProto) -> None:
    name = choose.choice(node.output)
    if name not in [port.name for port in graph.output]:
        graph.output.add(name=name)


def an_open_size(choose: random.Random, graph: GraphProto, _: NodeProto) -> None:
    size = choose.choice(choose.choice(graph.input).type.tensor_type.shape.dim)
    if size.dim_value:  # the mean of nothing is left undefined by ONNX, so laws take an open size for 1 at least
        size.dim_param = f"size{choose.randrange(3)}"


MUTATIONS: tuple[Mutation, ...] = (
    another_input,
    other_order,
    another_type,
    another_attribute,
    no_attribute,
    another_number,
    another_shape,
    one_more,
    one_output_more,
    an_open_size,
)


def mutant(choose: random.Random, trap: Trap) -> ModelProto:
    """One to three changes to a model; a change that finds nothing to change is none."""
    model = trap.model()
    for _ in range(choose.choice([1, 1, 1, 2, 3])):
        try:
            choose.choice(MUTATIONS)(choose, model.graph, choose.choice(model.graph.node))
        except (IndexError, StopIteration, ValueError):
            continue
    for port in model.graph.output:
        port.type.tensor_type.ClearField("shape")
    typed = onnx.shape_inference.infer_shapes(model).graph.output
    del model.graph.output[:]
    model.graph.output.extend(typed)
    return model


def folded(data: bytes, trap: Trap) -> tuple[bytes, list[object]]:
    result = fold(load_bytes(data, trap.options))
    stream = BytesIO()
    save_onnx(result.net, stream)
    return stream.getvalue(), [record for record in result.report.records if not isinstance(record, Kept)]


@pytest.mark.parametrize("part", range(PARTS))
def test_what_onnxruntime_runs_of_a_damaged_model_folds_to_the_same(part: int) -> None:
    # onnx's own inference ends the process where a convolution larger than its image is cut by a Slice; and a Dropout
    # that trains is another one in each run.
    every, ran, changed = [trap for trap in traps() if not re.search(r"= Slice\(|Dropout\(\w+, ", trap.body)], 0, 0
    for seed in range(part, MUTANTS, PARTS):
        choose = random.Random(seed)
        trap = choose.choice(every)
        try:
            model = mutant(choose, trap)
            if needs_own_process(model) and not needs_own_process(trap.model()):
                continue  # it might end this one
            data, feeds = model.SerializeToString(), trap.feeds()
            outputs = run(data, feeds)
            written, records = folded(data, trap)
        except REFUSALS:
            continue
        ran, changed = ran + 1, changed + bool(records)
        names = sorted(set(values_of(model)) & set(values_of(ModelProto.FromString(written))))
        try:
            before = run(data, feeds, names)
        except REFUSALS:  # a body, or a list, of which onnxruntime gives no value
            names, before = [], outputs
        after = run(written, feeds, names)
        for name, expected in before.items():
            if isinstance(expected, np.ndarray) and expected.dtype.kind == "f" and np.isfinite(expected).all():
                assert error(after[name], expected) < TOLERANCES[trap.dtype], (seed, trap.name, name)
        assert folded(written, trap) == (written, []), (seed, trap.name)
    assert ran > 20
    assert changed > 10
