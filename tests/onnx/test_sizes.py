"""Sizes that nodes compute of sizes: what is found of them is true whatever is open, and affines pass by it."""

from __future__ import annotations

from unittest.mock import Mock

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, TensorShapeProto, helper
from onnx_cases import Array, error, run, values_of
from onnx_texts import folded, model, net_of, reasons, statistics, types, values

from bnfold.algebra import fold
from bnfold.onnx import shapes
from bnfold.onnx.sizes import OPEN

AXES = {"n": 0, "c": 1, "h": 2, "w": 3}
SIZES = {"n": 3, "m": 6, "h": 5, "w": 7}
"""What the open sizes are when a model runs."""
BN = "y = BatchNormalization (x, gamma, beta, mean, variance)\n"


def sized(target: str, opset: int, of: str, to: str) -> str:
    """A Reshape to sizes that are computed as PyTorch's exporter has it, as for `n -1` or `n 2 c/2 h w`."""
    nodes, parts = [f"{to}_s = Shape ({of})"], []
    for number, word in enumerate(target.split()):
        size = f"{to}_{number}"
        parts.append(f"{size}_1")
        if word[0] not in AXES:
            nodes.append(f"{size}_1 = Constant <value_ints = [{word}]> ()")
            continue
        nodes.append(f"{size}_at = Constant <value_int = {AXES[word[0]]}> ()")
        nodes.append(f"{size} = Gather <axis = 0> ({to}_s, {size}_at)")
        if len(word) > 1:
            nodes.append(f"{size}_by = Constant <value_int = {word[2:]}> ()")
            nodes.append(f"{size}_of = {'Div' if word[1] == '/' else 'Mul'} ({size}, {size}_by)")
            size += "_of"
        if opset < 13:
            nodes.append(f"{parts[-1]} = Unsqueeze <axes = [0]> ({size})")
        else:
            nodes.append(f"{parts[-1]}_in = Constant <value_ints = [0]> ()")
            nodes.append(f"{parts[-1]} = Unsqueeze ({size}, {parts[-1]}_in)")
    nodes.append(f"{to}_to = Concat <axis = 0> ({', '.join(parts)})")
    return "\n".join([*nodes, f"{to} = Reshape ({of}, {to}_to)\n"])


def written(nodes: str, opset: int = 13, inputs: str = "float[n,8,4,4] x", **constants: Array) -> ModelProto:
    """A model whose letters are open sizes."""
    constants |= statistics(8) if "gamma" in nodes else {}
    return model(
        f'<ir_version: 8, opset_import: ["" : {opset}]> net ({inputs}) => (float[] u) {{ {nodes} }}', **constants
    )


def fed(proto: ModelProto) -> dict[str, Array]:
    feeds = {}
    for number, port in enumerate(proto.graph.input):
        dims = port.type.tensor_type.shape.dim
        feeds[port.name] = values(*(SIZES.get(dim.dim_param, dim.dim_value) for dim in dims), seed=number + 3)
    return feeds


def require_same(before: ModelProto, after: ModelProto) -> None:
    names = sorted(set(values_of(before)) & set(values_of(after)))
    one, other = (run(proto, fed(before), names) for proto in (before, after))
    for name in names:
        assert one[name].shape == other[name].shape
        if one[name].dtype.kind == "f":
            assert error(other[name], one[name]) < 2e-5, name
        else:
            assert np.array_equal(other[name], one[name]), name


def require_true(proto: ModelProto) -> None:
    """Known sizes and values are those that are there when it runs, and sizes that are called alike are alike."""
    origin = net_of(proto).origin
    shapes = {name: shape for name, shape in origin.types.shapes.items() if name in values_of(proto)}
    made = run(proto, fed(proto), list(shapes))
    assert all(np.array_equal(made[name], origin.constants[name]) for name in made if name in origin.constants)
    named: dict[int, set[int]] = {}
    for name, shape in shapes.items():
        assert len(shape) == made[name].ndim, name
        for size, true in zip(shape, made[name].shape, strict=True):
            assert size < 0 or size == true, (name, shape, made[name].shape)
            named.setdefault(size, set()).add(true)
    assert all(len(true) == 1 for size, true in named.items() if size < -1), named


@pytest.mark.parametrize("opset", [9, 12, 13, 14, 18])
@pytest.mark.parametrize("target", ["n -1", "n 128", "n 8 -1", "n 0 h*4", "n*1 128", "n 2 c/2 h w"])
def test_a_batchnorm_in_front_of_a_view_to_computed_sizes_folds_into_what_is_behind(opset: int, target: str) -> None:
    nodes = BN + sized(target, opset, "y", "v") + sized("n -1", opset, "v", "f") + "u = Gemm (f, w, b)"
    before = written(nodes, opset, w=values(128, 5), b=values(5, seed=2))
    assert "BatchNormalization" not in types(folded(before))
    require_same(before, folded(before))
    require_true(before)


