"""Comparing networks in one pass over the data, a batch at a time: the entry of this package.

Comparison(reference, samples)      reads, checks and exports the reference, and looks at the data
    .against(candidate)             runs both, measures, and reports; as often as wanted
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from bnfold.compare.assumed_shapes import hidden_by_shapes
from bnfold.compare.batches import BatchLayout, choose_samples, layout_of, match_inputs, runs
from bnfold.compare.bodies import changed_bodies, with_bodies
from bnfold.compare.checkpoint import Checkpoint
from bnfold.compare.classify import find_scores, given_labels, require_labels
from bnfold.compare.engine import Engine
from bnfold.compare.exact import open_exact
from bnfold.compare.gates import NO_CLASSIFIER, NO_LABELS, NO_SAMPLES
from bnfold.compare.hidden_channels import hidden_channels
from bnfold.compare.layer_names import misleading_names
from bnfold.compare.matched import MatchedCandidate
from bnfold.compare.measure import Measurement, Progress, require_progress, tell_pieces
from bnfold.compare.memory import check_inputs, check_memory
from bnfold.compare.models import SELDOM, Model, open_model, require_numbers, split_pair
from bnfold.compare.noise import (
    ChosenNoise,
    choose_noise,
    hiding_blobs,
    saturated_blobs,
    saturation_notes,
    watched_blobs,
)
from bnfold.compare.pairing import further_outputs, pair
from bnfold.compare.planning import Networks
from bnfold.compare.records import DiffReport, Gate
from bnfold.compare.reporting import report_on
from bnfold.compare.rounding import RoundingJudge
from bnfold.compare.unrunnable_layers import agreeing, counterparts, read_alike, run_in_one
from bnfold.compare.widening import widened
from bnfold.data.arrays import NUMBERS
from bnfold.data.preparation import Preparation, from_net
from bnfold.data.samples import Data, Feed, Noise, Part, Samples, Subset, labels_misfit, part_of
from bnfold.errors import ModelError, UsageError, counted, few, named
from bnfold.io.files import os_path
from bnfold.io.mapping import require_unchanged
from bnfold.net import Array, Net, Shape, sizes
from bnfold.options import TEXT, TOLERANCES, WEIGHTS, CompareOptions, ReadOptions, changed, require_type
from bnfold.runtime import TF32, give_back, require_provider

if TYPE_CHECKING:
    from bnfold.compare.models import Source
    from bnfold.onnx.graph import WeightStore

CLUSTERS = "expected a number of local workers, 1 or more, or the address of a scheduler like 10.0.0.1:8786"
MAX_THREADS = 512
"""Threads of an operator. onnxruntime starts all of them for each session, and where a process may not start as many
it ends in std::bad_alloc."""
ROWS = 4096  # of a network's own first axis that are drawn and measured each by itself, of three runs


def compare(
    reference: Source,
    candidate: Source,
    samples: Data = None,
    options: CompareOptions = CompareOptions(),
    *,
    labels: Sequence[int] | Array | None = None,
    progress: Progress | None = None,
    **changes: object,
) -> DiffReport:
    """Run two networks on the same data and measure how far they differ.

    Args:
        reference: a `Net`, or what `bnfold.load` takes: an `onnx.ModelProto`, bytes, a stream, or a path: `.onnx`,
            `.prototxt` (weights beside it, if it has any), `NET.prototxt:WEIGHTS.caffemodel`, or a `.caffemodel`.
        candidate: likewise.
        samples: an object like `Samples`, an array of the single input, {input: array} with the sample as first
            axis (and labels, as in an `.npz`), the path of a data set, or None for seeded noise.
        options: what is compared, how, and what may differ.
        labels: the true class of each sample, -1 where unknown.
        progress: called with (samples done, samples in all).
        changes: fields of `CompareOptions` that replace those of `options`.

    Returns:
        The record of everything found; `report.passed` and `report.verdict` say it shortly.

    Raises:
        UsageError: inputs, blobs or samples do not fit together, a gate needs what is not there, or there is no such
            option.
        ModelError: a network cannot be read or run; the sentence says which.
        UnsupportedError: one cannot be read exactly: it computes in integers, say.

    Examples:
        >>> report = bnfold.compare("model.onnx", "folded.onnx", "images/", tolerance=1e-3)
        >>> report.passed, len(report.blobs), report.worst.max_rel < 1e-3
        (True, 36, True)
    """
    options = changed(CompareOptions, options, changes)
    sources = (os_path(one) if isinstance(one, str | os.PathLike) else "" for one in (reference, candidate))
    paths = [split_pair(one)[0].name for one in sources]
    if options.reading.caffemodel_dialect and all(path.lower().endswith((".onnx", *TEXT)) for path in paths):
        raise UsageError("--caffemodel-dialect would be ignored: neither model is a caffemodel alone")
    if options.reading.freeze_initializers and all(path.lower().endswith((*TEXT, *WEIGHTS)) for path in paths):
        raise UsageError("--freeze-initializers would be ignored: neither model is ONNX")
    return Comparison(reference, samples, options, labels=labels).against(candidate, progress)


def require_usable(options: CompareOptions) -> None:
    """Stop where an option means nothing, whatever is compared.

    Raises:
        UsageError: it is out of its range, no address, or asks for a provider that cannot be had here.
    """
    if not 0 <= options.limit < math.inf:
        raise UsageError(f"--tolerance: the tolerance is {options.limit:g}; it must be 0 or more, and finite")
    if options.limit >= 1 and options.min_agreement is None and options.max_top1_drop is None:
        raise UsageError(
            f"--tolerance: with {options.limit:g} of its range a blob may hold any values, which proves nothing; "
            "give less than 1, or say by --min-agreement or --max-top1-drop what has to hold"
        )
    if min(options.seed, options.sample_seed or 0) < 0:
        raise UsageError("a seed must be 0 or more")
    if not 0 <= options.threads <= MAX_THREADS:
        raise UsageError(f"the option threads is from 0, for any, to {MAX_THREADS} at most, and not {options.threads}")
    for share, option in ((options.min_agreement, "--min-agreement"), (options.max_top1_drop, "--max-top1-drop")):
        if share is not None and not 0 <= share <= 1:
            raise UsageError(f"{option} is a share, from 0 to 1, and not {share:g}")
    cluster = options.cluster
    is_none = cluster < 1 if isinstance(cluster, int) else isinstance(cluster, str) and not cluster.strip("0")
    if is_none or (isinstance(cluster, str) and not cluster.isdecimal() and ":" not in cluster):
        raise UsageError(f"--cluster {cluster}: {CLUSTERS}")
    wanted = zip(("--provider", "--reference-provider"), options.providers[::-1], strict=True)
    names = [one if one == "cpu" else require_provider(one, option)[0] for option, one in wanted]
    if options.tf32 and TF32.isdisjoint(names):
        raise UsageError(f"--tf32 would be ignored: {' and '.join(dict.fromkeys(names))} cannot multiply in TF32")


EQUAL = "every layer and every weight of one network is that of the other"


class Comparison:
    """A reference that is open for comparing: read, checked and exported once, with its data looked at.

    What it holds open is given back when nothing refers to it any more; there is nothing to close. Its arguments are
    those of `compare`.

    Raises:
        UsageError: the data does not fit the reference, or a gate needs what is not there.
        ModelError, UnsupportedError: the reference cannot be read.

    Examples:
        >>> net = bnfold.load("deploy.prototxt", "net.caffemodel")
        >>> opened = bnfold.Comparison(net, "images/", bnfold.CompareOptions(tolerance=1e-3))
        >>> opened.against(bnfold.fold(net).net).passed, opened.against("folded.onnx").passed
        (True, True)
    """

    def __init__(
        self,
        reference: Source,
        samples: Data = None,
        options: CompareOptions = CompareOptions(),
        *,
        labels: Sequence[int] | Array | None = None,
    ) -> None:
        options = changed(CompareOptions, options, {})
        require_usable(options)
        if labels is not None and samples is None:
            raise UsageError(NO_SAMPLES)
        self.options = options = replace(options, layers=options.layers and not options.bisect)
        self._typed = options.tolerance is None
        self._samples, self._source = samples, reference
        self._labels = None if labels is None else given_labels(labels)
        self._opened: tuple[BatchLayout, Samples] | None = None
        self._sized: tuple[BatchLayout, BatchLayout, str] | None = None
        self._noise: ChosenNoise | None = None
        self.reference = open_model(reference, "reference", options)
        if not self.reference.is_runnable(options.providers[0]):
            self.reference = self.reference.in_float32()
        if self._typed:
            coarsest = max(TOLERANCES[self.reference.own.stored_type], TOLERANCES["float32"] * self._in_float32)
            self.options = options = replace(options, tolerance=coarsest)
        if self.reference.net is not None:
            self._check(check_memory(self.reference.net))
        elif samples is not None or not any(None in feed.shape for feed in self.reference.feeds.values()):
            self._data(self._own_layout())

    def __repr__(self) -> str:
        return f"<Comparison of {self.reference.name} with tolerance {self.options.limit:g}>"

    @property
    def notes(self) -> list[str]:
        """What the user should know before anything is compared: what cannot be looked at."""
        hidden = self.reference.unrunnable.layers
        if not hidden:
            return []
        return [f"not compared, since it cannot be run or depends on what cannot: {few(list(map(str, hidden)), 5)}"]

    @property
    def _in_float32(self) -> bool:
        """Whether the reference is run in float32, since some of its types cannot be."""
        return self.reference.before is not None

    @property
    def _types(self) -> list[str]:
        """What the types of the values mean for the comparison, where they are not float32."""
        own, notes = self.reference.own, []
        stored = own.stored_type
        if self._in_float32:
            seldom = " and ".join(sorted(own.float_types & SELDOM))
            notes = [f"not all that is {seldom} can be computed and read here, so both networks were run in float32"]
        if self._typed and stored != "float32":
            cause = "it was run so" if self.options.limit > TOLERANCES[stored] else f"its values are stored as {stored}"
            notes += [f"the tolerance is {self.options.limit:g} of a blob's range, since {cause}"]
        return notes

    def __reduce__(self) -> NoReturn:
        raise UsageError("a Comparison holds open files and running networks, and cannot be copied; create another one")

    def against(self, candidate: Source, progress: Progress | None = None) -> DiffReport:
        """Compare one candidate; exceptions are those of `compare`."""
        return self.against_all([candidate], progress)[0]

    def against_all(
        self,
        candidates: Sequence[Source],
        progress: Progress | None = None,
        *,
        run_equal: bool = True,
        folded: Sequence[bool] = (),
    ) -> list[DiffReport]:
        """Compare several candidates in one pass, for which the reference runs once; reports in their order.

        Args:
            candidates: the networks.
            progress: called with (samples done, samples in all).
            run_equal: False if a candidate that is the reference to the last weight needs no run on noise.
            folded: for each candidate, whether it has the names that folding the reference in memory gave, where an
                equal name is an equal blob; nets that share layers in memory have, and others by default have not.

        Raises:
            UsageError: an argument is of another kind, or a candidate cannot be compared with the reference as it was
                asked.
            ModelError: a candidate cannot be run.
        """
        require_progress(progress)
        if isinstance(candidates, str | bytes) or not isinstance(candidates, Sequence):
            raise UsageError(f"against_all takes a list of models, and not {type(candidates).__name__}")
        require_type("run_equal", run_equal, "bool")
        whole = isinstance(folded, Sequence) and len(folded) in (0, len(candidates))
        if not whole or not all(isinstance(one, bool | np.bool_) for one in folded):
            raise UsageError(f"folded is a list of one bool for each of {counted(len(candidates), 'candidate')}")
        models = [self._candidate(candidate) for candidate in candidates]
        known = folded or [False] * len(models)
        skipping = not run_equal and self._samples is None and self.options.min_agreement is None
        equal = [skipping and self.reference.equals(model) for model in models]
        opened = [self._open(model, fold) for model, fold, same in zip(models, known, equal, strict=True) if not same]
        at_once = all(one.layout == opened[0].layout for one in opened)
        found = iter(self._run(opened, progress) if at_once else (self._run([one], progress)[0] for one in opened))
        reports = [self._unrun(model) if same else next(found) for model, same in zip(models, equal, strict=True)]
        return [self._with_bodies(*one) for one in zip(reports, models, candidates, known, strict=True)]

    def _with_bodies(self, report: DiffReport, theirs: Model, candidate: Source, known: bool) -> DiffReport:
        """The report, in which bodies of If, Loop and Scan that differ are compared by themselves, too."""
        words = ("layers", "memory", "provider", "reference_provider", "seed", "tf32", "threads", "tolerance")
        inside = CompareOptions(**{word: getattr(self.options, word) for word in words})
        bodies = changed_bodies(self.reference, theirs, (self._source, candidate), self.options)

        def compared(one: Net, other: Net) -> DiffReport:
            return Comparison(one, None, inside).against(other)

        return with_bodies(report, bodies, compared, known or isinstance(candidate, Net))

    def _check(self, shapes: Mapping[str, Shape | None]) -> None:
        """Raise now, before anything is written or run, what the data or a gate would raise later."""
        ours, options = self.reference, self.options
        data = self._data(self._own_layout())
        labels = self._known(data)
        known = {name: shape for name, shape in shapes.items() if shape is not None}
        scores = find_scores(ours, {name: name for name in ours.outputs}, known, labels, self._own_layout().batch)
        if scores is not None:
            require_labels(labels, known[scores][1], data.name)
        if options.min_agreement is not None and scores is None:
            raise UsageError(NO_CLASSIFIER)
        if options.max_top1_drop is not None and (scores is None or labels is None):
            raise UsageError(NO_LABELS)

    def _known(self, data: Samples) -> Array | None:
        """The true classes of the samples."""
        labels = data.labels
        if self._labels is not None:
            labels = self._labels[list(data.numbers)] if isinstance(data, Subset) else self._labels
        if labels is not None and np.asarray(labels).dtype.kind not in NUMBERS:
            raise UsageError(f"a label is the number of a class, and these are {np.asarray(labels).dtype}")
        return labels

    def _own_layout(self) -> BatchLayout:
        feeds = self.reference.feeds
        return self._layout(self.reference, feeds, {name: name for name in feeds})

    def _layout(self, ours: Model, candidate: Mapping[str, Feed], inputs: Mapping[str, str]) -> BatchLayout:
        """What the reference and a candidate take; a number of samples that is asked for is one."""
        return layout_of(ours.feeds, candidate, inputs, () if self.options.batch else ours.output_shapes)

    def _data(self, layout: BatchLayout) -> Samples:
        """The samples, opened once for every layout that candidates ask for; the first of them is looked at."""
        if self._opened is not None and self._opened[0].sample == layout.sample:
            return self._opened[1]
        check_inputs(layout)
        preparation = self.options.preparation or partial(_said_by, self.reference)
        part = Part(self.options.sample_limit, self.options.sample_seed)
        rows = ROWS if self._rows_differ(layout) else 0
        data = choose_samples(self._samples, self._labels, layout, self.options.seed, preparation, part, rows)
        if self.options.preparation is not None and not hasattr(data, "preparation"):
            raise UsageError(
                f"{data.description}: what prepares images does nothing to arrays; give arrays as the network reads "
                "them, without --mean, --scale, --swap-channels, --resize and --crop"
            )
        if self._labels is not None and self._labels.shape != (data.count,):
            raise UsageError(f"{data.description}: {labels_misfit(self._labels.shape, data.count)}")
        if self._samples is not None:
            data = part_of(data, *part)
        elif self.options.sample_limit is not None or self.options.sample_seed is not None:
            raise UsageError(
                "--limit and --sample (sample_limit, sample_seed) take a part of given samples: name some by --data"
            )
        next(runs(data, layout), None)
        self._opened = layout, data
        return data

    def _rows_differ(self, layout: BatchLayout) -> bool:
        """Whether the rows of a first axis that the network fixes may be no samples, of which a few say all."""
        from bnfold.onnx.export.network import grows_with_batch

        net = self.reference.net
        fixed = layout.batched and not layout.is_open and self.options.batch is None and layout.batch > 1
        return fixed and (net is None or not grows_with_batch(net))

    def _candidate(self, candidate: Source) -> Model:
        ours, options = self.reference, self.options
        if (
            isinstance(self._source, Net)
            and isinstance(candidate, Net)
            and (options.input_shapes or options.reading != ReadOptions())
        ):
            raise UsageError("input_shapes and reading say how a network is read, and both are read already")
        theirs = open_model(candidate, "candidate", options)
        theirs = theirs.feeding({}) if ours.net is None else theirs
        if self._in_float32 or not theirs.is_runnable(options.provider):
            theirs = theirs.in_float32()
        if theirs.net is not None:
            check_memory(theirs.net)
        if ours.name == theirs.name:
            theirs.name += " (folded)" if _is_fold_of(ours, theirs) else " (candidate)"
        return theirs

    def _unrun(self, theirs: Model) -> DiffReport:
        """The report on a candidate that is the reference: to run it would prove no more than to read it."""
        return DiffReport(
            self.reference.name,
            theirs.name,
            "no data was needed, since the networks are the same to the last weight",
            self.options.seed,
            self.options.limit,
            gates=(Gate("compared", 1, len(self.reference.outputs), True, EQUAL),),
            notes=(*self.reference.notes, *theirs.notes, *self._types),
            equal=True,
        )

    def _open(self, theirs: Model, known: bool) -> MatchedCandidate:
        """One candidate beside the reference; `known` says that equal names are equal blobs."""
        require_numbers(self.reference)
        is_fold = known or _is_fold_of(self.reference, theirs)
        ours, theirs, inputs, pairs = self._matched(theirs, is_fold)
        stated = self._layout(ours, theirs.feeds, inputs)
        layout, chosen_sizes = self._with_every_size(stated)
        data = self._data(layout)
        if self.options.batch is None:
            ours, theirs, layout = widened(ours, theirs, inputs, layout, data)
        ours, theirs = ours.reading_through_copies(pairs), theirs.reading_through_copies({*pairs.values()})
        notes = [*ours.notes, *theirs.notes, *self._types]
        notes += [*run_in_one(ours, theirs), *_standing_in(ours), *chosen_sizes]
        notes += _unlike_inputs([(name, ours.feeds[name], theirs.feeds[partner]) for name, partner in inputs.items()])
        notes += further_outputs(ours.outputs, theirs.outputs, pairs)
        notes += self._unlike_what_was_asked(theirs, layout, data)
        return MatchedCandidate(
            ours=ours,
            theirs=theirs,
            inputs=inputs,
            pairs=pairs,
            layout=layout,
            unsized=stated if self._samples is None else layout,
            is_fold=is_fold,
            data=data,
            labels=self._known(data),
            options=self.options,
            notes=notes,
        )

    def _with_every_size(self, stated: BatchLayout) -> tuple[BatchLayout, list[str]]:
        """What runs take, with sizes for what noise needs and an ONNX model leaves open, and the note on these."""
        if self._samples is not None or self.reference.net is not None:
            return stated, []
        if self._sized is None or self._sized[0] != stated:  # the reference is run for it
            from bnfold.compare.open_sizes import with_usual_sizes

            self._sized = stated, *with_usual_sizes(self.reference, stated)
        _, layout, note = self._sized
        return layout, [note] if note else []

    def _unlike_what_was_asked(self, theirs: Model, layout: BatchLayout, data: Samples) -> Iterator[str]:
        """The notes on rows that are not compared, and on a tolerance and a seed that mean less than they say."""
        if data.count < (rows := layout.batch) and self._rows_differ(layout):
            mixed = ", of which blobs without a row for each show the largest alone" * isinstance(data, Noise)
            yield f"of the {rows:,} rows of a run {data.count:,} were compared{mixed}, and no others are proved"
        stored = theirs.own.stored_type
        if self._typed and TOLERANCES[stored] > self.options.limit:
            held = f"is held to the tolerance of the reference; that of {stored} is --tolerance {TOLERANCES[stored]:g}"
            yield f"the candidate, whose values are stored as {stored}, {held}"
        if self.options.seed and self._samples is not None:
            yield f"--seed {self.options.seed} changes nothing: it is of noise, and samples are given"

    def _matched(self, theirs: Model, is_fold: bool) -> tuple[Model, Model, dict[str, str], dict[str, str]]:
        """The networks, the partner of each input and of each blob that both have.

        Where a layer of Caffe cannot be run, both are fed the same in the place of what it makes, if it is the same
        layer in both and reads what is compared.
        """
        ours, named = self.reference, self.options.map
        met = counterparts(ours.unrunnable, theirs.unrunnable)
        fed = {top: partner for top, partner in met.items() if named.get(top, partner) == partner}
        while True:
            shapes = ours.unrunnable.fed
            ours = ours.feeding({top: shapes[top] for top in fed})
            theirs = theirs.feeding({partner: shapes[top] for top, partner in fed.items()})
            inputs = match_inputs(_brought(ours), _brought(theirs), named) | fed
            blobs = {blob: partner for blob, partner in named.items() if blob not in ours.feeds}
            tops, misleading = (ours.tops, theirs.tops), None if is_fold else misleading_names(ours, theirs)
            pairs = pair(ours.writers, theirs.writers, blobs, folded=is_fold, whole=tops, misleading=misleading)
            pairs |= read_alike(ours.unrunnable, theirs.unrunnable, inputs | pairs)
            pairs = {blob: pairs[blob] for blob in ours.writers if pairs.get(blob) in theirs.writers}
            agreed = agreeing(ours.unrunnable, theirs.unrunnable, {**inputs, **pairs})
            given = ours.unrunnable.fed.items() & {(top, theirs.unrunnable.fed.get(one)) for top, one in fed.items()}
            left = {top: fed[top] for top, _ in given if agreed.get(top) == fed[top]}
            if left == fed:
                return ours, theirs, inputs, pairs
            fed = left

    def _run(self, opened: Sequence[MatchedCandidate], progress: Progress | None) -> list[DiffReport]:
        """One pass over the data for candidates that take the same runs."""
        from bnfold.compare.open_sizes import naming_unmeant
        from bnfold.onnx.graph import WeightStore

        if not any(one.pairs for one in opened):
            return [report_on(one, Measurement()) for one in opened]
        with WeightStore() as store:
            with naming_unmeant(opened[0].layout, opened[0].data):
                reports = self._measured(opened, progress, store)
            reports = [self._elsewhere(one, report, store) for one, report in zip(opened, reports, strict=True)]
            if self.options.bisect:
                reports = [self._bisected(one, report, store) for one, report in zip(opened, reports, strict=True)]
        return reports

    def _measured(
        self, opened: Sequence[MatchedCandidate], progress: Progress | None, store: WeightStore, *, noting: bool = True
    ) -> list[DiffReport]:
        """What the pass found of each candidate, by the options of the first; with `noting`, what it could not show."""
        ours, layout, data, options = opened[0].ours, opened[0].layout, opened[0].data, opened[0].options
        state = Checkpoint(options.checkpoint)
        if state.batch is not None:
            layout = replace(layout, batch=state.batch if layout.is_open else layout.batch, planned=True)
        further = list(watched_blobs(ours)) if isinstance(data, Noise) else []
        networks, notes = Networks(ours, [one.side() for one in opened], further), list(state.notes)
        exact = partial(open_exact, ours, notes) if options.exact else None
        with Engine(networks, layout, data, options, store, exact=exact) as engine:
            is_free = layout.is_open and options.batch is None and not layout.planned
            hiding = hiding_blobs(ours, opened) if noting else {}
            data, shapes, saturated = self._begun(engine, data, store if is_free else None, notes, hiding)
            for one, side, second in zip(opened, networks.sides, shapes[1:], strict=True):
                one.data, one.layout = data, engine.layout
                side.plan = one.decide(shapes[0], second)
                if self._labels is not None:  # what data bring may be something else than classes
                    require_labels(one.labels, math.inf, data.name)
                one.notes += dict.fromkeys([*notes, *saturation_notes(saturated, one)])
            state.begin(engine, data, options, notes)
            found = self._pass_over(engine, data, options, state, progress)
            for one in opened:
                one.notes += filter(None, [state.fault])
            for model in networks.models:
                require_unchanged(model.mapped)  # or a look at weights that were cut off ends the process
            for place, one in enumerate(opened):
                RoundingJudge(one, found[place]).run(engine, place, store, unasked=self._typed)
            engine.close_sessions()  # or the candidate would run once more beside them
            for one, measured in zip(opened, found, strict=True):
                if noting and all(error.judged <= one.options.limit for error in measured.errors.values()):
                    measured.notes += hidden_channels(one, store)
            ran = engine.executions
        return [
            report_on(one, measurement, (ran[0], execution))
            for one, measurement, execution in zip(opened, found, ran[1:], strict=True)
        ]

    def _elsewhere(self, one: MatchedCandidate, report: DiffReport, store: WeightStore) -> DiffReport:
        """The report, where what passes was run at other sizes, too, if both networks leave some open."""
        from bnfold.compare.open_sizes import moved_by_rounding, other_sizes, samples_at, sized, sized_by

        if not report.passed or one.ours.net is not None:
            return report
        ran = list[BatchLayout]()
        for trial in other_sizes(one.ours, one.theirs, one.unsized, one.layout, one.data):
            layout = trial.layout
            data = samples_at(layout, one.layout, one.data, self.options.seed, self._noise)
            found = self._at(layout, data, one, store)
            if found is None:
                continue
            trial.taken = True
            ran.append(layout)
            moved = partial(moved_by_rounding, one.ours, layout, data, store, self.options.threads)
            report = sized(report, layout, found, moved)
            if not report.passed:
                return report
        only = [] if isinstance(one.data, Noise) else sized_by(one.data, one.unsized, ran)
        return replace(report, notes=(*report.notes, *only))

    def _at(
        self, layout: BatchLayout, data: Samples, one: MatchedCandidate, store: WeightStore
    ) -> DiffReport | ModelError | None:
        """What is found of the outputs at other sizes, or why the candidate gives none; None if the reference does."""
        plain = replace(self.options, layers=False, bisect=False, exact=False, checkpoint=None, cluster=None)
        plain = replace(plain, min_agreement=None, max_top1_drop=None)
        again = replace(one, pairs=dict(one.all_pairs), layout=layout, data=data, options=plain, labels=None, notes=[])
        try:
            return self._measured([again], None, store, noting=False)[0]
        except UsageError:  # more than the memory that may be taken
            return None
        except ModelError as error:
            return error if self._runs(layout, data, store, every=True) else None

    def _begun(
        self, engine: Engine, data: Samples, store: WeightStore | None, notes: list[str], hiding: Mapping[str, str]
    ) -> tuple[Samples, list[dict[str, Shape]], list[str]]:
        """The data, noise as the reference needs it, of each network the shapes of what is compared, and what is
        saturated of the blobs that may hide what is in front of them.

        Where the batch is free, which the store of the weights says, and the reference takes one sample alone, that of
        the engine becomes 1, with a note.
        """

        def begin() -> tuple[Samples, list[dict[str, Shape]], list[str]]:
            if not isinstance(data, Noise):
                return data, engine.shapes(data), []
            sparing = self.options.memory is not None  # the allocator holds what trials of noise took
            if self._noise is None:
                telling = engine.telling_largest()
                self._noise = choose_noise(data, engine.layout, ours, engine.session, telling, sparing=sparing)
                del telling
            drawn = self._noise.scaled(data)
            saturated = saturated_blobs(drawn, engine.layout, hiding, engine.session, self._noise)
            if sparing:
                give_back()
            return drawn, engine.shapes(drawn), saturated

        ours, batch = engine.networks.reference, engine.layout.batch
        try:
            return begin()
        except ModelError as error:
            if store is None or batch == 1 or self._runs(engine.layout, data, store):
                raise
            engine.layout = replace(engine.layout, batch=1)
            if not self._runs(engine.layout, data, store):
                way = f"its batch is open, and neither {batch} samples nor one run; --batch gives another number"
                raise ModelError(f"{error}; {way}") from error
        notes.append(f"{self.reference.name} leaves its batch open and takes one sample alone, so each was a run")
        return begin()

    def _runs(self, layout: BatchLayout, data: Samples, store: WeightStore, every: bool = False) -> bool:
        """Whether the reference takes the first run, or each: some leave sizes open and hold constants of others."""
        ours = self.reference
        try:
            session = ours.session(ours.outputs, store, self.options.threads)
            for run in islice(runs(data, layout), None if every else 1):
                session.run(run.feeds)
        except ModelError:
            return False
        return True

    def _bisected(self, one: MatchedCandidate, report: DiffReport, store: WeightStore) -> DiffReport:
        """The report with the first blob that differs, where an output does, or what it is judged by."""
        from bnfold.compare.bisection import first_beyond

        beyond = [blob for blob in report.blobs if blob.judged > one.options.limit and blob.blob not in report.as_exact]
        if report.passed or not beyond:
            return report
        whole = one.whole()
        output = min(beyond, key=lambda blob: blob.depth)
        sample = output.worst.sample if output.worst is not None else 0
        if isinstance(one.data, Noise) or output.judged > output.max_rel:  # each sample is judged by itself
            farthest = max(report.samples, key=lambda found: found.max_rel)
            found_in = ((blob, farthest.sample) for blob in beyond if blob.blob == farthest.blob)
            output, sample = next(found_in, (output, sample))
        found = first_beyond(whole, output, sample, store)
        if found is None:
            return report
        first, runs_made = found
        note = f"blob '{first.blob}' is the first beyond the tolerance, found by halving in {runs_made} runs"
        return replace(report, first_divergent=first, notes=(*report.notes, note))

    def _pass_over(
        self, engine: Engine, data: Samples, options: CompareOptions, state: Checkpoint, progress: Progress | None
    ) -> list[Measurement]:
        """Every piece of the data, merged in order; here or on a cluster, from the start or a checkpoint on."""
        pieces, models, first = engine.pieces(data.count), engine.networks.models, state.pieces

        def take(measured: list[Measurement]) -> None:
            state.add(measured)
            tell_pieces(progress, state.pieces, len(pieces))

        try:
            if options.cluster is None:
                for piece in pieces[first:]:
                    take(engine.measure(data, piece, progress))
            elif first < len(pieces):
                from bnfold.compare.cluster import connected, measured_pieces, work_of

                with connected(options.cluster) as client:
                    work = work_of(engine, data, options, client)
                    with closing(measured_pieces(client, work, models, pieces, first, exact=engine.exact)) as found:
                        for measured in found:
                            take(measured)
                            done = pieces[state.pieces - 1].stop * engine.layout.batch
                            if progress is not None:
                                progress(min(done, data.count), data.count)
        except BaseException as error:
            state.keep()
            if len(pieces) > 1:
                error.add_note(f"{state.pieces} of {len(pieces)} pieces were done{state.whereabouts}")
            raise
        state.keep()
        return state.found


def _brought(model: Model) -> dict[str, Feed]:
    """The inputs, without what stands for what layers make that cannot be run."""
    return {name: feed for name, feed in model.feeds.items() if not feed.unmade}


def _unlike_inputs(inputs: Sequence[tuple[str, Feed, Feed]]) -> Iterator[str]:
    """The notes on inputs that take whole numbers in one network alone, which is fed others than data may bring; and on
    those that take any size along an axis in the reference, and one in the candidate.
    """
    for name, ours, theirs in inputs:
        first, second = np.dtype(ours.dtype), np.dtype(theirs.dtype)
        if (first.kind in "biu") != (second.kind in "biu"):
            takes = f"input '{name}' takes {first.name} in the reference and {second.name} in the candidate"
            yield f"{takes}, so nothing is proved of values that one of them does not hold"
    for name, ours, theirs in inputs:
        sized = zip(ours.shape, theirs.shape, strict=False) if ours.ranked and theirs.ranked else ()
        if any(one is None is not other for one, other in sized):
            takes = f"input '{name}' takes {sizes(ours.shape)} in the reference and {sizes(theirs.shape)}"
            yield f"{takes} in the candidate, so of other sizes nothing is proved"


def _standing_in(model: Model) -> list[str]:
    """The note on what was fed in the place of layers that cannot be run."""
    whole, shapes = model.unrunnable.whole, model.unrunnable.fed
    if not shapes:
        return []
    fed = few([f"'{top}' ({sizes(shape)})" for top, shape in shapes.items()], 5)
    notes = [f"what stands behind layers that cannot be run was run on noise, or what its readers mean, as {fed}"]
    if whole is not None and (layers := hidden_by_shapes(whole, shapes)):
        unmet = "a part of the kernel or the window meets nothing but padding on what was fed"
        notes.append(f"{named('layer', layers)}: {unmet}, so that part is not proved")
    return notes


def _said_by(reference: Model) -> Preparation | None:
    """What the reference's own prototxt says about images; a caffemodel that carries its network says nothing."""
    net = reference.net
    return None if net is None or not net.file or net.file.lower().endswith(".caffemodel") else from_net(net)


def _is_fold_of(ours: Model, theirs: Model) -> bool:
    """Whether one net was made from the other in memory: copies share what their layers came from."""
    if ours.net is None or theirs.net is None:
        return False
    sources = {id(layer.source) for layer in ours.net.layers if layer.source is not None}
    return any(id(layer.source) in sources for layer in theirs.net.layers)
