"""The same laws in the other language: every ONNX operator that an affine passes, in its modes, by onnx's evaluator.

Back is `A(L(x)) == L(A'(x))`, forward `L(A(x)) == A'(L(x))`, in float64, for affines of every kind along every axis.
What a law lets pass must be the same; each row says which kinds it must let pass and which it must refuse.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import pytest
from algebra.rows import (
    Array,
    Kind,
    any_affine,
    applied,
    difference,
    keeps_both,
    keeps_order,
    keeps_strict_order,
    keeps_zero,
    shift,
    signed,
)
from onnx.reference import ReferenceEvaluator
from seeds import seeded

from bnfold.algebra import commute
from bnfold.algebra.affine import Affine
from bnfold.algebra.commute import Affines, Commuting
from bnfold.algebra.frontend import FoldContext
from bnfold.algebra.operators import Linear, Move, Opaque, Operator, Pass
from bnfold.algebra.records import Blocked
from bnfold.net import Layer, Shape
from bnfold.onnx.operators import OPERATORS
from bnfold.onnx.read import load_bytes


def gain(rng: np.random.Generator, channels: int) -> Affine:
    """Positive scales, no shift."""
    return keeps_strict_order(rng, channels).without_shift()


EVERY = {
    "any": any_affine,
    "zero": keeps_zero,
    "order": keeps_order,
    "strict": keeps_strict_order,
    "both": keeps_both,
    "gain": gain,
    "shift": shift,
}
"""The kinds of affine, by what the predicates say of them."""


@dataclass(frozen=True)
class Row:
    """One mode of one operator.

    Attributes:
        node: `name = Op <...> (x, ...)`, writing t0, t1 ..; what is not x, y or z is a constant of `constants`.
        bottoms: shapes of x, y, z.
        constants: name -> whole numbers, or one without axes; floats where the name begins with f, flags with b.
        passes: kinds that must pass somewhere, in both directions.
        refuses: kinds that may pass nowhere, but where all channels are treated alike.
    """

    node: str
    bottoms: tuple[Shape, ...]
    constants: tuple[tuple[str, Sequence[Any] | int], ...] = ()
    passes: str = "any zero order strict both"
    refuses: str = ""
    opset: int = 18

    @property
    def op(self) -> str:
        return self.node.split("=")[1].split("<")[0].split("(")[0].strip()

    def model(self) -> onnx.ModelProto:
        tops = [name.strip() for name in self.node.split("=")[0].split(",")]
        inputs = ", ".join(f"double[{','.join(map(str, s))}] {n}" for n, s in zip("xyz", self.bottoms, strict=False))
        fixed = "\n".join(_constant(name, values) for name, values in self.constants)
        outputs = ", ".join(f"double[?] {top}" for top in tops)
        text = f"""<ir_version: 8, opset_import: ["" : {self.opset}, "ai.onnx.ml" : 3]>
            g ({inputs}) => ({outputs}) {{ {fixed}
            {self.node} }}"""
        model = onnx.parser.parse_model(text)
        for output in model.graph.output:
            output.type.tensor_type.ClearField("shape")
        return model


def _constant(name: str, values: Sequence[Any] | int) -> str:
    kind, listed = (
        {"f": "double", "b": "bool"}.get(name[0], "int64"),
        values if isinstance(values, Sequence) else [values],
    )
    axes = f"[{','.join(map(str, np.shape(values)))}]" if listed is values else ""
    return f"{name} = Constant <value = {kind}{axes} {{{','.join(map(str, np.ravel(listed)))}}}> ()"


PLANE = (2, 4, 6, 6)
REGIONS = (("f", [[0.5, 1.0, 4.0, 3.0], [-3.0, 2.0, 9.0, 5.5], [20.0, 20.0, 30.0, 30.0]]), ("i", [1, 0, 1]))
"""Of which the second leaves the plane and the last lies outside of it; and the sample of each."""
# Clips with bounds, which change, are in tests/algebra/test_clip.py, and so are Max and Min with a number.
ROWS = [
    Row("t0 = Abs (x)", (PLANE,), passes="both", refuses="any zero order strict"),
    Row("t0 = Relu (x)", (PLANE,), passes="both", refuses="any zero strict"),
    Row("t0 = LeakyRelu <alpha = 0.25> (x)", (PLANE,), passes="both", refuses="any zero strict"),
    Row("t0 = ThresholdedRelu <alpha = 0.0> (x)", (PLANE,), passes="both", refuses="any zero strict"),
    Row("t0 = Clip (x)", (PLANE,)),
    Row("t0 = PRelu (x, f)", (PLANE,), (("f", [3]),), passes="both", refuses="any zero strict"),
    Row("t0 = PRelu (x, f)", (PLANE,), (("f", 3),), passes="both", refuses="any zero strict"),
    Row("t0 = MaxPool <kernel_shape = [2, 2]> (x)", (PLANE,), passes="order both", refuses="any zero"),
    Row("t0 = AveragePool <kernel_shape = [3, 3]> (x)", (PLANE,)),
    Row("t0 = AveragePool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (x)", (PLANE,)),
    Row(
        "t0 = AveragePool <kernel_shape = [3, 3], pads = [1, 1, 1, 1], count_include_pad = 1> (x)",
        (PLANE,),
        passes="zero both",
        refuses="any order",
    ),
    Row("t0 = GlobalAveragePool (x)", (PLANE,)),
    Row("t0 = GlobalMaxPool (x)", (PLANE,), passes="order both", refuses="any zero"),
    Row("t0 = LpPool <kernel_shape = [3, 3], p = 3> (x)", (PLANE,), passes="gain", refuses="any zero strict both"),
    Row("t0 = GridSample (x, y)", (PLANE, (2, 3, 5, 2)), passes="zero gain", refuses="any order"),
    Row("t0 = RoiAlign <output_height = 2, output_width = 2> (x, f, i)", (PLANE,), REGIONS, "zero both", "any order"),
    Row(
        't0 = RoiAlign <mode = "max", output_height = 2, output_width = 3, sampling_ratio = 2> (x, f, i)',
        (PLANE,),
        REGIONS,
        passes="both",
        refuses="any zero strict",
    ),
    Row("t0 = ReduceMean <keepdims = 1> (x, axes)", (PLANE,), (("axes", [2, 3]),)),
    Row("t0 = ReduceMean <keepdims = 0> (x, axes)", (PLANE,), (("axes", [-1, -2]),)),
    Row("t0 = ReduceMean <keepdims = 0> (x, axes)", (PLANE,), (("axes", [1]),)),
    Row("t0 = ReduceSum <keepdims = 0> (x, axes)", (PLANE,), (("axes", [2, 3]),)),
    Row("t0 = ReduceSum <keepdims = 1> (x, axes)", (PLANE,), (("axes", [1, -1]),)),
    Row("t0 = ReduceMax <keepdims = 1> (x, axes)", (PLANE,), (("axes", [3]),), "order both", "any zero"),
    Row("t0 = ReduceMin <keepdims = 0> (x, axes)", (PLANE,), (("axes", [2]),), "order both", "any zero"),
    Row(
        "t0 = ReduceL1 <keepdims = 1> (x, axes)",
        (PLANE,),
        (("axes", [2, 3]),),
        passes="both",
        refuses="any zero order strict",
    ),
    Row(
        "t0 = ReduceL2 <keepdims = 0> (x, axes)",
        (PLANE,),
        (("axes", [-1]),),
        passes="gain",
        refuses="any zero order strict both",
    ),
    Row("t0 = CumSum (x, axis)", (PLANE,), (("axis", 2),), passes="zero both", refuses="any order"),
    Row("t0 = CumSum <reverse = 1> (x, axis)", (PLANE,), (("axis", -3),), passes="zero both", refuses="any order"),
    Row("t0 = CumSum <exclusive = 1> (x, axis)", (PLANE,), (("axis", 0),), passes="zero both", refuses="any order"),
    Row("t0 = Trilu <upper = 0> (x)", (PLANE,), passes="zero both", refuses="any order"),
    Row("t0 = TopK <axis = 2> (x, k)", (PLANE,), (("k", [3]),), passes="order both", refuses="any zero"),
    Row("t0 = TopK <largest = 0, sorted = 1> (x, k)", (PLANE,), (("k", [4]),), "order both", "any zero"),
    Row("t0 = GatherElements <axis = 1> (x, places)", ((2, 4, 3),), (("places", [[[3, 0, 1], [2, 2, 2]]] * 2),)),
    Row("t0 = GatherElements <axis = 2> (x, places)", ((2, 4, 3),), (("places", [[[2], [0], [1], [0]]] * 2),)),
    Row("t0 = GatherND (x, i)", ((3, 4, 2),), (("i", [[2], [0]]),)),
    Row("t0 = GatherND (x, i)", ((3, 4, 2),), (("i", [[[2, 3], [0, 1], [1, 0]]]),)),
    Row("t0 = GatherND <batch_dims = 1> (x, i)", ((2, 4, 3),), (("i", [[[3], [0], [1]], [[2], [2], [1]]]),)),
    Row("t0 = GatherND <batch_dims = 1> (x, i)", ((2, 4, 3, 2),), (("i", [[3, 0], [1, 2]]),)),
    Row("t0 = Compress <axis = 1> (x, b)", ((2, 4, 3),), (("b", [0, 1, 0, 1]),)),
    Row("t0 = Compress <axis = -1> (x, b)", ((2, 4, 3),), (("b", [1, 1]),)),
    Row("t0 = ReverseSequence <time_axis = 1, batch_axis = 0> (x, long)", ((2, 5, 3),), (("long", [3, 4]),)),
    Row("t0 = ReverseSequence (x, long)", ((5, 2, 3),), (("long", [1, 5]),)),
    Row("t0 = Concat <axis = 1> (x, y)", ((2, 3, 2), (2, 2, 2))),
    Row("t0 = Concat <axis = -1> (x, y)", ((2, 3, 2), (2, 3, 4))),
    Row("t0, t1 = Split <axis = 1> (x, sizes)", ((2, 5, 3),), (("sizes", [2, 3]),)),
    Row("t0 = Slice (x, starts, ends, axes)", ((2, 6, 4),), (("starts", [1]), ("ends", [5]), ("axes", [1]))),
    Row(
        "t0 = Slice (x, starts, ends, axes, steps)",
        ((2, 6, 4),),
        (("starts", [-1]), ("ends", [-7]), ("axes", [1]), ("steps", [-2])),
    ),
    Row("t0 = Slice (x, starts, ends, axes)", ((2, 6, 4),), (("starts", [1, 0]), ("ends", [9, 2]), ("axes", [1, 2]))),
    Row("t0 = Gather <axis = 1> (x, indices)", ((2, 6, 4),), (("indices", [4, 0, 3]),)),
    Row("t0 = Gather <axis = 1> (x, index)", ((2, 6, 4),), (("index", -2),)),
    Row("t0 = ai.onnx.ml.ArrayFeatureExtractor (x, indices)", ((3, 6),), (("indices", [4, 0, 3]),)),
    Row("t0 = ai.onnx.ml.ArrayFeatureExtractor (x, indices)", ((2, 3, 6),), (("indices", [[5, 1]]),)),
    Row("t0 = Add (x, y)", ((2, 4, 3), (2, 4, 3))),
    Row("t0 = Add (x, y)", ((2, 4, 3), (4, 1))),
    Row("t0 = Sub (x, y)", ((2, 4, 3), (2, 4, 3))),
    Row("t0 = Sum (x, y, z)", ((2, 4, 3), (2, 4, 3), (2, 4, 3))),
    Row("t0 = Mean (x, y)", ((2, 4, 3), (2, 4, 3))),
    Row("t0 = Mul (x, y)", ((2, 4, 3), (2, 4, 1)), passes="zero both", refuses="any order"),
    Row("t0 = MatMul (x, y)", ((2, 4, 3), (2, 3, 5)), passes="zero both", refuses="any order"),
    Row("t0 = MatMul (x, y)", ((2, 1, 4, 3), (3, 3, 5)), passes="zero both", refuses="any order"),
    Row("t0 = MatMul (x, y)", ((3, 4), (2, 4, 1)), passes="zero both", refuses="any order"),
    *(
        Row(node, (bottom,), (("f", weight),), passes="zero both", refuses="any order")
        for node, bottom, weight in (  # along the axes that the weight has not got
            ("t0 = MatMul (x, f)", (2, 4, 3), [[1.5, -2], [0.5, 3], [-1, 0.7]]),
            ("t0 = MatMul (f, x)", (2, 3, 5), [[1.5, -2, 1], [0.5, 3, -4]]),
            ("t0 = MatMul (x, f)", (2, 1, 4, 2), [[[1.5, -2], [0.5, 3]], [[2, 0.3], [-1, 0.7]], [[4, 1], [3, -1.1]]]),
            ("t0 = MatMul (x, f)", (2, 4, 3), [1.5, -2, 0.4]),
            ("t0 = MatMul (f, x)", (2, 3, 5), [1.5, -2, 0.4]),
            ("t0 = Gemm <transB = 1> (x, f)", (4, 3), [[1.5, -2, 1], [0.5, 3, -4]]),
            ("t0 = Gemm <transA = 1, alpha = 0.5> (x, f)", (3, 4), [[1.5, -2], [0.5, 3], [-1, 0.7]]),
            ("t0 = Gemm (f, x)", (3, 5), [[1.5, -2, 1], [0.5, 3, -4]]),
            ("t0 = Gemm <transA = 1, transB = 1> (f, x)", (5, 2), [[1.5, -2, 1], [0.5, 3, -4]]),
            ('t0 = Einsum <equation = "bij,jk->kbi"> (x, f)', (2, 4, 3), [[1.5, -2], [0.5, 3], [-1, 0.7]]),
        )
    ),
    Row(
        't0 = Einsum <equation = "bhid,bhjd->bhij"> (x, y)',
        ((2, 2, 3, 4), (2, 2, 5, 4)),
        passes="zero both",
        refuses="any order",
    ),
    Row(
        't0 = Einsum <equation = "ijk, kl, i -> lji"> (x, y, z)',
        ((2, 3, 4), (4, 5), (2,)),
        passes="zero both",
        refuses="any order",
    ),
    Row("t0 = Div (x, y)", ((2, 4, 3), (2, 4, 3)), passes="zero both", refuses="any order"),
    Row("t0 = Max (x, y)", ((2, 4, 3), (2, 4, 3)), passes="order both", refuses="any zero"),
    Row("t0 = Min (x, y)", ((2, 4, 3), (1, 4, 1)), passes="order both", refuses="any zero"),
    Row("t0 = Where (b, x, y)", ((2, 4, 3), (2, 4, 3)), (("b", [[[1], [0], [0], [1]]]),)),
    Row("t0 = Where (b, x, y)", ((2, 4, 3), (4, 1)), (("b", [1, 0, 1]),)),
    Row("t0 = Where (b, f, x)", ((2, 4, 3),), (("b", [1, 0, 1]), ("f", [0, 0, 0])), "zero both", "any order"),
    Row("t0 = ScatterND (x, i, y)", ((4, 2, 3), (2, 2, 3)), (("i", [[3], [1]]),)),
    Row("t0 = ScatterND (x, i, y)", ((4, 2, 3), (3, 3)), (("i", [[3, 1], [0, 0], [3, 0]]),)),
    Row("t0 = ScatterND (x, i, y)", ((4, 2), (3,)), (("i", [[3, 1], [0, 0], [3, 0]]),)),
    Row(
        "t0 = ScatterND (f, i, x)",
        ((2, 2, 3),),
        (("i", [[3], [1]]), ("f", [[[0] * 3] * 2] * 4)),
        passes="zero both",
        refuses="any order",
    ),
    Row("t0 = ScatterElements <axis = 1> (x, i, y)", ((2, 4, 3), (2, 2, 3)), (("i", [[[3, 0, 1], [2, 2, 0]]] * 2),)),
    Row("t0 = ScatterElements <axis = -1> (x, i, y)", ((2, 4, 3), (1, 2, 2)), (("i", [[[2, 0], [1, 2]]]),)),
    Row(
        't0 = ScatterND <reduction = "add"> (x, i, y)',
        ((4, 2, 3), (3, 2, 3)),
        (("i", [[3], [1], [3]]),),
    ),
    Row(
        't0 = ScatterND <reduction = "add"> (f, i, x)',
        ((3, 2, 3),),
        (("i", [[3], [1], [3]]), ("f", [[[0] * 3] * 2] * 4)),
        passes="zero both",
        refuses="any order",
    ),
    Row(
        't0 = ScatterElements <axis = 1, reduction = "add"> (x, i, y)',
        ((2, 4, 3), (2, 2, 3)),
        (("i", [[[3, 0, 1], [3, 2, 1]]] * 2),),
    ),
    Row("t0 = Transpose <perm = [0, 2, 1]> (x)", ((2, 4, 3),)),
    Row("t0 = Transpose <perm = [2, 1, 0, 3]> (x)", ((2, 4, 3, 2),)),
    Row("t0 = Reshape (x, shape)", ((2, 6, 2, 2),), (("shape", [0, 2, 3, -1]),)),
    Row("t0 = Reshape (x, shape)", ((2, 3, 4),), (("shape", [2, -1]),)),
    Row("t0 = Flatten (x)", ((2, 3, 2, 2),)),
    Row("t0 = Squeeze (x, axes)", ((2, 4, 1, 3),), (("axes", [2]),)),
    Row("t0 = Unsqueeze (x, axes)", ((2, 4, 3),), (("axes", [0, 3]),)),
    Row("t0 = Expand (x, shape)", ((2, 4, 1),), (("shape", [2, 4, 5]),)),
    Row("t0 = Tile (x, repeats)", ((2, 4, 3),), (("repeats", [1, 1, 2]),)),
    Row("t0 = Tile (x, repeats)", ((2, 4, 3),), (("repeats", [1, 2, 1]),)),
    Row('t0 = Resize <mode = "nearest"> (x, , fscales)', ((1, 4, 3, 3),), (("fscales", [1, 1, 2, 2]),)),
    Row('t0 = Resize <mode = "linear"> (x, , fscales)', ((1, 4, 3, 3),), (("fscales", [1, 1, 2, 2]),)),
    Row("t0 = Pad (x, pads)", ((2, 4, 3),), (("pads", [0, 0, 1, 0, 0, 2]),), "zero both", "any order"),
    Row('t0 = Pad <mode = "reflect"> (x, pads)', ((2, 4, 4),), (("pads", [0, 0, 1, 0, 0, 2]),)),
    Row('t0 = Pad <mode = "edge"> (x, pads)', ((2, 4, 4),), (("pads", [0, 0, 1, 0, 0, 2]),)),
    Row("t0 = DepthToSpace <blocksize = 2> (x)", ((1, 8, 2, 3),)),
    Row('t0 = DepthToSpace <blocksize = 2, mode = "CRD"> (x)', ((1, 8, 2, 3),)),
    Row("t0 = SpaceToDepth <blocksize = 2> (x)", ((1, 3, 4, 2),)),
]
CACHE = [[0.3, -0.8], [1.0, 0.1], [0.6, 0.2], [-0.4, 0.7], [0.9, -0.5]]
"""What a pair of values is multiplied with at each of five positions."""
NEWER = [
    Row('t0 = SpaceToDepth <blocksize = 2, mode = "CRD"> (x)', ((1, 3, 4, 2),), opset=28),
    *(
        Row(
            f"t0 = {op}Pool <kernel_shape = [3, 3], pads = [0, 0, 2, 2], strides = [2, 2], ceil_mode = 1> (x)",
            (PLANE,),
            passes=passes,
            refuses=refuses,
            opset=22,
        )
        for op, passes, refuses in (("Average", "any", ""), ("Max", "order both", "any zero"))
    ),
]
NEWER += [
    Row(
        f"t0 = RotaryEmbedding <interleaved = {by_turns}{more}> (x, fcos, fsin, i)",
        (shape,),
        (("fcos", CACHE), ("fsin", np.square(CACHE).tolist()), ("i", [[0, 3, 1], [2, 4, 0]])),
        passes="zero both",
        refuses="any order",
        opset=23,
    )
    for by_turns, shape, more in (
        (0, (2, 2, 3, 4), ""),
        (1, (2, 2, 3, 6), ", rotary_embedding_dim = 4"),
        (1, (2, 3, 8), ", num_heads = 2"),
    )
]
ROWS += [row for row in NEWER if row.opset <= onnx.defs.onnx_opset_version()]

NOT_HERE = {
    "ai.onnx.ml.LinearClassifier": "absorbs",
    "ai.onnx.ml.LinearRegressor": "absorbs",
    "ai.onnx.ml.Scaler": "an affine",
    "com.microsoft.Attention": "absorbs; tests/onnx/test_fused.py has it",
    "com.microsoft.BiasGelu": "likewise",
    "com.microsoft.FastGelu": "likewise",
    "com.microsoft.FusedConv": "absorbs",
    "com.microsoft.FusedGemm": "absorbs",
    "com.microsoft.FusedMatMul": "absorbs, or is a product of data; tests/onnx/test_fused.py has both",
    "com.microsoft.MatMulNBits": "absorbs; tests/onnx/test_fused.py has it",
    "com.microsoft.RotaryEmbedding": "onnx does not evaluate it; tests/onnx/test_fused.py has it",
    "BatchNormalization": "an affine",
    "Cast": "an alias, or nothing that is known",
    "CastLike": "likewise",
    "Conv": "absorbs",
    "ConvTranspose": "absorbs",
    "DeformConv": "absorbs",
    "Dropout": "an alias",
    "GRU": "absorbs",
    "GlobalLpPool": "it is LpPool over the plane, which onnx does not evaluate",
    "GroupNormalization": "absorbs",
    "HardSigmoid": "absorbs",
    "Identity": "an alias",
    "InstanceNormalization": "absorbs",
    "LSTM": "absorbs",
    "LayerNormalization": "absorbs",
    "MaxRoiPool": "onnx does not evaluate it; tests/onnx/test_lossless.py has it",
    "MeanVarianceNormalization": "onnx evaluates none of float64; tests/onnx/test_centred.py has it",
    "Neg": "an affine",
    "Pow": "an alias, or nothing that is known",
    "RMSNormalization": "absorbs",
    "RNN": "absorbs",
    "Selu": "absorbs",
    "SimplifiedLayerNormalization": "absorbs; tests/onnx/test_fused.py has it",
    "com.microsoft.SkipLayerNormalization": "likewise",
    "com.microsoft.SkipSimplifiedLayerNormalization": "likewise",
    "SequenceAt": "it reads a list, of which tests/onnx/traps/moves.txt has every case",
    "SplitToSequence": "likewise",
    "Upsample": "the old name of Resize",
}


@dataclass(frozen=True)
class Alone:
    """A node as bnfold reads it, and onnx's evaluator of it."""

    layer: Layer
    operator: Operator
    evaluator: ReferenceEvaluator
    row: Row

    def run(self, bottoms: Sequence[Array]) -> list[Array]:
        feeds = dict(zip("xyz", bottoms, strict=False))
        return [np.asarray(top, np.float64) for top in self.evaluator.run(None, feeds)]