@pytest.mark.parametrize("opset", [13, 18])
def test_an_affine_in_front_of_a_dense_layer_of_keras_on_a_sequence_folds(opset: int) -> None:
    """tf2onnx writes a Tensordot: the sizes in front of the features are multiplied, in int32, for a matrix."""
    axes, read = ("", ", first") if opset >= 18 else ("axes = [0], ", "")
    nodes = f"""z = Mul (x, c) y = Add (z, d) s = Shape (y) q = Cast <to = 6> (s) a = Gather (q, free)
        b = Gather (q, last) p = ReduceProd <{axes}keepdims = 0> (a{read}) k = ReduceProd <{axes}keepdims = 0> (b{read})
        p1 = Unsqueeze (p, first) k1 = Unsqueeze (k, first) to32 = Concat <axis = 0> (p1, k1) to = Cast <to = 7> (to32)
        f = Reshape (y, to) u = MatMul (f, w)"""
    ints = {"free": np.array([0, 1]), "last": np.array([2]), "first": np.array([0])}
    before = written(nodes, opset, "float[n,h,6] x", c=values(6), d=values(6, seed=2), w=values(6, 5), **ints)
    after = folded(before)
    assert types(after)[-2:] == ["Reshape", "Gemm"]
    assert not {"Mul", "Add"} & {*types(after)}
    require_same(before, after)
    require_true(before)


def test_an_affine_on_what_is_repeated_over_an_open_plane_goes_into_the_convolution() -> None:
    """A pooled image beside each pixel, as DeepLab and PointNet have it; Tile says how long its other axes are."""
    nodes = """m = ReduceMean <axes = [2, 3]> (x) z = Mul (m, c) y = Add (z, d) s = Shape (x) hw = Slice (s, two, four)
        r = Concat <axis = 0> (ones, hw) t = Tile (y, r) j = Concat <axis = 1> (x, t) u = Conv (j, w)"""
    ints = {"two": np.array([2]), "four": np.array([4]), "ones": np.array([1, 1])}
    before = written(
        nodes, 13, "float[n,3,h,w] x", c=values(3, 1, 1), d=values(3, 1, 1, seed=2), w=values(5, 6, 3, 3), **ints
    )
    after = folded(before)
    assert types(after) == [kind for kind in types(before) if kind not in ("Mul", "Add")]
    require_same(before, after)
    require_true(before)


def test_a_factor_in_front_of_padding_to_a_multiple_of_the_window_goes_into_the_convolution() -> None:
    """As Swin pads an open plane: by (4 - h % 4) % 4, of which nothing is known, and nothing along the channels."""
    nodes = """z = Mul (x, c) s = Shape (z) h = Gather (s, two) a = Mod (h, four) b = Sub (four, a) r = Mod (b, four)
        p = Concat <axis = 0> (zeros, r, zero) t = Pad (z, p) u = Conv (t, w)"""
    ints = {"two": np.array([2]), "four": np.array([4]), "zeros": np.zeros(6, np.int64), "zero": np.array([0])}
    before = written(nodes, 13, "float[n,3,h,w] x", c=values(3, 1, 1), w=values(5, 3, 3, 3), **ints)
    after = folded(before)
    assert types(after) == [kind for kind in types(before) if kind != "Mul"]
    require_same(before, after)
    require_true(before)


def test_a_part_of_a_concatenation_whose_place_is_open_keeps_its_factor() -> None:
    """Here six channels stand in front of the three; factors that begin with the first channel would be others."""
    nodes, inputs = "z = Mul (x, c) j = Concat <axis = 1> (v, z) u = Conv (j, w)", "float[n,3,4,4] x, float[n,m,4,4] v"
    before = written(nodes, 13, inputs, c=values(3, 1, 1), w=values(5, 9, 1, 1, seed=2))
    assert types(folded(before)) == types(before)
    (reason,) = reasons(before)
    assert "how long they are along its axis is unknown" in reason
    wrong = written(nodes.replace("(v, z)", "(z, v)"), 13, inputs, c=values(3, 1, 1), w=values(5, 9, 1, 1, seed=2))
    assert error(run(wrong, fed(before))["u"], run(before, fed(before))["u"]) > 0.1


@pytest.mark.parametrize("dim", [{}, {"dim_value": -1}])
def test_the_batch_may_be_open_without_a_name(dim: dict[str, int]) -> None:
    nodes = BN + sized("n -1", 13, "y", "f").replace("Shape (y)", "Shape (x)") + "u = Gemm (f, w, b)"
    named = written(nodes, w=values(128, 5), b=values(5, seed=2))
    before = ModelProto.FromString(named.SerializeToString())
    before.graph.input[0].type.tensor_type.shape.dim[0].CopyFrom(TensorShapeProto.Dimension(**dim))  # type: ignore[arg-type]
    after = folded(before)
    assert "BatchNormalization" not in types(after)
    assert error(run(after, fed(named))["u"], run(named, fed(named))["u"]) < 2e-5


