"""The command line: options in, exit code out. It prints the reports, which are rendered elsewhere.

Exit codes: 0 done and equal, 1 the networks differ beyond the tolerance (or, with --strict, there are findings),
2 wrong usage or unreadable input, 70 a fault of bnfold itself, 130 interrupted.

Imports that cost time stand inside the functions, so that `bnfold --help` answers at once.
"""

from __future__ import annotations

import io
import os
import shlex
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import fields, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from bnfold.command import (
    COMPARING,
    FILES,
    FOR_CAFFE,
    FOR_ONNX,
    FROM_CAFFE,
    PREPARING,
    PROVING,
    Command,
    F,
    FilePath,
    HelpContext,
    Word,
    by_name,
    complete_in_fish,
    options,
    parse_bytes,
    parse_pair,
    parse_plane,
    parse_sizes,
)
from bnfold.errors import LeftoverWarning, UsageError
from bnfold.options import CHOICES, WEIGHTS, CompareOptions, OnnxOptions, ReadOptions
from bnfold.report.messages import UNUSABLE, message_of, usage_message, with_notes
from bnfold.report.streams import Printed, ReportLost, discard, noting_files, write_error
from bnfold.report.words import on_one_line, visible

if TYPE_CHECKING:
    from bnfold.compare.pairs import PairRow
    from bnfold.io.environment import Environment
    from bnfold.pipeline import Reading, Writing
    from bnfold.report.grid import Line
    from bnfold.report.renderings import Facts, Renderings

DIFFERENT, INTERRUPTED = 1, 130
PIPE_WIDTH = 240  # columns of a table that nobody sees in a terminal


SHAPE = Word("BLOB=N,C,H,W", partial(parse_pair, parse_sizes), "data=1,3,224,224")
PAIR = Word("A=B", partial(parse_pair, str), "conv1=conv1_relu")
PLANE = Word("H,W", parse_plane, "256,256")
BYTES = Word("SIZE", parse_bytes, "500M or 4G, 1M at least")
PATH = FilePath(path_type=Path, readable=False)
ONE_OF = {name: click.Choice(words) for name, words in CHOICES.items()}


def model_arguments(first: str) -> Callable[[F], F]:
    """A network and its weights; `first` is what the network may be."""
    return options(
        click.argument("prototxt", type=PATH, metavar=first),
        click.argument("caffemodel", type=FILES, required=False, metavar="[NET.caffemodel[,MORE.caffemodel]]"),
    )


shape_options = options(
    click.option("--input-shape", "input_shapes", type=SHAPE, multiple=True, help="Shape of an input; repeatable."),
    click.option("--batch", type=click.IntRange(min=1), metavar="N", help="First dimension of every input."),
    group="Reading",
)
caffe_reading_options = options(
    shape_options,
    click.option("--ignore-unknown-fields", is_flag=True, help="Skip fields that no known Caffe has."),
    click.option("--strict-fields", is_flag=True, help="Stop at each field that no known Caffe has."),
    click.option("--stage", "stages", multiple=True, metavar="NAME", help="A stage of the net's state; repeatable."),
    click.option("--level", type=int, metavar="N", help="Level of the net's state."),
    click.option("--batchnorm-layout", type=ONE_OF["BatchNormLayout"], help="How to read ambiguous BatchNorms."),
    click.option("--caffemodel-dialect", metavar="NAME", help="Which Caffe wrote a caffemodel without prototxt."),
    click.option(
        "--zero-scale-factor",
        type=ONE_OF["ZeroScaleFactor"],
        help="What scale_factor 0 means beside statistics that are not 0: 0 as in Caffe, or 1 as in old NVCaffe.",
    ),
    click.option(
        "--crop-offset",
        type=ONE_OF["CropOffset"],
        help="Where a Crop without offset starts: at 0 as in today's Caffe, or aligned as before 2016.",
    ),
    click.option("--recurrent-state", is_flag=True, help="Make the state of each LSTM and RNN an input and an output."),
    click.option("--until", multiple=True, metavar="BLOB", help="End the network at a blob; repeatable."),
    group="Reading",
)
reading_options = options(
    caffe_reading_options,
    click.option("--freeze-initializers", is_flag=True, help="Take ONNX initialisers listed as inputs as constants."),
    group="Reading",
)
folding_options = options(
    click.option("--keep", multiple=True, metavar="BLOB", help="A blob (or pattern) to keep; repeatable."),
    click.option(
        "--exclude", multiple=True, metavar="LAYER", help="A layer (or pattern) to leave as it is; repeatable."
    ),
    click.option("--assume-global-stats", is_flag=True, help="Fold BatchNorms that normalise by their batch."),
    click.option(
        "--join/--no-join",
        default=True,
        help="Join parallel convolutions that are summed into one, where that costs no more.",
    ),
    group="Folding",
)


