"""What the fuzzers call, and what they hold it to: nothing but a `BnfoldError` escapes, in little time and memory.

Each target takes the bytes of one input and returns nothing; an exception that escapes is a finding. The fuzzer
(`guided.py`) drives the targets under atheris, `test_corpus.py` and `test_mutations.py` without it.
"""

from __future__ import annotations

import contextlib
import resource
import tempfile
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
from fuzz.grammar import model
from onnx import ModelProto

from bnfold.advice import advise
from bnfold.algebra import Kept, fold
from bnfold.caffe.binary import read_net
from bnfold.caffe.layers import infer_shapes
from bnfold.caffe.placeholder import with_placeholder_weights
from bnfold.caffe.read import build, load
from bnfold.caffe.text import PrototxtDocument, decode_prototxt, parse_prototxt
from bnfold.caffe.weights import read_weights
from bnfold.caffe.write import prototxt_text, save_caffe
from bnfold.compare.models import open_model
from bnfold.errors import BnfoldError
from bnfold.net import Net, Shape
from bnfold.onnx import save_onnx, to_onnx
from bnfold.onnx.read import load_bytes

Target = Callable[[bytes], None]

CORPUS = Path(__file__).parent / "corpus"
GOLDEN = Path(__file__).parents[1] / "golden"

ADDRESS_SPACE = 1 << 30
"""What an input may make the process grow by; the largest input of a fuzzer has 64 KiB."""

MAX_VALUES = 1 << 20
"""Stand-in weights beyond this are not exported: their size is what the text says, and no file backs it."""


def limit_memory(more: int = ADDRESS_SPACE) -> None:
    """Let this process's address space grow by `more` bytes and no further: beyond, allocating fails."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + more,) * 2)


def wire(data: bytes) -> None:
    """Walk a caffemodel, read all that a `Record` has, and the net that the file carries."""
    with _folder() as folder, contextlib.suppress(BnfoldError):
        (folder / "net.caffemodel").write_bytes(data)
        file, held = read_weights(folder / "net.caffemodel"), 0
        for record in file.records:
            _ = record.name_bytes, record.type_number
            assert len(record.blob_fields()) == len(record.blobs.shapes)
            for shape, blob in zip(record.blobs.shapes, record.blobs, strict=True):
                assert blob.shape == shape
                held += blob.nbytes
        # float16 becomes float32, and no byte of a file belongs to two blobs.
        assert held <= 2 * len(data)
        infer_shapes(build(read_net(file)[0].document, (file,), guess_shapes=True))


def text(data: bytes) -> None:
    """Read a prototxt, plan its folding from stand-ins, write it, read it again, and ask for advice."""
    with contextlib.suppress(BnfoldError):
        content = decode_prototxt(data)
        for net, ignore in _nets(content):
            infer_shapes(net)
            written = prototxt_text(net)
            filled = with_placeholder_weights(net)
            folded = fold(filled).net
            _read_again(written, ignore)
            _read_again(prototxt_text(folded), ignore)
            for one in (filled, folded):
                if sum(int(np.prod(shape)) for layer in one.layers for shape in layer.blobs.shapes) < MAX_VALUES:
                    with contextlib.suppress(BnfoldError):
                        to_onnx(one)

    with _folder() as folder, contextlib.suppress(BnfoldError):
        (folder / "net.prototxt").write_bytes(data)
        advise(folder / "net.prototxt")


def pair(data: bytes) -> None:
    """Load a net that the grammar makes of the bytes with its weights, fold it, save it, and load what was saved."""
    prototxt, caffemodel = model(data)
    with _folder() as folder, contextlib.suppress(BnfoldError):
        (folder / "net.prototxt").write_text(prototxt)
        (folder / "net.caffemodel").write_bytes(caffemodel)
        net = load(folder / "net.prototxt", folder / "net.caffemodel")
        result = fold(net)
        save_caffe(result.net, folder / "out.prototxt")
        with _no_refusal("what was saved does not load"):
            load(folder / "out.prototxt", folder / "out.caffemodel", input_shapes=_given(net))
        for one in (net, result.net):
            with contextlib.suppress(BnfoldError):
                to_onnx(one)


def onnx(data: bytes) -> None:
    """Map an ONNX file, and look at everything that a comparison looks at before the model is run."""
    with _folder() as folder, contextlib.suppress(BnfoldError):
        (folder / "net.onnx").write_bytes(data)
        opened = open_model(str(folder / "net.onnx"), "candidate")
        held = sum(len(piece) for weight in opened.weights for piece in weight.pieces())
        assert held == sum(weight.nbytes for weight in opened.weights) <= len(data)
        opened.release_pages()


def fold_onnx(data: bytes) -> None:
    """Read an ONNX model, fold it and write it: as it was where nothing folds, else so that it can be read again."""
    with contextlib.suppress(BnfoldError):
        net = load_bytes(data)
        as_it_was, result = _saved(net), fold(net)
        before, after = (ModelProto.FromString(one).SerializeToString(deterministic=True) for one in (data, as_it_was))
        assert before == after
        folded = _saved(result.net)
        if all(isinstance(record, Kept) for record in result.report.records):
            assert folded == as_it_was
        with _no_refusal("what was written cannot be read"):
            load_bytes(folded)


def _saved(net: Net) -> bytes:
    stream = BytesIO()
    save_onnx(net, stream)
    return stream.getvalue()


TARGETS: dict[str, Target] = {"fold_onnx": fold_onnx, "onnx": onnx, "pair": pair, "text": text, "wire": wire}


def _given(net: Net) -> dict[str, Shape]:
    return {name: shape for name, shape in net.inputs.items() if shape}


def _nets(content: str) -> Iterator[tuple[Net, bool]]:
    for ignore in (False, True):
        with contextlib.suppress(BnfoldError):
            yield _built(parse_prototxt(content, ignore_unknown_fields=ignore)), ignore
            return


def _built(document: PrototxtDocument) -> Net:
    return build(document, guess_shapes=True)


def _read_again(written: str, ignore: bool) -> None:
    with _no_refusal(f"what was written cannot be read:\n{written}"):
        # A layer that did not change is written as it was, unknown fields included.
        _built(
            parse_prototxt(decode_prototxt(written.encode("utf-8", "surrogateescape")), ignore_unknown_fields=ignore)
        )


@contextlib.contextmanager
def _no_refusal(what: str) -> Iterator[None]:
    """Where a `BnfoldError` is a finding too."""
    try:
        yield
    except BnfoldError as error:
        raise AssertionError(what) from error


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="bnfold-fuzz-") as name:
        yield Path(name)