@pytest.mark.parametrize(
    ("nodes", "inputs"),
    [
        (sized("n -1", 13, "z", "q").replace("Reshape (z,", "Reshape (y,"), "float[n,8,4,4] x, float[m,8,4,4] z"),
        (sized("n*2 -1", 13, "y", "q"), "float[n,8,4,4] x"),
        (sized("n*2 64", 13, "y", "q"), "float[n,8,4,4] x"),
    ],
)
def test_a_view_that_parts_the_channels_of_a_sample_keeps_the_batchnorm(nodes: str, inputs: str) -> None:
    """Each row has half of the channels, so no factor of a column is that of all rows: they differ between two rows."""
    before = written(f"{BN} {nodes} u = Gemm (q, w, b)", 13, inputs, w=values(64, 5), b=values(5, seed=2))
    assert "BatchNormalization" in types(folded(before))
    require_same(before, folded(before))
    require_true(before)
    ones = {name: np.ones_like(value) for name, value in fed(before).items()}
    assert error(*run(before, ones, ["q"])["q"][:2]) > 0.1


def constants_of(nodes: str) -> dict[str, Array]:
    """What the expressions below read; `less` makes 0 of the size n, and -1 of h."""
    known = {
        "two": np.array([2]),
        "four": np.array(4),
        "less": np.array([3, 0, 6, 0]),
        "cut": np.array([-3, 0, 0, 0, 0, 0, 0, 0]),
        "around": np.array([0, 0, 1, -2, 0, 0, 3, 0]),
        "kernel": values(8, 4, 3, 2),
        "taps": values(8, 8, 3, 2),
    }
    return {name: value for name, value in known.items() if f"{name})" in nodes}


@pytest.mark.parametrize(
    "nodes",
    [
        sized("h -1 n 0", 13, "x", "u"),
        sized("n c w -1", 13, "x", "u"),
        sized("n -1 h/1 w", 13, "x", "u"),
        sized("w*2 -1", 13, "x", "a") + sized("n -1", 13, "x", "b") + "u = Identity (a)",
        sized("n 0 0 0 1", 13, "x", "u"),
        sized("n c h w", 13, "x", "a") + "t = Transpose <perm = [3,0,1,2]> (a) " + sized("c 8 -1", 13, "t", "u"),
        sized("n -1", 13, "x", "a")
        .replace("Unsqueeze (a_0,", "Unsqueeze (a_0c,")
        .replace("a_0_1 =", "a_0b = Cast <to = 6> (a_0) a_0c = Cast <to = 7> (a_0b) a_0_1 =")
        + "u = Identity (a)",
        "s = Shape (x) one = Constant <value_ints = [1]> () from = Constant <value_ints = [-2]> ()"
        "ends = Constant <value_ints = [9223372036854775807]> () hw = Slice (s, from, ends)"
        "rest = Constant <value_ints = [-1]> () to = Concat <axis = 0> (hw, rest) u = Reshape (x, to)",
        "s = Shape (x) r = Constant <value_ints = [3,2,1,0]> () q = Gather (s, r) u = Reshape (x, q)",
        "s = Shape <start = 2> (x) r = Constant <value_ints = [-1]> () q = Concat <axis = 0> (s, r) u = Reshape (x, q)",
        "s = Shape (x) k = Cast <to = 3> (s) j = Cast <to = 7> (k) u = Reshape (x, j)",
        "s = Shape (x) k = Cast <to = 1> (s) j = Cast <to = 7> (k) u = Reshape (x, j)",
        "s = Shape (x) k = Neg (s) j = Abs (k) u = Reshape (x, j)",
        "s = Shape (x) j = Max (s, s) u = Reshape (x, j)",
        "s = Shape (x) m = Sub (s, s) o = Equal (s, m) j = Where (o, m, s) u = Reshape (x, j)",
        "p = Pad (x, cut) s = Shape (x) d = Sub (s, less) u = Reshape (x, d)",
        "s = Shape (x) m = Mul (s, four) d = Sub (m, s) e = Sub (d, s) f = Sub (e, s) g = Sub (f, s) h = Sub (s, g)"
        "j = Add (h, g) u = Reshape (x, j)",
        "s = Shape (x) n = Neg (s) m = Add (n, s) k = Add (m, s) u = Reshape (x, k)",
        "t = ConvTranspose <strides = [2, 3], pads = [0, 1, 1, 0], output_padding = [1, 0], dilations = [1, 2]>"
        " (x, kernel)"
        "s = Shape (t) h = Shape (x) d = Sub (s, h) u = Reshape (t, s)",
        't = ConvTranspose <strides = [2, 2], auto_pad = "SAME_UPPER"> (x, kernel) s = Shape (t) u = Reshape (t, s)',
        "c = Conv <pads = [1, 1, 0, 1], strides = [2, 1]> (x, taps)"
        "d = Conv <pads = [1, 1, 0, 1], strides = [2, 1]> (c, taps)"
        "e = AveragePool <kernel_shape = [1, 1], strides = [4, 1]> (x) u = Relu (x)",
        "c = Conv <dilations = [1, 2], pads = [2, 0, 1, 5]> (x, taps)"
        "d = MaxPool <kernel_shape = [3, 2], strides = [3, 3],"
        "pads = [1, 1, 1, 0]> (c) e = MaxPool <kernel_shape = [2, 1], strides = [2, 2], ceil_mode = 1> (x)"
        'f = Conv <auto_pad = "SAME_UPPER", strides = [2, 2]> (x, taps) u = Relu (x)',
        "t = Pad (x, around) s = Shape (t) h = Shape (x) d = Sub (s, h) u = Identity (t)",
        "s = Shape (x) i = Constant <value_ints = [0,1]> () a = Gather (s, i) b = ReduceProd <axes = [0]> (a)"
        "j = Constant <value_ints = [3,2]> () c = Gather (s, j) d = ReduceProd <axes = [0]> (c)"
        "e = Concat <axis = 0> (b, d) u = Reshape (x, e)",
        "s = Shape (x) a = Mod (s, four) b = Sub (a, a) c = Sub (s, b) u = Reshape (x, c)",
        "s = Shape (x) t = Tile (x, s) k = Constant <value_ints = [1,2,3,1]> () u = Tile (t, k)",
        "m = ReduceMax <axes = [2]> (x) s = Shape (x) i = Constant <value_ints = [2]> () h = Gather (s, i)"
        "one = Constant <value_ints = [1]> () r = Concat <axis = 0> (one, one, h, one) t = Tile (m, r) u = Add (t, x)",
        "s = Shape (x) t = Tile (s, two) i = Constant <value_ints = [4,5,6,7]> () j = Gather (t, i) u = Reshape (x, j)",
    ],
)
def test_what_is_found_of_sizes_is_true(nodes: str) -> None:
    require_true(written(nodes, 15, "float[n,8,h,w] x", **constants_of(nodes)))


