"""A prototxt as its author wrote it: every layer of every phase, upgraded to V2 words, with its line.

A loaded `Net` is the TEST net in single assignment, and has forgotten what advice is about: twins of another phase,
`param {}` that Caffe drops, in-place names. A `Draft` keeps them, and a `View` of a phase says who reads what: it gives
each layer the version of a blob that stands in its file at that place, as Caffe does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from bnfold.caffe import layer_types
from bnfold.caffe.batchnorm import TYPES as BATCHNORMS
from bnfold.caffe.batchnorm import AmbiguousZeroFactor, Statistics, read_batchnorm
from bnfold.caffe.caffe_pb2 import TEST, TRAIN, Phase
from bnfold.caffe.layers import learns_scale
from bnfold.caffe.phases import runs
from bnfold.caffe.text import PrototxtDocument, parse_prototxt, read_prototxt
from bnfold.caffe.upgrade import upgrade
from bnfold.caffe.weights import carries_net, read_weights
from bnfold.errors import BnfoldError, UsageError
from bnfold.io.files import os_path
from bnfold.net import Blobs, Layer, Net

if TYPE_CHECKING:
    from bnfold.caffe.caffe_pb2 import ParamSpec

STATISTICS = 3  # mean, variance, factor
BNS = ("BN", "SyncBN")  # of `bn_param`; they scale and shift by themselves


@dataclass(frozen=True, eq=False, slots=True)
class Written:
    """One layer as it stands in the file.

    Attributes:
        layer: without weights; bottoms and tops are the names of the file.
        index: its place among all layers.
        line: where it begins, None when unknown.
        specs: its `param {}` before any upgrade.
    """

    layer: Layer
    index: int
    line: int | None
    specs: tuple[ParamSpec, ...]

    @property
    def name(self) -> str:
        """The layer's name."""
        return self.layer.name

    @property
    def type(self) -> str:
        """The layer's type."""
        return self.layer.type

    @property
    def place(self) -> str:
        """The layer and its line, for a sentence."""
        return f"'{self.name}'" + (f" (line {self.line})" if self.line else "")

    @property
    def in_place(self) -> bool:
        """Caffe's own test: a top has the name of the bottom at the same position."""
        return any(bottom == top for bottom, top in zip(self.layer.bottoms, self.layer.tops, strict=False))

    @property
    def is_data(self) -> bool:
        """It brings samples into the net."""
        return layer_types.is_data(self.layer.param)

    @property
    def is_loss(self) -> bool:
        """It compares predictions with labels."""
        return bool(self.layer.bottoms) and layer_types.loss(self.type) is not None

    @property
    def is_metric(self) -> bool:
        """It judges predictions and trains nothing."""
        return bool(self.layer.bottoms) and layer_types.is_metric(self.type)

    @property
    def normalises(self) -> bool:
        """It is of the BatchNorm family and has statistics (SegNet's INFERENCE has them multiplied in)."""
        if self.type in BNS:
            param = self.layer.param.bn_param
            return not (param.HasField("bn_mode") and param.bn_mode == param.INFERENCE)
        return self.type in BATCHNORMS

    @property
    def learns_gamma(self) -> bool:
        """It scales and shifts by itself, as the text tells: a BN, or a BatchNorm of NVCaffe, Vitis or Intel."""
        param = self.layer.param.batch_norm_param
        by_flag = param.HasField("use_weight_bias") and param.use_weight_bias
        return self.type in BNS or learns_scale(self.layer) or by_flag or len(self.specs) > STATISTICS

    @property
    def global_stats(self) -> bool | None:
        """`use_global_stats` of a BatchNorm as written, None where it is not."""
        param = self.layer.param.batch_norm_param
        return param.use_global_stats if self.type not in BNS and param.HasField("use_global_stats") else None

    @property
    def eps(self) -> float:
        """What a layer that normalises adds to the variance."""
        if self.type not in BNS:
            return float(self.layer.param.batch_norm_param.eps)
        param = self.layer.param.bn_param
        return float(param.var_eps if param.HasField("var_eps") else param.eps)  # ducha-aiki's Caffe calls it so


