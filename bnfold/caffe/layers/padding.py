"""Layers that add elements around a blob: Pad, MirrorPad, Padding."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from bnfold.caffe.layers.axes import UNKNOWN, each_size
from bnfold.caffe.layers.row import OTHERS, LayerType, four_axes
from bnfold.errors import ModelError, counted
from bnfold.net import Layer, Shape, sizes


class Pad(NamedTuple):
    """What a Pad, MirrorPad or Padding says about one bottom.

    Attributes:
        before, after: elements added in front of each axis and behind it; below 0 they are cut off.
        mode: "CONSTANT", "REFLECT" (without the edge), "SYMMETRIC" (with it) or "EDGE".
        value: of "CONSTANT".
    """

    before: tuple[int, ...]
    after: tuple[int, ...]
    mode: str = "CONSTANT"
    value: float = 0.0

    @classmethod
    def of(cls, layer: Layer, bottom: Shape) -> "Pad":
        """Read such a layer.

        Raises:
            ModelError: there are not two paddings for each axis; the mode is unknown, or reaches farther than the
                blob; the fields are those of two forks.
        """
        view = _PADDINGS[layer.type](layer, bottom)
        for size, pads in zip(bottom, zip(view.before, view.after, strict=True), strict=True):
            most = {"REFLECT": size - 1, "SYMMETRIC": size}.get(view.mode)
            if most is not None and size != UNKNOWN and max(pads) > most:
                raise ModelError(f"{layer}: {view.mode} can add {most} elements to an axis of {size}, not {max(pads)}")
        return view


def _paddings(layer: Layer, paddings: Sequence[int], bottom: Shape) -> tuple[tuple[int, ...], tuple[int, ...]]:
    if len(paddings) != 2 * len(bottom):
        raise ModelError(
            f"{layer}: {counted(len(paddings), 'padding')} for {counted(len(bottom), 'axis')}; it takes two for each"
        )
    return tuple(paddings[::2]), tuple(paddings[1::2])


def _pad(layer: Layer, bottom: Shape) -> Pad:
    param = layer.param.pad_param
    return Pad(*_paddings(layer, param.paddings, bottom), value=param.constant_values)


def _mirror_pad(layer: Layer, bottom: Shape) -> Pad:
    param = layer.param.mirror_pad_param
    if param.mode not in ("CONSTANT", "REFLECT", "SYMMETRIC", "EDGE"):
        raise ModelError(f"{layer}: mode {param.mode!r} is none of CONSTANT, REFLECT, SYMMETRIC, EDGE")
    return Pad(*_paddings(layer, param.paddings, bottom), mode=param.mode, value=param.constant_values)


def _padding(layer: Layer, bottom: Shape) -> Pad:
    """Four layers of one name, told apart by their fields; each pads the plane."""
    four_axes(layer, bottom)
    param = layer.param.padding_param
    used = [name for name, fields in PADDING_FIELDS.items() if any(param.HasField(field) for field in fields.split())]
    if len(used) > 1:
        raise ModelError(f"{layer}: its fields are those of two layers called Padding: {' and '.join(used)}")
    if used == ["constant"]:
        if param.pad_method != param.CONSTANT:
            raise ModelError(f"{layer}: pad_method is not CONSTANT, and no other is known here")
        before, after = (param.pad_t, param.pad_l), (param.pad_b, param.pad_r)
        return Pad((0, 0, *before), (0, 0, *after), value=param.pad_value)
    if used == ["mirror"]:
        mode = "SYMMETRIC" if param.type == param.MIRROR and param.HasField("type") else "CONSTANT"
        before, after = (param.pad_up, param.pad_left), (param.pad_down, param.pad_right)
        return Pad((0, 0, *before), (0, 0, *after), mode)
    if param.pad_to_power_of_2:
        if UNKNOWN in bottom[2:]:
            raise ModelError(f"{layer}: a bottom of shape {sizes(bottom)} has no plane of known size")
        wanted = [(1 << (size - 1).bit_length()) - size for size in bottom[2:]]
        return Pad((0, 0, *(more // 2 for more in wanted)), (0, 0, *(more - more // 2 for more in wanted)))
    height, width = param.pad_h or param.pad, param.pad_w or param.pad
    before = (param.pad_h_top or height, param.pad_w_left or width)
    after = (param.pad_h_bottom or height, param.pad_w_right or width)
    return Pad((0, 0, *before), (0, 0, *after))


PADDING_FIELDS = {
    "zeros": "pad pad_h pad_w pad_h_top pad_h_bottom pad_w_left pad_w_right pad_to_power_of_2",
    "constant": "pad_method pad_value pad_t pad_l pad_b pad_r",
    "mirror": "type pad_up pad_down pad_left pad_right",
}


_PADDINGS = {"MirrorPad": _mirror_pad, "Pad": _pad, "Padding": _padding}


def pad(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """The bottom's sizes and what is added to them (Synopsys' Caffe; Padding is other forks')."""
    bottom = bottoms[0]
    view = Pad.of(layer, bottom)
    return [each_size(lambda size, before, after: size + before + after, bottom, view.before, view.after)]


ROWS: Mapping[str, LayerType] = {
    "MirrorPad": LayerType(pad, reads={"mirror_pad_param": "paddings mode constant_values"}, dialects="Synopsys"),
    "Pad": LayerType(pad, reads={"pad_param": "paddings constant_values"}, dialects="Synopsys"),
    "Padding": LayerType(
        pad,
        reads={"padding_param": " ".join(PADDING_FIELDS.values())},
        keeps="channels",
        dialects=OTHERS,
        note="three layers of one name, told apart by their fields; the fourth (`all_pad`) is refused",
    ),
}
