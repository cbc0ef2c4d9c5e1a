"""Whether rounding alone brought blobs beyond the tolerance: where it may have, a float64 run of the reference decides.

What a rounded candidate keeps to is said in `exact`, and for each stretch of its layers in `stretches`. In types of 2
bytes, whose tolerance hides faults, the run is asked about small networks even where nothing is beyond it.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from bnfold.compare.batches import BlobValues, Run, run_at
from bnfold.compare.divergence import upstream
from bnfold.compare.engine import Engine
from bnfold.compare.exact import (
    EVERY_SAMPLE,
    LEAST_TOLERANCE,
    MOVED,
    NORMALISING,
    ROUNDING,
    Coarse,
    Distances,
    as_exact,
    open_exact,
)
from bnfold.compare.gates import rounding_gate
from bnfold.compare.kernels import span
from bnfold.compare.measure import Measurement
from bnfold.compare.metrics import beside_mask, extremes, magnitude, relative
from bnfold.compare.planning import Networks
from bnfold.compare.records import BlobDiff, Gate
from bnfold.compare.saturation import SQUASHING, sources, type_of
from bnfold.compare.stretches import FAIR, MadeBlob, straying
from bnfold.errors import ModelError, UnsupportedError, UsageError, named
from bnfold.net import Array
from bnfold.options import TOLERANCES

if TYPE_CHECKING:
    from bnfold.compare.matched import MatchedCandidate
    from bnfold.compare.models import Model
    from bnfold.compare.ties import Ties
    from bnfold.data.samples import Feed
    from bnfold.onnx.evaluator import Evaluator
    from bnfold.onnx.graph import WeightStore
    from bnfold.runtime import Session

    Opened = dict[Hashable, tuple[Mapping[str, Feed], Session]]  # by what was asked for

ENLARGING = (*NORMALISING, "Div")
PERIODIC = ("Cos", "Sin", "Tan")
FROM_ONE = ("HardSigmoid", "Sigmoid")  # near 0 they are 1 - v, or v + 1/2, of a v that is rounded at that size
SUMS = (
    *("AveragePool", "GlobalAveragePool", "ReduceMean", "ReduceSum"),
    *("Add", "Conv", "ConvTranspose", "Einsum", "Gemm", "MatMul", "Sub", "Sum"),
    *("FusedConv", "FusedGemm", "FusedMatMul"),
)
SMALL = 1 << 22  # weights, and values that are compared, up to which a float64 run and ten in float32 take seconds
LIGHT = 1 << 17  # weights and values up to which such a network stays open
MOST_OPEN = 64  # of these
UNLOOKED = (
    "whether rounding explains what differs within the tolerance was not looked at, and a channel may be some per "
    "cent off"
)
FAR = 0.01  # of its range: where the reference's own rounding moves a blob so far, little can be told by it
UNTOLD = "the reference itself is far from a float64 run, which tells nothing: a channel may be some per cent off"


@dataclass(frozen=True, slots=True)
class RoundingJudge:
    """Decides for one candidate whether rounding explains what differs.

    Attributes:
        matched: the candidate.
        found: what was measured of it; distances from the float64 run, and notes, go there.
    """

    matched: MatchedCandidate
    found: Measurement

    @property
    def coarse(self) -> Coarse | None:
        """What holds of weights of 2 bytes, where the candidate has such."""
        theirs = self.matched.theirs
        return Coarse.of(theirs.own.stored_type, theirs.stored_type, self.matched.options.limit)

    def run(self, engine: Engine, place: int, store: WeightStore, *, unasked: bool) -> None:
        """Make the float64 run, if there is a reason, and hold both networks against it.

        Args:
            engine: both networks, open; its sessions may be closed.
            place: of the candidate among those of the engine.
            store: where the weights lie.
            unasked: whether it may be made where nothing is beyond the tolerance.
        """
        matched, found = self.matched, self.found
        doubtful, notes = self._doubtful(), list(found.notes)
        matched.unlooked = self._unlooked(unasked)
        unasked = not doubtful and self._is_coarse() and not matched.unlooked
        asked = [name for name in matched.ours.outputs if name in found.errors] if unasked else doubtful
        starts = self._starts(asked)
        try:
            if matched.options.layers or unasked:
                self._hold_against(engine, place, store, starts, asked, unasked)
            elif starts:  # each stretch of layers counts, and not what all of them together make
                whole = matched.whole()
                engine.close_sessions()
                networks = Networks(matched.ours, [whole.side()])
                with Engine(networks, matched.layout, matched.data, matched.options, store) as opened:
                    RoundingJudge(whole, found)._hold_against(opened, 0, store, starts, asked, unasked)
        except (UnsupportedError, UsageError) as error:
            found.notes.append(f"no float64 run decides about rounding: {error}")
            found.distances.clear()
        finally:
            if unasked:
                found.notes = notes

    def _starts(self, asked: Sequence[str]) -> list[int]:
        """The first samples of the runs that are made: of all samples, or of those in which some blobs differ most."""
        matched = self.matched
        worst = {sample for name in asked if (sample := self.found.errors[name].farthest[1]) is not None}
        if worst and matched.data.count <= EVERY_SAMPLE:
            worst = {*range(matched.data.count)}
        batch = matched.layout.batch
        return sorted({number // batch * batch for number in worst})

    def _hold_against(
        self, engine: Engine, place: int, store: WeightStore, starts: Sequence[int], asked: Sequence[str], unasked: bool
    ) -> None:
        """Hold the runs that begin with some samples against a float64 run, which is asked about some blobs."""
        matched, found, coarse = self.matched, self.found, self.coarse is not None
        matters = {*asked, *upstream("", {**matched.ours.reads, "": tuple(asked)})}  # nothing else can matter to them
        judged = [] if coarse else [name for name in matched.ours.writers if name in matched.pairs and name in matters]
        opening = partial(open_exact, engine.networks.reference, found.notes)
        truth = engine.open_exact(opening, judged) if starts and (judged or coarse) else None
        if truth is None:
            return
        opened: Opened = {}
        for start in starts:
            run = run_at(matched.data, matched.layout, start)
            # What the float64 run takes over from the networks, which give it a segment at a time.
            chosen, known, waiting = dict[str, Array](), dict[str, Array](), list[tuple[str, Array]]()
            whole = truth.each(run.feeds, judged, partial(_as_chosen, matched.ties, chosen), known=known)
            for segment, given in engine.give(run):
                known |= self._agreed(given[0], given[1 + place])
                chosen |= {name: given[0][name] for name in matched.ties.partners if name in given[0]}
                exact = _part_of(whole, segment.names, waiting)
                if coarse:
                    exact = truth.each(run.feeds, given[0], partial(_as_chosen, matched.ties, chosen), known=known)
                moved = self._rounded_otherwise(run, given[1 + place], opened, store)
                if unasked and not moved:
                    return
                self._judge(run, exact, given[0], given[1 + place], moved)
                del exact, moved
                if not coarse:
                    self._judge_stretches(run, truth, given[0], given[1 + place], segment.beside)
                del given  # or they would stand beside the next segment in memory

    def verdict(self, blobs: Sequence[BlobDiff]) -> tuple[dict[str, bool], list[Gate], list[str]]:
        """What the float64 run decided, if there was one.

        Returns:
            Each blob that is beyond the tolerance -> whether rounding brought it there; the gate of types of 2 bytes,
            and a note, where nothing is beyond it.
        """
        matched, found = self.matched, self.found
        doubtful = [name for name in self._doubtful() if name in found.distances]
        exact = as_exact(matched.ours, matched.theirs, matched.all_pairs, found.distances)
        inexact = {name: apart for name, apart in found.distances.items() if name not in exact}
        decided = {name: name in exact and (self.coarse is None or not inexact) for name in doubtful}
        if self.coarse is None or doubtful:
            return decided, [], [*self._unseen()]
        if found.distances:
            untold = [name for name, apart in inexact.items() if not apart.tells]
            gate = rounding_gate({name: apart for name, apart in inexact.items() if apart.tells})
            said = [f"{named('blob', untold)}: {UNTOLD}"] if untold else []
            return decided, [gate], [*said, *self._unseen()]
        unlooked = any(blob.judged for blob in blobs) and matched.options.limit > TOLERANCES["float32"]
        return decided, [], [": ".join(filter(None, [UNLOOKED, matched.unlooked]))] if unlooked else []

    def _unseen(self) -> Iterator[str]:
        """The note on how far off a channel of 2 bytes may be and pass for rounding."""
        shares = {name: one.unseen for name, one in self.found.distances.items() if one.tells and one.unseen}
        if shares:
            worst = max(shares, key=lambda name: shares[name])
            percent = float(f"{shares[worst] * 100:.2g}")
            yield (
                f"a channel of blob '{worst}' may be {percent:g} % off as a whole, and pass for rounding "
                f"to {self.matched.theirs.own.stored_type}, and a part of its weights by more: closer it is not proved"
            )

    def _doubtful(self) -> list[str]:
        """The blobs beyond the tolerance, if rounding may have brought them there and a float64 run could tell."""
        matched, found, tolerance = self.matched, self.found, self.matched.options.limit
        if tolerance < LEAST_TOLERANCE:
            return []
        indices = {*matched.ties.indices, found.detection.blob if found.detection is not None else ""}
        errors = {name: error.judged for name, error in found.errors.items()}
        beyond = [name for name in matched.ours.writers if errors.get(name, 0.0) > tolerance and name not in indices]
        if not beyond:
            return []
        first = found.errors[beyond[0]]
        # What rounding left of a constant plane is any, and so is where a large value lies in its period.
        if self._enlarges(beyond[0], (*ENLARGING, *PERIODIC)):
            return beyond
        # Beside values far from 0, which float32 cannot tell apart, a range may be small; so it may where those that
        # are added cancel, since the mean of what was centred is what rounding left, and where a Sigmoid, which
        # float32 computes to a unit of 1, is near 0 everywhere. Of others the unit is their own.
        farthest = min(first.judged, relative(first.max_abs, magnitude(first.low, first.high)))
        squashed = float(_is_made_by(SQUASHING, matched.ours, beyond[0]))
        added = max(self._added(beyond[0]), default=squashed)
        return beyond if farthest <= ROUNDING * tolerance or first.max_abs <= tolerance * added else []

    def _added(self, blob: str) -> Iterator[float]:
        """The largest values of what a blob of the reference is made of, if some of its stretch adds."""
        ours, stretch = self.matched.ours, self._stretch(blob)
        types = {ours.makers[name].op_type for name in stretch & ours.makers.keys()}
        if types.isdisjoint(SUMS):
            return
        feeds = run_at(self.matched.data, self.matched.layout, 0).feeds
        for name in {name for made in stretch for name in ours.inputs.get(made, ())} - {blob}:
            if name in self.found.errors:
                yield magnitude(self.found.errors[name].low, self.found.errors[name].high)
            elif name in feeds and feeds[name].dtype.kind == "f":
                yield float(np.abs(feeds[name]).max(initial=0.0))

    def _enlarges(self, blob: str, enlarging: Collection[str] = ENLARGING) -> bool:
        """Whether some operator that enlarges stands in a blob's stretch, and nothing that gives indices."""
        stretch, makers = self._stretch(blob), self.matched.ours.makers
        types = {makers[name].op_type for name in stretch & makers.keys()}
        ties = self.matched.ties
        return not types.isdisjoint(enlarging) and stretch.isdisjoint(ties.pointers.keys() & ties.indices.keys())

    def _stretch(self, blob: str) -> set[str]:
        """A blob of the reference, and those that it is made of from compared ones on."""
        ours, pairs = self.matched.ours, self.matched.pairs
        return {blob, *(name for name in upstream(blob, ours.inputs, pairs) if name not in pairs)}

    def _is_coarse(self) -> bool:
        """Whether the float64 run decides unasked: the tolerance of 2 bytes hides faults of a few per cent."""
        within = all(error.judged <= self.matched.options.limit for error in self.found.errors.values())
        return self.coarse is not None and within

    def _unlooked(self, unasked: bool) -> str:
        """Why the float64 run is not made unasked; empty where it may be."""
        matched, values = self.matched, sum(error.values for error in self.found.errors.values())
        ours, theirs = matched.ours.own.stored_type, matched.theirs.own.stored_type
        if not unasked:
            return "it is looked at only without --tolerance"
        if ours != theirs:
            return f"it is looked at only where both store one type, and these store {ours} and {theirs}"
        if set(matched.options.providers) != {"cpu"}:
            return "it is looked at only on the CPU"
        if max(matched.theirs.stored_values, values) > SMALL:
            return f"it is looked at only in networks of at most {SMALL:,} weights and values"
        return ""

    def _agreed(self, first: BlobValues, second: BlobValues) -> dict[str, Array]:
        """The whole numbers that are compared as decisions and equal in both: a float64 run decides no otherwise."""
        decided = ((first[name], second[partner], name) for name, partner in self.matched.ties.partners.items())
        return {name: r for r, c, name in decided if r.dtype.kind in "biu" and np.array_equal(r, c)}

    def _judge(
        self,
        run: Run,
        exact: Iterable[tuple[str, Array]],
        first: BlobValues,
        second: BlobValues,
        moved: Sequence[BlobValues],
    ) -> None:
        """Hold one run against the float64 run; of each blob the sample counts that speaks most against it.

        Args:
            run: the samples.
            exact: blob and values, as the float64 run gives them, which are not kept.
            first, second: what either network gave.
            moved: what `_rounded_otherwise` gave.
        """
        matched, found, coarse = self.matched, self.found, self.coarse
        for name, truth in exact:
            partner = matched.pairs.get(name, "")
            r, c = first.get(name), second.get(partner)
            boxes = found.detection is not None and name == found.detection.blob
            if r is None or c is None or boxes or truth.size != r.size or c.size != r.size:
                continue
            by_row = matched.layout.has_rows(r)
            for row in range(len(run.numbers)) if by_row else [...]:
                true, ours, theirs = (values.reshape(r.shape)[row] for values in (truth, r, c))
                error = found.errors.get(name)
                small = beside_mask(ours) if not moved else None
                own = error is None or error.by_own_range or small is not None
                # A mask is so large that beside it nothing would be wrong, and by itself it is.
                for part in (...,) if small is None else (small, ~small):
                    ends = extremes(ours[part])
                    size = span(*ends) if own or error is None else max(error.typical, span(*ends))
                    if coarse is not None and moved:
                        others = [given[partner].reshape(r.shape)[row] for given in moved]
                        found_here = [_along_channels(values, by_row) for values in (true, ours, theirs, *others)]
                        distances = Distances.by_channel(found_here, size, coarse)
                    else:
                        distances = Distances.of(true[part], ours[part], theirs[part], size, magnitude(*ends))
                    found.distances[name] = found.distances.get(name, distances).joined(distances)

    def _judge_stretches(
        self, run: Run, truth: Evaluator, first: BlobValues, second: BlobValues, beside: Collection[str]
    ) -> None:
        """Hold each stretch of one run against what the reference's layers make of the candidate's own blobs.

        Those `beside` are given for stretches to begin at, and their own are held elsewhere.
        """
        matched, found, stretches, known = self.matched, self.found, {}, {}
        steps = truth.steps()
        for name, partner in matched.pairs.items():
            r, c = first.get(name), second.get(partner)
            if name in found.distances and r is not None and c is not None and 0 < r.size == c.size:
                rows = len(run.numbers) if matched.layout.has_rows(r) else None
                if name in beside:
                    known[name] = r, c.reshape(r.shape)
                else:
                    enlarges = self._enlarges(name) and steps.isdisjoint(self._stretch(name))
                    least = float(_is_made_by(FROM_ONE, matched.ours, name))
                    stretches[name] = MadeBlob.of(r, c.reshape(r.shape), rows, enlarges, least)
        fair = FAIR if set(matched.options.providers) == {"cpu"} else np.inf
        off = straying(truth, run.feeds, stretches, matched.options.limit, fair, known)
        for name in stretches:
            apart = found.distances[name]
            found.distances[name] = replace(apart, strays=apart.strays or name in off)

    def _rounded_otherwise(self, run: Run, blobs: BlobValues, opened: Opened, around: WeightStore) -> list[BlobValues]:
        """What a candidate with values of 2 bytes gives in float32: as it is, and with its weights rounded otherwise.

        Args:
            run: the samples.
            blobs: what is wanted, as the candidate gave it; indices stay, or each run would choose its own.
            opened: what runs of other samples opened. Opening a small network takes longer than running it.
            around: has the processes that networks run in, if they do; the weights that are moved leave with each run.
        """
        from bnfold.onnx.double import FINER
        from bnfold.onnx.graph import WeightStore

        found: list[BlobValues] = []
        matched = self.matched
        if self.coarse is None:
            return found
        given = {matched.inputs[name]: values for name, values in run.feeds.items()}
        chosen = {name: FINER.of(blobs[name]) for name in matched.ties.indices.values() if name in blobs}
        wanted = [name for name in blobs if name not in chosen]
        values = matched.theirs.stored_values + sum(blob.size for blob in blobs.values())
        stays = values <= LIGHT and not matched.theirs.own.is_isolated
        for seed in (None, *range(MOVED)):
            key = seed, *wanted, *((name, one.dtype.str, one.ndim) for name, one in chosen.items())
            try:
                with WeightStore(around) as store:
                    feeds, session = opened.get(key) or self._in_float32(seed, wanted, chosen, store)
                    if stays and len(opened) < MOST_OPEN:
                        opened[key] = feeds, session
                    fed = {name: one.astype(feeds[name].dtype, copy=False) for name, one in given.items()}
                    found.append({**session.run({**fed, **chosen}, wanted), **chosen})
                    del session  # whose process is for the next
            except ModelError:  # nothing is known of its rounding then
                return []
        return found

    def _in_float32(
        self, seed: int | None, wanted: Sequence[str], chosen: BlobValues, store: WeightStore
    ) -> tuple[Mapping[str, Feed], Session]:
        """A candidate in float32 with its weights rounded otherwise, open: what it is fed, and what runs it."""
        from bnfold.onnx.graph import with_inputs

        model = self.matched.theirs.own.rounded_otherwise(self.matched.ours.own, seed)
        cut = with_inputs(model.proto, {name: (values.dtype, values.ndim) for name, values in chosen.items()})
        return model.feeds, replace(model, proto=cut).session(wanted, store, self.matched.options.threads)


