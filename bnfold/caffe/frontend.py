"""Caffe as a front end of the algebra: what a layer is, and how it takes what folding decided.

A bias is three things in Caffe: `bias_term: true`, a second blob, and a second `param {}` where the weight has one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy

import numpy as np

from bnfold.algebra.affine import Affine
from bnfold.algebra.frontend import FoldContext, FrontEnd
from bnfold.algebra.operators import Clip, Opaque, Operator, Window
from bnfold.algebra.records import Blocked, block, require
from bnfold.algebra.scaled import Rounded, same_values, why_unstorable
from bnfold.caffe.batchnorm import TYPES as BATCHNORMS
from bnfold.caffe.batchnorm import follows_batch
from bnfold.caffe.caffe_pb2 import LayerParameter
from bnfold.caffe.constants import fix_constants
from bnfold.caffe.layers import HOLES, LAYERS
from bnfold.caffe.layers.python_code import layer_type_of
from bnfold.caffe.match import require_fitting
from bnfold.caffe.operators import AFFINES, OPERATORS, LayerContext, why_opaque
from bnfold.caffe.operators.shapes import known_shapes
from bnfold.caffe.origin import Origin
from bnfold.caffe.plain import retyped
from bnfold.errors import ModelError, quoted
from bnfold.net import Array, Blobs, Layer, LazyArray, Net, Shape


class Caffe(FrontEnd):
    """Caffe as a front end of the algebra (`bnfold.algebra.frontend`).

    Nothing captures a blob, no layer is a network, and nets are pickled layer by layer: messages and arrays are values.
    """

    language = "Caffe"
    param_type = LayerParameter
    origin_type = Origin | None
    outputs_are_unread = True

    def prepare(self, context: FoldContext) -> None:
        """Evaluate what depends on Parameters alone; and take apart what Intel Caffe fuses, a BatchNorm with a ReLU.

            Given:   conv1 -> bn1 (relu: true)          Result:  conv1 -> bn1 -> bn1/relu

        The first is an affine and can move; the second then stands where an exact law for it is known. The ReLU takes
        over the top's name, so every name keeps its value.

        Raises:
            WeightsError: what a caller gave a layer to learn does not fit its parameters.
        """
        require_fitting(context.net)
        fix_constants(context)
        for layer in list(context.net.layers):
            fused = layer.type in BATCHNORMS and layer.param.batch_norm_param.relu and len(layer.tops) == 1
            if fused and id(layer) not in context.excluded:
                _split(context.net, layer)

    def shapes(self, net: Net) -> Mapping[str, Shape | None]:
        """The shape of every blob."""
        return known_shapes(net)

    def reads_values(self, layer: Layer, index: int) -> bool:
        """False for what says only how large something is to be."""
        row = LAYERS.get(layer.type)
        return row is None or index not in row.shape_only

    def operator(self, layer: Layer, context: FoldContext) -> Operator:
        """What a layer is.

        Raises:
            Blocked: the type is an affine's, but this layer is none.
            ModelError: its statistics make no sense.
        """
        layer_type = layer_type_of(layer)
        read = OPERATORS.get(layer_type)
        if read is None:
            return Opaque(layer.opaque or why_opaque(layer_type))
        try:
            block(layer.opaque)
            operator = read(LayerContext(layer, context))
            if isinstance(operator, Affine):
                require(operator.is_finite, "its scale or shift is not finite")
        except Blocked as blocked:
            if layer.type in AFFINES and len(layer.bottoms) == len(layer.tops) == 1:
                raise
            return Opaque(str(blocked))
        except ModelError as error:
            # A layer of known shape was checked already; behind an opaque one it is not ours to judge.
            if layer.type in AFFINES:
                raise
            return Opaque(str(error).removeprefix(f"{layer}: "))
        return operator

    def absorb(self, net: Net, layer: Layer, weight: LazyArray, bias: Array | None) -> None:
        """New blobs; where a bias is new, the flag and a `param {}` for it."""
        del net
        if bias is None:
            layer.blobs = Blobs((weight, *layer.blobs.stored[1:]))
            return
        layer.param = _with_bias(layer)
        shape = layer.blobs.shapes[1] if len(layer.blobs) > 1 else (-1,)
        rounded = Rounded(np.ascontiguousarray(bias).reshape(shape), weight.dtype)
        layer.blobs = Blobs((weight, rounded, *layer.blobs.stored[2:]))

    def refuses(self, layer: Layer, affine: Affine, context: FoldContext, parts: Sequence[Affine] = ()) -> str:
        """Why a Scale at the layer's place could not hold the affine."""
        if reason := why_unstorable(affine, parts, context.stored_type):
            return reason
        if _laid(affine, context.shapes.get(layer.bottoms[0])) is None:
            return "which axes the composition would lie along depends on a size that is unknown"
        return ""

    def rewrite(self, layer: Layer, affine: Affine, context: FoldContext, *, composed: bool) -> None:
        """As a Scale, if it took others in or is a BatchNorm; with a bias only where there is a shift."""
        laid = _laid(affine, context.shapes.get(layer.bottoms[0]))
        if not composed and (layer.type not in BATCHNORMS or self.refuses(layer, affine, context)):
            return
        if laid is None:
            return
        axis, shape = laid
        blobs = []
        for values in (affine.scale, affine.shift) if not affine.keeps_zero else (affine.scale,):
            aligned = values.reshape(values.shape[axis:] if shape else ())
            aligned = aligned.reshape(aligned.shape + (1,) * (len(shape) - aligned.ndim))
            blobs.append(np.broadcast_to(aligned, shape).astype(context.stored_type))
        if any(layer.param_names):
            context.notes.append(f"{layer}: it shared its values by name, and has its own now")
        layer.param = _scale_param(layer.param, axis, shape, biased=len(blobs) > 1)
        layer.type, layer.blobs = "Scale", Blobs(blobs)

    def clip(self, layer: Layer, clip: Clip) -> None:
        """As a Clip's two fields."""
        layer.param = deepcopy(layer.param)
        layer.param.clip_param.min, layer.param.clip_param.max = clip.low, clip.high

    def weigh(self, layer: Layer, coefficients: Sequence[float]) -> None:
        """As an Eltwise's coefficients."""
        layer.param = deepcopy(layer.param)
        layer.param.eltwise_param.coeff[:] = coefficients

    def stored_statistics(self, layer: Layer) -> LayerParameter | None:
        """With `use_global_stats: true`."""
        if layer.type not in BATCHNORMS or not follows_batch(layer.param):
            return None
        param: LayerParameter = deepcopy(layer.param)
        param.batch_norm_param.use_global_stats = True
        return param

    def joins(self, layer: Layer, window: Window) -> bool:
        """Whether Caffe's fields can say the padding: alike in front and behind."""
        del layer
        return all(before == behind for before, behind in window.pads)

    def join(self, net: Net, layer: Layer, weight: LazyArray, bias: Array | None, window: Window) -> None:
        """New blobs, and the sizes of the kernel and its padding."""
        self.absorb(net, layer, weight, bias)
        param: LayerParameter = deepcopy(layer.param)
        convolution = getattr(param, LAYERS[layer.type].message(layer))
        for name in ("kernel_size", "kernel_h", "kernel_w", "pad", "pad_h", "pad_w", "dilation", *HOLES):
            convolution.ClearField(name)
        for values, field in (
            (weight.shape[-len(window.pads) :], convolution.kernel_size),
            ([before for before, _ in window.pads], convolution.pad),
            (window.dilation, convolution.dilation),
        ):
            default = 0 if field is convolution.pad else 1
            if field is convolution.kernel_size or any(value != default for value in values):
                field.extend(values if len(set(values)) > 1 else values[:1])
        layer.param = param

    def finish(self, context: FoldContext) -> None:
        """Blobs shared by name that came out different are no longer shared; what was assumed is said once."""
        _unshare(context)
        context.note_assumed("as use_global_stats: true")


