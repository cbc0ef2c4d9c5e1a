"""Writing networks as ONNX."""

from bnfold.onnx.api import add_onnx, save_onnx, to_onnx
from bnfold.onnx.export.network import refused_layers

__all__ = ["add_onnx", "refused_layers", "save_onnx", "to_onnx"]
