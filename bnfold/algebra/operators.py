"""What the laws know of a layer: small frozen records, free of the language that the layer was written in.

    Affine      y = scale*x + shift                                  (`bnfold.algebra.affine`)
    Alias       y = x
    Pass        A(L(x)) = L(A(x)) for every A that keeps zero, keeps order, or is constant along some axes
    Clip        min(max(x, low), high)
    Move        each element of a top is a copy of one element of the bottom
    Join        bottoms one behind the other along an axis
    Sum         sum of c_i*x_i, some x_i multiplied by a gate
    Product     product of x_i
    Extreme     the largest (or smallest) of x_i
    Choice      at each place one of x_i, by something that no affine changes
    Linear      y = sum of W*x, plus b
    Constant    y is fixed: it absorbs, too
    Opaque      nothing passes

A front end (`bnfold.algebra.frontend`) says which of them a layer is; what is said of bottoms and tops is said in the
order of `layer.bottoms` and `layer.tops`. Axes are counted from 0, the batch axis among them, and are never negative.
A condition is stored as the sentence that tells the user why it is needed; an empty one means that there is none.
"""

from collections.abc import Collection
from math import prod
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bnfold.algebra.affine import Affine, Values
from bnfold.net import Array, DType, LazyArray, Shape

UNKNOWN_SIZE = -1
"""A size that depends on the data. A law that needs it says so; the others go on."""

PLANE = range(2, 32)
"""Every axis behind batch and channels, whatever the rank."""


# How elements get from one blob to another. A movement is some of these steps, one after the other.


class Axes(NamedTuple):
    """The axes in another order, some of size 1 left out, some of size 1 added: Transpose, Squeeze and Unsqueeze.

    Attributes:
        order: for each axis of the result the axis that it was; None for one that is new and has size 1. An axis that
            is not named must have size 1.
    """

    order: tuple[int | None, ...]


class Take(NamedTuple):
    """Elements `indices` along one axis, in their order: Slice, Split, Crop, Gather, a tile, a padding by mode.

    Attributes:
        axis: the axis.
        indices: which index of the axis each index of the result is, shape (size of the result,); a slice where the
            elements follow each other, perhaps at a distance, with no more than a start where the end is unknown.
        size: how long the axis was; `UNKNOWN_SIZE` where it is unknown.
    """

    axis: int
    indices: npt.NDArray[np.intp] | slice
    size: int


class Spread(NamedTuple):
    """An axis of size 1 repeated to any size: broadcasting, Expand.

    Attributes:
        axis: the axis.
    """

    axis: int


class Regroup(NamedTuple):
    """The same elements in C order under another shape: Reshape, Flatten.

    A negative size is unknown. -1 equals nothing; -2, -3 ... are names, and equal names are equal sizes, so that a
    batch of any size may stay what it is.

    Attributes:
        before: the shape.
        after: the shape of the result.
        given: both shapes with a number for each unknown size, if the caller gave sizes to read the network with; it
            must stay right for other sizes, too.
    """

    before: Shape
    after: Shape
    given: tuple[Shape, Shape] | None = None


Step = Axes | Take | Spread | Regroup
Steps = tuple[Step, ...]
"""() is the identity."""


# The operators.


class Alias:
    """The first top is the first bottom, whatever its shape is; it is dropped where its names allow."""

    __slots__ = ()


class Pass(NamedTuple):
    """A layer whose first bottom and first top may carry the same affine, if the affine fulfils the conditions.

    Where its weights sum to another number than 1, a shift h of the bottom becomes `total*h` of the top.

    Attributes:
        zero: why every shift must be 0 ("a shift would move ReLU's threshold away from 0").
        order: why every scale must be >= 0.
        strict: why every scale must even be > 0 (where a maximum is, not only what it is).
        factor: why every scale must be 1, or every one -1 (it divides by a deviation, to which it adds a number).
        plane: the axes of the bottom along which the affine must be constant, since the layer mixes them; axes that
            the blob does not have do not matter.
        steps: what becomes of the axes, where the top has others than the bottom (a mean without keepdims).
        total: what the weights of each value of the top sum to; 0 where a mean is subtracted, and any shift with it.
    """

    zero: str = ""
    order: str = ""
    strict: str = ""
    factor: str = ""
    plane: Collection[int] = ()
    steps: Steps = ()
    total: float | Values = 1.0


