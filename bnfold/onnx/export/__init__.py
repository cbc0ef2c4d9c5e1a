"""A Caffe layer as ONNX nodes: one module per family, each a table."""
