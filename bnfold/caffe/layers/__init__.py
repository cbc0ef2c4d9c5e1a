"""Caffe's layer types: one record for each, in a module per family.

A record says what a type makes of its bottoms' shapes, what it learns, which fields of its parameters count, who has
it and what a user should know (`row.LayerType`); `LAYERS` has all of them. Beside the records stand the views, which
read a `*_param` message where that takes a decision: Caffe's defaults and its ways of writing sizes are there alone.
Axes are kept as written (`canonical_axis` counts them from the front): only a shape says what a negative one means.

`infer_shapes` walks a net, `output_shapes` and `blob_shapes` answer for one layer.
"""

from bnfold.caffe.layers.activation import ReLU, clip_bounds, log_of_base
from bnfold.caffe.layers.affine import dropout_scale, factor_of_channels, learns_scale
from bnfold.caffe.layers.arrange import Eltwise, of_channels, written_axis
from bnfold.caffe.layers.axes import UNKNOWN, canonical_axis
from bnfold.caffe.layers.convolution import DECONVOLUTIONS, HOLES, KERNELS, Convolution
from bnfold.caffe.layers.detection import DetectionOutput, PriorBox, YoloDetectionOutput
from bnfold.caffe.layers.fields import unread_fields
from bnfold.caffe.layers.infer import blob_shapes, infer_shapes, output_shapes, row_of
from bnfold.caffe.layers.linear import InnerProduct, parameter_shape
from bnfold.caffe.layers.padding import Pad
from bnfold.caffe.layers.pooling import SPP, Pooling
from bnfold.caffe.layers.recurrent import Recurrent
from bnfold.caffe.layers.region import Proposal, ROIPooling
from bnfold.caffe.layers.reorder import DepthToSpace, SpaceToBatch, channel_groups, permutation, pixel_shuffle_factor
from bnfold.caffe.layers.resample import Interp, Resample, Resizing, UnPooling, Unpooling, Upsampling
from bnfold.caffe.layers.row import LayerType
from bnfold.caffe.layers.table import LAYERS, types_where