def normalising(layers: Iterable[Written]) -> Iterator[Written]:
    """Those of some layers that normalise."""
    return (written for written in layers if written.normalises)


@dataclass(slots=True, eq=False)
class View:
    """The layers of one phase, and who reads what.

    A version of a blob is its name and the index of the layer that wrote it.
    """

    layers: list[Written]
    _makers: dict[tuple[int, int], Written | None] = field(default_factory=dict)
    _readers: dict[tuple[int, str], list[Written]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        latest: dict[str, Written] = {}
        for written in self.layers:
            for position, bottom in enumerate(written.layer.bottoms):
                maker = latest.get(bottom)
                self._makers[written.index, position] = maker
                self._readers.setdefault((maker.index if maker else -1, bottom), []).append(written)
            for top in written.layer.tops:
                latest[top] = written

    def maker(self, written: Written, position: int = 0) -> Written | None:
        """The layer that wrote what `written` reads at `position`, None when nobody did."""
        return self._makers.get((written.index, position))

    def readers(self, written: Written) -> list[Written]:
        """All uses of what `written` writes, in the order of the file."""
        return [reader for top in written.layer.tops for reader in self._readers.get((written.index, top), [])]

    def other_readers(self, written: Written, position: int) -> list[Written]:
        """The other layers that read the version which `written` reads at `position`."""
        maker = self.maker(written, position)
        readers = self._readers[maker.index if maker else -1, written.layer.bottoms[position]]
        return [reader for reader in readers if reader is not written]


@dataclass(eq=False)
class Draft:
    """A prototxt with all its phases, and the net with its weights where there are any.

    Attributes:
        layers: every layer, in the order of the file.
        file: the prototxt, None for text from memory.
        net: the loaded net, None when there are no weights.
    """

    layers: list[Written]
    file: Path | None = None
    net: Net | None = None

    @cached_property
    def train(self) -> View:
        """The net that the solver trains."""
        return self._view(TRAIN)

    @cached_property
    def test(self) -> View:
        """The net that measures, and that is deployed."""
        return self._view(TEST)

    @property
    def views(self) -> tuple[View, View]:
        """Both phases."""
        return self.train, self.test

    def _view(self, phase: Phase) -> View:
        return View([written for written in self.layers if runs(written.layer.param, phase=phase)])

    @cached_property
    def trains(self) -> bool:
        """Somebody trains this net: a rule names TRAIN, or samples or losses stand in its TRAIN net.

        A file called test or deploy, and not train, is for the other phase, whatever layers its author left in.
        """
        if self._is_called("test", "deploy") and not self._is_called("train"):
            return False
        if self._names_train:
            return True
        brings = any(written.is_data for written in self.train.layers)
        # Data layers that all are for TEST make a net that measures.
        measures = not brings and any(written.is_data for written in self.layers)
        return brings or (not measures and any(written.is_loss for written in self.train.layers))

    @cached_property
    def deploys(self) -> str:
        """Why the net is taken to be meant for inference, a clause; empty if it is not."""
        if self._is_called("deploy"):
            return "the file is called deploy"
        if any(written.type == "Input" for written in self.test.layers):
            return "the net declares its inputs"
        if self._names_train or self._is_called("test", "train", "val"):
            return ""
        judges = any(written.is_loss for written in self.train.layers)
        return "" if judges and any(written.is_data for written in self.train.layers) else "nothing here can be trained"

    @cached_property
    def only_trains(self) -> bool:
        """The TEST net gets no samples, though the file has data layers: another file is for TEST."""
        given = any(written.is_data or written.type == "Input" for written in self.test.layers)
        return not given and any(written.is_data for written in self.layers)

    def _is_called(self, *words: str) -> bool:
        return self.file is not None and any(word in self.file.stem.lower() for word in words)

    @cached_property
    def _names_train(self) -> bool:
        return any(
            rule.HasField("phase") and rule.phase == TRAIN
            for written in self.layers
            for rule in written.layer.param.include
        )

    def learned(self, written: Written) -> Blobs:
        """What a layer learned, nothing where there are no weights."""
        return self._learned.get(written.name, Blobs())

    @cached_property
    def _learned(self) -> dict[str, Blobs]:
        return {} if self.net is None else {layer.name: layer.blobs for layer in self.net.layers}

    def find(self, name: str) -> Written | None:
        """The layer of a name, of TEST if both phases have one."""
        return self._named.get(name)

    @cached_property
    def _named(self) -> dict[str, Written]:
        return {written.name: written for written in [*reversed(self.layers), *reversed(self.test.layers)]}

    @cached_property
    def measured(self) -> list[tuple[Written, Layer, Statistics | None]]:
        """Every BatchNorm with weights, and its statistics; None if its factor of 0 leaves open what they are."""
        measured: list[tuple[Written, Layer, Statistics | None]] = []
        for layer in () if self.net is None else self.net.layers:
            written = self.find(layer.name)
            if self.net is None or written is None or layer.type not in BATCHNORMS or not len(layer.blobs):
                continue
            try:
                statistics = read_batchnorm(layer, self.net.batchnorm_layout, self.net.zero_factor)
            except AmbiguousZeroFactor:
                measured.append((written, layer, None))
            except BnfoldError:
                continue
            else:
                if not statistics.batch_statistics:
                    measured.append((written, layer, statistics))
        return measured


def read_draft(prototxt: Path | str, net: Net | None = None) -> Draft:
    """Read a prototxt, the text of one, or the net in a caffemodel, for advice; unknown fields are passed over.

    Raises:
        ModelError: it cannot be read, or has no V2 form.
        UsageError: it is something else.
    """
    document = _document_of(prototxt, net)
    specs = [tuple(map(deepcopy, layer.param)) for layer in document.net.layer]
    upgraded = [layer.param for layer in upgrade(document)]
    # Legacy `input` fields became one layer in front of those of the file; V0 also loses layers, those that only pad.
    added = len(upgraded) - len(specs) if specs else int(bool(document.net.input))
    lines: list[int | None] = [*([None] * added), *document.layout.lines]
    if len(lines) != len(upgraded):
        lines = [None] * len(upgraded)
    return Draft(
        [
            Written(
                Layer(param.name, param.type, list(param.bottom), list(param.top), Blobs(), param),
                index,
                lines[index],
                specs[index - added] if specs and index >= added else tuple(map(deepcopy, param.param)),
            )
            for index, param in enumerate(upgraded)
        ],
        document.file,
        net,
    )


def _document_of(prototxt: Path | str, net: Net | None) -> PrototxtDocument:
    """What a prototxt, its text, or a caffemodel says. Raises as `read_draft`."""
    if not isinstance(prototxt, str | Path):
        raise UsageError(f"advice is on a prototxt, its path or its text, and not on {type(prototxt).__name__}")
    if isinstance(prototxt, Path) or not {"{", "\n"} & set(prototxt):  # no text of a layer
        prototxt = Path(os_path(prototxt))
        if prototxt.suffix.lower() == ".onnx":
            raise UsageError(
                f"{prototxt}: advice is on how a Caffe network is written, so give the path or the text of its "
                "prototxt; what stays in an ONNX model, and why, is in bnfold.fold(bnfold.load(path)).report.kept"
            )
    if isinstance(prototxt, str):
        return parse_prototxt(prototxt, ignore_unknown_fields=True)
    if carries_net(prototxt):
        from bnfold.caffe.binary import read_net  # rare, and its tables take their time

        learned = {layer.name: layer.param for layer in net.layers} if net else {}
        readings = [reading.document for reading in read_net(read_weights(prototxt))]
        # Of several readings that which the net was made of.
        return max(readings, key=lambda one: sum(learned.get(layer.name) == layer for layer in one.net.layer))
    return read_prototxt(prototxt, ignore_unknown_fields=True)
