"""Whether what a node reads fits together by its sizes: what runtimes refuse, though inference may not mind.

Sizes below 0 are not known, and fit every other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from bnfold.net import Shape
from bnfold.onnx.call import Call
from bnfold.onnx.node import STANDARD

LAID = 7
"""The opset since which operands broadcast from behind."""


def fits(call: Call) -> bool:
    """Whether a node may run, by the shapes that it reads; those that are unknown may be any."""
    rule = RULES.get(call.node.op_type)
    if rule is None or call.node.domain not in STANDARD or call.opset < LAID or call.shape(0) is None:
        return True
    return rule(call) if call.shape(1) is not None else True


def _alike(sizes: Iterable[int]) -> bool:
    """Whether sizes may be the same."""
    return len({size for size in sizes if size >= 0}) < 2


def _shapes(call: Call) -> tuple[Shape, Shape, Shape | None]:
    """Of the data, the weight and the bias."""
    data, weight = call.shapes[:2]
    assert data is not None
    assert weight is not None
    return data, weight, call.shape(2) if call.given(2) else None


def _vector(shape: Shape | None, size: int) -> bool:
    return shape is None or (len(shape) == 1 and _alike((*shape, size)))


def _conv(call: Call) -> bool:
    """Conv: (N, g*C, ...) and (M, C, kernel); ConvTranspose: (N, C, ...) and (C, M/g, kernel); M values of bias."""
    (data, weight, bias), group = _shapes(call), call.attribute("group", 1)
    if len(data) != len(weight) or len(data) < 3 or group < 1 or weight[0] % group:
        return False
    if call.node.op_type == "ConvTranspose":
        return _alike((data[1], weight[0])) and _vector(bias, weight[1] * group)
    return _alike((data[1], weight[1] * group)) and _vector(bias, weight[0])


def _matmul(call: Call) -> bool:
    """MatMul: (..., K) and (..., K, M), of which one may be a vector."""
    one, other, _ = _shapes(call)
    if not one or not other:
        return False
    return _alike((one[-1], other[-2 if len(other) > 1 else 0])) and _broadcast(one[:-2], other[:-2])


def _gemm(call: Call) -> bool:
    """Gemm: (N, K) and (K, M), either of them perhaps transposed; a bias that broadcasts over (N, M)."""
    one, other, bias = _shapes(call)
    if len(one) != 2 or len(other) != 2:
        return False
    one, other = one[:: -1 if call.attribute("transA", 0) else 1], other[:: -1 if call.attribute("transB", 0) else 1]
    return _alike((one[1], other[0])) and (bias is None or _is_laid(bias, (one[0], other[1])))


def _normalisation(call: Call) -> bool:
    """BatchNormalization, InstanceNormalization: vectors of as many values as what is read has channels."""
    data, *_ = _shapes(call)
    if len(data) < 2 or not call.attribute("spatial", 1):
        return True
    return all(_vector(one, data[1]) for one in call.shapes[1:])


def _recurrent(call: Call) -> bool:
    """LSTM, GRU, RNN: (T, N, K) and (directions, gates*hidden, K)."""
    data, weight, _ = _shapes(call)
    return len(data) == len(weight) == 3 and _alike((data[2], weight[2]))


def _broadcast(*shapes: Shape) -> bool:
    rank = max(map(len, shapes), default=0)
    full = ((1,) * (rank - len(shape)) + tuple(shape) for shape in shapes)
    return all(_alike(size for size in sizes if size != 1) for sizes in zip(*full, strict=True))


def _is_laid(small: Shape, large: Shape) -> bool:
    """Whether one broadcasts over another without making it larger."""
    pairs = zip(reversed(small), reversed(large), strict=False)
    return len(small) <= len(large) and all(size == 1 or _alike((size, other)) for size, other in pairs)


RULES: Mapping[str, Callable[[Call], bool]] = {
    **dict.fromkeys(["Conv", "ConvTranspose"], _conv),
    **dict.fromkeys(["BatchNormalization", "InstanceNormalization"], _normalisation),
    **dict.fromkeys(["GRU", "LSTM", "RNN"], _recurrent),
    **dict.fromkeys(["Add", "Div", "Mul", "Pow", "Sub"], lambda call: _broadcast(*filter(None, call.shapes))),
    "Gemm": _gemm,
    "MatMul": _matmul,
    "PRelu": lambda call: _is_laid(_shapes(call)[1], _shapes(call)[0]),
}
