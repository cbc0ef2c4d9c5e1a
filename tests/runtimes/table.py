"""Tries every case in every runtime that has an environment, and writes what came of it as docs/runtimes.md.

    python tests/runtimes/table.py FOLDER [NAME ...]

FOLDER is what environments.py made. Only the runtimes that are named are tried again (without names, all that are
there); the others stay as record.json has them. With no argument at all the page is written anew from the record.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from cases import DEEP_TOLERANCE, TOLERANCE
from runtimes import record
from runtimes.environments import RUNTIMES, installed, python_of
from runtimes.harness import FORMS, Verdict, names
from runtimes.reasons import FORMS_CHANGED, REFUSALS
from runtimes.record import Entry

PAGE = Path(__file__).parents[2] / "docs" / "runtimes.md"

Notes = dict[str, int]
NOT_TRIED = "not tried"

OPENING = f"""# Runtimes

Does what bnfold writes mean the same everywhere? Every golden, and every network of the zoo that has a real Caffe's
outputs, was exported ({" and ".join(FORMS)}, opset 17, the defaults) and run in each of these runtimes, on a CPU, or
a GPU where CUDA is in its name, in float32 and with the runtime's own optimisations. *Equal* means: the same shape, and
within {TOLERANCE:g} of the range of Caffe's output for a golden, {DEEP_TOLERANCE:g} for a network of the zoo. A runtime
that knows no scalars and gives shape (1,) for one is taken to be equal. Where an output is an index, the scores behind
the indices are compared.

This page is written by a program. To make it again, or for another version of a runtime:

```
python tests/runtimes/environments.py FOLDER [NAME ...]   # an environment for each; the names are in the first table
python tests/runtimes/table.py FOLDER [NAME ...]          # try them, and write this page
BNFOLD_RUNTIMES=FOLDER pytest tests/runtimes -m opencv5   # or: hold them to what this page says
```

## Summary

Cases that are equal, both as they are and folded.
"""

KNOWN = "\n".join(
    [
        "## What is known about the others\n",
        *(f"- {runtime}: {reason}" for runtime, reason in REFUSALS),
        "\nForms that were chosen because one runtime needs them and no other loses by them:\n",
        *(f"- {form}" for form in FORMS_CHANGED),
        "\nSo, but for what is named above, one form serves onnxruntime, OpenCV 5, OpenVINO and tract alike, and "
        "`bnfold export` has no `--target`.",
    ]
)


def render(recorded: Mapping[str, Entry]) -> str:
    """The page."""
    notes: Notes = {}
    cases = {case for entry in recorded.values() for case in (*entry.cases, *entry.untried)}
    nets = sorted(case for case in cases if "/" in case)
    goldens = sorted(case for case in cases if "/" not in case)
    uneven = [case for case in goldens if any(_kind(entry, case) != "equal" for entry in recorded.values())]
    parts = [
        OPENING,
        _summary(recorded, goldens, nets),
        *_unrecorded(recorded),
        *_untried(recorded),
        KNOWN,
        "## Networks of the zoo\n\nThe number is the largest difference from Caffe, relative to the range.\n",
        _table(recorded, nets, notes),
        f"## Goldens\n\nOf {len(goldens)} goldens {len(goldens) - len(uneven)} are equal everywhere. The others:\n",
        _table(recorded, uneven, notes),
        "## Notes\n\nThe runtimes' words, shortened.\n",
        "\n".join(f"{number}. {words}" for words, number in notes.items()),
    ]
    return "\n".join(part.rstrip("\n") + "\n" for part in parts)


def _unrecorded(recorded: Mapping[str, Entry]) -> list[str]:
    """The runtimes that can be tried and never were."""
    missing = [f"{runtime.title} (`{runtime.name}`)" for runtime in RUNTIMES if runtime.name not in recorded]
    return [f"Can be tried where there is a GPU, and was not yet: {', '.join(missing)}.\n"] if missing else []


def _untried(recorded: Mapping[str, Entry]) -> list[str]:
    """Which runtimes were not asked everything, and since when."""
    lines = []
    for runtime in RUNTIMES:
        if (entry := recorded.get(runtime.name)) and entry.untried:
            count, since = len(entry.untried), min(entry.untried.values())
            lines.append(f"- {runtime.title}: {count} not tried on {since}, for want of time")
    newer = "Cases that are newer than a runtime's last whole run, of which nothing is known yet:\n"
    return ["\n".join([newer, *lines])] if lines else []


def _summary(recorded: Mapping[str, Entry], goldens: Sequence[str], nets: Sequence[str]) -> str:
    rows = []
    for runtime in RUNTIMES:
        if entry := recorded.get(runtime.name):
            versions = ", ".join(f"{package} {version}" for package, version in entry.versions.items())
            rows.append([runtime.title, f"`{runtime.name}`", versions, _count(entry, goldens), _count(entry, nets)])
    return _rows(["runtime", "name", "versions", "goldens", "networks of the zoo"], rows)


def _count(entry: Entry, cases: Sequence[str]) -> str:
    kinds = Counter(_kind(entry, case) for case in cases)
    words = (("differs", "differ"), ("refused", "refused"), (NOT_TRIED, NOT_TRIED))
    rest = [f"{kinds[kind]} {word}" for kind, word in words if kinds[kind]]
    return ", ".join([f"{kinds['equal']} of {len(cases)}", *rest])


def _table(recorded: Mapping[str, Entry], cases: Sequence[str], notes: Notes) -> str:
    shown = [runtime for runtime in RUNTIMES if runtime.name in recorded]
    rows = [
        [f"`{case.rpartition('/')[2]}`", *(_cell(recorded[runtime.name], case, notes) for runtime in shown)]
        for case in cases
    ]
    return _rows(["case", *(runtime.title for runtime in shown)], rows)


def _cell(entry: Entry, case: str, notes: Notes) -> str:
    if case in entry.untried:
        return NOT_TRIED
    verdicts = entry.cases[case]
    if len({verdict.kind for verdict in verdicts}) == 1:
        return _said(_worst(entry, case), notes)
    return ", ".join(f"{form}: {_said(verdict, notes)}" for form, verdict in zip(FORMS, verdicts, strict=True))


def _said(verdict: Verdict, notes: Notes) -> str:
    if verdict.kind == "refused":
        return f"**refused** ({notes.setdefault(verdict.words, len(notes) + 1)})"
    measure = verdict.words if verdict.distance is None else f"{verdict.distance:.1g} {verdict.words}".strip()
    return f"**differs**: {measure}" if verdict.kind == "differs" else f"equal {measure}".strip()


def _kind(entry: Entry, case: str) -> str:
    return NOT_TRIED if case in entry.untried else _worst(entry, case).kind


def _worst(entry: Entry, case: str) -> Verdict:
    order = ("equal", "differs", "refused")
    return max(entry.cases[case], key=lambda verdict: (order.index(verdict.kind), verdict.distance or 0))


def _rows(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", metavar="FOLDER", type=Path, nargs="?")
    parser.add_argument("names", metavar="NAME", nargs="*")
    given = parser.parse_args()
    recorded = record.read()
    if given.folder is not None:
        for runtime in installed(given.folder):
            if not given.names or runtime.name in given.names:
                print(runtime.name, flush=True)
                tried = record.try_out(python_of(given.folder, runtime.name), runtime.engine, names())
                recorded[runtime.name] = tried
                record.write({one.name: recorded[one.name] for one in RUNTIMES if one.name in recorded})
    PAGE.write_text(render(record.read()), encoding="utf-8")


if __name__ == "__main__":
    main()
