"""Sizes for what an ONNX model leaves open, so that noise can be drawn: the first usual ones that it takes.

What holds at one size may hold at no other: a Reshape to a constant, a pooling whose kernel is the whole plane, a
Resize to sizes where the reference has scales, a Squeeze of whatever is 1. So what is equal is run again at others, the
batch among them: at odd ones, with one row, and where that costs little with many rows and steps.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import product
from math import inf, isnan, nan, prod
from typing import NamedTuple

import numpy as np

from bnfold.compare.batches import PLANES, BatchLayout, choose_samples, run_at, runs
from bnfold.compare.matched import UNSHAPED
from bnfold.compare.models import Model, off_by_units
from bnfold.compare.noise import ChosenNoise
from bnfold.compare.records import DiffReport, Gate
from bnfold.compare.rows import rows_alone
from bnfold.compare.standins import onnx_stand_ins
from bnfold.data.preparation import Preparation
from bnfold.data.samples import Arrays, Feed, Noise, Samples
from bnfold.data.standins import FLAG, AnyOf, Lengths
from bnfold.errors import ModelError, UsageError, named
from bnfold.net import sizes
from bnfold.onnx.graph import WeightStore, with_input_sizes
from bnfold.runtime import Session

COLOURS = 4  # up to which the last of four sizes, where it alone is stated, is of an image whose colours come last
OTHER_ROWS = (2, 1)  # of a batch that is open: those that were not run
MANY_ROWS = (520, 130, 70, 20)  # likewise: the first that is light
LIGHT = 1 << 29  # products, about, up to which a run at larger sizes takes less than a second
MANY = 1 << 22  # values of an input, but for its samples and the sizes that are stated, beyond which none are usual
OFTEN = 16  # runs of one whose types of 2 bytes are held against its rounding
PRODUCTS = 1 << 14  # at least, that each place of an input is worth
UNSTEADY = 100.0  # times what rounding moves the reference by: what differs by no more tells nothing
ROWS = 4  # of regions of one image, or steps of one sentence


class Usual(NamedTuple):
    """Sizes that are often met together: an image's plane and colours, the values of a signal, and any other length."""

    height: int
    width: int
    colours: int = 3
    length: int = 16
    signal: int = 1024


USUAL = (
    Usual(224, 224),
    Usual(64, 64, length=64, signal=512),
    Usual(224, 224, colours=1, length=512, signal=16000),
    Usual(64, 64, colours=1, length=128, signal=4096),
    Usual(32, 32, length=256, signal=256),
    Usual(48, 320, length=1024, signal=128),  # a line of text
    Usual(32, 100, colours=1, length=400, signal=64),
    Usual(256, 256, length=3000, signal=8000),
    Usual(320, 320, length=4096, signal=400),
    Usual(416, 416, length=8000, signal=48000),
    Usual(512, 512, length=16000, signal=16),
    Usual(640, 640, length=1, signal=1),
)
"""What public models take: classifiers, segmenters, detectors and readers of text; tokens, frames and waveforms."""
OTHERS = (Usual(67, 93, length=77, signal=515), Usual(64, 96, length=64, signal=512), *USUAL[1:3], *USUAL[4:7])
"""Those that a second run may have: few, since both networks are opened for each, and none that costs much.

At odd sizes windows overhang, and at unequal ones a plane may be turned; not all networks take such.
"""
LONG = tuple(Usual(64, 96, length=length, signal=length) for length in (1031, 521, 257, 131))
"""Those of a run with many steps."""


def with_usual_sizes(model: Model, layout: BatchLayout) -> tuple[BatchLayout, str]:
    """What a run takes, with a size for each that both networks leave open, but the batch, and numbers that are known.

    Of the numbers that an input is compared with, those are left at which the reference gives something, and sizes are
    better at which it does so at all of them.

    Args:
        model: the reference, as ONNX; it runs on a sample of noise, to see which sizes it takes.
        layout: what both networks take.

    Returns:
        The layout, and a note that says the sizes; the layout as it was, and no words, if an input has no shape.

    Raises:
        UsageError: it takes none of `USUAL`.
        ModelError: it cannot be run at all.
    """
    unknown = layout.open_inputs
    if not (unknown or _lengths(layout) or _switches(layout)) or not all(feed.ranked for feed in layout.feeds.values()):
        return layout, ""
    found: list[tuple[bool, BatchLayout]] = []
    with WeightStore() as store:
        session = model.session(model.outputs, store)
        tried = (_shapes(model, layout, *given) for given in product(USUAL, _states(model, layout)))
        fitting = (_with_shapes(model, layout, shapes) for shapes in tried if _fit(layout, shapes))
        for sized in fitting if unknown else (layout,):
            taken = _with_numbers_taken(session, sized)
            found += [] if taken is None else [(_takes_all(taken, sized), taken)]
            if found and found[-1][0]:
                break
    if found:
        sized = max(found, key=lambda one: one[0])[1]  # the first where none takes all
        chosen = " and ".join(f"'{name}' {sizes(sized.feeds[name].shape)}" for name in unknown)
        note = f"the model leaves sizes open; it was run with {chosen}, and --input-shape gives others"
        return sized, note if unknown else ""
    if not unknown:
        return layout, ""
    open_inputs = " and ".join(f"'{name}' has shape {sizes(layout.feeds[name].shape)}" for name in unknown)
    raise UsageError(
        f"input {open_inputs}; noise needs every size, and the network takes none of the usual ones, so give data or "
        "--input-shape"
    )


