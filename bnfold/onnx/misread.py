"""Of which nodes onnx (1.23) infers another shape than onnxruntime, or onnx's own evaluator, makes.

A wrong size is worse than one that is not known: behind a sum over it a shift would count another number of times.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from bnfold.net import Shape
from bnfold.onnx.call import Call
from bnfold.onnx.node import STANDARD, Windows
from bnfold.onnx.sizes import OPEN, UNKNOWN, last_window, scaled, scales_of


def is_misread(call: Call) -> bool:
    """Whether the shape that onnx infers of a node may be wrong, by what is known of the shapes that it reads."""
    rule = RULES.get(call.node.op_type)
    return rule is not None and call.node.domain in STANDARD and rule(call)


def _has_other_windows(call: Call) -> bool:
    """Pools: whether the last window (ceil_mode) begins behind the image, which onnx counts before opset 22; or windows
    are dilated and padded to SAME, for which onnxruntime leaves the dilation out.
    """
    if _is_same(call) and max(call.attribute("dilations", ()), default=1) > 1:
        return True
    if call.opset >= 22 or not call.attribute("ceil_mode", 0):
        return False
    kernel: Shape = call.attribute("kernel_shape", ())
    plane, windows = (call.shape() or ())[2:], Windows.of(call.attributes, len(kernel))
    if windows is None:
        return False
    by_axis = zip(plane, windows.before, windows.behind, windows.reach(kernel), windows.strides, strict=False)
    return any(size >= 0 < window[-1] and last_window(size, *window) >= size for size, *window in by_axis)


def _is_same(call: Call) -> bool:
    return call.attribute("auto_pad", "NOTSET").startswith("SAME")


def _pads_its_output(call: Call) -> bool:
    """ConvTranspose: whether it has output_padding beside SAME, with which onnxruntime leaves it out."""
    return _is_same(call) and any(call.attribute("output_padding", ()))


def _spreads(call: Call) -> bool:
    """Einsum: whether a letter is of size 1 in one factor, and perhaps of another in the next; onnx takes the first."""
    terms = call.attribute("equation", "").replace(" ", "").split("->")[0].split(",")
    sizes: dict[str, set[int]] = {}
    for term, shape in zip(terms, call.shapes, strict=False):
        letters = term.replace("...", "")
        known = (UNKNOWN,) * len(letters) if shape is None else shape
        behind = len(term.partition("...")[2]) if "..." in term else 0
        ends = [*known[: len(letters) - behind], *known[len(known) - behind :]]
        for letter, size in zip(letters, ends, strict=False):
            sizes.setdefault(letter, set()).add(size)
    return any(1 in found and len(found) > 1 for found in sizes.values())


def _makes_another_size(call: Call) -> bool:
    """Resize, Upsample: whether it keeps its aspect along axes that are counted from the back, which onnx leaves as
    they are; or a size times its scale is another number to onnx than to onnxruntime.
    """
    axes: Shape = call.attribute("axes", ())
    if call.attribute("keep_aspect_ratio_policy", "stretch") != "stretch" and min(axes, default=0) < 0:
        return True
    shape = call.shape() or ()
    sizes = [shape[axis] for axis in axes if -len(shape) <= axis < len(shape)] if axes else shape
    return any(0 < size < OPEN < scaled(size, scale) for size, scale in zip(sizes, scales_of(call), strict=False))


def _names_no_axes(call: Call) -> bool:
    """Squeeze: whether its list of axes is empty, which onnx takes for none, and onnxruntime for all of size 1."""
    if call.given(1):
        return call.shape(1) == (0,)
    return "axes" in call.attributes and not call.attribute("axes", ())


def _has_strange_flags(call: Call) -> bool:
    """Reductions: whether a flag is neither 0 nor 1, which onnx takes for 1 and onnxruntime for 0."""
    return any(call.attribute(name, 0) not in (0, 1) for name in ("keepdims", "noop_with_empty_axes"))


RULES: Mapping[str, Callable[[Call], bool]] = {
    "AveragePool": _has_other_windows,
    "ConvTranspose": _pads_its_output,
    "Einsum": _spreads,
    "LpPool": _has_other_windows,
    "MaxPool": _has_other_windows,
    "Resize": _makes_another_size,
    "Squeeze": _names_no_axes,
    "Upsample": _makes_another_size,
    **dict.fromkeys(
        (
            f"Reduce{what}"
            for what in ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")
        ),
        _has_strange_flags,
    ),
}