def writing_options(what: str) -> Callable[[F], F]:
    """Where the result goes; `what` says what may be written."""
    return options(
        click.option("-o", "--output", "paths", type=PATH, multiple=True, required=True, help=what),
        click.option("--in-place", is_flag=True, help="Allow overwriting the input."),
        group="Output",
    )


onnx_options = options(
    click.option("--opset", type=click.IntRange(11, 21), default=17, metavar="N", help="ONNX opset; 17 by default."),
    click.option("--dynamic-batch", is_flag=True, help="Leave the first dimension open in ONNX."),
    click.option("--external-data", is_flag=True, help="Write ONNX weights beside the model."),
    click.option("--allow-custom-ops", is_flag=True, help="Write layers without ONNX form in the domain 'caffe'."),
    click.option("--hash-sources", is_flag=True, help="Note SHA-256 of large sources, too, in the ONNX metadata."),
    group="ONNX",
)
caffe_options = options(
    click.option("--strip", is_flag=True, help="Leave out layers and fields that only training uses."),
    click.option(
        "--dialect",
        type=ONE_OF["Dialect"],
        default="bvlc",
        show_default=True,
        help="Write the types and fields of BVLC's Caffe, where it has them, or keep the file's own.",
    ),
    group="Output",
)
proof_options = options(
    click.option(
        "--tolerance", type=float, metavar="X", help="Largest error relative to a blob's range (float32: 1e-4)."
    ),
    click.option("--exact", is_flag=True, help="Measure both against a float64 run of the original too (slow)."),
    click.option(
        "--min-agreement", type=click.FloatRange(0, 1), metavar="X", help="Least share of samples with the same answer."
    ),
    click.option(
        "--max-top1-drop", type=click.FloatRange(0, 1), metavar="X", help="Largest loss of top-1 accuracy allowed."
    ),
    click.option("--provider", metavar="NAME", default="cpu", show_default=True, help="Where to run, like cuda."),
    click.option("--reference-provider", metavar="NAME", help="Where to run the reference, if elsewhere."),
    click.option("--tf32", is_flag=True, help="Let GPUs multiply in TF32, with 10 bits instead of 23."),
    click.option("--memory", type=BYTES, help="Memory to use, like 4G; else half of what is free."),
    group="Proof",
)
data_options = options(
    click.option("--data", type=FILES, metavar="PATH", help="Images (folder or list), LMDB, .h5, .npz, .npy."),
    click.option(
        "--limit", "sample_limit", type=click.IntRange(min=1), metavar="N", help="Take at most this many samples."
    ),
    click.option("--sample", "sample_seed", type=click.IntRange(min=0), metavar="SEED", help="Choose them at random."),
    click.option(
        "--seed", type=click.IntRange(min=0), default=0, metavar="SEED", help="Seed of the noise; 0 by default."
    ),
    click.option("--mean", type=FILES, metavar="B,G,R|FILE", help="Mean to subtract; or a .binaryproto, .npy."),
    click.option("--scale", type=float, metavar="X", help="Factor after the mean."),
    click.option("--swap-channels", is_flag=True, help="Feed RGB instead of Caffe's BGR."),
    click.option("--resize", type=PLANE, help="Resize images to this size first."),
    click.option("--crop", type=PLANE, help="Crop images to this size around their centre."),
    group="Data",
)
comparing_options = options(proof_options, data_options)
report_options = options(
    click.option("--json", "json_path", type=PATH, metavar="FILE", help="Report as JSON; - prints it."),
    click.option("--html", "html_path", type=PATH, metavar="FILE", help="Report as HTML; - prints it."),
    click.option("--markdown", "markdown_path", type=PATH, metavar="FILE", help="Report as Markdown; - prints it."),
    group="Report",
)
verbosity_options = options(
    click.option("-v", "--verbose", "verbosity", flag_value=1, type=int, help="Show tables of all layers."),
    click.option(
        "-q", "--quiet", "verbosity", flag_value=-1, type=int, help="The verdict alone; the last of -v and -q counts."
    ),
    group="Report",
)

