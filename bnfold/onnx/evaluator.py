"""A network in float64, by onnx's own reference arithmetic in numpy: slow, and nobody's optimisation."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper
from onnx.reference import ReferenceEvaluator

from bnfold.errors import UnsupportedError
from bnfold.net import Array, Net
from bnfold.onnx.api import to_onnx
from bnfold.onnx.attention_operators import ATTENTION_OPERATORS
from bnfold.onnx.double import in_double, input_types
from bnfold.onnx.fused_operators import FUSED_OPERATORS
from bnfold.onnx.graph import further_outputs
from bnfold.onnx.node import attribute_value, opset_of, reads_of
from bnfold.onnx.partial_sums import rounded_terms, size_of_partial_sums
from bnfold.onnx.quantised_operators import QUANTISED_OPERATORS
from bnfold.onnx.reference_operators import BELOW, OWN_OPERATORS
from bnfold.onnx.weight import Weight
from bnfold.onnx.working_memory import last_readers

Instead = Callable[[str, Array], Array]
"""The name of a blob, and what was computed -> what its readers get."""

Rounding = Callable[[str, Array, str], Array]
"""The name of a value, what is stored or was computed, and the operator that computed it, if one did -> the value."""

Summed = Callable[[Array, Array], Array]
"""A sum of products, and what its partial sums come to (`partial_sums`) -> the sum."""


SIZED = frozenset({"Range", "Resize", "Upsample"})
"""Operators that read sizes or scales as real values behind their first input."""

STEPS = frozenset(
    (
        *("ArgMax", "ArgMin", "Binarizer", "CastLike", "Ceil", "DynamicQuantizeLinear", "DynamicQuantizeMatMul"),
        *("Equal", "Floor", "Greater", "GreaterOrEqual", "Hardmax", "Imputer", "IsInf", "IsNaN", "LabelEncoder"),
        *("Less", "LessOrEqual", "Mod", "NonMaxSuppression", "NonZero", "OneHotEncoder", "QLinearConv"),
        *("QLinearMatMul", "QuantizeLinear", "Round", "SVMClassifier", "Shrink", "Sign", "ThresholdedRelu"),
        *("TreeEnsemble", "TreeEnsembleClassifier", "TreeEnsembleRegressor", "Unique"),
    )
)
"""Operators of ONNX whose result jumps where what they read moves; a Shrink or ThresholdedRelu may do so."""


class Evaluator:
    """A network in float64.

    Args:
        model: in float64, complete; what is to be computed becomes an output of it.
        blobs: what to compute besides its outputs.

    Raises:
        UnsupportedError: onnx's reference arithmetic does not know an operator.
    """

    def __init__(self, model: onnx.ModelProto, blobs: Sequence[str]) -> None:
        try:
            opset = opset_of(model)
            known = [operator for operator in OWN_OPERATORS if opset < BELOW.get(operator, opset + 1)]
            known += (*ATTENTION_OPERATORS, *FUSED_OPERATORS, *QUANTISED_OPERATORS)
            model.graph.output.extend(further_outputs(model, blobs))
            self._evaluator = ReferenceEvaluator(model, new_ops=known)
        except Exception as error:
            reason, _, _ = str(error).partition(", schema.")  # behind which stand all operators that it has
            raise UnsupportedError(f"onnx's reference arithmetic cannot take the network ({reason})") from error
        self._types = input_types(model)
        self._names = [output.name for output in model.graph.output]
        self._read_last = last_readers(model.graph)
        self._ports = [({*filter(None, node.output)}, {*reads_of(node)}) for node in model.graph.node]

    @classmethod
    def of_net(cls, net: Net, blobs: Sequence[str]) -> Evaluator:
        """Of a Caffe network.

        Raises:
            UnsupportedError: a layer cannot be written in float64.
        """
        return cls(to_onnx(net, dtype=np.float64), blobs)

    @classmethod
    def of_model(
        cls, model: onnx.ModelProto, weights: Sequence[Weight], folder: Path | None, blobs: Sequence[str]
    ) -> Evaluator:
        """Of an ONNX network, perhaps without its weights, and these.

        Raises:
            UnsupportedError: an operator has no form in float64.
        """
        return cls(in_double(model, weights, folder), blobs)

    def __reduce__(self) -> tuple[Callable[[bytes], Evaluator], tuple[bytes]]:
        """As another process gets it: all that is computed is an output of the model by now.

        Raises:
            UnsupportedError: it is larger than protobuf lets a message be.
        """
        try:
            return _sent_evaluator, (self._evaluator.proto_.SerializeToString(),)
        except Exception as error:  # protobuf's own, which shares no base with others
            raise UnsupportedError(f"a float64 network of 2 GB or more cannot be sent ({error})") from error

    def run(self, feeds: Mapping[str, Array], blobs: Collection[str] | None = None) -> dict[str, Array]:
        """Blob -> values, as `each` gives them."""
        found = dict(self.each(feeds, blobs))
        return {name: found[name] for name in self._names if name in found}

    def each(
        self,
        feeds: Mapping[str, Array],
        blobs: Collection[str] | None = None,
        instead: Instead | None = None,
        rounded: Rounding | None = None,
        known: Mapping[str, Array] = {},
        summed: Summed | None = None,
    ) -> Iterator[tuple[str, Array]]:
        """Blobs with their values in float64, as they are computed; what is no array is left out.

        Args:
            feeds: what the network is fed.
            blobs: those that are wanted, all by default; others go with their last reader, and it ends with the last.
            instead: what those that read one of `blobs` get in the place of what was computed.
            rounded: what becomes of each value that is stored or computed.
            known: blobs that are so, whatever would be computed. What only these and what is not wanted are made of is
                not run; those that come while it runs are looked at when it is their turn.
            summed: what becomes of each sum of products, before it is rounded.

        Raises:
            UnsupportedError: the reference arithmetic fails.
        """
        left = set(self._names if blobs is None else blobs)
        values: dict[str, Any] = {**self._evaluator.rt_inits_}
        values |= {name: np.asarray(feeds[name], dtype) for name, dtype in self._types.items() if name in feeds}
        for name in left & values.keys():
            left.remove(name)
            yield name, np.asarray(values[name])
        needed = self._needed(left, known)
        for number, (node, read_last) in enumerate(zip(self._evaluator.rt_nodes_, self._read_last, strict=True)):
            if not left:
                return
            made = [*map(known.get, node.output)]
            if number in needed and any(value is None for value in made):
                made = [known.get(name, value) for name, value in self._made(node, values, rounded, summed)]
            for name, value in zip(node.output, made, strict=False):
                values[name] = value
                if name in left:
                    left.remove(name)
                    if isinstance(value, np.ndarray | np.generic):
                        given = np.asarray(value)
                        yield name, given
                        values[name] = value if instead is None else instead(name, given)
                        del given
                del value  # or it would stand beside what the next node makes
            for name in read_last:
                values.pop(name, None)

    def _needed(self, blobs: Collection[str], known: Collection[str]) -> set[int]:
        """The nodes that some blobs are made by, back to what is known."""
        wanted, needed = set(blobs), set[int]()
        for number in reversed(range(len(self._ports))):
            made, read = self._ports[number]
            if not wanted.isdisjoint(made.difference(known)):
                needed.add(number)
                wanted |= read
        return needed

    def _made(
        self, node: Any, values: dict[str, Any], rounded: Rounding | None, summed: Summed | None
    ) -> list[tuple[str, Any]]:
        """Output and value of a node, where outputs that nobody wants have no name."""
        values[""] = None
        try:
            with np.errstate(all="ignore"):  # a network may be undefined in places; both runs show it as NaN
                read = [values[name] for name in node.input]
                if rounded is not None:
                    read = [
                        rounded(name, value, "") if name in self._evaluator.rt_inits_ else value
                        for name, value in zip(node.input, read, strict=True)
                    ]
                made = node.run(*read, context=values) if node.need_context() else node.run(*read)
                if rounded is not None and (terms := rounded_terms(node, read)) is not None:
                    made = [sum(rounded(node.output[0], term, "") for term in terms)]
                if summed is not None and (size := size_of_partial_sums(node, read)) is not None:
                    made = [summed(made[0], size), *made[1:]]
                if rounded is not None:
                    made = [rounded(*one, node.op_type) for one in zip(node.output, made, strict=False)]
        except Exception as error:  # whatever numpy or onnx make of an operator that they implement in part
            raise UnsupportedError(f"onnx's reference arithmetic cannot run the network ({error})") from error
        return list(zip(node.output, made, strict=False))

    def fronts(self, blobs: Collection[str], known: Collection[str]) -> set[str]:
        """What `each` would read of `known` to make some blobs."""
        reads = [self._ports[number][1] for number in self._needed(blobs, known)]
        return set[str]().union(*reads) & {*known}

    def real_values(self) -> set[str]:
        """The values that are made of the inputs', and the stored ones that meet these: not what sizes are made of."""
        graph = self._evaluator.proto_.graph
        found, stored = set(self._types), {*self._evaluator.rt_inits_}
        for node in graph.node:
            if node.op_type not in ("Shape", "Size") and not found.isdisjoint(node.input):
                found.update(filter(None, node.output))
        met = set()
        for node in graph.node:
            if not found.isdisjoint(node.output):
                met.update(node.input[:1] if node.op_type in SIZED else node.input)
        constants = {name for node in graph.node if node.op_type == "Constant" for name in node.output}
        return found | met & (stored | constants)

    def steps(self) -> set[str]:
        """What steps make of real values: where these are a unit in the last place off, it may be another number."""
        real = self.real_values()
        nodes = [node for node in self._evaluator.proto_.graph.node if not real.isdisjoint(node.input)]
        return {name for node in nodes if _is_step(node) for name in node.output}


def _is_step(node: onnx.NodeProto) -> bool:
    """Whether an operator jumps: one of `STEPS`, or a Cast to whole numbers."""
    if node.op_type == "Shrink":
        return attribute_value(node, "bias", 0.0) != attribute_value(node, "lambd", 0.5)
    if node.op_type == "ThresholdedRelu":
        return attribute_value(node, "alpha", 1.0) != 0
    if node.op_type != "Cast":
        return node.op_type in STEPS
    return np.dtype(helper.tensor_dtype_to_np_dtype(attribute_value(node, "to", 0))).kind in "biu"


def _sent_evaluator(model: bytes) -> Evaluator:
    return Evaluator(onnx.ModelProto.FromString(model), ())