@pytest.mark.parametrize(
    ("node", "known"),
    [
        ("p = Pad (x, sides, , last)", [True, True, True, False]),
        ('p = Pad <mode = "edge"> (x, open, , last)', [True, True, False, False]),
        ("p = Resize <axes = [-2]> (x, , scales)", [True, True, False, True]),
        ("p = Resize <axes = [3, 2]> (x, , , sides)", [True, True, False, False]),
        (
            'p = Resize <axes = [2, 3], keep_aspect_ratio_policy = "not_larger"> (x, , , sides)',
            [True, True, False, False],
        ),
    ],
)
def test_what_changes_axes_that_it_names_leaves_the_others(node: str, known: list[bool]) -> None:
    """As opset 18 has it, where onnx finds that all that is open becomes something else."""
    nodes = f"h = Shape <start = 2> (x) open = Concat <axis = 0> (h, h) {node} u = Identity (p)"
    nodes = nodes.replace("last", "both") if "open," in node else nodes
    fixed = {"sides": np.array([2, 5]), "last": np.array([-1]), "both": np.array([2, 3])}
    before = written(nodes, 18, "float[n,8,h,w] x", scales=np.array([2], np.float32), **fixed)
    shapes = net_of(before).origin.types.shapes
    assert [one == other for one, other in zip(shapes["p"], shapes["x"], strict=True)] == known
    require_true(before)


@pytest.mark.parametrize(
    "nodes",
    [
        "m = Mul (big, one) k = Sub (m, but) u = Reshape (x, k)",
        "s = Shape (x) m = Concat <axis = 0> (s, big) k = Gather (m, two) j = Sub (k, but) u = Reshape (x, j)",
    ],
)
def test_a_number_that_looks_like_an_open_size_is_none(nodes: str) -> None:
    """The model's batch would be that of the first open size; here it is a number that is there."""
    looks = np.array([OPEN + 2])
    require_true(written(nodes, 15, "float[n,8] x", big=looks, one=np.array([1]), two=np.array([2]), but=looks - 24))


def test_an_expand_to_open_sizes_is_as_large_as_they_say() -> None:
    """As PyTorch writes `w.expand_as(x)`; a size of 1 takes the other, open or not."""
    nodes = """
        r = ReduceSum <keepdims = 1> (x, axes) s = Shape (x) e = Expand (r, s)
        i = Constant <value_ints = [3, 2, 1]> () j = Gather (s, i) f = Expand (w, j) g = Expand (f, s)
        u = Sum (e, g)
    """
    before = written(nodes, 15, "float[n,8,h,8] x", axes=np.array([1, 2]), w=values(1, 8))
    require_true(before)
    shapes = net_of(before).origin.types.shapes
    assert shapes["e"] == shapes["x"]
    assert [size < 0 for size in shapes["f"]] == [False, True, False]