def _switches(layout: BatchLayout) -> dict[str, AnyOf]:
    """Input of one number -> the numbers with which the model compares it, and on which a branch may depend."""
    feeds = layout.sample[1].items()
    known = {name: feed.meaning for name, feed in feeds if all(size == 1 for size in feed.shape)}
    return {name: one for name, one in known.items() if isinstance(one, AnyOf)}


def _takes_all(taken: BatchLayout, sized: BatchLayout) -> bool:
    """Whether a network takes all numbers that it knows itself."""
    found = _switches(taken)
    return all(one.most or found[name] == one for name, one in _switches(sized).items())


def _with_numbers_taken(session: Session, layout: BatchLayout) -> BatchLayout | None:
    """The layout, with the numbers at which a network gives something, and where it takes no lengths but of all steps,
    these; None where it gives nothing at any of them.
    """
    switches = _switches(layout)
    for name, known in switches.items():
        taken = tuple(one for one in known.values if _gives(session, _with_numbers(layout, name, (one,))))
        if not taken:
            return None
        layout = _with_numbers(layout, name, taken[: known.most or None])
    if not (switches or _gives(session, layout)):
        return None
    # Of an open batch the first sample, which has all steps, is in the same run.
    if _lengths(layout) and not layout.is_open and not _gives(session, layout, layout.batch):
        return _of_all_steps(layout)
    return layout


def _of_all_steps(layout: BatchLayout) -> BatchLayout:
    """The layout, whose lengths are those of all steps in every sample."""
    whole = {
        name: replace(layout.feeds[name], meaning=replace(one, whole=True)) for name, one in _lengths(layout).items()
    }
    return replace(layout, feeds={**layout.feeds, **whole})


def _lengths(layout: BatchLayout) -> dict[str, Lengths]:
    """The inputs that take lengths of the steps of others."""
    known = {name: feed.meaning for name, feed in layout.feeds.items()}
    return {name: one for name, one in known.items() if isinstance(one, Lengths)}


def _with_numbers(layout: BatchLayout, name: str, values: tuple[int, ...]) -> BatchLayout:
    feed = replace(layout.feeds[name], meaning=AnyOf(values))
    return replace(layout, feeds={**layout.feeds, name: feed})


def _gives(session: Session, layout: BatchLayout, start: int = 0) -> bool:
    """Whether a network takes a sample of noise, the first of those of a run, and makes some value of it."""
    one = replace(layout, batch=1) if layout.is_open else layout
    try:
        noise = choose_samples(None, None, one, 0, Preparation())
        return any(values.size for values in session.run(run_at(noise, one, start).feeds).values())
    except ModelError:
        return False


@contextmanager
def naming_unmeant(layout: BatchLayout, data: Samples) -> Iterator[None]:
    """Say of a network that cannot be run on noise which inputs are whole numbers of which nothing is known.

    Raises:
        ModelError: the one that is raised within, with that.
    """
    known = {name: feed.meaning for name, feed in layout.feeds.items() if feed.dtype.kind in "iu"}
    unknown = [name for name, one in known.items() if one == FLAG or (isinstance(one, AnyOf) and one.most)]
    try:
        yield
    except ModelError as error:
        if not (unknown and isinstance(data, Noise)):
            raise
        way = (
            f"what {named('input', unknown)} may hold is not known, and it was tried with numbers: give some by --data"
        )
        raise ModelError(f"{error}; {way}") from error


@dataclass(slots=True)
class Trial:
    """A further run at other sizes. Who makes it says whether the networks took them, by which the next are chosen.

    Attributes:
        layout: with the sizes.
        taken: whether the reference gave something there, and there was room for it.
    """

    layout: BatchLayout
    taken: bool = False


