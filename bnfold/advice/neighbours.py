"""Rules about a BatchNorm and the layers around it: what stands in front, what follows, what is overwritten.

Each rule gives remarks on a draft, and its docstring says what it looks for; `bnfold.advice.rules` has the table.
"""

from __future__ import annotations

from collections.abc import Iterator

from bnfold.advice.draft import STATISTICS, Draft, View, Written, normalising
from bnfold.advice.records import Remark
from bnfold.caffe.batchnorm import TYPES as BATCHNORMS
from bnfold.caffe.layers import KERNELS, LAYERS, types_where
from bnfold.errors import with_article

LINEAR = KERNELS | {"InnerProduct"}
SCALES = types_where(lambda row: row.stand_in == "scale")
PASSES_VARIANCE = types_where(lambda row: row.passes_variance)
OVERWRITES = frozenset(BATCHNORMS) | {"Bias", *SCALES}


def batchnorm_without_scale(draft: Draft) -> Iterator[Remark]:
    """A BatchNorm that learns statistics only, with no Scale behind it that learns gamma."""
    for view in draft.views:
        for written in normalising(view.layers):
            if written.learns_gamma or len(draft.learned(written)) > STATISTICS:
                continue
            readers = view.readers(written)
            if any(_is_learned_scale(reader) for reader in readers):
                continue
            shifted = any(reader.type == "Bias" for reader in readers)
            top = written.layer.tops[0] if written.layer.tops else written.name
            yield Remark(
                written,
                "only a Bias follows, so no gamma is learned"
                if shifted
                else "no Scale follows, so neither gamma nor beta is learned",
                f'layer {{ name: "{written.name}/scale" type: "Scale" bottom: "{top}" top: "{top}" '
                "scale_param { bias_term: true } } behind it",
            )


def bias_before_batchnorm(draft: Draft) -> Iterator[Remark]:
    """A Convolution, Deconvolution or InnerProduct with a bias, read by nothing but BatchNorms."""
    for view in draft.views:
        for written in view.layers:
            if written.type not in LINEAR or not _adds_bias(written):
                continue
            readers = view.readers(written)
            # The mean takes the bias out again (Ioffe and Szegedy 2015, section 3.2), but not where it is frozen.
            frozen = draft.trains and any(reader.global_stats for reader in readers if reader.normalises)
            if readers and all(reader.normalises for reader in readers) and not frozen:
                field = next(iter(LAYERS[written.type].reads))
                yield Remark(
                    written,
                    f"learns a bias, and the BatchNorm '{readers[0].name}' subtracts it again",
                    f"{field} {{ bias_term: false }}",
                )


def dropout_before_batchnorm(draft: Draft) -> Iterator[Remark]:
    """A Dropout in front of a BatchNorm, at once or with linear layers, activations and pooling between."""
    for written in normalising(draft.train.layers):
        if written.global_stats:
            continue
        maker = draft.train.maker(written)
        while maker is not None and maker.type in PASSES_VARIANCE:
            maker = draft.train.maker(maker)
        if maker is not None and maker.type == "Dropout":
            yield Remark(maker, f"drops in front of the BatchNorm '{written.name}'")


def in_place_read_elsewhere(draft: Draft) -> Iterator[Remark]:
    """A layer in place, on a blob that another layer above it in the file reads too."""
    for view in draft.views:
        for written in view.layers:
            for position, (bottom, top) in enumerate(zip(written.layer.bottoms, written.layer.tops, strict=False)):
                others = view.other_readers(written, position) if bottom == top else []
                if others:
                    yield Remark(
                        written,
                        f"writes on its bottom '{bottom}', which {others[0].place} reads as it was before",
                        f"give '{written.name}' a top of its own, and let what follows read that",
                    )


def in_place_spoils_gradient(draft: Draft) -> Iterator[Remark]:
    """A BatchNorm, BN, Scale or Bias in place on values that the layer in front needs for its gradient, in training.

    Some layers need their top (a Sigmoid, whose gradient is y*(1 - y), TanH, LRN, Softmax), some their bottom, which is
    their top where they are in place themselves (a ReLU).
    """
    if not draft.trains:
        return
    for written in draft.train.layers:
        if written.type in OVERWRITES and written.in_place:
            maker = _overwritten(draft.train, written)
            if maker is not None:
                yield Remark(
                    written,
                    f"writes over the values that {maker.place}, {with_article(maker.type)}, needs for its gradient",
                    f"give '{written.name}' a top of its own",
                )


def scale_without_bias(draft: Draft) -> Iterator[Remark]:
    """A Scale behind a BatchNorm without `bias_term: true`, and no Bias behind it."""
    for view in draft.views:
        for written in view.layers:
            if not _is_learned_scale(written) or written.type != "Scale" or written.layer.param.scale_param.bias_term:
                continue
            maker = view.maker(written)
            if maker is None or not maker.normalises or maker.learns_gamma:
                continue
            if not any(reader.type == "Bias" for reader in view.readers(written)):
                yield Remark(written, f"learns gamma for the BatchNorm '{maker.name}', and no beta")


def _is_learned_scale(written: Written) -> bool:
    return written.type in SCALES and len(written.layer.bottoms) == 1


def _adds_bias(written: Written) -> bool:
    """A bias per channel is the last thing that the layer does."""
    param = LAYERS[written.type].parameters(written.layer)
    return bool(param.bias_term and param.axis == 1 and not getattr(param, "relu", False))


def _overwritten(view: View, written: Written) -> Written | None:
    """The layer whose values `written` overwrites and whose gradient needs them."""
    maker = view.maker(written)
    while maker is not None:
        gradient = LAYERS[maker.type].gradient if maker.type in LAYERS else ""
        if gradient == "top" or (gradient == "bottom" and maker.in_place):
            return maker
        # Another overwriter has remarks of its own.
        if not maker.in_place or maker.type in OVERWRITES:
            return None
        maker = view.maker(maker)
    return None