def test_sizes_that_an_expand_is_given_twice_are_equal_and_a_slice_keeps_those_that_it_does_not_cut() -> None:
    nodes = """
        s = Shape (x) h = Slice (s, two, three) k = Mul (h, two) nc = Slice (s, zero, two) v = Slice (s, three, four)
        to = Concat <axis = 0> (nc, k, v) e = Expand (one, to) f = Expand (one, to) c = Slice (e, zero, h, two)
        u = Sum (e, f)
    """
    numbers = {word: np.array([number]) for word, number in (("zero", 0), ("two", 2), ("three", 3), ("four", 4))}
    before = written(nodes, 15, "float[n,8,h,w] x", one=values(1, 8, 1, 1), **numbers)
    require_true(before)
    shapes = net_of(before).origin.types.shapes
    assert shapes["e"] == shapes["f"] == shapes["u"]
    assert [*shapes["c"][:2], shapes["c"][3]] == [*shapes["e"][:2], shapes["e"][3]]


@pytest.mark.parametrize("sizes", [[3, 3], [3, -1], [3.0, 1.0]])
def test_an_expand_that_makes_no_sense_is_not_followed(sizes: list[float]) -> None:
    nodes = "s = Shape (x) t = Concat <axis = 0> (s, to) f = Expand (x, t) u = Relu (x)"
    before = written(nodes, 15, "float[n,8] x", to=np.array(sizes))
    assert min(net_of(before).origin.types.shapes.get("f", (-1,))) < 0


def test_onnx_is_asked_once_however_deep_sizes_are_computed_of_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    def counted(depth: int) -> int:
        nodes = "".join(
            f"s{k} = Shape <start = 1> (b{k}) r{k} = ConstantOfShape (s{k}) b{k + 1} = Add (b{k}, r{k}) "
            for k in range(depth)
        )
        net = net_of(written(sized("n 2 -1", 15, "x", "b0") + nodes + f"u = Relu (b{depth})", 15))
        assert net.origin.types.shapes["u"][1:] == (2, 64)
        return ask.call_count

    ask = Mock(side_effect=shapes.inferred_ports)
    monkeypatch.setattr(shapes, "inferred_ports", ask)
    assert counted(1) == 1
    assert counted(6) == 2


CHANNELS = """
    s = Shape (c) one = Constant <value_int = 1> () channels = Gather (s, one) two = Constant <value_int = 2> ()
    half = Div (channels, two) first = Constant <value_ints = [0]> () axes = Constant <value_ints = [1]> ()
    from = Unsqueeze (half, first) to = Unsqueeze (channels, first)
"""


def test_a_slice_up_to_half_of_the_channels_of_an_open_batch_passes_on_to_what_makes_them() -> None:
    """As PyTorch's older exporter writes `x.chunk(2, 1)`."""
    nodes = f"""
        c = Conv (x, w) {CHANNELS}
        a = Slice (c, first, from, axes) b = Slice (c, from, to, axes)
        p = BatchNormalization (a, gamma, beta, mean, variance) q = Add (b, k)
        u = Concat <axis = 1> (q, p)
    """
    before = written(nodes, 13, "float[n,3,h,w] x", w=values(16, 3, 1, 1), k=values(8, 1, 1, seed=4))
    after = folded(before)
    assert not {"Add", "BatchNormalization"} & set(types(after))
    require_same(before, after)
    require_true(before)


def test_sizes_that_may_be_fed_are_not_taken_for_constants() -> None:
    sizes = CHANNELS.replace("two = Constant <value_int = 2> ()", "")
    nodes = f"c = Conv (x, w) {sizes} a = Slice (c, first, from, axes) {BN.replace('y', 'u').replace('(x', '(a')}"
    before = written(nodes, 13, "float[n,3,h,w] x", w=values(16, 3, 1, 1), two=np.array(2))
    assert "BatchNormalization" not in types(folded(before))
    before.graph.input.append(helper.make_tensor_value_info("two", TensorProto.INT64, []))
    assert "BatchNormalization" in types(folded(before))
    assert "BatchNormalization" not in types(folded(before, freeze_initializers=True))


def test_a_batchnorm_goes_back_through_a_resize_to_the_plane_of_another_blob() -> None:
    """As of `F.interpolate(c, size=x.shape[2:])`; channels that it resized, too, would not pass."""
    nodes = """
        c = Conv (x, w) s = Shape (c) t = Shape (x) none = Constant <value_floats = [1.0]> ()
        i = Constant <value_ints = [0]> () j = Constant <value_ints = [2]> () k = Constant <value_ints = [4]> ()
        own = Slice (s, i, j) other = Slice (t, j, k) to = Concat <axis = 0> (own, other)
        r = Resize <mode = "linear", coordinate_transformation_mode = "half_pixel"> (c, , , to)
        u = BatchNormalization (r, gamma, beta, mean, variance)
    """
    before = written(nodes, 13, "float[n,3,h,w] x", w=values(8, 3, 3, 3))
    assert "BatchNormalization" not in types(folded(before))
    require_same(before, folded(before))
    require_true(before)
    mixing = (
        nodes.replace("linear", "nearest")
        .replace("Slice (s, i, j)", "Constant <value_ints = [3, 8]> ()")
        .replace("Conv (x, w)", "Conv (x, v)")
    )
    mixed = written(mixing, 13, "float[n,3,h,w] x", v=values(4, 3, 3, 3))
    assert "BatchNormalization" in types(folded(mixed))
    require_same(mixed, folded(mixed))


