"""A layer with the shapes around it: all that a row of the tables may look at."""

from collections.abc import Callable
from typing import NamedTuple

from bnfold.algebra.frontend import FoldContext
from bnfold.algebra.operators import Operator
from bnfold.algebra.records import Blocked
from bnfold.caffe.layers import canonical_axis
from bnfold.net import Layer, Shape


class LayerContext(NamedTuple):
    """A layer with the shapes around it: all that a row may look at.

    Attributes:
        layer: the layer.
        fold: the net that is being folded, its shapes, and what the user asked for.
    """

    layer: Layer
    fold: FoldContext

    @property
    def bottom(self) -> Shape:
        """The shape of the first bottom.

        Raises:
            Blocked: it is unknown (an opaque layer stands in front).
        """
        return self.known(self.layer.bottoms[0])

    @property
    def bottoms(self) -> tuple[Shape, ...]:
        """The shapes of all bottoms. Raises `Blocked` where one is unknown."""
        return tuple(map(self.known, self.layer.bottoms))

    @property
    def tops(self) -> tuple[Shape, ...]:
        """The shapes of all tops. Raises `Blocked` where one is unknown."""
        return tuple(map(self.known, self.layer.tops))

    def axis(self, axis: int) -> int:
        """An axis of the first bottom, from the front. Raises `Blocked` if it is negative and the rank unknown."""
        return axis if axis >= 0 else canonical_axis(axis, len(self.bottom))

    def shape(self, blob: str) -> Shape | None:
        """The shape of a blob, None where it is unknown."""
        return self.fold.shapes.get(blob)

    def known(self, blob: str) -> Shape:
        """The shape of a blob. Raises `Blocked` where it is unknown."""
        shape = self.shape(blob)
        if shape is None:
            raise Blocked(f"the shape of '{blob}' is unknown")
        return shape


Row = Callable[[LayerContext], Operator]
"""What a layer is to the laws. Raises Blocked where they know no such thing, ModelError where Caffe does not."""
