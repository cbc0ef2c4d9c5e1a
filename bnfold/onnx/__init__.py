"""Writing networks as ONNX."""

from bnfold.onnx.api import save_onnx, to_onnx

__all__ = ["save_onnx", "to_onnx"]