def alone(row: Row) -> Alone:
    model = row.model()
    net = load_bytes(model.SerializeToString())
    assert net.front is not None
    context = FoldContext(net)
    net.front.prepare(context)  # which also says what the types are
    context.shapes.update(net.front.shapes(net))
    layer = next(layer for layer in net.layers if layer.type == row.op)
    operator = net.front.operator(layer, context)
    if isinstance(operator, Linear) and operator.beside is not None:
        operator = operator.beside
    return Alone(layer, operator, ReferenceEvaluator(model), row)


def affines_of(rng: np.random.Generator, kind: Kind, shape: Shape) -> list[Affine]:
    """An affine of a kind along each axis on its own, and one number for all."""
    one = kind(rng, 1)
    found = [Affine(one.scale.reshape(()), one.shift.reshape(()))]
    for axis, size in enumerate(shape):
        if size > 1:
            made = kind(rng, size)
            found.append(Affine.along(axis, made.scale, np.broadcast_to(made.shift.reshape(-1), size)))
    return found


def back(node: Alone, affine: Affine, top: int) -> list[Affines]:
    """What the law allows, be the layer the only reader of what it reads or one of several."""
    operator, found = node.operator, list[Affines]()
    assert isinstance(operator, Commuting), operator
    for alone in (True, False):
        with suppress(Blocked):
            found += commute.back(operator, affine, top, node.layer.bottoms, alone=alone)
    return found


