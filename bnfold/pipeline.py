"""The golden path: load -> fold -> save -> verify. Read this first; everything else is one of these words.

`run` does what `bnfold fold` does. The functions below it are the other commands; each takes a record of what is
wanted and gives a record of what was done, and none prints.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from bnfold.errors import BnfoldError, ModelError, ParseError, UsageError, WriteError, as_subject
from bnfold.io.files import OutputSet, data_file, recover, require_unread, require_writable
from bnfold.io.mapping import map_file
from bnfold.loading import is_onnx, load, require_weights
from bnfold.net import Net
from bnfold.options import CompareOptions, Dialect, OnnxOptions, ReadOptions, changed
from bnfold.report.run import RunReport

if TYPE_CHECKING:
    from bnfold.advice.records import Inspection
    from bnfold.algebra import FoldResult
    from bnfold.compare.comparison import Comparison
    from bnfold.compare.models import Source as ComparedModel
    from bnfold.compare.records import DiffReport
    from bnfold.data.samples import Data

StageProgress = Callable[[str, int, int], None]
"""Called with (what is being done, steps done, steps in all)."""

MAX_HASHED = 1 << 24
"""Bytes up to which a file is hashed unasked: SHA-256 takes longer than scaling does, see docs/architecture.md."""


class Reading(NamedTuple):
    """Which model to read, and how.

    Attributes:
        prototxt: the network; or a caffemodel, which carries its network.
        caffemodel: its weights, several joined by commas as Caffe has it; None for a network without.
        options: how its files are read.
    """

    prototxt: Path
    caffemodel: str | None = None
    options: ReadOptions = ReadOptions()

    @property
    def files(self) -> list[Path]:
        """Every file that is read."""
        text = self.caffemodel or ""
        parts = [text] if os.path.exists(text) else [part.strip() for part in text.split(",")]
        return [self.prototxt, *(Path(part) for part in parts if part)]


class Writing(NamedTuple):
    """Where the result goes, and in what form.

    Attributes:
        paths: the suffix chooses the format: .prototxt (with the .caffemodel of the same stem) or .onnx.
        strip: leave out what means nothing at inference.
        dialect: "bvlc" writes Caffe files that BVLC's Caffe reads, as far as it has words; "keep" keeps the file's.
        in_place: allow writing onto an input.
        onnx: how an ONNX file is made.
        hash_sources: have ONNX metadata hold the SHA-256 of large source files, too; their size is there anyhow.
    """

    paths: tuple[Path, ...] = ()
    strip: bool = False
    dialect: Dialect = "bvlc"
    in_place: bool = False
    onnx: OnnxOptions = OnnxOptions()
    hash_sources: bool = False


class Folding(NamedTuple):
    """How a net is folded, as in `bnfold.fold`."""

    keep: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    assume_global_stats: bool = False
    join: bool = True

    def of(self, net: Net) -> FoldResult:
        """Fold a net so."""
        from bnfold.algebra import fold

        return fold(net, **self._asdict())


class Job(NamedTuple):
    """One run of `bnfold fold`.

    Attributes:
        verify: prove that what was written computes what was read; a file gets its name when it has passed.
        keep_failed: leave outputs that did not pass as NAME.failed.
        samples: the data of that comparison, as in `bnfold.compare`; None for noise.
        comparing: how the two are compared.
    """

    reading: Reading
    writing: Writing = Writing()
    folding: Folding = Folding()
    verify: bool = True
    keep_failed: bool = False
    samples: Data = None
    comparing: CompareOptions = CompareOptions()


def run(job: Job, progress: StageProgress | None = None) -> RunReport:
    """Fold one model, write it, and prove that what was written still computes the same.

    Raises:
        BnfoldError: with a sentence; nothing is left half-written.
    """
    from bnfold.algebra.scaled import NotFiniteError, checked_while_computed

    original = read(job.reading)
    require_weights(original)
    try:
        # A file gets its name last, so products can be looked at while they are written, which spares a pass over all
        # weights. The rare fold with one that is not finite is begun again, and keeps the layer with a reason.
        with checked_while_computed():
            return _folded(original, job, progress)
    except NotFiniteError:
        return _folded(original, job, progress)


def _folded(original: Net, job: Job, progress: StageProgress | None) -> RunReport:
    """The run, once the model is read."""
    from bnfold.compare.conditioning import ill_conditioned

    result = job.folding.of(original)
    comparison = open_comparison(original, result.net, job) if job.verify else None
    source = Provenance(job.reading.files, [record.layer for record in result.report.folded])
    inputs = original.origin.document.paths if original.language == "ONNX" else job.reading.files
    with OutputSet(inputs, in_place=job.writing.in_place) as outputs:
        written, foreign = save(result.net, job.writing, source, outputs)
        notes = [*original.notes, *(comparison.notes if comparison is not None else ()), *foreign]
        notes += ill_conditioned(original, result.report, job.comparing.tolerance)
        report = RunReport(original, result.net, result.report, written, notes=tuple(notes))
        if comparison is None:
            return report
        with _unwritten_unless_proved(written, outputs):
            outputs.finish()
            proofs = prove(comparison, original, result.net, written, job, outputs, progress)
            report = replace(report, proofs=proofs)
        return report if report.passed else _rejected(report, outputs, job.keep_failed)


@contextmanager
def _unwritten_unless_proved(written: Sequence[Path], outputs: OutputSet) -> Iterator[None]:
    """Have whatever ends a proof say what became of the files, by the names that they should have had."""
    try:
        yield
    except BaseException as error:
        if isinstance(error, BnfoldError):
            for path in written:
                error.args = tuple(str(word).replace(str(outputs.staged(path)), str(path)) for word in error.args)
        if written:
            # A ParseError is of a file that was written to, or that cannot be read back.
            is_of_a_run = isinstance(error, ModelError) and not isinstance(error, ParseError)
            unrun = "; --no-verify writes without a proof" if is_of_a_run else ""
            why = "" if isinstance(error, WriteError) else f", since the proof did not end{unrun}"
            if not all(outputs.staged(path).exists() for path in written):
                why = ", since somebody removed what was to be proved, or the folder that it was in"
            error.add_note(f"{as_subject(written)} not written{why}")
        raise


def _rejected(report: RunReport, outputs: OutputSet, keep: bool) -> RunReport:
    """The report of a run whose proof failed: no file gets its name."""
    if not report.written:
        return report
    note = f"{as_subject(report.written)} not written, since the proof failed"
    if keep:
        note += f"; see {', '.join(map(str, outputs.keep_failed()))}"
    else:
        outputs.discard()
        note += "; --keep-failed leaves what failed as NAME.failed"
    return replace(report, written=(), rejected=report.written, notes=(*report.notes, note))


def read(reading: Reading, **changes: object) -> Net:
    """Read a model as `reading` says; `changes` replace its options."""
    return load(reading.prototxt, reading.caffemodel, options=reading.options, **changes)


def open_comparison(original: Net, folded: Net, job: Job) -> Comparison:
    """The reference of the proof, opened before anything is written: the data or a gate may be in its way.

    With `assume_global_stats` the reference is the net as the user says it is: the BatchNorms that were folded by their
    stored statistics have these.

    Raises:
        BnfoldError: the comparison could not be made.
    """
    from bnfold.algebra.frontend import with_stored_statistics
    from bnfold.compare.comparison import Comparison

    reference = with_stored_statistics(original, folded) if job.folding.assume_global_stats else original
    return Comparison(reference, job.samples, job.comparing)


class Provenance(NamedTuple):
    """What an output was made from: the files, and the layers that were folded on the way."""

    files: Sequence[Path]
    folded: Sequence[str] = ()

    def metadata(self, hashed: bool = False) -> dict[str, str]:
        """The same as the key-value pairs that an ONNX model carries.

        Args:
            hashed: also of large files, whose hash takes longer than all that is done with them.
        """
        from hashlib import sha256

        # Names of files are bytes, and protobuf's strings are UTF-8.
        names = {path: os.fsencode(path.name).decode(errors="backslashreplace") for path in self.files}
        pairs = {}
        for path, name in names.items():
            content = map_file(path)
            read = hashed or len(content) <= MAX_HASHED
            pairs[f"source:{name}"] = f"sha256:{sha256(content).hexdigest()}" if read else f"{len(content)} bytes"
        return pairs | ({"folded": ",".join(self.folded)} if self.folded else {})


def save(net: Net, writing: Writing, source: Provenance, outputs: OutputSet) -> tuple[tuple[Path, ...], list[str]]:
    """Write a net to every path, as files of one set.

    Returns:
        The files, and sentences on what is in them that BVLC's Caffe cannot read.

    Raises:
        ParseError: somebody has written to a file that the weights came from meanwhile.
    """
    written: list[Path] = []
    foreign: dict[str, None] = {}
    for path in writing.paths:
        paths, sentences = FORMATS[format_of(path)](net, path, outputs, writing, source)
        written += paths
        foreign.update(dict.fromkeys(sentences))
    if net.origin is not None:
        net.origin.require_unchanged()  # again: weights are read while they are written
    return tuple(written), list(foreign)


def prove(
    comparison: Comparison,
    original: Net,
    folded: Net,
    written: Sequence[Path],
    job: Job,
    outputs: OutputSet,
    progress: StageProgress | None,
) -> tuple[DiffReport, ...]:
    """Compare the original with every file that was written, where it lies, or with the folded net where none was."""
    from bnfold.compare.measure import NamedProgress
    from bnfold.compare.pairing import named_as

    paths = job.writing.paths
    reread = [load_written(path, written, original, job, outputs) for path in paths]
    candidates: list[ComparedModel] = [
        named_as(source, folded) if isinstance(source, Net) else source for source in reread
    ]
    # An ONNX file has the names of the net in memory.
    same_names = [not isinstance(net, Net) or net is not source for net, source in zip(candidates, reread, strict=True)]
    if comparison.reference.unrunnable.layers:
        # An ONNX file with nodes that nothing runs is proved by the net that it was written from.
        candidates = [candidate if isinstance(candidate, Net) else folded for candidate in candidates]
    names = tuple(f"comparing with {name}" for name in paths or ["the folded net"])
    stage = None if progress is None else NamedProgress(progress, names)
    proofs = comparison.against_all(candidates or [folded], stage, run_equal=False, folded=same_names)
    if not paths:
        return tuple(proofs)
    return tuple(replace(proof, candidate=str(path)) for proof, path in zip(proofs, paths, strict=True))


def load_written(path: Path, written: Sequence[Path], original: Net, job: Job, outputs: OutputSet) -> Net | Path:
    """What was written, read back from where it lies; a Caffe net gets the shapes that the original was read with.

    Raises:
        BnfoldError: it cannot be read.
    """
    if format_of(path) == "onnx":
        return outputs.staged(path)
    from bnfold.caffe.read import load as load_caffe

    caffemodel = path.with_suffix(".caffemodel")
    return load_caffe(
        outputs.staged(path),
        outputs.staged(caffemodel) if caffemodel in written else None,
        input_shapes={name: shape for name, shape in original.inputs.items() if shape},
        # A layer that did not change was written as it stood, with what was ignored in it.
        ignore_unknown_fields=job.reading.options.ignore_unknown_fields,
        until=job.reading.options.until,
        # In BVLC's words there is one layout.
        batchnorm_layout=original.batchnorm_layout if job.writing.dialect == "keep" else None,
        zero_scale_factor=original.zero_factor,
    )


def export(reading: Reading, writing: Writing, only: str) -> RunReport:
    """Write a model as it is, without folding, in the format `only`: to ONNX, or upgraded to today's Caffe.

    Raises:
        UsageError: a path asks for another format.
    """
    if wrong := [str(path) for path in writing.paths if format_of(path) != only]:
        other = {"onnx": "convert", "prototxt": "export"}[only]
        raise UsageError(f"{', '.join(wrong)}: this writes .{only}; for the other format there is 'bnfold {other}'")
    net = read(reading)
    if net.language == "ONNX":
        what = "is ONNX already" if only == "onnx" else "is an ONNX model, and Caffe has no layers for its operators"
        raise UsageError(f"{reading.prototxt}: {what}; 'bnfold fold', 'bnfold inspect' and 'bnfold diff' take it")
    if only == "onnx":
        require_weights(net)
    else:
        from bnfold.caffe.layers import infer_shapes

        infer_shapes(net)  # without a caffemodel nobody has asked yet whether its sizes fit
    with OutputSet(reading.files, in_place=writing.in_place) as outputs:
        written, foreign = save(net, writing, Provenance(reading.files), outputs)
    return RunReport(net, written=written, notes=(*net.notes, *foreign))


def inspect(reading: Reading, folding: Folding) -> Inspection:
    """Plan without writing, with or without weights."""
    from bnfold.advice import advise
    from bnfold.advice.records import Inspection
    from bnfold.caffe.placeholder import with_placeholder_weights

    net = read(reading, guess_shapes=True)
    if net.language == "ONNX":
        return Inspection(net, folding.of(net).report, (), has_weights=True)
    has_weights = net.origin is not None and bool(net.origin.weights)
    findings = advise(reading.prototxt, net if has_weights else None)
    result = folding.of(net if has_weights else with_placeholder_weights(net))
    return Inspection(net, result.report, tuple(findings), has_weights)


def require_paths(
    models: Sequence[Path], writing: Writing | None = None, reports: Sequence[Path] = (), data: Sequence[Path] = ()
) -> None:
    """Stop before any work where a file could not be written at its end, or is read or written twice.

    What is written in place is put back first where a run that did so was killed: it is the input again.

    Args:
        models, data: what is read; `data` also as folders.
        writing, reports: what is written.

    Raises:
        UsageError: a path is an input, comes twice, or has an unknown suffix.
        WriteError: there cannot be such a file.
    """
    outputs = [file for path in writing.paths for file in output_files(path, writing)] if writing else []
    in_place = writing is not None and writing.in_place
    if in_place:
        recover(outputs)
    require_unread(reports, models)
    if any(map(os.path.isfile, reports)):
        require_unread(reports, _weights_of(models))
    require_writable([*outputs, *reports], models, in_place=in_place)
    require_unread([*outputs, *reports], data)
    taken = set(map(os.path.realpath, [*models, *data, *outputs, *reports]))
    for path in writing.paths if writing and not writing.onnx.external_data else ():
        if format_of(path) == "onnx" and os.path.realpath(data_file(path)) in taken:
            raise UsageError(f"{data_file(path)}: is where the weights of {path} lie if they are large; rename one")


def _weights_of(models: Sequence[Path]) -> list[Path]:
    """The files that ONNX models lie in, those of weights beside them included."""
    from bnfold.onnx.file import read_document

    found: list[Path] = []
    for model in models:
        if is_onnx(model) and os.path.isfile(model):
            with suppress(BnfoldError):  # for who opens it to say
                found += read_document(model).paths
    return found


def output_files(path: Path, writing: Writing) -> list[Path]:
    """The files that an output consists of."""
    if format_of(path) == "prototxt":
        return [path, path.with_suffix(".caffemodel")]
    return [path, data_file(path)] if writing.onnx.external_data else [path]


def format_of(path: Path) -> str:
    """The format that a path's suffix chooses.

    Raises:
        UsageError: it chooses none.
    """
    if path.suffix.lstrip(".") not in FORMATS:
        if os.path.isdir(path):  # which takes a name of any length
            raise UsageError(f"{path}: is a folder; give the name of a file")
        raise UsageError(
            f"{path}: the suffix chooses the format, and must be one of .{', .'.join(FORMATS)}{_meant(path)}"
        )
    return path.suffix.lstrip(".")


def _meant(path: Path) -> str:
    """What to write instead of a name whose suffix chooses no format."""
    if path.suffix == ".data" and path.stem.endswith(".onnx"):
        return f"; {path.stem} with --external-data has its weights there"
    if path.suffix.lower() in (".caffemodel", ".pbtxt", ".txt"):
        stem = path.with_suffix("")
        meant = stem if stem.suffix.lstrip(".") in FORMATS else path.with_suffix(".prototxt")
        is_beside = path.suffix.lower() == ".caffemodel" and meant.suffix == ".prototxt"
        return f"; write {meant}{', beside which the caffemodel goes' * is_beside}"
    suffix = path.suffix.lower()
    return f"; write {path.with_suffix(suffix)}" if suffix.lstrip(".") in FORMATS else ""


Saved = tuple[list[Path], list[str]]
"""The files of one output, and sentences as `save` returns them."""


def _to_caffe(net: Net, path: Path, outputs: OutputSet, writing: Writing, source: Provenance) -> Saved:
    from bnfold.caffe.write import add_caffe

    if net.language == "ONNX":
        raise UsageError(
            f"{path}: {net.file} is an ONNX model, and Caffe has no layers for its operators; name an .onnx"
        )
    del source
    return add_caffe(net, path, None, outputs, strip=writing.strip, dialect=writing.dialect)


def _to_onnx(net: Net, path: Path, outputs: OutputSet, writing: Writing, source: Provenance) -> Saved:
    from bnfold.onnx import add_onnx

    options = writing.onnx
    if net.language != "ONNX":  # else its metadata stay what they are
        options = changed(OnnxOptions, options, {"metadata": source.metadata(writing.hash_sources)})
    return add_onnx(net, path, outputs, options), []


FORMATS: Mapping[str, Callable[[Net, Path, OutputSet, Writing, Provenance], Saved]] = {
    "onnx": _to_onnx,
    "prototxt": _to_caffe,
}
