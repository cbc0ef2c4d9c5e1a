"""How PyTorch exports for `tests/golden_onnx` are made. Not part of the suite: it needs torch, and torchvision.

    pip install torch torchvision onnxscript
    python tests/torch_exports.py blocks OUT          # a folder for each block, as in tests/golden_onnx
    python tests/torch_exports.py nets OUT [NAME ...] # torchvision nets, BatchNormalization kept; then:
    bnfold fold OUT/resnet18.onnx -o folded.onnx

Each block is exported in up to four ways: `ts.onnx` by the older exporter, `ts_preserve.onnx` by it with
BatchNormalization kept, `dyn.onnx` by the newer one, `dyn_noopt.onnx` by it without its optimiser. What two ways write
alike is kept once.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

SHAPE = (2, 4, 12, 12)
NEWER = ("resnet18", "densenet121")
"""The nets that docs/onnx.md counts as the newer exporter writes them, too."""


def blocks(nn: Any) -> dict[str, Any]:
    """Name -> module; each a Sequential of four channels in."""
    conv, bn = partial(nn.Conv2d, 4, 8, 3), partial(nn.BatchNorm2d, 8)
    return {
        "torch_bn_first_conv_pad0": nn.Sequential(nn.BatchNorm2d(4), conv()),
        "torch_bn_first_conv_pad1": nn.Sequential(nn.BatchNorm2d(4), nn.Conv2d(4, 8, 3, padding=1)),
        "torch_bn_twice": nn.Sequential(conv(), bn(), bn()),
        "torch_conv_avgpool_bn": nn.Sequential(conv(), nn.AvgPool2d(2), bn(), nn.ReLU()),
        "torch_conv_bn_relu": nn.Sequential(conv(), bn(), nn.ReLU()),
        "torch_conv_gap_flatten_bn1d_fc": nn.Sequential(
            conv(), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.BatchNorm1d(8), nn.Linear(8, 5)
        ),
        "torch_conv_maxpool_bn": nn.Sequential(conv(), nn.MaxPool2d(2), bn(), nn.ReLU()),
        "torch_conv_pixelshuffle_bn": nn.Sequential(nn.Conv2d(4, 16, 3), nn.PixelShuffle(2), nn.BatchNorm2d(4)),
        "torch_conv_reflectpad_bn": nn.Sequential(conv(), nn.ReflectionPad2d(1), bn()),
        "torch_conv_upsample_bn": nn.Sequential(conv(), nn.Upsample(scale_factor=2), bn(), nn.ReLU()),
        "torch_convtranspose_bn": nn.Sequential(nn.ConvTranspose2d(4, 8, 3, stride=2), bn(), nn.ReLU()),
        "torch_groupnorm": nn.Sequential(conv(), nn.GroupNorm(4, 8), nn.ReLU()),
        "torch_prelu_bn": nn.Sequential(conv(), nn.PReLU(8), bn()),
    }


def settle(torch: Any, module: Any, seed: int) -> Any:
    """Give every normalisation values of its own, signed and different in each channel, and stop training."""
    torch.manual_seed(seed)
    for part in module.modules():
        if getattr(part, "running_mean", None) is not None:
            torch.nn.init.uniform_(part.running_mean, -0.5, 0.5)
            torch.nn.init.uniform_(part.running_var, 0.5, 1.5)
            torch.nn.init.uniform_(part.weight, 0.5, 1.5)
            torch.nn.init.uniform_(part.bias, -0.5, 0.5)
    return module.eval()


def export(torch: Any, module: Any, image: Any, folder: Path) -> None:
    """Every way that works."""
    kept = {"training": torch.onnx.TrainingMode.PRESERVE, "do_constant_folding": False}
    ways: dict[str, dict[str, Any]] = {
        "ts": {"dynamo": False, "opset_version": 17},
        "ts_preserve": {"dynamo": False, "opset_version": 17, **kept},
        "dyn": {"dynamo": True, "opset_version": 20},
        "dyn_noopt": {"dynamo": True, "opset_version": 20, "optimize": False},
    }
    for name, options in ways.items():
        try:
            names = {"input_names": ["x"], "output_names": ["y"]}
            torch.onnx.export(module, (image,), str(folder / f"{name}.onnx"), external_data=False, **names, **options)
        except Exception as reason:  # an exporter that has no form for a block
            print(f"{folder.name}: {name}: {str(reason)[:100]}")


def main(what: str, out: Path, names: list[str]) -> None:
    """Write blocks with inputs and outputs, or whole nets."""
    import torch

    if what == "blocks":
        for seed, (name, module) in enumerate(sorted(blocks(torch.nn).items())):
            folder = out / name
            folder.mkdir(parents=True, exist_ok=True)
            image = torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))
            settle(torch, module, seed)
            with torch.no_grad():
                np.savez(folder / "outputs.npz", y=module(image).numpy())
            np.savez(folder / "inputs.npz", x=image.numpy())
            export(torch, module, image, folder)
        return
    import torchvision

    out.mkdir(parents=True, exist_ok=True)
    for name in names or ("resnet18", "densenet121", "mobilenet_v2", "shufflenet_v2_x1_0"):
        module = settle(torch, torchvision.models.get_model(name), 1)
        options = {"training": torch.onnx.TrainingMode.PRESERVE, "do_constant_folding": False, "dynamo": False}
        image = (torch.randn(1, 3, 224, 224),)
        torch.onnx.export(module, image, str(out / f"{name}.onnx"), opset_version=17, **options)
        if name in NEWER:
            torch.onnx.export(module, image, dynamo=True, optimize=False).save(out / f"{name}_newer.onnx")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Export what tests/golden_onnx was made of, or torchvision's nets.")
    parser.add_argument("what", choices=["blocks", "nets"])
    parser.add_argument("out", type=Path)
    parser.add_argument("names", nargs="*", help="other nets of torchvision", metavar="NAME")
    given = parser.parse_args()
    main(given.what, given.out, given.names)