CAFFE = Caffe()


def _with_bias(layer: Layer) -> LayerParameter:
    """The parameters of a layer that has a bias."""
    field = LAYERS[layer.type].message(layer)
    present: LayerParameter = layer.param
    if len(layer.blobs) > 1 or (getattr(present, field).bias_term and len(present.param) != 1):
        return present
    changed = deepcopy(present)
    getattr(changed, field).bias_term = True
    if len(changed.param) == 1:
        changed.param.add().CopyFrom(changed.param[0])
        changed.param[1].ClearField("name")
    return changed


def _laid(affine: Affine, bottom: Shape | None) -> tuple[int, Shape] | None:
    """(axis, shape) of the blobs of a Scale; one value for each channel where that says it, None where sizes lack."""
    sizes = affine.shape
    axes = [axis for axis, size in enumerate(sizes) if size > 1]
    if not axes or axes == [1]:
        channels = sizes[1] if axes else bottom[1] if bottom is not None and len(bottom) > 1 else -1
        return (1, (channels,)) if channels > 0 else (0, ())
    known = bottom or (-1,) * len(sizes)
    shape = tuple(sizes[axis] if sizes[axis] > 1 else known[axis] for axis in range(axes[0], len(sizes)))
    return (axes[0], shape) if min(shape) > 0 else None


def _scale_param(present: LayerParameter, axis: int, shape: Shape, *, biased: bool) -> LayerParameter:
    param = retyped(present, "Scale")
    param.scale_param.SetInParent()
    if axis != 1:
        param.scale_param.axis = axis
    if len(shape) != 1:
        param.scale_param.num_axes = len(shape)
    if biased:
        param.scale_param.bias_term = True
    return param


def _split(net: Net, layer: Layer) -> None:
    top = layer.tops[0]
    public = net.public_name(top)
    inner = f"{top}@{layer.name}/norm"
    plain: LayerParameter = deepcopy(layer.param)
    plain.batch_norm_param.ClearField("relu")
    relu = LayerParameter(name=f"{layer.name}/relu", type="ReLU")
    relu.relu_param.SetInParent()
    # The old top is written by the new layer from now on, and its readers stay with it.
    readers = list(net.uses(top))
    net.rename(top, inner, public)
    for use in readers:
        net.reconnect(use, top)
    layer.param = plain
    net.insert(Layer(relu.name, relu.type, [inner], [top], Blobs(), relu), after=layer)
    if public != top:
        net.public[top] = public


def _unshare(context: FoldContext) -> None:
    """Weights shared by name stay shared where they came out equal; else each layer has its own from now on."""
    sharers: dict[str, list[tuple[Layer, int]]] = {}
    for layer in context.net.layers:
        for index, name in enumerate(layer.param_names):
            if name:
                sharers.setdefault(name, []).append((layer, index))
    for name, members in sharers.items():
        (first, slot), *others = members
        if all(same_values(first.blobs.stored[slot], layer.blobs.stored[index]) for layer, index in others):
            continue
        for layer, index in members:
            param: LayerParameter = deepcopy(layer.param)
            param.param[index].ClearField("name")
            param.param[index].ClearField("share_mode")
            layer.param = param
        users = quoted(layer.name for layer, _ in members)
        context.notes.append(f"'{name}' is no longer shared: {users} came out different")