class Clip(NamedTuple):
    """`min(max(x, low), high)`; an affine that gets past changes the bounds, which are the same for all elements.

    Attributes:
        low, high: the bounds, infinite where there is none; low <= high.
        dtype: the type in which a bound is stored.
    """

    low: float
    high: float
    dtype: DType


class Move(NamedTuple):
    """A layer that copies elements of its first bottom to its tops and computes nothing; other bottoms give shapes.

    Attributes:
        tops: for each top how its elements come from the bottom.
        apart: no two tops take the same element, as in a Slice.
    """

    tops: tuple[Steps, ...]
    apart: bool = False


class Join(NamedTuple):
    """The bottoms one behind the other along an axis: Concat.

    Attributes:
        axis: the axis.
        sizes: how long each bottom is along it; `UNKNOWN_SIZE` where that is unknown.
    """

    axis: int
    sizes: tuple[int, ...]


class Sum(NamedTuple):
    """`sum of c_i*x_i`: Eltwise SUM, Add, Sub (coefficients 1 and -1); Axpy, `g*x + y` with a gate.

    Attributes:
        coefficients: c, one for each bottom.
        laid: how each bottom is laid over the top (`Axes` and `Spread`); () where all have the top's shape. A bottom
            that is spread along an axis takes only what is constant along it.
        gates: for each bottom which other bottom multiplies it, None where none does; () where there is no gate. A gate
            is no summand, so its coefficient is 0.
        stored: the layer stores its coefficients in float32, as the net its weights, so that they take a factor.
    """

    coefficients: tuple[float, ...]
    laid: tuple[Steps, ...] = ()
    gates: tuple[int | None, ...] = ()
    stored: bool = False


class Product(NamedTuple):
    """`x_1*x_2*...`: Eltwise PROD, Mul, a Scale with two bottoms; Div, if the divisor takes nothing.

    Attributes:
        laid: as in `Sum`; None for a bottom that takes no factor. () where all have the top's shape.
        no_affine: why a product with a constant is no affine, where for some sizes that are open it would be one.
    """

    laid: tuple[Steps | None, ...] = ()
    no_affine: str = ""


class Extreme(NamedTuple):
    """The largest or the smallest of the bottoms: Eltwise MAX, Max, Min.

    Attributes:
        laid: as in `Sum`.
    """

    laid: tuple[Steps, ...] = ()


class Choice(NamedTuple):
    """Each element of the top is one of a bottom's, and which one no affine changes: Where, ScatterND.

    Attributes:
        laid: as in `Sum`; None for a bottom that says which, by a mask or by places.
        added: the bottom whose elements are added to those that are there, which takes a scale, and no shift; -1 if
            none is.
    """

    laid: tuple[Steps | None, ...]
    added: int = -1


class Port(NamedTuple):
    """An axis of a blob, and where it is in the view of the weight.

    Attributes:
        axis: the axis of the blob.
        view_axes: the axes of the view that make up the axis of the blob, in C order; (0, 1) for the channels of a
            grouped convolution whose weight is seen as [group, o, i, kernel].
        shared_by: how many neighbours along the axis of the blob share one value of the weight.
    """

    axis: int
    view_axes: tuple[int, ...]
    shared_by: int = 1

    def size(self, view: Shape) -> int:
        """How many values the weight has along the axis."""
        return prod(view[axis] for axis in self.view_axes)


class Window(NamedTuple):
    """How a convolution slides along each spatial axis: what decides whether two of them can be joined.

    Attributes:
        stride: steps.
        dilation: distances between taps.
        pads: zeros before and behind.
        group: number of groups.
    """

    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]
    group: int = 1


