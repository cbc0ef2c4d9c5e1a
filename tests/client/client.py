"""What a program that uses bnfold looks like; `mypy --strict` reads it, and a test runs it."""

from __future__ import annotations

from pathlib import Path

import bnfold


def report_on(prototxt: Path, caffemodel: Path) -> str:
    """Fold a net and compare both, as an export pipeline does."""
    net: bnfold.Net = bnfold.load(prototxt, caffemodel, options=bnfold.ReadOptions(batch=2))
    first: bnfold.Layer = net["conv1"]
    result: bnfold.FoldResult = bnfold.fold(net, keep="prob")
    kept: list[bnfold.Kept] = result.report.kept
    options = bnfold.CompareOptions(tolerance=1e-4, layers=True)
    diff: bnfold.DiffReport = bnfold.compare(net, result.net, options=options)
    model = bnfold.to_onnx(result.net, options=bnfold.OnnxOptions(opset=17))
    data: dict[str, object] = diff.to_dict()
    lines = [repr(net), repr(result), repr(diff), str(first), str(len(result.report.folded)), str(len(kept))]
    lines += [diff.to_markdown(), result.report.to_json(), str(data["passed"]), str(len(model.graph.node))]
    return "\n".join([*lines, bnfold.__version__])