UNPROVED = "the networks differ beyond the tolerance, or nothing could be proved"


class Commands(click.Group):
    """The commands, in the order of use; the one place where an exception becomes a message and an exit code.

    Attributes:
        started: when the present run began, in seconds since the epoch.
        command_line: what it was asked.
        json_path: where the report goes as JSON, - for standard output; so errors do, too.
        stopped_by: the signals that have asked the process to stop, by whoever answers them.
    """

    command_class, context_class = Command, HelpContext
    started: float = 0.0
    command_line: str = ""
    json_path: Path = Path()
    stopped_by: Sequence[int] = ()

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Not sorted: in the order of use, which is the one in which they are written below."""
        del ctx
        return [*(name for name in self.commands if name != "help"), "help"]

    def main(self, *args: Any, stopped_by: Sequence[int] = (), **kwargs: Any) -> NoReturn:
        """Run, and leave with the exit code that the result asks for; `args` and `kwargs` are click's."""
        kwargs["standalone_mode"] = False
        self.started, self.stopped_by = time.time(), stopped_by
        if "_BNFOLD_COMPLETE" in os.environ:
            complete_in_fish()
        words = list(kwargs.get("args") or sys.argv[1:])
        self.command_line = shlex.join(["bnfold", *words])
        asked = [word.removeprefix("--json=") for word in words if word.startswith("--json=")]
        asked += [path for name, path in pairwise(words) if name == "--json"]
        # One that is also another file of this run is refused, and nothing goes there.
        once = sum(word.rpartition("=")[2] in asked for word in words) == 1
        self.json_path = Path(asked[-1] if "-" in asked[-1:] or once else "")
        for stream in (sys.stdout, sys.stderr):
            # A name may have letters that the terminal's encoding has not.
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
        try:
            with redirect_stdout(Printed(sys.stdout)), _saying_what_is_left():
                code = super().main(*args, **kwargs)
                sys.stdout.flush()
        except click.exceptions.Exit as stop:
            sys.exit(stop.exit_code)
        except click.UsageError as error:
            command = error.ctx.command_path if error.ctx is not None else "bnfold"
            _stop(usage_message(error.format_message(), command, words, self.commands), UNUSABLE)
        except ReportLost as lost:
            discard(sys.stdout)
            _stop(with_notes(str(lost), lost), UNUSABLE, quiet=lost.reader_has_gone)
        except (click.Abort, KeyboardInterrupt) as abort:
            if isinstance(abort.__cause__, EOFError):  # click takes it for the end of what is typed
                _stop(*message_of(abort.__cause__))
            # click has its own exception for Ctrl-C, and the notes are on Python's.
            code = 128 + stopped_by[0] if stopped_by else INTERRUPTED
            _stop(with_notes("interrupted", abort.__cause__ or abort, "nothing was left half-written"), code)
        except Exception as error:
            if stopped_by:  # a library in C has made something of its own of the signal
                _stop(with_notes("interrupted", error, "nothing was left half-written"), 128 + stopped_by[0])
            _stop(*message_of(error))
        sys.exit(code or 0)


@contextmanager
def _saying_what_is_left() -> Iterator[None]:
    """Print what is left beside outputs that are whole, which changes no exit code, as a line like all others."""
    with warnings.catch_warnings():
        say = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *more: Any, **named: Any) -> None:
            if issubclass(category, LeftoverWarning):
                with suppress(OSError):
                    click.echo(f"bnfold: warning: {on_one_line(str(message))}", err=True)
            else:
                say(message, category, *more, **named)

        warnings.showwarning = show
        warnings.simplefilter("always", LeftoverWarning)  # under python -W error, too: the outputs are whole
        yield


def _stop(message: str, code: int, quiet: bool = False) -> NoReturn:
    if main.json_path != Path() and not quiet:
        write_error(main.json_path, message, code)
    try:
        click.echo("" if quiet else f"bnfold: {message}", err=True, nl=not quiet)
    except OSError:  # the code is an answer, too
        discard(sys.stderr)
    sys.exit(code)


