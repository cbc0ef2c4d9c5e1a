"""What folds in ONNX, by operator, as the table of `docs/onnx.md`: `python -m bnfold.report.onnx_page` prints it."""

from __future__ import annotations

from bnfold.onnx.operators import OPERATORS

KINDS = {
    "affine": "an affine, or a join",
    "join": "joins blobs",
    "linear": "absorbs",
    "movement": "moves data",
    "passing": "passes",
}
"""Module of `bnfold.onnx.operators` -> what its operators are to the laws."""


def operator_table() -> str:
    """A row for each operator type that the laws know: its name, what it is to them, and how."""
    rows = ["| operator | to the laws | as |", "|---|---|---|"]
    for op_type, rule in sorted(OPERATORS.items()):
        kind = KINDS[rule.__module__.rpartition(".")[2]]
        said = (rule.__doc__ or "").partition("\n")[0].partition(": ")[2].rstrip(".").replace("|", "\\|")
        rows.append(f"| {op_type} | {kind} | {said} |")
    return "\n".join(rows)


if __name__ == "__main__":
    print(operator_table())
