"""Pixels as Caffe's readers get them from OpenCV: 8 bits, blue, green, red or grey, resized without smoothing.

cv::imread(file, color ? IMREAD_COLOR : IMREAD_GRAYSCALE), then cv::resize(.., INTER_LINEAR)        (io.cpp)
"""

from __future__ import annotations

import warnings
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bnfold.errors import UsageError
from bnfold.net import Array

if TYPE_CHECKING:
    from PIL import Image

Size = tuple[int, int]

MAX_PIXELS = 1 << 26
"""Of one image: 64 million, the most that Pillow decodes without a warning is 89 million."""
DEEP = frozenset({"I", "I;16", "I;16B", "I;16L", "I;16N"})
"""Pillow's modes for grey images of 16 bits; coloured ones it reads with their high bytes by itself."""
ORIENTATION = 0x0112  # the tag of EXIF
TURNS = (
    None, None, "FLIP_LEFT_RIGHT", "ROTATE_180", "FLIP_TOP_BOTTOM", "TRANSPOSE", "ROTATE_270", "TRANSVERSE", "ROTATE_90"
)  # fmt: skip
"""By the value of that tag, what of Pillow's `Transpose` puts an image upright."""
SIDEWAYS = TURNS[5:]
BITS = 11  # of a coefficient, OpenCV's INTER_RESIZE_COEF_BITS


class Kind(NamedTuple):
    """What an image file holds: (height, width), whether it has colours, and whether its values have 16 bits.

    `colour` is None of planes that no file holds: nothing is done to their values. `turned` is whether a file is turned
    when it is read, in which `size` it has then.
    """

    size: Size
    colour: bool | None
    deep: bool
    turned: bool = False


def kind_of(image: Image.Image, *, turn: bool = False) -> Kind:
    """The same, from its header alone; `turn` says whether its orientation counts."""
    way, size = turn_of(image) if turn else None, (image.height, image.width)
    if way in SIDEWAYS:
        size = size[::-1]
    return Kind(size, image.mode not in {"1", "L", "LA", "La", *DEEP, "F"}, image.mode in DEEP, way is not None)


def turn_of(image: Image.Image) -> str | None:
    """What of Pillow's `Transpose` puts an image upright by its EXIF orientation; None where nothing has to."""
    from PIL.Image import Exif

    exif, orientation = Exif(), 1
    with suppress(Exception), warnings.catch_warnings():  # damaged, it says nothing
        warnings.simplefilter("ignore")
        exif.load(image.info.get("exif", b""))
        orientation = exif.get(ORIENTATION, 1)
    return TURNS[orientation] if orientation in range(len(TURNS)) else None


def turned(image: Image.Image) -> Image.Image:
    """An image that was read, upright."""
    from PIL.Image import Transpose

    way = turn_of(image)
    return image if way is None else image.transpose(Transpose[way])


def decoded(image: Image.Image, grey: bool) -> Array:
    """uint8, (height, width, 3) in the order blue, green, red, or (height, width) for grey.

    Of 16 bits the high byte counts, as where libpng strips them; transparency is left out.

    Args:
        image: as Pillow read it.
        grey: make colours grey by ITU-R 601, as OpenCV does.

    Raises:
        UsageError: its values are no whole numbers of at most 16 bits.
    """
    if image.mode in DEEP:
        values = np.asarray(image).astype(np.int64)
        if values.size and not 0 <= int(values.min()) <= int(values.max()) < 1 << 16:
            raise UsageError("its values have more than 16 bits; give an .npz")
        plane = (values >> 8).astype(np.uint8)
        return plane if grey else np.repeat(plane[:, :, None], 3, axis=2)
    if image.mode == "F":
        raise UsageError("its values are no whole numbers; give an .npz")
    if grey:
        direct = image.convert("RGB") if image.mode == "LAB" else image
        return np.asarray(direct.convert("L"))
    return np.asarray(image.convert("RGB"))[:, :, ::-1]


def resized(pixels: Array, size: Size) -> Array:
    """Bilinear to (height, width), bit for bit as OpenCV's INTER_LINEAR on 8 bits (`resize.cpp`).

    The source of pixel d is `(d + 1/2)*scale - 1/2`, cut to the image; coefficients have 11 bits. Where both sides are
    halved, OpenCV takes the mean of four pixels instead.

    Args:
        pixels: uint8 (height, width) or (height, width, channels).

    Raises:
        UsageError: the result would be too large.
    """
    height, width = size
    if height * width > MAX_PIXELS:
        raise UsageError(f"resizing to {height}x{width} makes more than {MAX_PIXELS:,} pixels")
    if pixels.shape[:2] == size:
        return pixels
    if pixels.dtype != np.uint8:
        raise UsageError("values that are no pixels of 8 bits are not resized")
    planes = pixels.reshape(*pixels.shape[:2], -1)
    if planes.shape[:2] == (2 * height, 2 * width):
        total = planes.reshape(height, 2, width, 2, -1).sum(axis=(1, 3), dtype=np.int32)
        return np.asarray((total + 2 >> 2).astype(np.uint8)).reshape(*size, *pixels.shape[2:])
    columns, by_column = _taps(planes.shape[1], width, cut=True)
    rows, by_row = _taps(planes.shape[0], height, cut=False)
    used, places = np.unique(rows, return_inverse=True)  # a small image reads few of a large one's rows
    lines = planes[used]
    across = _weighted(np.take(lines, columns[0], axis=1), by_column[0][:, None])
    across += _weighted(np.take(lines, columns[1], axis=1), by_column[1][:, None])
    across >>= 4
    places = places.reshape(rows.shape)
    upper, lower = (_weighted(across[places[side]], by_row[side][:, None, None]) for side in (0, 1))
    upper >>= 16
    lower >>= 16
    upper += lower
    upper += 2
    upper >>= 2
    return np.asarray(upper.astype(np.uint8)).reshape(*size, *pixels.shape[2:])


def _weighted(values: Array, weights: Array) -> Array:
    return np.asarray(np.multiply(values, weights, dtype=np.int32))


def _taps(before: int, after: int, *, cut: bool) -> tuple[Array, Array]:
    """The two sources of each place, (2, after), and their coefficients; at the border `cut` leaves one of them."""
    scale = 1.0 / (after / before)
    source = ((np.arange(after) + 0.5) * scale - 0.5).astype(np.float32)
    first = np.floor(source).astype(np.int64)
    share = source - first.astype(np.float32)
    if cut:
        share[(first < 0) | (first >= before - 1)] = 0
    coefficients = np.rint(np.stack([1 - share, share]) * np.float32(1 << BITS)).astype(np.int32)
    return np.clip(np.stack([first, first + 1]), 0, before - 1), coefficients