@click.group(
    cls=Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="'bnfold COMMAND --help' shows an example and the usual options.",
)
@click.version_option(None, "-V", "--version", package_name="bnfold", prog_name="bnfold")
@click.pass_context
def main(ctx: click.Context) -> None:
    """Fold BatchNorm and Scale into the weights of a trained Caffe or ONNX network, and prove it the same."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


@main.command(cls=Command, example="fold net.prototxt net.caffemodel -o out.prototxt --data images/", one=UNPROVED)
@model_arguments("NET.prototxt|MODEL.onnx")
@writing_options("OUT.prototxt (and .caffemodel) or OUT.onnx; repeatable.")
@reading_options
@folding_options
@caffe_options
@onnx_options
@options(
    click.option("--no-verify", is_flag=True, help="Write without a proof."),
    click.option("--keep-failed", is_flag=True, help="Leave outputs whose proof failed as NAME.failed."),
    click.option("--outputs-only", is_flag=True, help="Compare outputs, not every blob that survives."),
    click.option("--layers", is_flag=True, hidden=True, help="Compare every surviving blob, as is done anyhow."),
    group="Proof",
)
@comparing_options
@report_options
@verbosity_options
def fold(prototxt: Path, caffemodel: str | None, no_verify: bool, **params: Any) -> int:
    """Fold a network, write it as Caffe or ONNX, and prove it the same."""
    from bnfold.pipeline import Folding, Job, require_paths, run
    from bnfold.report.progress import progress_bar
    from bnfold.report.renderings import of_run

    reading, writing = _reading(prototxt, caffemodel, params), _writing(prototxt, params)
    if no_verify:
        _refuse_idle(PROVING, "--no-verify compares nothing")
    require_paths(reading.files, writing, _reports(params), _data(params, [params["data"]]))
    job = Job(
        reading=reading,
        writing=writing,
        folding=Folding(*(params[name] for name in Folding._fields)),
        verify=not no_verify,
        keep_failed=params["keep_failed"],
        samples=params["data"],
        comparing=_comparing(params, [params["data"]], params["layers"] or not params["outputs_only"]),
    )
    with progress_bar() as progress:
        report = run(job, progress)
    facts = _facts(reading.files, report.written, params["data"], params["mean"])
    with noting_files(report):
        _render(params, of_run(report, facts, params["verbosity"] or 0, _reports(params)))
    return 0 if report.passed else DIFFERENT


@main.command(cls=Command, example="export net.prototxt net.caffemodel -o net.onnx --opset 17")
@model_arguments("NET.prototxt")
@writing_options("OUT.onnx; repeatable.")
@caffe_reading_options
@onnx_options
def export(prototxt: Path, caffemodel: str | None, **params: Any) -> int:
    """Write a network as ONNX without folding it."""
    return _write_unfolded(prototxt, caffemodel, params, "onnx")


@main.command(cls=Command, example="convert old.prototxt old.caffemodel -o new.prototxt")
@model_arguments("NET.prototxt")
@writing_options("OUT.prototxt (and .caffemodel); repeatable.")
@caffe_reading_options
@caffe_options
def convert(prototxt: Path, caffemodel: str | None, **params: Any) -> int:
    """Write a network of any dialect as today's Caffe, not folded. It is written as it is at TEST."""
    return _write_unfolded(prototxt, caffemodel, params, "prototxt")


@main.command("help", cls=Command, example="help fold")
@click.argument(
    "name",
    required=False,
    metavar="[COMMAND]",
    shell_complete=lambda *asked: [name for name in main.commands if name.startswith(asked[-1])],
)
@click.pass_context
def help_(ctx: click.Context, name: str | None) -> None:
    """Show what a command does and its options."""
    parent = ctx.parent
    assert parent is not None
    command = main.resolve_command(parent, [name])[1] if name else main
    assert command is not None
    with HelpContext(command, info_name=name or parent.info_name, parent=parent if name else None) as inner:
        click.echo(command.full_help(inner) if isinstance(command, Command) else command.get_help(inner))


def _write_unfolded(prototxt: Path, caffemodel: str | None, params: dict[str, Any], only: str) -> int:
    from bnfold.pipeline import export, require_paths
    from bnfold.report.renderings import of_run

    reading, writing = _reading(prototxt, caffemodel, params), _writing(prototxt, params)
    require_paths(reading.files, writing)
    report = export(reading, writing, only)
    with noting_files(report):
        _render(params, of_run(report, _facts(reading.files, report.written)))
    return 0


