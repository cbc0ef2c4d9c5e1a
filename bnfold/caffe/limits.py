"""What Caffe can count."""

from __future__ import annotations

INT_MAX = (1 << 31) - 1
"""Caffe counts the elements of a blob in an int (`CHECK_LE(shape[i], INT_MAX / count_)` in blob.cpp), and lets protobuf
read as many bytes (`kProtoReadBytesLimit` in io.cpp)."""

MAX_AXES = 32
"""Axes of a blob (`kMaxBlobAxes` in blob.hpp)."""
