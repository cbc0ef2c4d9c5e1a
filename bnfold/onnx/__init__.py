"""Writing networks as ONNX."""

from bnfold.onnx.api import add_onnx, save_onnx, to_onnx

__all__ = ["add_onnx", "save_onnx", "to_onnx"]