@main.command(cls=Command, example="inspect net.prototxt net.caffemodel", one="findings, with --strict")
@model_arguments("NET.prototxt|MODEL.onnx")
@reading_options
@folding_options
@options(
    click.option("--json", "json_path", type=PATH, metavar="FILE", help="Plan and findings as JSON; - prints them."),
    click.option("--strict", is_flag=True, help="Exit with 1 when there are findings."),
    group="Report",
)
@verbosity_options
def inspect(prototxt: Path, caffemodel: str | None, strict: bool, **params: Any) -> int:
    """Show what would fold, what would stay and why. Also says what the prototxt should say instead."""
    from bnfold.pipeline import Folding, require_paths
    from bnfold.pipeline import inspect as plan
    from bnfold.report.renderings import of_inspection

    reading = _reading(prototxt, caffemodel, params)
    require_paths(reading.files, reports=_reports(params))
    inspection = plan(reading, Folding(*(params[name] for name in Folding._fields)))
    _render(params, of_inspection(inspection, params["verbosity"] or 0))
    return DIFFERENT if strict and inspection.findings else 0


@main.command(cls=Command, example="diff net.prototxt:net.caffemodel folded.onnx --data images/", one=UNPROVED)
@click.argument("reference", type=FILES, required=False)
@click.argument("candidate", type=FILES, required=False)
@reading_options
@options(
    click.option("--map", "pairs", type=PAIR, multiple=True, help="Blobs to pair whose names differ; repeatable."),
    click.option(
        "--pairs", "table", type=PATH, metavar="FILE", help="Compare each line of a table: REFERENCE CANDIDATE [DATA]."
    ),
    click.option("--outputs-only", is_flag=True, help="Compare outputs, not every common blob."),
    click.option("--bisect", is_flag=True, help="Find the first blob that differs, by bisection."),
    click.option("--checkpoint", type=PATH, metavar="FILE", help="Keep the state in a file, and resume from it."),
    click.option("--cluster", metavar="ADDRESS|N", help="Measure on workers of a Dask scheduler, or N local ones."),
    group="Proof",
)
@comparing_options
@report_options
@verbosity_options
def diff(reference: str | None, candidate: str | None, **params: Any) -> int:
    """Compare any two models.

    Each is an .onnx, a .prototxt beside its .caffemodel, a .caffemodel, or NET.prototxt:WEIGHTS.caffemodel.
    """
    from bnfold.compare.measure import NamedProgress
    from bnfold.compare.pairs import compare_pairs, rows_of
    from bnfold.loading import ONNX_TOO, is_onnx, piped_onnx
    from bnfold.pipeline import require_paths
    from bnfold.report.progress import progress_bar
    from bnfold.report.renderings import of_run
    from bnfold.report.run import RunReport

    rows = rows_of(reference, candidate, params["table"])
    files = [file for row in rows for file in row.models]
    if all(map(is_onnx, files)):
        _refuse_idle([one.name for one in fields(ReadOptions) if one.name not in ONNX_TOO], "the models are ONNX")
    if params["freeze_initializers"] and not any(is_onnx(file) or piped_onnx(file) is not None for file in files):
        _refuse_idle(["freeze_initializers"], "no model is ONNX")
    if params["bisect"]:
        _refuse_idle(["outputs_only"], "--bisect compares the outputs, and further blobs only where they differ")
    if all(row.data for row in rows):
        _refuse_idle(["data"], "each line of the table names its own")
    data = [params["data"], *(row.data for row in rows)]
    reports = [*_reports(params), *(path for row in rows for path in _own_reports(params, row).values())]
    kept = [Path(path) for row in rows if (path := row.checkpoint(params["checkpoint"])) is not None]
    beside = [params["table"], params["mean"], params["data"]]
    require_paths(files, reports=[*reports, *kept], data=[*filter(None, [params["table"]]), *_data(params, data)])
    chosen = replace(
        _comparing(params, data, not params["outputs_only"]),
        map=by_name("--map", params["pairs"]),
        batch=params["batch"],
        input_shapes=by_name("--input-shape", params["input_shapes"]) or None,
        reading=_read_options(params),
        bisect=params["bisect"],
        checkpoint=params["checkpoint"],
        cluster=params["cluster"],
    )
    codes: list[int] = []
    with progress_bar() as progress:
        stage = NamedProgress(progress, ("comparing",)) if progress is not None else None
        proofs = tuple(compare_pairs(rows, params["data"], chosen, partial(_note_failure, codes), stage))
    report = RunReport(proofs=proofs)
    own: dict[Path, Callable[[], Any]] = {}
    for row, proof in zip(rows, proofs, strict=True):
        renderings = of_run(RunReport(proofs=(proof,)), _facts(row.models, (), *beside, row.data))
        own |= {path: renderings[name] for name, path in _own_reports(params, row).items()}
    _render(params, of_run(report, _facts(files, (), *beside, *data), params["verbosity"] or 0, reports), own)
    return max(codes, default=0 if report.passed else DIFFERENT)