def test_a_factor_behind_a_view_goes_into_a_matmul_with_a_bias_that_reads_a_view() -> None:
    """As an attention scales its queries; the MatMul and the Add are one layer meanwhile, which onnx does not know."""
    nodes = f"""
        {sized("n -1 8", 13, "x", "r")} m = MatMul (r, w) a = Add (m, b) g = Mul (a, k)
        {sized("n c 2 -1", 13, "g", "v")} t = Transpose <perm = [0,2,1,3]> (v) q = Mul (t, scale)
        u = Softmax (q)
    """
    constants = {"w": values(8, 6), "b": values(6, seed=2), "k": values(6, seed=4), "scale": values(1, seed=6)}
    before = written(nodes, 13, "float[n,5,2,8] x", **constants)
    assert "Mul" not in types(folded(before))
    require_same(before, folded(before))
    require_true(before)


@pytest.mark.parametrize(
    "nodes",
    [
        "s = Shape (x) f = Constant <value_floats = [2.0, -1.0]> () y = Reshape (x, f) u = Relu (y)",
        "s = Shape (x) y = Reshape (x) u = Relu (y)",
        "s = Shape (x) y = own.Reshape (x, s) u = Relu (y)",
        "s = Shape (x) k = Concat <axis = 0> (s, many) y = Reshape (x, k) u = Relu (y)",
        "s = Shape (x) k = Gather (s, many) u = Reshape (x, k)",
        "s = Shape (x) k = Mul (s, huge) u = Reshape (x, k)",
        "s = Shape () u = Relu (x)",
    ],
)
def test_sizes_that_make_no_sense_are_not_followed(nodes: str) -> None:
    constants = {"many": np.arange(3) % 2, "huge": np.full(4, 1 << 62)}
    before = written(nodes, 15, "float[n,8,h,w] x", **constants)
    before.opset_import.add(domain="own", version=1)
    net = net_of(before)
    assert all(isinstance(size, int) for shape in net.origin.types.shapes.values() for size in shape)
    assert net.origin.types.shapes.get("y", (-1,))[:1] != (2,)
    folded(before)


def test_the_type_behind_a_view_of_an_unknown_type_is_as_unknown() -> None:
    before = written("q = own.Op (x) r = Reshape (q, eight) u = Relu (r)", 15, eight=np.array([2, 8]))
    before.opset_import.add(domain="own", version=1)
    types = net_of(before).origin.types
    assert types.shapes["r"] == (2, 8)
    assert 0 not in types.elements.values()


def test_a_view_keeps_sizes_that_nobody_knows() -> None:
    """A 0 keeps a size of a blob whose shape is unknown behind an operator that onnx has not."""
    nodes = "q = com.microsoft.Trilu (x) r = Reshape (q, keep) c = BatchNormalization (r, g, b, m, v) u = Conv (c, w)"
    named = {name: values(8, seed=seed) for seed, name in enumerate("gbm")} | {"v": abs(values(8, seed=9))}
    before = written(nodes, 15, "float[2,8,3,4] x", keep=np.array([0, 0, -1]), w=values(5, 8, 1), **named)
    before.opset_import.add(domain="com.microsoft", version=1)
    assert max(net_of(before).origin.types.shapes["r"]) < 0
    after = folded(before)
    assert types(after) == ["Trilu", "Reshape", "Conv"]
    require_same(before, after)


@pytest.mark.parametrize(("axis", "left"), [(2, ["Split", "Conv", "Conv"]), (1, ["BatchNormalization", "Split"])])
def test_a_split_whose_sizes_are_fed_keeps_the_other_axes(axis: int, left: list[str]) -> None:
    """The channels of its parts are known where it cuts the plane, and are not where it cuts them."""
    nodes = f"""k = BatchNormalization (x, gamma, beta, mean, variance) a, b = Split <axis = {axis}> (k, z)
    y = Conv (a, w) v = Conv (b, w)"""
    ports = "(float[n,3,5,4] x, int64[2] z) => (float[n,2,h,l] y, float[n,2,m,l] v)"
    text = f'<ir_version: 8, opset_import: ["" : 17]> g {ports} {{ {nodes} }}'
    before = model(text, w=values(2, 3, 1, 1), **statistics())
    after = folded(before)
    assert types(after)[: len(left)] == left
    if axis == 2:
        feeds = {"x": values(2, 3, 5, 4, seed=5), "z": np.array([2, 3])}
        one, other = run(before, feeds), run(after, feeds)
        assert max(error(other[name], one[name]) for name in "yv") < 1e-6


