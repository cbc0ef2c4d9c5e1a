"""Texts of layers in one line each, and the fold that every test of whole nets goes through."""

from __future__ import annotations

from algebra.running import assert_same, run, run_versions

from bnfold.algebra import FoldResult, Kept, fold
from bnfold.caffe.write import prototxt_text
from bnfold.net import Net

CONV = "convolution_param { num_output: 4 kernel_size: 1 }"
PADDED = "convolution_param { num_output: 4 kernel_size: 3 pad: 1 }"


def layer(name: str, layer_type: str, bottoms: str, tops: str = "", param: str = "") -> str:
    """A layer from blob names with spaces between; its top is called like it unless said."""
    blobs = [f'bottom: "{blob}"' for blob in bottoms.split()] + [f'top: "{blob}"' for blob in (tops or name).split()]
    return f'layer {{ name: "{name}" type: "{layer_type}" {" ".join(blobs)} {param} }}\n'


def data(channels: int = 4) -> str:
    shape = f"shape {{ dim: 2 dim: {channels} dim: 5 dim: 5 }}"
    return f'layer {{ name: "data" type: "Input" top: "data" input_param {{ {shape} }} }}\n'


def conv(name: str, bottom: str, top: str = "", param: str = CONV) -> str:
    return layer(name, "Convolution", bottom, top, param)


def bn(name: str, bottom: str, top: str = "") -> str:
    return layer(name, "BatchNorm", bottom, top, "batch_norm_param { eps: 0.0009765625 }")


def scale(name: str, bottom: str, top: str = "") -> str:
    return layer(name, "Scale", bottom, top, "scale_param { bias_term: true }")


def power(name: str, bottom: str, top: str = "", param: str = "scale: 2") -> str:
    return layer(name, "Power", bottom, top, f"power_param {{ {param} }}")


def checked(net: Net, **options: object) -> FoldResult:
    """The fold, held to all that holds always: values of surviving names, outputs, idempotence."""
    before = run_versions(net), run(net), prototxt_text(net)
    result = fold(net, **options)  # type: ignore[arg-type]
    assert result.net.outputs == net.outputs
    assert_same(before[0], run_versions(result.net))
    in_file = run(result.net)
    assert_same({blob: value for blob, value in before[1].items() if blob not in net.inputs}, in_file)
    assert {net.public_name(blob) for blob in net.outputs} <= in_file.keys()
    assert prototxt_text(net) == before[2], "the net that was given has changed"
    again = fold(result.net, **options)  # type: ignore[arg-type]
    assert prototxt_text(again.net) == prototxt_text(result.net)
    assert all(isinstance(record, Kept) for record in again.report.records), again.report.records
    return result


def names(net: Net) -> list[str]:
    return [layer.name for layer in net.layers]
