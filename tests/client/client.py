"""What a program that uses bnfold looks like; `mypy --strict` reads it, and a test runs it."""

from __future__ import annotations

import copy
import io
import pickle
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


def shared(prototxt: Path, caffemodel: Path) -> list[bnfold.Net]:
    """The same net from bytes and from a stream, copied, and as another process gets it."""
    net = bnfold.load(prototxt.read_bytes(), caffemodel.read_bytes())
    saved = io.BytesIO()
    bnfold.save_onnx(net, saved)
    saved.seek(0)
    again: bnfold.Net = pickle.loads(pickle.dumps(net))
    return [net, again, copy.deepcopy(net), bnfold.load(saved)]


def pages(prototxt: Path, caffemodel: Path, images: Path) -> list[str]:
    """What a notebook and a web server show."""
    net = bnfold.load(prototxt, caffemodel)
    result = bnfold.fold(net)
    diff = bnfold.compare(net, result.net, images, preparation=bnfold.Preparation(scale=1 / 16), sample_limit=20)
    places: list[bnfold.Place] = [blob.worst for blob in diff.blobs if blob.worst is not None]
    moved = [record for record in result.report.records if isinstance(record, bnfold.Moved)]
    classifier: bnfold.ClassifierDiff | None = diff.classifier
    flips: tuple[bnfold.Flip, ...] = classifier.flips if classifier else ()
    findings: list[bnfold.Finding] = bnfold.advise(prototxt, net)
    said = [net._repr_html_(), result._repr_html_(), diff._repr_html_(), diff.to_html(), result.report.to_html()]
    return [*said, f"{len(places)} {len(moved)} {len(flips)} {len(findings)}"]


def refusal(path: str) -> str:
    """Why a model cannot be read."""
    try:
        bnfold.load(path)
    except bnfold.ParseError as error:
        return str(error)
    except bnfold.BnfoldError as error:
        return f"{type(error).__name__}: {error}"
    return ""
