"""Hostile files by name: each is read or refused in a sentence, in time and memory that its size bounds.

Every file goes through the command line in a process of its own, since a limit on memory holds for a process. The
budgets are those of docs/robustness.md. Time is compared: with that of a quarter of the file, or with that of a sound
net.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import wire_encoder as encode
from fuzz.measured import Run, several
from growing import ratio

LARGEST = 2**31 - 1

# docs/robustness.md: how many times as long four times a file may take, what any file may take of memory, and what each
# byte of it may add.
QUARTERS = 8
MEMORY, BYTES_PER_TEXT_BYTE, BYTES_PER_WIRE_BYTE = 300 << 20, 200, 20

IMAGE = 'input: "data" input_shape { dim: 1 dim: 3 dim: 8 dim: 8 }\n'


def layer(name: str, layer_type: str, bottoms: str, top: str, more: str = "") -> str:
    listed = "".join(f'bottom: "{bottom}" ' for bottom in bottoms.split())
    return f'layer {{ name: "{name}" type: "{layer_type}" {listed}top: "{top}" {more} }}\n'


def image(*dims: int) -> str:
    return f'input: "data" input_shape {{ {" ".join(f"dim: {dim}" for dim in dims)} }}\n'


Command = list[str | Path]


def grows_as_its_file(quarter: Command, whole: Command) -> Run:
    """The run of the whole file, whose time is held against that of a quarter of it."""
    runs: list[Run] = []

    def small() -> float:
        runs[:] = several([quarter, whole])
        return runs[0].seconds

    times = ratio(small, lambda: runs[1].seconds, QUARTERS)
    assert times < QUARTERS, f"four times the file takes {times:.1f} times as long: {runs[1].seconds:.1f} s"
    return runs[1]


def within_memory(run: Run, size: int, per_byte: int) -> None:
    assert run.peak < MEMORY + per_byte * size, f"{run.peak:,} bytes of memory for {size:,} bytes"


def answers(run: Run) -> None:
    """Done, different or refused, and never a traceback or a flood of words."""
    assert run.code in (0, 1, 2), run.err[-2000:]
    assert "Traceback" not in run.err
    assert len(run.err) < 100_000
    if run.code == 2:
        assert run.err.startswith("bnfold: ")


RELU = layer("r", "ReLU", "data", "r")
CONVOLVED = layer("c", "Convolution", "data", "e0", "convolution_param { num_output: 4 kernel_size: 3 }")


def affines_behind_poolings(many: int) -> str:
    """As many BatchNorms as Poolings, each of which a walk from any of them to the convolution passes."""
    poolings = (
        layer(f"p{i}", "Pooling", f"e{i}", f"e{i + 1}", "pooling_param { kernel_size: 1 }") for i in range(many)
    )
    return "".join(poolings) + "".join(layer(f"b{i}", "BatchNorm", f"e{i}", f"e{i + 1}") for i in range(many, 2 * many))


# Names say what is hostile; beside them how many there are, and the file of so many. Callables, so that megabytes are
# not made at collection.
TEXTS: dict[str, tuple[int, Callable[[int], str]]] = {
    "half a million layers": (
        500_000,
        lambda many: IMAGE + 'layer { name: "x" type: "ReLU" bottom: "data" top: "data" }\n' * many,
    ),
    "a token of 20 MB": (20_000_000, lambda many: "a" * many),
    "a string of 20 MB": (
        20_000_000,
        lambda many: IMAGE + f'layer {{ name: "{"a" * many}" type: "ReLU" bottom: "data" top: "r" }}',
    ),
    "a number of 20 MB": (20_000_000, lambda many: f"{IMAGE}{RELU}x: {'9' * many}"),
    "a comment of 20 MB": (20_000_000, lambda many: f"#{'a' * many}\n{IMAGE}{RELU}"),
    "an unknown field of 10 MB": (10_000_000, lambda many: f"{IMAGE}layer {{ {'a' * many}: 1 }}"),
    "10 MB of line ends": (10_000_000, lambda many: "\n" * many + "x"),
    "20 MB of braces": (20_000_000, lambda many: "{" * many),
    "10 MB of escapes": (2_500_000, lambda many: 'name: "' + r"\x41" * many),
    "braces 10,000 deep": (10_000, lambda many: "layer { " * many + "} " * many),
    "angles 10,000 deep": (10_000, lambda many: "layer " + "< a " * many),
    "lists 100,000 deep": (100_000, lambda many: "a: " + "[" * many),
    "net_param in net_param": (10_000, lambda many: "net_param { " * many + "} " * many),
    "net_param with net_params": (1000, lambda many: f"net_param {{ {f'net_param {{ {IMAGE}{RELU} }}' * many} }}"),
    "80,000 input dims": (80_000, lambda many: 'input: "data" ' + "input_dim: 1 " * many + RELU),
    "80,000 kernel sizes": (
        80_000,
        lambda many: (
            IMAGE
            + layer("c", "Convolution", "data", "c", f"convolution_param {{ num_output: 3 {'kernel_size: 1 ' * many}}}")
        ),
    ),
    "100,000 slice points": (
        100_000,
        lambda many: IMAGE + layer("s", "Slice", "data", "s", f"slice_param {{ {'slice_point: 1 ' * many}}}"),
    ),
    "10,000 layers of one name": (
        10_000,
        lambda many: (
            IMAGE + "".join(layer("x", "ReLU", "data" if i == 0 else f"b{i - 1}", f"b{i}") for i in range(many))
        ),
    ),
    "10,000 layers in place": (10_000, lambda many: IMAGE + layer("x", "ReLU", "data", "data") * many),
    "10,000 missing bottoms": (
        10_000,
        lambda many: IMAGE + "".join(layer(f"x{i}", "ReLU", f"no{i}", f"b{i}") for i in range(many)),
    ),
    "10,000 unknown fields": (10_000, lambda many: f"{IMAGE}{RELU}" + "".join(f"foo{i}: 1\n" for i in range(many))),
    "10,000 unknown types": (
        10_000,
        lambda many: IMAGE + "".join(layer(f"x{i}", "Nope", "data", f"b{i}") for i in range(many)),
    ),
    "50,000 bottoms": (
        50_000,
        lambda many: IMAGE + layer("x", "Eltwise", "data " * many, "x") + layer("b", "BatchNorm", "x", "b"),
    ),
    "50,000 tops": (
        50_000,
        lambda many: (
            IMAGE
            + 'layer { name: "x" type: "Split" bottom: "data" '
            + "".join(f'top: "t{i}" ' for i in range(many))
            + "}"
        ),
    ),
    "1,000 affines behind 1,000 layers": (1000, lambda many: IMAGE + CONVOLVED + affines_behind_poolings(many)),
    "a tower of sums": (
        500,
        lambda many: (
            IMAGE
            + CONVOLVED
            + "".join(layer(f"e{i}", "Eltwise", f"e{i} e{i}", f"e{i + 1}") for i in range(many))
            + layer("b", "BatchNorm", f"e{many}", "b")
        ),
    ),
    "a tower of concats": (
        40,
        lambda many: (
            IMAGE
            + layer("c", "Convolution", "data", "e0", "convolution_param { num_output: 1 kernel_size: 3 }")
            + "".join(layer(f"e{i}", "Concat", f"e{i} e{i}", f"e{i + 1}") for i in range(many))
            + layer("b", "BatchNorm", f"e{many}", "b")
        ),
    ),
    "labels 3,000 layers long": (
        3000,
        lambda many: (
            'layer { name: "d" type: "Data" top: "data" top: "s0" }\n'
            + "".join(layer(f"s{i}", "Split", f"s{i}", f"s{i + 1}") for i in range(many))
            + layer("loss", "SoftmaxWithLoss", f"data s{many}", "loss")
        ),
    ),
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_hostile_prototxt_is_read_or_refused_within_its_budget(name: str, tmp_path: Path) -> None:
    many, text = TEXTS[name]
    quarter, path = tmp_path / "quarter.prototxt", tmp_path / "net.prototxt"
    quarter.write_text(text(many // 4))
    path.write_text(text(many))
    run = grows_as_its_file(["inspect", quarter], ["inspect", path])
    answers(run)
    within_memory(run, path.stat().st_size, BYTES_PER_TEXT_BYTE)


# Sizes that a hundred bytes may claim. `inspect` plans with stand-ins.

CONVOLUTION = "convolution_param {{ num_output: 4 kernel_size: 3 {} }}"

CLAIMS: dict[str, str] = {
    **{
        f"channels 2^31 in front of {layer_type}": image(1, LARGEST)
        + layer("p", "Power", "data", "p", "power_param { scale: 2 shift: 1 }")
        + layer("x", layer_type, "p", "x")
        + layer("y", "BatchNorm", "x", "y")
        for layer_type in (
            "ArgMax",
            "BatchNorm",
            "Bias",
            "Dropout",
            "Flatten",
            "PReLU",
            "Power",
            "ReLU",
            "Scale",
            "Slice",
        )
    },
    **{
        f"convolution with {what}": IMAGE + layer("c", "Convolution", "data", "c", CONVOLUTION.format(what))
        for what in (
            f"axis: {-(2**31)}",
            f"axis: {LARGEST}",
            f"dilation: {LARGEST}",
            "dilation: 0",
            f"group: {LARGEST}",
            "group: 0",
            f"pad: {LARGEST}",
            "stride: 0",
            f"stride: {2**32 - 1}",
        )
    },
    **{
        f"{layer_type} with num_output {count}": IMAGE
        + layer(
            "c",
            layer_type,
            "data",
            "c",
            f"{field} {{ num_output: {count} {'kernel_size: 1' if 'conv' in field else ''} }}",
        )
        + layer("b", "BatchNorm", "c", "b")
        + layer("s", "Scale", "b", "s", "scale_param { bias_term: true }")
        for count in (0, 2**24, LARGEST, 2**32 - 1)
        for layer_type, field, window in (
            ("Convolution", "convolution_param", "kernel_size: 1"),
            ("Deconvolution", "convolution_param", "kernel_size: 1"),
            ("InnerProduct", "inner_product_param", ""),
        )
    },
    "kernel 2^31": IMAGE
    + layer(
        "c", "Convolution", "data", "c", f"convolution_param {{ num_output: 4 kernel_size: {LARGEST} pad: {LARGEST} }}"
    ),
    "pooling with stride 0": IMAGE + layer("p", "Pooling", "data", "p", "pooling_param { kernel_size: 3 stride: 0 }"),
    "pooling over 2^31": IMAGE + layer("p", "Pooling", "data", "p", f"pooling_param {{ kernel_size: {LARGEST} }}"),
    "dims of zero": image(1, 0, 8, 8) + RELU,
    "negative dims": image(1, -3, 8, 8) + RELU,
    "dims that overflow": image(2**31, 2**31, 2**31) + RELU,
    "a dim of 2^63": image(2**63 - 1) + RELU,
    "a pyramid of height 2^31": IMAGE + layer("s", "SPP", "data", "s", f"spp_param {{ pyramid_height: {LARGEST} }}"),
    "2^31 tiles": IMAGE + layer("t", "Tile", "data", "t", f"tile_param {{ tiles: {LARGEST} }}"),
    "an affine in front of 2^31 pixels flattened": image(1, 1, 46340, 46340)
    + layer("b", "BatchNorm", "data", "b")
    + layer("f", "Flatten", "b", "f")
    + layer("i", "InnerProduct", "f", "i", "inner_product_param { num_output: 1 }"),
    "an affine behind 2^31 pixels flattened": image(1, 1, 46340, 46340)
    + layer("f", "Flatten", "data", "f")
    + layer("b", "BatchNorm", "f", "b"),
    "an inner product of 2^30 weights": image(1, 512, 7, 7)
    + layer("b", "BatchNorm", "data", "b")
    + layer("i", "InnerProduct", "b", "i", "inner_product_param { num_output: 40960 }")
    + layer("c", "BatchNorm", "i", "c"),
}


SOUND_NET = IMAGE + "".join(layer(f"r{i}", "ReLU", "data", f"r{i}") for i in range(1000))
CLAIMS_TAKE = 20
"""How many times as long a claim may take: the weights that a net claims to have are summed once, all else is not."""


def take_no_longer_than(sound: Run, ordered: Command, runs: dict[str, tuple[Command, Run]]) -> None:
    """Fails when a run takes far longer than that of a sound net, which `ordered` asks for again."""
    for name, (command, run) in runs.items():
        if run.seconds >= CLAIMS_TAKE * sound.seconds:
            times = ratio(partial(one, ordered), partial(one, command), CLAIMS_TAKE)
            assert times < CLAIMS_TAKE, f"{name} takes {times:.1f} times as long as a sound net"


def one(command: Command) -> float:
    return several([command])[0].seconds


@cache
def sound_inspection() -> Run:
    """The run of a sound net, once for all claims."""
    with TemporaryDirectory() as folder:
        return several([["inspect", written(Path(folder), "sound", SOUND_NET)]])[0]


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / f"{name}.prototxt"
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", CLAIMS)
def test_a_claimed_size_takes_no_memory_to_plan_with(name: str, tmp_path: Path) -> None:
    claiming: Command = ["inspect", written(tmp_path, "net", CLAIMS[name])]
    (run,) = several([claiming])
    take_no_longer_than(sound_inspection(), ["inspect", written(tmp_path, "sound", SOUND_NET)], {name: (claiming, run)})
    answers(run)
    within_memory(run, 0, 0)


# Layers whose ONNX form is made of constants or of a node for each step.

EXPORTS: dict[str, str] = {
    "2^31 steps of an LSTM": 'input: "d" input_shape { dim: 500000000 dim: 1 dim: 3 } '
    'input: "c" input_shape { dim: 500000000 dim: 1 }\n'
    + layer("x", "LSTM", "d c", "x", "recurrent_param { num_output: 1 }"),
    "an LRN over 2^31 channels": IMAGE + layer("x", "LRN", "data", "x", f"lrn_param {{ local_size: {LARGEST} }}"),
    "boxes on 20,000 x 20,000 cells": image(1, 1, 20000, 20000)
    + layer("x", "PriorBox", "data data", "x", "prior_box_param { min_size: 3 }"),
    "columns of 1,500 x 1,500 windows": image(1, 1, 2000, 2000)
    + layer("x", "Im2col", "data", "x", "convolution_param { kernel_size: 1500 }"),
    "YOLO on 15,000 x 15,000 cells": image(1, 6, 15000, 15000)
    + layer(
        "x",
        "YoloDetectionOutput",
        "data",
        "x",
        "yolo_detection_output_param { num_classes: 1 num_box: 1 biases: 1 biases: 1 }",
    ),
    "2^31 classes": image(1, 4)
    + layer("x", "DetectionOutput", "data data data", "x", f"detection_output_param {{ num_classes: {LARGEST} }}"),
    "an exponent of 10,000": IMAGE + layer("x", "Exp", "data", "x", "exp_param { base: 10 shift: 10000 }"),
}


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """All of them in one process, which loads onnx once."""
    folder = tmp_path_factory.mktemp("exports")
    nets = enumerate([SOUND_NET, *EXPORTS.values()])
    paths = [written(folder, str(number), text) for number, text in nets]
    commands: list[Command] = [["export", path, "-o", path.with_suffix(".onnx")] for path in paths]
    sound, *runs = several(commands)
    take_no_longer_than(sound, commands[0], dict(zip(EXPORTS, zip(commands[1:], runs, strict=True), strict=True)))
    assert len(list(folder.glob("*.onnx"))) == 1 + sum(run.code == 0 for run in runs)  # and the sound net
    return dict(zip(EXPORTS, runs, strict=True))


@pytest.mark.parametrize("name", EXPORTS)
def test_a_claimed_size_takes_no_memory_to_export(name: str, exported: dict[str, Run]) -> None:
    answers(exported[name])
    within_memory(exported[name], 0, 0)


# Caffemodels.


def weights(*fields: bytes) -> bytes:
    """A layer `c` of these fields."""
    return encode.length(100, encode.length(1, "c"), *fields)


SOUND = weights(encode.length(7, encode.blob([1, 2, 3, 4], 2, 2)))
VALUE = encode.length(5, encode.floats([1.0]))
NOTHING = encode.number(99, 1)


def numbered_layers(many: int) -> bytes:
    """As many layers, each of which has another name."""
    before, behind = encode.layer("000000", "ReLU").split(b"000000")
    return b"".join(b"%b%06d%b" % (before, number, behind) for number in range(many))


MODELS: dict[str, tuple[int, Callable[[int], bytes]]] = {
    "a million layers": (1_000_000, lambda many: encode.length(100) * many + SOUND),
    "249,000 layers": (249_000, lambda many: numbered_layers(many) + SOUND),
    "a million tiny fields": (1_000_000, lambda many: NOTHING * many + SOUND),
    "a million tiny fields in a layer": (1_000_000, lambda many: weights(NOTHING * many)),
    "a million tiny fields in a blob": (1_000_000, lambda many: weights(encode.length(7, NOTHING * many))),
    "400,000 blobs": (400_000, lambda many: weights(encode.length(7) * many)),
    "199,000 blobs that are wrong": (199_000, lambda many: weights(encode.length(7, encode.blob([1.0], 2)) * many)),
    "500,000 chunks of one value": (500_000, lambda many: weights(encode.length(7, VALUE * many))),
    "a million values without packing": (
        1_000_000,
        lambda many: weights(encode.length(7, (encode.tag(5, 5) + encode.floats([1.0])) * many)),
    ),
    "a million dims": (
        1_000_000,
        lambda many: weights(encode.length(7, encode.length(7, encode.length(1, b"\1" * many)))),
    ),
    "500,000 names": (500_000, lambda many: weights(encode.length(1, "c") * many)),
    "a name of 10 MB": (10_000_000, lambda many: encode.layer("x" * many, "ReLU") + SOUND),
    "groups 10,000 deep": (10_000, lambda many: encode.tag(9, 3) * many + encode.tag(9, 4) * many + SOUND),
    "a million groups": (1_000_000, lambda many: (encode.tag(9, 3) + encode.tag(9, 4)) * many + SOUND),
    "a varint without end": (1_000_000, lambda many: encode.tag(9, 0) + b"\xff" * many),
}

CLAIMED = {
    "a length of 2^63": encode.tag(100, 2) + encode.varint(2**63) + SOUND,
    "a length of 2^64 - 1 in a blob": weights(encode.length(7, encode.tag(5, 2) + encode.varint(2**64 - 1))),
    "a shape of 2^31": weights(encode.length(7, encode.shape(2**31), VALUE)),
    "a shape of 2^31 x 2^31 x 4": weights(encode.length(7, encode.shape(2**31, 2**31, 4), VALUE)),
    "a shape whose count overflows to the values": weights(encode.length(7, encode.shape(2**32, 2**32 + 1), VALUE)),
    "a negative shape": weights(encode.length(7, encode.shape(-1, -1), VALUE)),
    "a shape of zero": weights(encode.length(7, encode.shape(0, 2**31))),
    "legacy dims of 2^31": weights(encode.length(7, *(encode.number(i, 2**31) for i in range(1, 5)), VALUE)),
}

USER = image(1, 2) + layer("c", "InnerProduct", "data", "c", "inner_product_param { num_output: 2 bias_term: false }")


def conversion(folder: Path, content: bytes) -> Command:
    """The command that reads such a caffemodel, in a folder of its own."""
    folder.mkdir()
    (folder / "net.prototxt").write_text(USER)
    (folder / "net.caffemodel").write_bytes(content)
    return ["convert", folder / "net.prototxt", folder / "net.caffemodel", "-o", folder / "out.prototxt"]


def nothing_half_written(run: Run, folder: Path) -> None:
    answers(run)
    if run.code:
        assert len(list(folder.iterdir())) == 2


@pytest.mark.parametrize("name", MODELS)
def test_a_hostile_caffemodel_is_read_or_refused_within_its_budget(name: str, tmp_path: Path) -> None:
    many, content = MODELS[name]
    whole = content(many)
    run = grows_as_its_file(conversion(tmp_path / "quarter", content(many // 4)), conversion(tmp_path / "whole", whole))
    nothing_half_written(run, tmp_path / "whole")
    within_memory(run, len(whole), BYTES_PER_WIRE_BYTE)


@pytest.mark.parametrize("name", CLAIMED)
def test_a_caffemodel_that_claims_more_than_it_has_is_refused_at_once(name: str, tmp_path: Path) -> None:
    claimed = conversion(tmp_path / "claimed", CLAIMED[name])
    run = grows_as_its_file(conversion(tmp_path / "sound", SOUND), claimed)
    nothing_half_written(run, tmp_path / "claimed")
    within_memory(run, 0, 0)


# Names, as they are and as a prototxt writes them.

NAMES = {
    "NUL": (b"a\0b", rb"a\000b"),
    "a line end": (b"a\nb", rb"a\nb"),
    "markup": (b"<script>alert(1)</script>", b"<script>alert(1)</script>"),
    "a path": (b"../../../etc/passwd", b"../../../etc/passwd"),
    "quotes": (b"\"q'\\", rb"\"q\'\\"),
    "an escape sequence": (b"\x1b[31mred\x1b]0;title\7", rb"\033[31mred\033]0;title\007"),
    "rich markup": (b"[bold]b[/bold]", b"[bold]b[/bold]"),
    "what turns the direction of writing": ("\u202eabc".encode(), "\u202eabc".encode()),
    "5,000 letters": (b"a" * 5000, b"a" * 5000),
    "a format": (b"%s{0}$(x)`y`", b"%s{0}$(x)`y`"),
    "a byte that is no UTF-8": (b"\xff", b"\xff"),
    "nothing": (b"", b""),
}


def named(name: bytes) -> bytes:
    """A prototxt whose layers and blobs are called like that."""
    return (
        (
            IMAGE
            + layer("@", "Convolution", "data", "@t", "convolution_param { num_output: 3 kernel_size: 1 }")
            + layer("@r", "ReLU", "@t", "@u")
            + layer("@b", "BatchNorm", "@u", "@v")
        )
        .encode()
        .replace(b"@", name)
    )


def their_weights(name: bytes) -> bytes:
    weight = encode.blob([value - 4.0 for value in range(9)], 3, 3, 1, 1)
    convolution = weights_of(name, weight, encode.blob([1.0, 2.0, 3.0], 3))
    return convolution + weights_of(
        name + b"b", encode.blob([1.0, 2.0, 3.0], 3), encode.blob([4.0, 5.0, 6.0], 3), encode.blob([1.0], 1)
    )


def weights_of(name: bytes, *blobs: bytes) -> bytes:
    return encode.length(100, encode.length(1, name), *(encode.length(7, blob) for blob in blobs))


REPORTS = ("html", "json", "markdown")


@pytest.fixture(scope="module")
def folded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Run, Path]]:
    """What folding said of each name, and the folder of it: all in one process, which loads onnxruntime once."""
    folders = {kind: tmp_path_factory.mktemp("named") for kind in NAMES}
    for kind, (stored, written) in NAMES.items():
        (folders[kind] / "net.prototxt").write_bytes(named(written))
        (folders[kind] / "net.caffemodel").write_bytes(their_weights(stored))
    commands: list[Command] = [
        [
            "fold",
            *(folder / "net.prototxt", folder / "net.caffemodel"),
            *("-o", folder / "out.prototxt", "-o", folder / "out.onnx"),
            *(part for option in REPORTS for part in (f"--{option}", folder / f"report.{option}")),
        ]
        for folder in folders.values()
    ]
    runs = several(commands, address_space=16 << 30)  # onnxruntime reserves much and takes little
    return dict(zip(NAMES, zip(runs, folders.values(), strict=True), strict=True))


@pytest.mark.parametrize("kind", NAMES)
def test_a_hostile_name_is_a_name_and_nothing_else(kind: str, folded: dict[str, tuple[Run, Path]]) -> None:
    stored, _ = NAMES[kind]
    run, folder = folded[kind]
    reports = {option: folder / f"report.{option}" for option in REPORTS}
    assert run.code == 0, run.err
    assert not [letter for letter in run.out + run.err if (letter < " " and letter != "\n") or letter in "\x7f\u202e"]
    assert "<script>alert" not in reports["html"].read_text() + reports["markdown"].read_text()
    json.loads(reports["json"].read_text())
    made = {path.name for path in folder.iterdir()}
    assert made == {"net.prototxt", "net.caffemodel", "out.prototxt", "out.caffemodel", "out.onnx"} | {
        path.name for path in reports.values()
    }
    assert stored in (folder / "out.caffemodel").read_bytes()
