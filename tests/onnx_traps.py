"""Small models from `onnx/traps/*.txt`, in a shorthand of ONNX's text.

    == a BatchNormalization behind a convolution        what is asked
    inputs x[N,2,4,4] i:int64[3]                        an open size is a letter
        c = Conv(x, w{3,2,1,1})                         the nodes; outputs are what nobody reads
        y = BN(c, 3)
    left Conv                                           the nodes that stay when the fewest affines are left

`w{3,2}` is an initialiser of that shape, signed and different everywhere; `w{3+}` is positive, `w{q3,2}` of int8,
`n{=1,2}` and `o{=0.5}` hold these numbers, `b{=int8 1,2}` those of a type, `i{==1}` is one of no axes. `BN(c, 3)` is a
BatchNormalization of three channels. Further lines say `opset`, `ir`, `dtype`, `outputs` (names besides those that
nobody reads), `fed` (constants that are listed as inputs, too), `freeze` and `function` (of the domain `own`).
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto, helper, numpy_helper, parser, shape_inference
from onnx_cases import Array

from bnfold.onnx.node import captured
from bnfold.options import ReadOptions

FOLDER = Path(__file__).parent / "onnx" / "traps"
NUMPY = {"float": np.float32, "double": np.float64, "float16": np.float16, "int64": np.int64, "bool": np.bool_}


@dataclass(frozen=True, slots=True)
class Trap:
    """One model.

    Attributes:
        name: what is asked.
        body: its nodes, in the shorthand.
        said: what the other lines say, by their first word.
    """

    name: str
    body: str
    said: Mapping[str, str]

    def __str__(self) -> str:
        return self.name

    @property
    def left(self) -> list[str]:
        """The types of the nodes that stay, in order."""
        return self.said["left"].split()

    @property
    def dtype(self) -> str:
        """The type of what no other one is said of."""
        return self.said.get("dtype", "float")

    @property
    def options(self) -> ReadOptions:
        """How it is read."""
        return ReadOptions(freeze_initializers="freeze" in self.said)

    def ports(self) -> Iterator[tuple[str, str, str]]:
        """Name, type and shape of each input."""
        for name, kind, shape in re.findall(r"(\w+)(?::(\w+))?\[([^\]]*)\]", self.said["inputs"]):
            yield name, kind or self.dtype, shape

    def model(self) -> ModelProto:
        """The model."""
        constants: dict[str, Array] = {}

        def normalised(match: re.Match[str]) -> str:
            x, c, more = match.groups()
            read = [f"{x}_{part}{{{c}{sign}}}" for part, sign in (("g", ""), ("b", ""), ("m", ""), ("v", "+"))]
            return f"BatchNormalization <epsilon = 0.01{more}> ({x}, {', '.join(read)})"

        def constant(match: re.Match[str]) -> str:
            name, said = match.groups()
            constants.setdefault(name, stored(name, said, NUMPY[self.dtype]))
            return name

        body = re.sub(r"BN\((\w+), (\d+)((?:, \w+ = \w+)*)\)", normalised, self.body)
        body = re.sub(r"(\w+)\{([^{}]*)\}", constant, body)
        ports = ", ".join(f"{kind}{shape and f'[{shape}]'} {name}" for name, kind, shape in self.ports())
        function = self.said.get("function", "")
        own, ir = ', "own" : 1' if function else "", int(self.said.get("ir", 8))
        head = f'<ir_version: {ir}, opset_import: ["" : {self.said.get("opset", 17)}{own}]>'
        tail = f'<opset_import: ["" : 17], domain: "own">\n{function}' if function else ""
        made = parser.parse_model(f"{head}\nnet ({ports}) => ()\n{{\n{body}\n}}\n{tail}")
        graph, outputs = made.graph, self.said.get("outputs", "").split()
        graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
        read = {name for node in graph.node for name in (*node.input, *captured(node))}
        for name in (name for node in graph.node for name in node.output):
            if name not in read or name in outputs:
                graph.output.add(name=name)
        graph.output.extend(_port(name, constants[name]) for name in outputs if name in constants)
        fed = constants if ir < 4 else self.said.get("fed", "").split()
        graph.input.extend(_port(name, constants[name]) for name in fed)
        typed = shape_inference.infer_shapes(made).graph.output
        del graph.output[:]
        graph.output.extend(typed)
        return made

    def feeds(self) -> dict[str, Array]:
        """A value for each input that has none."""
        sizes = {letter: size for size, letter in enumerate("NHWK", 2)}
        given: dict[str, Array] = {}
        for name, kind, shape in self.ports():
            form = [sizes[one] if one in sizes else int(one) for one in shape.split(",") if one]
            values = np.asarray(_random(name).normal(0, 1, form))
            if kind in {"int64", "bool"}:
                values = np.asarray(np.abs(values * 10) % 2)
            given[name] = values.astype(NUMPY[kind])
        return given


def traps() -> list[Trap]:
    """All of them."""
    found = []
    for path in sorted(FOLDER.glob("*.txt")):
        for part in re.split(r"^== ", path.read_text(), flags=re.MULTILINE)[1:]:
            name, *lines = part.rstrip().splitlines()
            said = dict(line.split(" ", 1) for line in lines if not line.startswith(" "))
            found.append(Trap(name, "\n".join(line for line in lines if line.startswith(" ")), said))
    return found


def stored(name: str, said: str, dtype: Any) -> Array:
    """A constant as the shorthand says it; its name decides its values."""
    if said.startswith("=="):
        return np.array(said[2:]).astype(dtype if "." in said else np.int64)
    if said.startswith(("=float", "=int", "=uint")):
        kind, _, numbers = said[1:].partition(" ")
        return np.array(numbers.split(",")).astype(kind)
    listed = said[1:].split(",") if len(said) > 1 else []
    if said.startswith("="):
        return np.array(listed).astype(dtype if "." in said else np.int64)
    if said.startswith("q"):
        return _random(name).integers(-9, 9, [int(size) for size in listed]).astype(np.int8)
    form = [int(size) for size in said.rstrip("+").split(",") if size]
    values = _random(name).uniform(0.4, 1.6, form)
    if not said.endswith("+"):
        values = values * _random(f"{name} sign").permutation(np.resize([-1, 1], values.size)).reshape(form)
    return np.asarray(values, dtype)


def _random(name: str) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(name.encode()))


def _port(name: str, value: Array) -> Any:
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