def test_a_split_into_parts_of_many_stated_sizes_is_followed() -> None:
    """Of 300 channels to parts of 1 and 2; int64 sizes of as many parts are 1,600 bytes."""
    parts = ", ".join(f"p{number}" for number in range(200))
    nodes = f"c = Conv (x, w) {parts} = Split <axis = 1> (c, sizes) u = BatchNormalization (p101, g, b, m, v)"
    statistics_of_two = {name: values(2, seed=seed) for seed, name in enumerate("gbm")} | {"v": abs(values(2, seed=9))}
    sizes = np.array([1, 2] * 100)
    before = written(nodes, 13, "float[n,3,4,4] x", w=values(300, 3, 1, 1), sizes=sizes, **statistics_of_two)
    assert types(folded(before)) == ["Conv", "Split"]
    require_same(before, folded(before))


@pytest.mark.parametrize("taps", [2, 3])
def test_a_batchnorm_goes_back_through_a_transposed_convolution_that_is_cut_to_twice_an_open_plane(taps: int) -> None:
    """As tf2onnx writes Conv2DTranspose with `padding="same"`: `2*(h - 1) + taps` rows, cut to 2*h or padded to it."""
    before = written(
        """t = ConvTranspose <strides = [2, 2]> (x, kernel) sx = Shape <start = 2> (x) wanted = Mul (sx, two)
        made = Shape <start = 2> (t) d = Sub (made, wanted) more = Max (d, zero) from = Div (more, two)
        to = Add (from, wanted) plane = Constant <value_ints = [2, 3]> () c = Slice (t, from, to, plane)
        less = Neg (d) missing = Max (less, zero) none = Constant <value_ints = [0, 0, 0, 0, 0, 0]> ()
        all = Concat <axis = 0> (none, missing) p = Pad (c, all) u = BatchNormalization (p, gamma, beta, mean, variance)
        """,
        15,
        "float[n,8,h,w] x",
        kernel=values(8, 8, taps, taps),
        two=np.array([2]),
        zero=np.array([0]),
    )
    assert "BatchNormalization" not in types(folded(before))
    require_same(before, folded(before))
    require_true(before)


def test_a_batchnorm_stays_behind_a_pad_of_what_is_missing_to_three_times_an_open_plane() -> None:
    """Of `2*h` rows h are missing, and there a shift would be."""
    before = written(
        """t = ConvTranspose <strides = [2, 2]> (x, kernel) sx = Shape <start = 2> (x) wanted = Mul (sx, three)
        made = Shape <start = 2> (t) less = Sub (wanted, made)
        none = Constant <value_ints = [0, 0, 0, 0, 0, 0]> () all = Concat <axis = 0> (none, less) p = Pad (t, all)
        u = BatchNormalization (p, gamma, beta, mean, variance)""",
        15,
        "float[n,8,h,w] x",
        kernel=values(8, 8, 2, 2),
        three=np.array([3]),
    )
    assert "BatchNormalization" in types(folded(before))
    require_true(before)


@pytest.mark.parametrize("called", [False, True])
def test_sizes_that_windows_make_are_known_by_each_name_that_a_file_has_for_them(called: bool) -> None:
    """Each value of a file that onnx has been through has names of its own for its sizes."""
    nodes = """c = Conv <pads = [1, 1, 1, 1], strides = [2, 2]> (x, taps) d = Conv <strides = [2, 2]> (x, tap)
        m = MaxPool <kernel_shape = [1, 1], strides = [2, 2]> (x)
        a = AveragePool <kernel_shape = [3, 3], pads = [1, 1, 1, 1], strides = [2, 2]> (x)
        g = GlobalMaxPool (c) s = Shape (c) e = Expand (g, s) r = Relu (c) u = Sum (r, d, m, a, e)"""
    before = written(nodes, 15, "float[n,8,h,w] x", taps=values(8, 8, 3, 3), tap=values(8, 8, 1, 1))
    if called:
        before.graph.value_info.extend(
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 8, *sizes])
            for name, sizes in (("c", ["p", "q"]), ("d", ["s", "t"]))
        )
    types_ = net_of(before).origin.types
    assert len({types_.shapes[blob] for blob in "cdmaeu"}) == 1
    assert types_.dims("d", types_.called(["n", "p", "q"])) == (["n", 8, "p", "q"] if called else ["n", 8, None, None])
    require_true(before)


@pytest.mark.parametrize("of", ["s = Shape (x) h = Gather <axis = 0> (s, at)", "h = Size (x)"])
def test_arithmetic_of_sizes_is_no_affine_and_what_is_made_of_as_many_values_is_one(of: str) -> None:
    """It is rounded to whole numbers behind, where one rounding more or less makes another size."""
    before = written(
        f"""{of} f = Cast <to = 1> (h) d = Div (f, by) m = Mul (d, by) p = Sub (m, half) n = Neg (p) g = Neg (n)
        c = Ceil (g) i = Cast <to = 7> (c) j = Unsqueeze (i, zero) r = Range (none, i, one) v = Cast <to = 1> (r)
        w = Mul (v, half) y = Relu (w) z = Slice (x, zero, j, zero) a = ReduceSum <keepdims = 0> (z) u = Add (y, a)""",
        inputs="float[h] x",
        at=np.array(0),
        by=np.array(49, np.float32),
        half=np.array(0.5, np.float32),
        zero=np.array([0]),
        none=np.array(0),
        one=np.array(1),
    )
    report = fold(net_of(before)).report
    assert [kept.layer for kept in report.kept] == ["w"]
    assert not report.folded
    assert report.layers_after == report.layers_before
    after = folded(before)
    for size in (41, 47, 98):
        ones = {"x": values(size)}
        assert np.array_equal(run(before, ones)["u"], run(after, ones)["u"])


