"""From a `bnfold.net.Net` to standard ONNX operators."""