def other_sizes(
    model: Model, candidate: Model, layout: BatchLayout, ran: BatchLayout, data: Samples
) -> Iterator[Trial]:
    """Up to three further runs: at odd sizes, with many steps and one row, with many rows; each at the first that go.

    Other numbers of rows alone show nothing where both networks compute each row by itself.

    Args:
        model, candidate: the networks, as ONNX.
        layout: what both networks take, with the sizes that they leave open.
        ran: likewise as it was run.
        data: the samples that were.
    """
    if not all(feed.ranked for feed in layout.feeds.values()):
        return
    start, met, is_sized = layout.leading, ran.sizes(data), bool(layout.open_inputs)
    has_open_rows = layout.is_open and not (rows_alone(model) and rows_alone(candidate))
    if not (is_sized or has_open_rows):
        return
    states = {name for name in max(_states(model, layout), key=len) if met[name][1] == 1}
    is_whole = any(one.whole for one in _lengths(ran).values())
    tried = [(ran.batch, met)]

    def first_taken(
        rows: Sequence[int], usual: Sequence[Usual | None], most: float = inf
    ) -> Generator[Trial, None, Usual | None]:
        """Try some sizes, or those that were run (None), with the first of the rows that takes no more than `most`
        products, and none again, until one is taken, which is returned.
        """
        for one in usual:
            other = replace(layout, batch=rows[0], planned=True)
            shapes = met if one is None or not is_sized else _shapes(model, other, one, states)
            batch = next((count for count in rows if _products(model, shapes, count, start) <= most), None)
            if batch is None or not (shapes is met or _fit(layout, shapes)):
                continue
            if any(batch == known[0] and not _differ(shapes, known[1], start) for known in tried):
                continue
            tried.append((batch, shapes))
            other = replace(other, batch=batch)
            other = _with_shapes(model, other, shapes) if is_sized else other
            trial = Trial(_of_all_steps(other) if is_whole else other)
            yield trial
            if trial.taken:
                return one
        return None

    is_coarse = {model.own.stored_type, candidate.own.stored_type} - {"float32", "float64"}
    light = LIGHT // OFTEN if is_coarse else LIGHT
    rows = [rows for rows in OTHER_ROWS if rows != ran.batch] if layout.is_open else [layout.batch]
    odd = yield from first_taken(rows[:1], (*OTHERS, None))
    if odd is None:
        yield from first_taken(rows[-1:], (None,))
    else:
        most = max(light, _products(model, met, ran.batch, start))
        if (yield from first_taken(rows[-1:], LONG, most)) is None:
            yield from first_taken(rows[-1:], (OTHERS[1], odd))
    if has_open_rows:
        yield from first_taken(MANY_ROWS, (odd, OTHERS[4]), light)


def _fit(layout: BatchLayout, shapes: Mapping[str, Sequence[int | None]]) -> bool:
    """Whether sizes for what is left open leave each input small: a plane of as many steps each way has millions."""
    start = layout.leading
    given = (
        [size or 1 for size, stated in zip(shapes[name][start:], feed.shape[start:], strict=True) if stated is None]
        for name, feed in layout.feeds.items()
    )
    return all(prod(sizes) <= MANY for sizes in given)