def ids(row: Row) -> str:
    return f"{row.node} {row.bottoms}"


@pytest.mark.parametrize("row", ROWS, ids=ids)
@seeded(3)
def test_what_passes_back_is_the_same_and_what_is_refused_does_not_pass(row: Row, seed: int) -> None:
    rng, node = np.random.default_rng(seed), alone(row)
    bottoms = [signed(rng, shape) for shape in row.bottoms]
    tops = node.run(bottoms)
    for name, kind in EVERY.items():
        passed = []
        for top, values in enumerate(tops):
            for affine in affines_of(rng, kind, values.shape):
                wanted = [applied(affine, blob) if index == top else blob for index, blob in enumerate(tops)]
                for moved in back(node, affine, top):
                    found = node.run([applied(a, b) for a, b in zip(moved, bottoms, strict=True)])
                    assert difference(wanted, found) <= 1e-9, (name, affine.shape)
                    passed.append(affine)
        assert bool(passed) or name not in row.passes.split(), name
        assert not passed or name not in row.refuses.split(), name


@pytest.mark.parametrize("row", ROWS, ids=ids)
@seeded(3)
def test_what_passes_forward_is_the_same_and_what_is_refused_does_not_pass(row: Row, seed: int) -> None:
    rng, node = np.random.default_rng(seed), alone(row)
    bottoms = [signed(rng, shape) for shape in row.bottoms]
    tops = node.run(bottoms)
    assert isinstance(node.operator, Commuting)
    for name, kind in EVERY.items():
        passed = 0
        for affine in affines_of(rng, kind, row.bottoms[0]):
            for others in (affine, affine.without_shift(), None):
                arriving = [affine, *[others] * (len(bottoms) - 1)]
                if not all(_fits(a, shape) for a, shape in zip(arriving, row.bottoms, strict=True)):
                    continue
                try:
                    leaving = commute.forward(node.operator, arriving, len(tops))
                except Blocked:
                    continue
                found = node.run([applied(a, b) for a, b in zip(arriving, bottoms, strict=True)])
                wanted = [applied(a, t) for a, t in zip(leaving, tops, strict=True)]
                assert difference(found, wanted) <= 1e-9, (name, affine.shape)
                passed += 1
        assert passed or name not in row.passes.split(), name
        assert not passed or name not in row.refuses.split(), name


