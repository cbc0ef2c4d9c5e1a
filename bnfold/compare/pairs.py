"""Many comparisons in one call: a table of models, with a report for each and one table over all."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from bnfold.compare.comparison import compare, require_usable
from bnfold.compare.measure import Progress
from bnfold.compare.models import model_files, split_pair
from bnfold.compare.records import DiffReport, Gate
from bnfold.errors import ParseError, UsageError, plural
from bnfold.io.files import StrPath, absence, is_stream, os_path
from bnfold.io.mapping import read_file
from bnfold.options import TEXT, WEIGHTS, CompareOptions

MAX_TABLE = 1 << 26  # bytes, of which a line takes some hundred


@dataclass(frozen=True, slots=True)
class PairRow:
    """One comparison: what `bnfold diff` takes; None for data means noise, or what the caller gave.

    The number is that of the line in the table, 0 where there is none.
    """

    number: int
    reference: str
    candidate: str
    data: str | None = None
    table: Path | None = None

    @property
    def place(self) -> str:
        """The table and the line, to begin a sentence with; nothing where there is no table."""
        return f"{self.table}:{self.number}: " if self.number else ""

    @property
    def models(self) -> list[Path]:
        """The files of both networks."""
        return [*model_files(self.reference), *model_files(self.candidate)]

    def checkpoint(self, path: StrPath | None) -> StrPath | None:
        """Where it keeps its state: at the path, with the number of its line behind if it is one of several."""
        return f"{os_path(path)}.{self.number}" if self.number and path is not None else path


def read_pairs(path: Path) -> list[PairRow]:
    """The rows of a table: reference, candidate and perhaps data in each line, parted by spaces, tabs or commas.

    Args:
        path: a text; what is behind a # is none of it, and names with spaces stand in quotes. Paths are seen from the
            table's folder, or from the working directory where the table comes through a pipe.

    Raises:
        ParseError: there is no such file, or a line is none of these.
        UsageError: there is nothing in it, or one of its files is not there.
    """
    try:
        text = read_file(path, MAX_TABLE).decode("utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise ParseError("is no text, and a table of models is one", path)
    rows, folder = [], Path() if is_stream(path) else path.parent
    for number, line in enumerate(text.splitlines(), start=1):
        reader = shlex.shlex(line, posix=True, punctuation_chars=False)
        reader.whitespace, reader.whitespace_split, reader.commenters = " \t,", True, "#"
        try:
            words = list(reader)
        except ValueError as error:
            raise ParseError(f"{str(error).lower()}", path, number) from None
        if not words or words[0].lower() == "reference":
            continue
        if len(words) not in (2, 3):
            raise ParseError(
                f"expected REFERENCE CANDIDATE [DATA], got {len(words)} {plural('word', len(words))}", path, number
            )
        reference, candidate, data = [*words, ""][:3]
        models = _seen_from(folder, reference), _seen_from(folder, candidate)
        rows.append(PairRow(number, *models, str(folder / data) if data else None, path))
    if not rows:
        raise UsageError(f"the table '{path}' names no models")
    return rows


def _seen_from(folder: Path, model: str) -> str:
    """A model as seen from the table's folder: one path, or a prototxt and its weights."""
    prototxt, weights = split_pair(model)
    return f"{folder / prototxt}:{folder / weights}" if weights and prototxt != Path(model) else str(folder / model)


def rows_of(reference: str | None, candidate: str | None, table: Path | None) -> Sequence[PairRow]:
    """What is to be compared: two models, or those of a table; all is looked at before any is compared.

    Raises:
        ParseError: as `read_pairs`.
        UsageError: both or neither are given, two models are one network, or a table names a file that is not there.
    """
    if reference is not None and table is not None:
        raise UsageError(
            f"--pairs {table} names the models, so '{reference}' beside it has no meaning; give one or the other"
        )
    if (reference is None) == (table is None) or (candidate is None) != (reference is None):
        raise UsageError("give REFERENCE and CANDIDATE, or --pairs FILE with a table of them")
    rows = read_pairs(table) if table is not None else [PairRow(0, str(reference), str(candidate))]
    for row in rows:
        if split_pair(row.candidate)[0].suffix.lower() in WEIGHTS and row.reference.lower().endswith(".prototxt"):
            pair = f"{row.reference}:{row.candidate}"
            raise UsageError(
                f"{row.place}these are the two files of one network: write {pair}, and add the second model"
            )
        for path in (*row.models, *([Path(row.data)] if row.data else ())) if row.number else ():
            if reason := absence(path):
                raise UsageError(f"{row.place}'{path}' {reason}")
        if row.number and (folders := [path for path in row.models if path.is_dir()]):
            raise UsageError(f"{row.place}'{folders[0]}' is a folder and no model")
    return rows


def compare_pairs(
    rows: Sequence[PairRow],
    samples: str | None,
    options: CompareOptions,
    failed: Callable[[PairRow, Exception], str],
    progress: Progress | None,
) -> Iterator[DiffReport]:
    """Compare every row of a table; on a cluster, the workers are the same for all.

    Args:
        rows, samples, options, progress: as in `compare`.
        failed: makes the sentence on a row that cannot be compared, for its report; the others are compared all the
            same, unless it raises.

    Raises:
        UsageError: an option means nothing, whatever is compared.
    """
    require_usable(options)
    with _sharing(options) as shared:
        for row in rows:
            chosen = replace(shared, checkpoint=row.checkpoint(shared.checkpoint))
            if all(path.suffix.lower() in (*TEXT, *WEIGHTS) for path in row.models):  # it is of other rows
                chosen = replace(chosen, reading=replace(chosen.reading, freeze_initializers=False))
            try:
                yield compare(row.reference, row.candidate, row.data or samples, chosen, progress=progress)
            except Exception as error:
                sentence = failed(row, error)
                gate = Gate("compared", 1, 0, False, sentence)
                yield DiffReport(
                    row.reference,
                    row.candidate,
                    "nothing was run",
                    options.seed,
                    options.limit,
                    gates=(gate,),
                    error=sentence,
                )


@contextmanager
def _sharing(options: CompareOptions) -> Iterator[CompareOptions]:
    """The options, with a cluster that is connected once."""
    if options.cluster is None:
        yield options
        return
    from bnfold.compare.cluster import connected

    with connected(options.cluster) as client:
        yield replace(options, cluster=client)