def _note_failure(codes: list[int], row: PairRow, error: Exception) -> str:
    """What is said of a line of a table that cannot be compared; its exit code goes to `codes`.

    Raises:
        Exception: the error itself, where there is no table or the run was stopped.
    """
    if not row.number or main.stopped_by:
        raise error
    message, code = message_of(error)
    codes.append(code)
    with suppress(OSError):  # the code is an answer, too
        click.echo(f"bnfold: {row.place}{message}", err=True)
    return f"{row.place}{message}"


def _own_reports(params: dict[str, Any], row: PairRow) -> dict[str, Path]:
    """Rendering -> the file for one line of a table alone: beside `report.json`, `report.3.json` for the third."""
    from bnfold.io.files import is_stream

    files = {name: path for name, path in _renderings(params).items() if str(path) != "-" and not is_stream(path)}
    return {name: path.parent / f"{path.stem}.{row.number}{path.suffix}" for name, path in files.items() if row.number}


# From options to records.


def _reading(prototxt: Path, caffemodel: str | None, params: dict[str, Any]) -> Reading:
    from bnfold.loading import is_onnx, joined_pair
    from bnfold.pipeline import Reading

    if prototxt.suffix.lower() in WEIGHTS and caffemodel and caffemodel.lower().endswith(".prototxt"):
        raise UsageError(f"the prototxt comes first: {visible(caffemodel)} {visible(str(prototxt))}")
    if not caffemodel and (pair := joined_pair(str(prototxt))):
        files = " ".join(map(visible, pair))
        raise UsageError(f"the prototxt and the caffemodel are two arguments here: {files}")
    if caffemodel and is_onnx(caffemodel) and not is_onnx(prototxt):
        way = "outputs are named with -o" if "paths" in params else "an ONNX model is inspected by itself"
        raise UsageError(f"{visible(caffemodel)} is not a caffemodel: {way}")
    return Reading(prototxt, caffemodel, _read_options(params))


def _read_options(params: dict[str, Any]) -> ReadOptions:
    values = {one.name: params[one.name] for one in fields(ReadOptions) if one.name in params}
    return ReadOptions(**values | {"input_shapes": by_name("--input-shape", params["input_shapes"]) or None})


def _refuse_idle(names: Sequence[str], why: str) -> None:
    """Refuse options that the user gave and that would be ignored.

    Raises:
        UsageError: with their names, and why they mean nothing here.
    """
    context = click.get_current_context()
    typed = click.core.ParameterSource.COMMANDLINE
    called = {param.name: param.opts[0] for param in context.command.params}
    if idle := [called[name] for name in names if context.get_parameter_source(name) is typed]:
        raise UsageError(f"{' and '.join(idle)} would be ignored: {why}")


def _require_one_name(output: Path) -> None:
    """Stop where several outputs, or a prototxt and its caffemodel, stand behind one -o. Raises UsageError."""
    from bnfold.loading import split_names

    names = split_names(str(output))
    if len(split_names(output.name)) > 1 or (len(names) > 1 and not output.parent.is_dir()):
        each = [f"-o {visible(name)}" for name in names if not name.lower().endswith((*WEIGHTS, ".data"))]
        beside = ", and weights go beside their network" if len(each) < len(names) else ""
        instead = f"; write {' '.join(each)}" if each else ""
        raise UsageError(f"-o {visible(str(output))}: outputs are named one by one{beside}{instead}")


