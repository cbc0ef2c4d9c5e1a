"""What Caffe can count, and how large a size may be that no stored weights confirm."""

from __future__ import annotations

INT_MAX = (1 << 31) - 1
"""Caffe counts the elements of a blob in an int (`CHECK_LE(shape[i], INT_MAX / count_)` in blob.cpp), and lets protobuf
read as many bytes (`kProtoReadBytesLimit` in io.cpp)."""

MAX_AXES = 32
"""Axes of a blob (`kMaxBlobAxes` in blob.hpp)."""

MAX_CHANNELS = 1 << 20
"""Of an affine, since each takes memory, and a prototxt may name any number of them."""
