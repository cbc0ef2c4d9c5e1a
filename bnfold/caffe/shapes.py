"""The old name of `bnfold.caffe.layers`, for branches that began before it."""

from bnfold.caffe.layers import *  # noqa: F403