def _writing(model: Path, params: dict[str, Any]) -> Writing:
    from bnfold.loading import is_onnx
    from bnfold.pipeline import Writing, format_of

    for path in params["paths"]:
        _require_one_name(path)
    formats = {format_of(path) for path in params["paths"]}
    if "onnx" not in formats:
        _refuse_idle(FOR_ONNX, "no .onnx is written")
    elif is_onnx(model):
        _refuse_idle(FROM_CAFFE, f"{visible(model.name)} is ONNX already, and stays what it is")
    if "prototxt" not in formats:
        _refuse_idle(FOR_CAFFE, "no .prototxt is written")
    onnx = OnnxOptions(**{one.name: params[one.name] for one in fields(OnnxOptions) if one.name in params})
    return Writing(onnx=onnx, **{name: params[name] for name in Writing._fields if name in params})


def _comparing(params: dict[str, Any], data: Sequence[str | None], layers: bool) -> CompareOptions:
    if not any(data) and (idle := [f"--{name.replace('_', '-')}" for name in PREPARING if params[name]]):
        raise UsageError(f"{' and '.join(idle)} prepare{'s' * (len(idle) == 1)} images, and --data is not given")
    words = {name: params[name] for name in PREPARING}
    preparation = None
    if any(word is not None and word is not False for word in words.values()):
        from bnfold.data.preparation import from_words

        preparation = from_words(**words)
    return CompareOptions(preparation=preparation, layers=layers, **{name: params[name] for name in COMPARING})


# From records to what the user sees.


def _reports(params: dict[str, Any]) -> list[Path]:
    """The files that are to hold renderings of the report.

    Raises:
        UsageError: one cannot be made, or two are to be printed.
    """
    from bnfold.io.files import is_stream
    from bnfold.report.renderings import require_possible

    wanted = _renderings(params)
    require_possible(wanted)
    if len(printed := [f"--{name} -" for name, path in wanted.items() if str(path) == "-"]) > 1:
        raise UsageError(f"{' and '.join(printed)}: only one of them can be printed")
    return [path for path in wanted.values() if str(path) != "-" and not is_stream(path)]


def _renderings(params: dict[str, Any]) -> dict[str, Path]:
    """Rendering -> the file that is to hold it, or -."""
    return {name: path for name in ("json", "html", "markdown") if (path := params.get(f"{name}_path")) is not None}


def _data(params: dict[str, Any], data: Sequence[str | None]) -> list[Path]:
    """The files that a comparison reads besides the models, of the data sets that are named."""
    if not any(data):
        return []
    from bnfold.data.datasets import data_files

    files = [file for path in dict.fromkeys(data) if path for file in data_files(path)]
    return [*files, *([Path(params["mean"])] if params["mean"] else ())]


def _facts(read: Sequence[Path], written: Sequence[Path], *data: str | Path | None) -> Facts:
    """How this run came about, told when a report is made that holds it; hashing the files takes time."""

    def facts() -> Environment:
        from bnfold.io.environment import environment

        return environment(main.command_line, main.started, read, written, data)

    return facts


def _render(
    params: dict[str, Any], renderings: Renderings, more: Mapping[Path, Callable[[], Any]] | None = None
) -> None:
    """Print the report, and write it and `more` to the files that were asked for, all of them or none."""
    from bnfold.io.files import OutputSet
    from bnfold.report.grid import laid_out

    wanted = _renderings(params)
    with OutputSet() as outputs:
        for name, path in wanted.items():
            if str(path) != "-":
                outputs.write_text(path, renderings[name]())
        for path, rendering in (more or {}).items():
            outputs.write_text(path, rendering())
    for name, path in wanted.items():
        if str(path) == "-":
            click.echo(renderings[name](), nl=False)
            return
    terminal = sys.stdout.isatty()
    width = PIPE_WIDTH
    if terminal:
        from shutil import get_terminal_size  # a pipe needs none of its archives

        width = get_terminal_size().columns
    coloured = terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    lines = laid_out(renderings["text"](), width, wrapped=terminal)
    click.echo("".join(f"{_styled(line) if coloured and line.style else line.text}\n" for line in lines), nl=False)


def _styled(line: Line) -> str:
    colour = line.style.removeprefix("bold").removeprefix("dim").strip()
    return click.style(line.text, fg=colour or None, bold="bold" in line.style or None, dim=line.style == "dim" or None)