@pytest.mark.parametrize("row", [row for row in ROWS if row.refuses], ids=ids)
@seeded(3)
def test_what_is_refused_would_be_something_else_in_front(row: Row, seed: int) -> None:
    """On the first bottom alone, and on all where it is an extreme: one number, or one for each channel."""
    rng, node = np.random.default_rng(seed), alone(row)
    bottoms = [signed(rng, shape) for shape in row.bottoms]
    (top,) = node.run(bottoms)
    alike = top.ndim > 1 and top.shape[1] == bottoms[0].shape[1]
    count = len(bottoms) if row.op in ("Max", "Min") else 1
    for name in row.refuses.split():
        if EVERY[name] is keeps_both:
            continue  # no factor that float64 has is wrong
        affine = EVERY[name](rng, top.shape[1]) if alike else affines_of(rng, EVERY[name], ())[0]
        assert not back(node, affine, 0)
        moved = [applied(affine, blob) if place < count else blob for place, blob in enumerate(bottoms)]
        assert difference([applied(affine, top)], node.run(moved)) > 1e-3, name


@pytest.mark.parametrize("op", ["LpPool <kernel_shape = [3, 3]> (x)", "ReduceL2 <keepdims = 1> (x, axes)"])
def test_a_factor_whose_square_float32_has_not_would_be_lost_in_front_of_a_norm(op: str) -> None:
    node, tiny = alone(Row(f"t0 = {op}", (PLANE,), (("axes", [2, 3]),) if "axes" in op else ())), Affine(1e-30)
    (top,) = node.run(bottoms := [signed(np.random.default_rng(0), PLANE)])
    assert not back(node, tiny, 0)
    single = np.float32(1e-30) * bottoms[0].astype(np.float32)
    assert (single**2 == 0).all()
    assert (np.float32(1e-30) * top.astype(np.float32) > 0).all()