def _is_made_by(types: Collection[str], model: Model, blob: str) -> bool:
    """Whether what makes values of a blob is of some types of layers, or puts such an activation behind its sums."""
    from bnfold.onnx.scores import activation_of

    def type_made_by(name: str) -> str:
        node = model.makers.get(name)
        return (activation_of(node) if node is not None else "") or type_of(model, name)

    return any(type_made_by(name) in types for name in sources(model, blob))


def rounding_note(name: str, found: Distances, exact: bool) -> str:
    """The note on a blob beyond the tolerance of which a float64 run decided."""
    said = f"rms {found.candidate:.1e} of its range from a float64 run, the reference {found.reference:.1e}"
    if not exact:
        return f"blob '{name}' is beyond the tolerance, and not by rounding: {said}"
    by_read = "; each layer up to it is as exact as the reference's" if found.excess > 0 else ""
    little = "; on such samples the blob says little, so give others by --data" if found.reference > FAR else ""
    return f"blob '{name}' is beyond the tolerance by rounding: {said}{by_read}{little}"


def _along_channels(values: Array, is_sample: bool) -> Array:
    """The values with the channel first, which is the first axis of a sample."""
    return np.moveaxis(values, 1, 0) if values.ndim > 1 and not is_sample else np.atleast_1d(values)


def _as_chosen(ties: Ties, chosen: BlobValues, name: str, values: Array) -> Array:
    """What a float64 run goes on with: of indices, which it may choose otherwise at ties, those of the reference."""
    return ties.instead(name, chosen[name].astype(values.dtype), values) if name in chosen else values


def _part_of(
    made: Iterator[tuple[str, Array]], names: Sequence[str], waiting: list[tuple[str, Array]]
) -> Iterator[tuple[str, Array]]:
    """What a run makes of some names, which it is at; what is of others waits."""
    left = set(names)
    while left:
        one = waiting.pop() if waiting else next(made, None)
        if one is None or one[0] not in left:
            waiting += [] if one is None else [one]
            return
        left.remove(one[0])
        yield one
