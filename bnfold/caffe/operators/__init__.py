"""A layer of Caffe as an operator of the algebra."""

from bnfold.caffe.operators.context import LayerContext
from bnfold.caffe.operators.table import AFFINES, BACKWARD_ONLY, FORWARD_ONLY, LINEAR, OPERATORS, PASSING, why_opaque

__all__ = ["AFFINES", "BACKWARD_ONLY", "FORWARD_ONLY", "LINEAR", "OPERATORS", "PASSING", "LayerContext", "why_opaque"]