def _fits(affine: Affine | None, shape: Shape) -> bool:
    if affine is None:
        return True
    sizes = affine.shape
    return len(sizes) <= len(shape) and all(a in (1, b) for a, b in zip(sizes, shape, strict=False))


@pytest.mark.parametrize("op", ["AveragePool", "MaxPool"])
def test_a_dilated_window_between_whose_taps_the_plane_lies_refuses(op: str) -> None:
    row = Row(
        f't0 = {op} <kernel_shape = [2, 2], dilations = [3, 3], auto_pad = "SAME_UPPER"> (x)', ((1, 2, 2, 2),), opset=19
    )
    node = alone(row)
    assert isinstance(node.operator, Opaque)
    moved, still = node.run([np.full(row.bottoms[0], 8.0)]), node.run([np.full(row.bottoms[0], 7.0)])
    assert (moved[0] - still[0] != 1.0).any()


def test_float32_bounds_of_a_clip_of_float64_refuse_unless_they_are_0() -> None:
    bound, factor = 0.25, 0.3
    node = alone(Row(f"t0 = Clip <max = {bound}> (x)", (PLANE,), opset=10))
    assert node.operator == Opaque("its bounds are float32, and what it reads float64")
    assert abs(float(np.float32(bound * factor)) / (bound * factor) - 1) > 1e-9
    assert isinstance(alone(Row("t0 = Clip <max = 0.0> (x)", (PLANE,), opset=10)).operator, Pass)


@pytest.mark.parametrize(("op", "number"), [("HardSigmoid <alpha = 0.2>", 0.2), ("Selu <gamma = 1.1>", 1.1)])
def test_float32_numbers_of_an_activation_of_float64_refuse(op: str, number: float) -> None:
    factor = 0.3
    assert alone(Row(f"t0 = {op} (x)", (PLANE,))).operator == Opaque(
        "its numbers are float32, and what it reads float64"
    )
    assert abs(float(np.float32(number * factor)) / (number * factor) - 1) > 1e-9


@pytest.mark.parametrize("row", [row for row in ROWS if row.op == "Split"], ids=ids)
def test_the_parts_of_a_split_are_apart(row: Row) -> None:
    """As those of a Slice of Caffe are, of which a test says what that spares."""
    operator = alone(row).operator
    assert isinstance(operator, Move)
    assert operator.apart


def test_every_operator_has_its_rows() -> None:
    assert {row.op for row in ROWS} == set(OPERATORS) - set(NOT_HERE)
