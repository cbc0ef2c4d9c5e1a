"""Layers that give the elements of a blob another order or another shape."""

from collections.abc import Mapping, Sequence
from math import isqrt, prod
from typing import NamedTuple, Self

from bnfold.caffe.layers.axes import UNKNOWN, at_least_1, canonical_axis, each_size, fields_at_least_1
from bnfold.caffe.layers.row import DETECTORS, OTHERS, LayerType, count, four_axes, merged
from bnfold.caffe.limits import INT_MAX
from bnfold.errors import ModelError, counted
from bnfold.net import Layer, Shape, sizes


class DepthToSpace(NamedTuple):
    """What a DepthToSpace, SpaceToDepth, GSTiling or Dtow says.

    Attributes:
        block: r: channels become r x r pixels, or pixels channels.
        last: the channels are the last axis (NHWC, which is the default).
        up: channels become pixels, and not pixels channels.
        mode: "DCR": channel `(i*r + j)*C + c` is row i, column j of channel c; "CRD": channel `(c*r + i)*r + j`.
    """

    block: int
    last: bool
    up: bool
    mode: str = "DCR"

    @classmethod
    def of(cls, layer: Layer) -> Self:
        """Read any of the four.

        Raises:
            ModelError: the block is missing or below 1, or the format is unknown.
        """
        if layer.type == "GSTiling":
            tiling = layer.param.gs_tiling_param
            fields_at_least_1(layer, tiling, "stride")
            return cls(tiling.stride, False, tiling.reverse)
        if layer.type == "Dtow":
            dtow = layer.param.dtow_param
            fields_at_least_1(layer, dtow, "psize")
            return cls(dtow.psize, False, dtow.method == dtow.MDTOW, "CRD")
        param = ROWS[layer.type].parameters(layer)
        fields_at_least_1(layer, param, "block_size")
        if param.data_format not in ("NHWC", "NCHW", "DCR", "CRD"):
            raise ModelError(f"{layer}: data_format {param.data_format!r} is none of NHWC, NCHW, DCR, CRD")
        last, mode = param.data_format == "NHWC", "CRD" if param.data_format == "CRD" else "DCR"
        return cls(param.block_size, last, layer.type == "DepthToSpace", mode)