class Linear(NamedTuple):
    """`y = sum of W*x, plus b`, with a learned W: it absorbs.

    With o the axes that outputs name and i those that inputs name, of W seen as `view`:

        backward, A(L(x)):   W'[o, i] = s[o]*W[o, i]        b'[o] = s[o]*b[o] + h[o]
        forward,  L(A(x)):   W'[o, i] = W[o, i]*s[i]        b'[o] = b[o] + sum over `summed` of W[o, i]*h[i]

    To be absorbed backward, an affine must be constant along every axis of the top that `outputs` does not name;
    forward, along every axis of the bottom that `inputs` does not name.

    Attributes:
        weight: W as it is stored, any shape. Where the layer multiplies it by a number (Gemm's alpha), hand in
            `scaled(W, view, alpha)` and drop the number when the weight comes back.
        bias: b (times Gemm's beta) as it lies over the top, aligned with its first axis like an affine's shift: (1, C)
            for a convolution, (M, 1) for one value for each row. None where there is none.
        view: the shape in which outputs and inputs are axes of W, of the same number of values.
        outputs: the axes of the top that W knows.
        inputs: the axes of the bottom that W knows.
        summed: the axes of the view that a sum over inputs and kernel runs over.
        no_shift: why no shift can come from in front ("a shift in front of its padding would be wrong at the border").
        factor: why every scale from in front must be 1 (it adds a bias to what goes through a function).
        no_backward: why no affine can come from behind (a fused ReLU; the gates of an LSTM, whose outputs are what the
            weight gives and not the top).
        no_forward: why no affine can come from in front (it reads indices; a size that is unknown).
        no_bias: why no bias can be added where there is none.
        bias_apart: a bias would be a layer of its own where there is none (behind a MatMul it is an Add).
        looked_up: each value of the top is one of W, so that W takes a shift from behind where there is no bias.
        tail: the weight multiplies and the bias adds last, after all else (a normalisation's scale and bias), so that
            they may go forward into what reads the top; the layer is then left with 1 and 0.
        positive: why every scale must be > 0 (it multiplies the scale of a quantisation).
        turns: it may be < 0 as well, since what the weight multiplies takes the sign.
        multiplied: the largest of what the weight multiplies (the numbers of a quantisation) before it is rounded.
        rounded: the type that such a product is rounded to; None for that of the weight.
        window: how a convolution slides, where branches may be joined; None for everything else.
        beside: what it is, as long as it has no bias, to a factor along axes that its weight has not got, which gets
            past it: `s*(W*x) = W*(s*x)`; or to a shift from in front, which vanishes in a normalisation.
    """

    weight: Array | LazyArray
    bias: Values | None
    view: Shape
    outputs: tuple[Port, ...]
    inputs: tuple[Port, ...] = ()
    summed: tuple[int, ...] = ()
    no_shift: str = ""
    factor: str = ""
    no_backward: str = ""
    no_forward: str = ""
    no_bias: str = ""
    bias_apart: bool = False
    looked_up: bool = False
    tail: bool = False
    positive: str = ""
    turns: bool = False
    multiplied: float = 1.0
    rounded: DType | None = None
    window: Window | None = None
    beside: Product | Pass | None = None

    @property
    def shift(self) -> Values:
        """The bias as it lies over the top, 0 of shape () where there is none."""
        return np.zeros(()) if self.bias is None else self.bias


def sliding(weight: Array | LazyArray, bias: Values | None, group: int, transposed: bool, channels: int = 1) -> Linear:
    """A convolution with a weight (Cout, Cin/group, kernel), seen as [group, Cout/group, Cin/group, kernel].

    Transposed it is (Cin, Cout/group, kernel), [group, Cin/group, Cout/group, kernel], and not [Cout, ...]: most merge
    scripts get this wrong. The channels are an axis of the blobs, the second of which is usual.
    """
    outputs, inputs = (2, 1) if transposed else (1, 2)
    shape = tuple(weight.shape)
    return Linear(
        weight,
        bias,
        view=(group, shape[0] // group, *shape[1:]),
        outputs=(Port(channels, (0, outputs)),),
        inputs=(Port(channels, (0, inputs)),),
        summed=(inputs, *range(3, len(shape) + 1)),
    )


class Constant(NamedTuple):
    """A blob of fixed values, which take any affine that does not enlarge them.

    Attributes:
        value: the values as they are stored.
    """

    value: Array | LazyArray


class Opaque(NamedTuple):
    """A layer that nothing passes; what it reads is used.

    Attributes:
        reason: why ("it puts 3 out where nothing arrives"); empty for a layer type that has no law.
        each: what it computes of each bottom, the top of the same index, where one weight serves for all of them; None
            for any other layer.
    """

    reason: str = ""
    each: Linear | None = None


Operator = Affine | Alias | Pass | Clip | Move | Join | Sum | Product | Extreme | Choice | Linear | Constant | Opaque