@pytest.mark.parametrize(
    "operands", ["Add (x, c)", "Sub (x, c)", "Sub (c, x)", "Mul (x, c)", "Mul (c, x)", "Div (x, c)"]
)
def test_a_constant_that_enlarges_one_channel_of_an_open_number_stays_with_a_reason(operands: str) -> None:
    """In front of the convolution of 3 channels x may have one, to which c gives three values."""
    text = '<ir_version: 8, opset_import: ["" : 17]> g (float[n,k,5,5] x) => (float[n,2,5,5] y) { NODES }'
    constants = {"c": values(1, 3, 1, 1), "w": values(2, 3, 1, 1, seed=3)}
    before = model(text.replace("NODES", f"a = {operands} y = Conv (a, w)"), **constants)
    (kept,) = fold(net_of(before)).report.kept
    assert (kept.layer, kept.type) == ("a", operands[:3])
    assert "3 values along axis 1, of which the model leaves the size open" in kept.reason
    x = values(1, 1, 5, 5, seed=5)
    assert run(before, {"x": x})["y"].shape == (1, 2, 5, 5)
    np.testing.assert_allclose(run(folded(before), {"x": x})["y"], run(before, {"x": x})["y"], rtol=1e-6)


def test_the_reason_names_what_a_scale_met_past_an_affine_that_could_not_take_it() -> None:
    """`a` passes `b`, whose values lie along another axis, where what stands behind takes it."""
    nodes, c, d = "r = Relu (x) a = Mul (r, c) b = Mul (a, d)", values(8, 1, 1), values(4, 1)
    first, second = fold(net_of(written(f"{nodes} u = Relu (b)", c=c, d=d))).report.kept
    past, turned = (
        "the composition would vary along the axes of both; and past it, layer",
        "a negative scale turns it over",
    )
    assert first.reason.endswith(f"{past} 'u' (Relu): {turned}")
    assert f"{past} 'r' (Relu): {turned}; forward" in second.reason
    taken = fold(net_of(written(f"{nodes} u = Conv (b, w)", c=c, d=d, w=values(2, 8, 1, 1)))).report
    assert [(folded.layer, folded.through) for folded in taken.folded] == [("a", ("b",))]


def test_what_is_normalised_has_as_many_channels_as_parameters() -> None:
    """Behind a BatchNormalization of an open number of channels, a view to so many columns is one that keeps them."""
    nodes = f"{BN} r = Reshape (y, columns) u = MatMul (r, weight)"
    before = written(nodes, inputs="float[n,k] x", columns=np.array([-1, 8]), weight=values(8, 3))
    assert types(folded(before)) == ["Reshape", "Gemm"]
    x = values(3, 8, seed=7)
    np.testing.assert_allclose(run(folded(before), {"x": x})["u"], run(before, {"x": x})["u"], rtol=1e-5, atol=1e-5)


def test_an_instance_normalisation_tells_its_channels() -> None:
    net = net_of(written("u = InstanceNormalization (x, gamma, beta)", inputs="float[n,k,p] x"))
    assert net.front is not None
    shape = net.front.shapes(net)["u"]
    assert shape is not None
    assert [size for size in shape if size > 0] == [8]


@pytest.mark.parametrize(
    ("nodes", "left"),
    [
        ("a = {} y = Mul (a, k)", ["BatchNormalization"]),
        ("a = {} b = Mul (a, k) y = Add (b, l)", ["BatchNormalization"]),
        ("a = {} b = Mean (a, a) c = Neg (b) y = Sigmoid (c)", ["BatchNormalization", "Sigmoid"]),
        ("a = Mul (x, k) b = Add (a, l) c = BatchNormalization (b, {}) y = Sub (l, c)", ["BatchNormalization"]),
    ],
)
def test_a_size_that_parameters_alone_tell_is_known_when_they_are_gone(nodes: str, left: list[str]) -> None:
    """The factor and the summand of what comes of all are four numbers of one channel, and no Add or Sub."""
    normalised = "gamma, beta, mean, variance"
    nodes = nodes.format(normalised if "c = B" in nodes else f"BatchNormalization (x, {normalised})")
    before = model(
        f'<ir_version: 8, opset_import: ["" : 17]> net (float[1,n,4] x) => (float[1,n,4] y) {{ {nodes} }}',
        **statistics(1),
        k=values(),
        l=values(seed=7),
    )
    after, x = folded(before), values(1, 1, 4, seed=5)
    assert types(after) == left
    np.testing.assert_allclose(run(after, {"x": x})["y"], run(before, {"x": x})["y"], rtol=1e-5, atol=1e-6)