def _products(model: Model, shapes: Mapping[str, Sequence[int | None]], rows: int, start: int) -> int:
    """How many a run takes, about: each weight is used at each place of the largest input, but for its channels."""
    sizes = [[size for size in shape[start:] if size is not None and size > 1] for shape in shapes.values()]
    places = max((prod(one) // (min(one) if len(one) > 1 else 1) for one in sizes), default=1)
    return max(model.stored_values, PRODUCTS) * places * (rows if start else 1)


def _differ(one: Mapping[str, tuple[int | None, ...]], other: Mapping[str, tuple[int | None, ...]], start: int) -> bool:
    return any(one[name][start:] != shape[start:] for name, shape in other.items())


def samples_at(layout: BatchLayout, ran: BatchLayout, data: Samples, seed: int, chosen: ChosenNoise | None) -> Samples:
    """Samples for a run of other sizes: noise, or of given data the first, of which places along open axes are drawn.

    Values that the data do not have would show other things than sizes. Noise has the scales of what was chosen.
    """
    if isinstance(data, Noise):
        drawn = choose_samples(None, None, layout, seed, Preparation())
        if isinstance(drawn, Noise) and chosen is not None:
            drawn = chosen.scaled(drawn)
        if isinstance(drawn, Noise) and layout.is_open:  # all of one scale, since rows may be steps of one recurrence
            return replace(drawn, count=layout.batch, repeated=layout.batch)
        return drawn
    feeds = run_at(data, replace(ran, batch=layout.batch), 0).feeds
    random = np.random.default_rng(seed)
    for name, feed in layout.feeds.items():
        for axis in range(layout.leading, len(feed.shape)):
            size, old = feed.shape[axis], feeds[name].shape[axis]
            if size is not None and size != old > 0:
                feeds[name] = np.take(feeds[name], random.integers(old, size=size), axis)
    return Arrays(feeds if layout.batched else {name: values[None] for name, values in feeds.items()})


def sized(
    report: DiffReport, layout: BatchLayout, found: DiffReport | ModelError, moved: Callable[[], float]
) -> DiffReport:
    """The report with what a run at other sizes found.

    Many steps of a recurrence may turn rounding into anything, and tell nothing then.

    Args:
        report: on the samples at their own sizes.
        layout: with the sizes.
        found: there, or why the candidate gave nothing.
        moved: gives how far the reference moves there by the rounding of its inputs, of the range.
    """
    gates = sizes_gate(layout, report, found)
    is_far = [gate.name for gate in getattr(found, "gates", ()) if not gate.passed] == ["tolerance"]
    if is_far and not all(gate.passed for gate in gates) and gates[0].value <= UNSTEADY * (apart := moved()):
        moves = f"the reference itself moves by {apart:.1e} of its range where its inputs, or weights, are rounded"
        note = f"run with {_fed(layout)}, {moves} otherwise, so nothing is proved there"
        return replace(report, notes=(*report.notes, note))
    return replace(report, gates=(*report.gates, *gates))


def moved_by_rounding(model: Model, layout: BatchLayout, data: Samples, store: WeightStore, threads: int) -> float:
    """How far the outputs of a network move, of their range, where real inputs are a unit in the last place off.

    A 0 stays, which no rounding makes. Where no input is real, its weights are off.
    """
    is_real = any(feed.dtype.kind == "f" for feed in layout.feeds.values())
    session, random, moved = model.session(model.outputs, store, threads), np.random.default_rng(0), 0.0
    second = session if is_real else model.moved_by_units(0).session(model.outputs, store, threads)
    for run in runs(data, layout):
        feeds = {name: values.astype(layout.feeds[name].dtype) for name, values in run.feeds.items()}
        others = {
            name: off_by_units(values, random) if values.dtype.kind == "f" else values for name, values in feeds.items()
        }
        for one, other in zip(session.run(feeds).values(), second.run(others).values(), strict=True):
            if one.dtype.kind == "f" and one.size:
                span = float(np.ptp(one))
                moved = max(moved, float(np.abs(one - other).max()) / span) if span > 0 else moved
    return moved


def sizes_gate(layout: BatchLayout, report: DiffReport, found: DiffReport | ModelError) -> list[Gate]:
    """What the candidate gives at other sizes is what the reference gives; no gate where nothing could be told there.

    A few of many samples may have a smaller range; where those that were given are one set, that of all counts.
    Arguments as in `sized`.
    """
    fed = _fed(layout)
    if isinstance(found, ModelError):
        return [Gate("sizes", 0, nan, False, f"run with {fed} it gives nothing: {found}")]
    values = {gate.name: gate.value for gate in found.gates if not gate.passed}
    failed = values.keys() - {"tolerance"} if isnan(values.get("tolerance", 0.0)) else {*values}
    if failed == {"compared"}:  # outputs may have no element there, and then nothing in them is off
        return []
    if reshaped := [note for note in found.notes if UNSHAPED in note and not _says(report, note.split(":")[0])]:
        return [Gate("sizes", 0, nan, False, f"run with {fed}, {reshaped[0].split(', and ')[0]}")]
    sets = (blob for blob in report.blobs if blob.judged == blob.max_rel and blob.low < blob.high)
    spans = {blob.blob: blob.high - blob.low for blob in sets}
    every = {blob.blob for blob in found.blobs} <= spans.keys()
    apart = max(blob.max_abs / spans[blob.blob] for blob in found.blobs) if every and found.blobs else nan
    if failed == {"tolerance"} and apart <= found.tolerance:
        return [Gate("sizes", found.tolerance, apart, True, f"run with {fed}: within {apart:.1e} of the range of all")]
    return [Gate("sizes", found.tolerance, found.judged, found.passed, f"run with {fed}: {found.verdict}")]


def _fed(layout: BatchLayout) -> str:
    shapes = {
        name: (layout.batch, *feed.shape[1:]) if layout.is_open else feed.shape for name, feed in layout.feeds.items()
    }
    return " and ".join(f"'{name}' {sizes(shape)}" for name, shape in shapes.items())


def _says(report: DiffReport, output: str) -> bool:
    """Whether a note of a report says so of an output, too."""
    return any(UNSHAPED in note and note.startswith(output) for note in report.notes)


def sized_by(data: Samples, layout: BatchLayout, ran: Sequence[BatchLayout]) -> Iterator[str]:
    """The note on sizes of given samples beside which no others were run, though they are open besides the batch."""
    shapes = layout.sizes(data)
    others = [{name: feed.shape for name, feed in one.feeds.items()} for one in ran]
    if any(_differ(other, shapes, layout.leading) for other in others):
        return
    if found := [f"'{name}' {sizes(shapes[name])}" for name in layout.open_inputs]:
        yield f"the model leaves sizes open, and no others were run than those of the data ({' and '.join(found)})"


def _states(model: Model, layout: BatchLayout) -> list[set[str]]:
    """Which inputs may be states (layers or directions, samples, values), the likely first: none, those of one name or
    shape, all.

    The steps of a sentence, which may be in the same place, are any number, and the samples of a state are what others
    have.
    """
    found: dict[object, set[str]] = {}
    for port in model.proto.graph.input:
        shape = layout.feeds[port.name].shape if port.name in layout.feeds else ()
        if len(shape) == 3 and shape[0] is not None and shape[1] is None:
            found.setdefault(port.type.tensor_type.shape.dim[1].dim_param or shape, set()).add(port.name)
    return [set(), *found.values(), *([set().union(*found.values())] if len(found) > 1 else [])]


def _shapes(
    model: Model, layout: BatchLayout, usual: Usual, states: Collection[str]
) -> dict[str, tuple[int | None, ...]]:
    """Input -> its shape. Sizes of one name are equal; what is called a sum of names, as of a cache, is their sum."""
    ports = {port.name: port.type.tensor_type.shape.dim for port in model.proto.graph.input}
    names = {name: [dim.dim_param for dim in ports[name]] for name in layout.feeds}
    named: dict[str, int] = {}
    start, batch = layout.leading, 1 if layout.is_open else layout.batch
    axes = ((axis, blob, name) for blob in layout.feeds for axis, name in enumerate(names[blob]) if name.isidentifier())
    for axis, blob, name in sorted(axes, key=lambda one: one[0] > 0):  # of a first axis anywhere, the samples
        size = batch if axis < start else _size(layout.feeds[blob], axis, usual, blob in states)
        named.setdefault(name, layout.feeds[blob].shape[axis] or size)
    shapes: dict[str, tuple[int | None, ...]] = {}
    for blob, feed in layout.feeds.items():
        known = [
            size if size is not None else _sum(name, named) or _size(feed, axis, usual, blob in states)
            for axis, (name, size) in enumerate(zip(names[blob], feed.shape, strict=True))
        ]
        shapes[blob] = (*feed.shape[:start], *known[start:])
    return shapes


def _sum(name: str, named: Mapping[str, int]) -> int:
    """What a size that is called `name` or `name + name` is; 0 where a term has none."""
    terms = [int(term) if term.isdigit() else named.get(term, 0) for term in name.replace(" ", "").split("+")]
    return sum(terms) if all(terms) else 0


def _size(feed: Feed, axis: int, usual: Usual, is_state: bool) -> int:
    """A usual size for an open axis of an input."""
    shape, rank = feed.shape, len(feed.shape)
    if shape == (PLANES, None, None):
        return usual[axis - 1]
    if axis == 0:
        return ROWS if feed.meaning is not None and feed.meaning.joint else 1
    if is_state and axis == 1:
        return 1
    if rank < 4:
        return usual.signal if rank < 3 and feed.meaning is None else usual.length
    last = shape[1] is None and shape[-1] is not None and shape[-1] <= COLOURS
    spatial = range(1, rank - 1) if last else range(2, rank)
    if axis not in spatial:
        return usual.colours
    return {spatial[-1]: usual.width, spatial[-2]: usual.height}.get(axis, usual.length)


def _with_shapes(model: Model, layout: BatchLayout, shapes: Mapping[str, tuple[int | None, ...]]) -> BatchLayout:
    """The layout with other shapes, and inputs that are no real values in what these mean."""
    feeds = {blob: replace(feed, shape=shapes[blob]) for blob, feed in layout.feeds.items()}
    meanings = onnx_stand_ins(with_input_sizes(model.proto, shapes), feeds, model.weights, layout.feeds)
    return replace(
        layout, feeds={blob: replace(feed, meaning=meanings.get(blob, feed.meaning)) for blob, feed in feeds.items()}
    )