def _blocks(bottom: Shape, r: int, *, up: bool) -> Shape | None:
    """(N, C/r^2, H*r, W*r), or (N, C*r^2, H/r, W/r); None where the sizes do not divide."""
    batch, channels, *plane = bottom
    if any(size != UNKNOWN and size % (r * r if up else r) for size in ([channels] if up else plane)):
        return None
    deep = channels if channels == UNKNOWN else channels // (r * r) if up else channels * r * r
    return (batch, deep, *each_size(lambda size: size * r if up else size // r, plane))


def depth_to_space(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """Channels become pixels, or pixels channels (Synopsys' Caffe; ONNX DepthToSpace; RealSR's dtow_layer.cpp)."""
    view = DepthToSpace.of(layer)
    bottom = four_axes(layer, bottoms[0])
    top = _blocks(tuple(bottom[axis] for axis in (0, 3, 1, 2)) if view.last else bottom, view.block, up=view.up)
    if top is None:
        raise ModelError(f"{layer}: {sizes(bottom)} does not divide by a block of {view.block}")
    return [tuple(top[axis] for axis in (0, 2, 3, 1)) if view.last else top]


class SpaceToBatch(NamedTuple):
    """What a SpaceToBatchND or BatchToSpaceND says.

    Attributes:
        blocks: for each axis behind the batch, as many as are named, into how many samples it is dealt out in turn.
        pads: for each of them the zeros in front and behind that SpaceToBatchND adds, or what BatchToSpaceND cuts off.
    """

    blocks: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, layer: Layer, bottom: Shape) -> Self:
        """Read either layer.

        Raises:
            ModelError: a block is below 1, the bottom has fewer axes, or there are not two pads for each block.
        """
        param = ROWS[layer.type].parameters(layer)
        name = "paddings" if layer.type == "SpaceToBatchND" else "crops"
        blocks, pads = tuple(param.block_shape), tuple(getattr(param, name))
        at_least_1(layer, "block_shape", blocks)
        if len(blocks) >= len(bottom):
            axes = counted(len(blocks), "block")
            raise ModelError(f"{layer}: {axes}, and a bottom of {sizes(bottom)} has fewer axes behind the batch")
        if len(pads) != 2 * len(blocks):
            raise ModelError(f"{layer}: {name} has {counted(len(pads), 'value')}, and takes two for each block")
        return cls(blocks, tuple(zip(pads[::2], pads[1::2], strict=True)))

    @property
    def axes(self) -> list[int]:
        """The axes that are dealt out, padded or cut."""
        return [axis for axis, (block, pads) in enumerate(self.each, start=1) if block > 1 or any(pads)]

    @property
    def each(self) -> list[tuple[int, tuple[int, int]]]:
        """The block and the pads of each axis behind the batch."""
        return list(zip(self.blocks, self.pads, strict=True))


def flatten(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """The axes from `axis` to `end_axis` become one (flatten_layer.cpp, Reshape)."""
    bottom, view = bottoms[0], layer.param.flatten_param
    start = canonical_axis(view.axis, len(bottom), layer)
    stop = canonical_axis(view.end_axis, len(bottom), layer) + 1
    if stop <= start:
        raise ModelError(f"{layer}: axis {view.axis} is behind end_axis {view.end_axis} of {sizes(bottom)}")
    return [(*bottom[:start], count(bottom[start:stop]), *bottom[stop:])]


def permutation(layer: Layer, rank: int) -> tuple[int, ...]:
    """The order of a Permute, the axes that it names and behind them the others; or of a Transpose, which names all.

    Raises:
        ModelError: an axis is named twice, or the blob has none of that number, or a Transpose leaves one out.
    """
    if layer.type == "Transpose":
        order = tuple(layer.param.transpose_param.dim)
        if sorted(order) != list(range(rank)):
            raise ModelError(f"{layer}: dim {order} must name each of the {rank} axes of its bottom once")
        return order
    order = tuple(layer.param.permute_param.order)
    if any(axis >= rank for axis in order) or len(set(order)) < len(order):
        raise ModelError(f"{layer}: order {order} must name axes of a blob of {counted(rank, 'axis')}, each once")
    return order + tuple(axis for axis in range(rank) if axis not in order)


def permute(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """The bottom's sizes in the new order (SSD, permute_layer.cpp, Reshape; Transpose is CRNN's Caffe's)."""
    return [tuple(bottoms[0][axis] for axis in permutation(layer, len(bottoms[0])))]


def pixel_shuffle_factor(layer: Layer) -> int:
    """How many pixels along an axis a PixelShuffle or a Tiling makes of one.

    Forks say `upscale_factor`, `sigma`, or its square as `scale`; a Tiling says `tile_dim`.

    Raises:
        ModelError: the factor is missing, below 1 or given in two ways, or `scale` is no square.
    """
    param = ROWS[layer.type].parameters(layer)
    if layer.type == "Tiling":
        fields_at_least_1(layer, param, "tile_dim")
        return int(param.tile_dim)
    names = [name for name in ("upscale_factor", "sigma", "scale") if param.HasField(name)]
    if len(names) > 1:
        raise ModelError(f"{layer}: the factor is given as {' and '.join(names)}; keep one")
    factor: int = getattr(param, names[0]) if names else 0
    if names == ["scale"]:
        if isqrt(factor) ** 2 != factor:
            raise ModelError(f"{layer}: scale {factor} is the factor's square, and no square")
        factor = isqrt(factor)
    at_least_1(layer, "upscale_factor", (factor,))
    return factor


def pixel_shuffle(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """Channels become pixels (Shi et al. 2016, arXiv:1609.05158; tiling_layer.cpp of Vitis' Caffe)."""
    return [_pixel_shuffled(layer, four_axes(layer, bottoms[0]), pixel_shuffle_factor(layer))]


def reorg(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """Pixels become channels, or back (darknet's `reorg_cpu`, as in MobileNet-YOLO)."""
    bottom, param = four_axes(layer, bottoms[0]), layer.param.reorg_param
    fields_at_least_1(layer, param, "stride")
    top = _blocks(bottom, param.stride, up=param.reverse)
    if top is None:
        divided, by = (bottom[1:2], param.stride**2) if param.reverse else (bottom[2:], param.stride)
        raise ModelError(f"{layer}: {sizes(divided)} does not divide by {by}")
    return [top]


def reshape(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """The span becomes `dims`: 0 copies, one -1 takes what is left (reshape_layer.cpp, Reshape)."""
    bottom, param = bottoms[0], layer.param.reshape_param
    if param.pixelshuffler != 1:
        return [_pixel_shuffled(layer, four_axes(layer, bottom), param.pixelshuffler)]
    start, stop = _replaced(layer, len(bottom))
    dims = tuple(param.shape.dim)
    if dims.count(-1) > 1 or any(not -1 <= size <= INT_MAX for size in dims):
        raise ModelError(f"{layer}: dims {dims} must be sizes, with at most one -1")
    if any(size == 0 and start + i >= len(bottom) for i, size in enumerate(dims)):
        raise ModelError(f"{layer}: a 0 in dims {dims} has nothing to copy in a bottom of {sizes(bottom)}")
    span = [bottom[start + i] if size == 0 else size for i, size in enumerate(dims)]
    top = [*bottom[:start], *span, *bottom[stop:]]
    if -1 in dims:
        axis = start + dims.index(-1)
        top[axis] = _what_is_left(layer, bottom, (*top[:axis], *top[axis + 1 :]))
    elif UNKNOWN not in bottom and prod(top) != prod(bottom):
        raise ModelError(f"{layer}: a bottom of {sizes(bottom)} cannot become {sizes(top)}")
    return [tuple(top)]


def _replaced(layer: Layer, rank: int) -> tuple[int, int]:
    """The first old axis that is replaced and the first one behind; an insertion may stand at either end.

    Raises:
        ModelError: they leave the blob.
    """
    axis, num_axes = layer.param.reshape_param.axis, layer.param.reshape_param.num_axes
    start = axis if axis >= 0 else rank + axis + 1
    stop = rank if num_axes == -1 else start + num_axes
    if not 0 <= start <= stop <= rank or num_axes < -1:
        raise ModelError(f"{layer}: axis {axis}, num_axes {num_axes} leave a blob of {counted(rank, 'axis')}")
    return start, stop


def _what_is_left(layer: Layer, bottom: Shape, rest: Shape) -> int:
    """The size that makes `rest` hold what `bottom` holds; unknown sizes cancel where as many are left."""
    unknown = bottom.count(UNKNOWN)
    if unknown != rest.count(UNKNOWN):
        return UNKNOWN
    whole, part = abs(prod(bottom)), abs(prod(rest))
    if whole % part:
        raise ModelError(f"{layer}: a bottom of {sizes(bottom)} does not divide by {sizes(rest)}")
    return whole // part


def _pixel_shuffled(layer: Layer, bottom: Shape, factor: int) -> Shape:
    top = _blocks(bottom, factor, up=True) if factor > 0 else None
    if top is None:
        raise ModelError(f"{layer}: pixels cannot be shuffled by {factor} from {bottom[1]} channels")
    return top


def reversed_axes(layer: Layer, rank: int) -> list[int]:
    """The axes that a Reverse turns round: those named, the first unless any is (CRNN's layer has one).

    Those of a Flip are the plane's: the width unless it says otherwise, the height where it says so (flip_layer.cpp).
    """
    if layer.type == "Flip":
        param = layer.param.flip_param
        return [axis for axis, turns in ((2, param.flip_height), (3, param.flip_width)) if turns]
    return sorted({canonical_axis(axis, rank, layer) for axis in layer.param.reverse_param.axis or [0]})


def reverse(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """The bottom's (Synopsys' and CRNN's Caffe)."""
    reversed_axes(layer, len(bottoms[0]))
    return [bottoms[0]]


def flip(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """The bottom's (flip_layer.cpp of happynear's Caffe)."""
    return [four_axes(layer, bottoms[0])]


def channel_groups(layer: Layer) -> int:
    """How many groups of channels a ShuffleChannel takes one of each in turn.

    Raises:
        ModelError: 0.
    """
    group: int = layer.param.shuffle_channel_param.group
    at_least_1(layer, "group", (group,))
    return group


def shuffle_channel(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """The bottom's (ShuffleNet, arXiv:1707.01083)."""
    group, channels = channel_groups(layer), bottoms[0][1]
    if channels != UNKNOWN and channels % group:
        raise ModelError(f"{layer}: group {group} does not divide {channels} channels")
    return [bottoms[0]]


def space_to_batch(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """The bottom's with its zeros, each axis divided by its block, the batch times all of them (Synopsys' Caffe)."""
    batch, *rest = bottoms[0]
    view = SpaceToBatch.of(layer, bottoms[0])
    for axis, (block, pads) in enumerate(view.each):
        if rest[axis] != UNKNOWN:
            padded = rest[axis] + sum(pads)
            if padded % block:
                raise ModelError(f"{layer}: block {block} does not divide axis {axis + 1}, padded to {padded}")
            rest[axis] = padded // block
    return [(count((batch, *view.blocks)), *rest)]


def batch_to_space(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """The batch divided by all blocks, each axis times its own, without what is cut off (Synopsys' Caffe)."""
    batch, *rest = bottoms[0]
    view = SpaceToBatch.of(layer, bottoms[0])
    for axis, (block, pads) in enumerate(view.each):
        if rest[axis] != UNKNOWN:
            rest[axis] = max(0, rest[axis] * block - sum(pads))
    if batch != UNKNOWN and batch % prod(view.blocks):
        raise ModelError(f"{layer}: it makes one sample of {prod(view.blocks)}, which do not divide {batch}")
    return [(batch if batch == UNKNOWN else batch // prod(view.blocks), *rest)]


def expanded_axes(layer: Layer, rank: int) -> tuple[int | None, ...]:
    """For each axis that an ExpandDimsND makes of `rank` the axis that it was; None for a new one.

    The i-th of those named is put in at its number plus i; -1 is behind the last.

    Raises:
        ModelError: one is named farther behind or in front than the bottom has axes.
    """
    order: list[int | None] = list(range(rank))
    for made, axis in enumerate(layer.param.expand_dims_nd_param.axis):
        if not -rank <= axis <= rank:
            raise ModelError(f"{layer}: axis {axis} is outside a blob of {counted(rank, 'axis')}")
        order.insert((axis if axis >= 0 else axis + rank + 1) + made, None)
    return tuple(order)


def expand_dims(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """The bottom's, with new axes of size 1 (Synopsys' Caffe)."""
    bottom = bottoms[0]
    return [tuple([1 if axis is None else bottom[axis] for axis in expanded_axes(layer, len(bottom))])]


def stack_axis(layer: Layer, rank: int) -> int:
    """Where the new axis of a Stack of blobs of `rank` axes is; -1 is behind the last.

    Raises:
        ModelError: it is farther behind or in front than there are axes.
    """
    return canonical_axis(layer.param.stack_param.axis, rank + 1, layer)


def stack(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """The bottoms', which are the same, with an axis along which they lie (Synopsys' Caffe)."""
    top = bottoms[0]
    axis = stack_axis(layer, len(top))
    for bottom in bottoms[1:]:
        top = merged(layer, top, bottom)
    return [(*top[:axis], len(bottoms), *top[axis:])]


def unstack(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """The bottom's without `axis`, for each top; more elements than tops go nowhere (Synopsys' Caffe)."""
    bottom = bottoms[0]
    axis = canonical_axis(layer.param.unstack_param.axis, len(bottom), layer)
    if bottom[axis] != UNKNOWN and len(layer.tops) > bottom[axis]:
        raise ModelError(f"{layer}: it has {len(layer.tops)} tops, and axis {axis} of {sizes(bottom)} fewer elements")
    return [(*bottom[:axis], *bottom[axis + 1 :])] * len(layer.tops)


def squeezed_axes(layer: Layer, bottom: Shape) -> list[int]:
    """The axes of size 1 that a Squeeze takes away: those named, else all.

    Raises:
        ModelError: a named one has another size.
    """
    named = [canonical_axis(axis, len(bottom), layer) for axis in layer.param.squeeze_param.axis]
    if any(bottom[axis] not in (1, UNKNOWN) for axis in named):
        raise ModelError(f"{layer}: its axes {sizes(named)} do not all have size 1 in a bottom of {sizes(bottom)}")
    return sorted(set(named)) or [axis for axis, size in enumerate(bottom) if size == 1]


def squeeze(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """The axes that stay (Synopsys' Caffe)."""
    gone = squeezed_axes(layer, bottoms[0])
    return [tuple(size for axis, size in enumerate(bottoms[0]) if axis not in gone)]


ROWS: Mapping[str, LayerType] = {
    "BatchToSpaceND": LayerType(
        batch_to_space,
        rank=1,
        reads={"batch_to_space_nd_param": "block_shape crops"},
        dialects="Synopsys",
        note="as TensorFlow's; its first block is that of axis 1",
    ),
    "DepthToSpace": LayerType(
        depth_to_space,
        reads={"depth_to_space_param": "block_size data_format"},
        dialects="Synopsys",
        note="NHWC unless `data_format` says NCHW, DCR or CRD",
    ),
    "Dtow": LayerType(
        depth_to_space,
        reads={"dtow_param": "psize method"},
        dialects=OTHERS,
        note="RealSR's pixel shuffle; `method: MWTOD` makes channels of pixels",
    ),
    "ExpandDimsND": LayerType(expand_dims, reads={"expand_dims_nd_param": "axis"}, dialects="Synopsys"),
    "Flatten": LayerType(flatten, reads={"flatten_param": "axis end_axis"}, passes_variance=True),
    "Flip": LayerType(
        flip,
        reads={"flip_param": "flip_width flip_height"},
        keeps="shape",
        dialects=OTHERS,
        note="NormFace's and AM-Softmax'; turns the width round unless `flip_width: false`",
    ),
    "GSTiling": LayerType(
        depth_to_space,
        reads={"gs_tiling_param": "stride reverse"},
        dialects="Vitis",
        note="`reverse: true` makes pixels of channels",
    ),
    "Permute": LayerType(permute, reads={"permute_param": "order"}, dialects=DETECTORS),
    "PixelShuffle": LayerType(
        pixel_shuffle,
        reads=dict.fromkeys(("pixel_shuffle_param", "pixelshuffle_param"), "upscale_factor sigma scale"),
        dialects=OTHERS,
    ),
    "Reorg": LayerType(
        reorg,
        reads={"reorg_param": "stride reverse"},
        dialects="MobileNet-YOLO, Intel, Vitis, ncnn, Tengine",
        assumed="darknet's and MobileNet-YOLO's; in some Caffes (Ristretto-caffe, caffe-yolo9000) pixels go elsewhere "
        "by the same words",
        note="as darknet computes it, which is not space-to-depth",
    ),
    "Reshape": LayerType(
        reshape,
        reads={"reshape_param": "shape axis num_axes pixelshuffler"},
        passes_variance=True,
        note="Intel's `pixelshuffler` too",
    ),
    "Reverse": LayerType(reverse, rank=1, reads={"reverse_param": "axis"}, keeps="shape", dialects="Synopsys, CRNN"),
    "ShuffleChannel": LayerType(
        shuffle_channel,
        rank=2,
        reads={"shuffle_channel_param": "group"},
        keeps="shape",
        dialects="ncnn, Tengine, MACE, X2Paddle, TI, minicaffe, Synopsys",
    ),
    "SpaceToBatchND": LayerType(
        space_to_batch,
        rank=1,
        reads={"space_to_batch_nd_param": "block_shape paddings"},
        dialects="Synopsys",
        note="as TensorFlow's; the fork pads with zeros in its first run, and with what is left there in later ones",
    ),
    "SpaceToDepth": LayerType(
        depth_to_space,
        reads={"space_to_depth_param": "block_size data_format"},
        dialects="Synopsys",
        note="NHWC unless `data_format` says NCHW, DCR or CRD",
    ),
    "Squeeze": LayerType(squeeze, reads={"squeeze_param": "axis"}, dialects="Synopsys"),
    "Stack": LayerType(stack, bottoms=(1, None), reads={"stack_param": "axis"}, dialects="Synopsys"),
    "Tiling": LayerType(
        pixel_shuffle, reads={"tiling_param": "tile_dim"}, dialects="Vitis", note="DenseBox's pixel shuffle"
    ),
    "Transpose": LayerType(permute, reads={"transpose_param": "dim"}, dialects="CRNN"),
    "Unstack": LayerType(
        unstack,
        rank=1,
        reads={"unstack_param": "axis num"},
        dialects="Synopsys",
        note="as many as it has tops, whatever `num` says",
    ),
}
