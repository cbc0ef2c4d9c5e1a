"""Shapes of blobs and of learned weights: one function per layer type, one table.

`infer_shapes` walks a net, `output_shapes` and `blob_shapes` answer for one layer; `SHAPES` and `BLOB_SHAPES` are the
tables, whose keys are the known types.
"""

from bnfold.caffe.shapes.infer import blob_shapes, infer_shapes, output_shapes
from bnfold.caffe.shapes.table import BLOB_SHAPES, SHAPES

__all__ = ["BLOB_SHAPES", "SHAPES", "blob_shapes", "infer_shapes", "output_shapes"]
