"""From an image file to a network's input, as Caffe's data layers do it.

    read (8 bits, 0..255) -> resize -> crop the middle -> minus mean -> times scale

Planes come in Caffe's order blue, green, red (OpenCV's, in which Caffe reads images), or as one grey plane where the
input has one; the layout is channels, height, width. The mean is taken before the scale, and a mean image that is as
large as the image is cropped in its middle as the image is (`DataTransformer` in BVLC Caffe).
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bnfold.caffe.origin import Origin
from bnfold.caffe.printing import shortest_float
from bnfold.data.arrays import read_arrays
from bnfold.data.pixels import Kind, Size, decoded, resized
from bnfold.errors import ParseError, UsageError, counted
from bnfold.io.formats import HEAD, other_format
from bnfold.io.mapping import read_file
from bnfold.net import Array, Net, sizes, values_of
from bnfold.options import brief, require_type

if TYPE_CHECKING:
    from numpy.typing import ArrayLike
    from PIL import Image

    from bnfold.caffe.caffe_pb2 import LayerParameter

MAX_MEAN_BYTES = 1 << 28
BYTES = (bytes, bytearray, memoryview)
"""What holds whole numbers and means none."""


@dataclass(frozen=True, eq=False, repr=False, slots=True)
class Preparation:
    """How images become inputs.

    Attributes:
        mean: one value, one per channel, or an image (channels, height, width); in the order of the input's channels.
        scale: factor after the mean.
        swap_channels: feed red, green, blue instead of Caffe's blue, green, red.
        resize: (height, width) before cropping; by default what the input (or the crop's origin) needs.
        crop: (height, width) of the middle that is kept; by default nothing is cut.
        grey: read as grey even if the input has three planes, which are then equal.
        origin: where these settings come from, for the report.
    """

    mean: ArrayLike | None = None
    scale: float = 1.0
    swap_channels: bool = False
    resize: Size | None = None
    crop: Size | None = None
    grey: bool = False
    origin: str = ""

    __repr__ = brief

    def __eq__(self, other: object) -> bool:
        """Whether all settings are the same, whatever holds the mean: a list, a tuple or an array."""
        if not isinstance(other, Preparation):
            return NotImplemented
        pairs = ((getattr(self, one.name), getattr(other, one.name)) for one in fields(self))
        return all(np.array_equal(mine, theirs) for mine, theirs in pairs)

    def __hash__(self) -> int:
        return hash((self.scale, self.resize, self.crop, self.origin))  # an array has none

    def __post_init__(self) -> None:
        require_type("origin", self.origin, "str")
        subject = self.origin or "the preparation"
        try:
            if np.ndim(self.scale) or any(np.asarray(one).dtype.kind in "bcmM" for one in (self.scale, self.mean)):
                raise TypeError  # complex numbers and dates are finite, too
            if any(isinstance(one, BYTES) for one in (self.mean, self.resize, self.crop)):
                raise TypeError  # whose items are numbers
            finite = np.isfinite(self.scale) and (self.mean is None or np.isfinite(self.mean).all())
            given = {"resize": self.resize, "crop": self.crop}
            planes = {name: tuple(map(operator.index, size)) for name, size in given.items() if size is not None}
            if np.ma.is_masked(self.mean):
                raise UsageError(f"{subject}: its mean is masked; fill it")
        except (TypeError, ValueError):
            raise UsageError(f"{subject}: mean and scale are numbers, resize and crop (height, width)") from None
        if not finite:
            which = "the mean is not" if np.isfinite(self.scale) else f"the scale is {self.scale:g}"
            raise UsageError(f"{subject}: the mean and the scale of images must be finite, and {which}")
        if self.scale == 0:
            raise UsageError(f"{subject}: a scale of 0 makes every image the same")
        if not all(len(size) == 2 and min(size) > 0 for size in planes.values()):
            raise UsageError(f"{subject}: resize and crop are (height, width), in pixels")
        for name, size in planes.items():
            object.__setattr__(self, name, size)  # whatever kind of pair was given
        for name in ("swap_channels", "grey"):
            require_type(f"{subject}: {name}", getattr(self, name), "bool")

    def __str__(self) -> str:
        """The settings as a sentence's end."""
        return self.done()

    def done(self, kinds: Sequence[Kind] = (), channels: int = 3, size: Size | None = None) -> str:
        """What is done to images, as a sentence's end.

        Args:
            kinds: of the images, as far as they are known.
            channels, size: of the input.
        """
        steps = [*_values_said(kinds, channels == 1 or self.grey, channels)]
        wanted = self.resize if size is None else self.size_before_crop(size)
        seen = sorted({kind.size for kind in kinds}, key=lambda each: (each[0] * each[1], each))
        if seen and wanted is not None and seen != [wanted]:
            steps.append(f"{' to '.join(dict.fromkeys(map(sizes, (seen[0], seen[-1]))))} resized to {sizes(wanted)}")
        elif not seen and wanted is not None:
            steps.append(f"resized to {sizes(wanted)}")
        if self.crop is not None:
            steps.append(f"middle {sizes(self.crop)}")
        if self.mean is not None:
            flat = np.asarray(self.mean).reshape(-1)
            values = ", ".join(map(shortest_float, flat.tolist())) if flat.size <= 4 else "image"
            steps.append(f"minus mean {values}")
        if self.scale != 1:
            steps.append(f"times {shortest_float(self.scale)}")
        if self.swap_channels:
            steps.append("RGB")
        return ("; ".join(steps) or "pixels as they are, 0..255") + (f" (from {self.origin})" if self.origin else "")

    def size_before_crop(self, size: Size) -> Size | None:
        """What an image is resized to for an input of `size`; None where it stays as large as it is."""
        return self.resize or (size if self.crop is None else None)

    def planes(self, image: Image.Image | Array, channels: int, size: Size) -> Array:
        """One input.

        Args:
            image: Pillow's, or uint8 pixels (height, width, 3) in the order blue, green, red, or
                (height, width).
            channels: of the input, 1 or 3.
            size: (height, width) of the input.

        Returns:
            float32 (channels, height, width).

        Raises:
            UsageError: the settings do not lead to that size.
        """
        kept = self.crop or size
        if kept != size:
            height, width = size
            raise UsageError(
                f"the crop leaves {sizes(kept)}, and the input takes {sizes(size)}; see --crop {height},{width}"
            )
        pixels = image if isinstance(image, np.ndarray) else decoded(image, channels == 1 or self.grey)
        wanted = self.size_before_crop(size)
        if wanted is not None:
            pixels = resized(pixels, wanted)
        values = _middle(self._as_planes(pixels, channels), size)
        if values.shape[1:] != size or (self.crop is None and pixels.shape[:2] != size):
            way = "leave out --resize" if self.crop is None else "the crop takes no more than there is: see --resize"
            raise UsageError(f"the image is {sizes(pixels.shape[:2])}, and the input takes {sizes(size)}; {way}")
        with np.errstate(over="ignore"):  # what becomes infinite is said where it is measured
            values = values.astype(np.float32)
            if self.mean is not None:
                values = values - _mean_for(self.mean, channels, size, pixels.shape[:2])
            return np.ascontiguousarray(values * np.float32(self.scale))

    def _as_planes(self, pixels: Array, channels: int) -> Array:
        """(channels, height, width) in the order of the input."""
        if pixels.ndim == 2 and channels in (1, 3):
            return np.broadcast_to(pixels, (channels, *pixels.shape))
        if pixels.ndim == 2 or pixels.shape[2] != channels:
            # A file is read as one plane where the input has one, and as three elsewhere.
            is_raw = pixels.ndim == 3 and (pixels.shape[2] != 3 or channels == 1)
            count = f"{pixels.shape[2]}" if is_raw else "1 or 3"
            raise UsageError(f"the input has {channels} channels, and an image has {count}")
        planes = pixels.transpose(2, 0, 1)
        return planes[::-1] if self.swap_channels else planes


def _middle(planes: Array, size: Size) -> Array:
    """The middle, or as much of it as there is."""
    top, left = (max(have - want, 0) // 2 for have, want in zip(planes.shape[1:], size, strict=True))
    return planes[:, top : top + size[0], left : left + size[1]]


def _mean_for(mean: ArrayLike, channels: int, size: Size, whole: Sequence[int]) -> Array:
    """The mean in a shape that goes with (channels, height, width); an image is as large as that, or as the whole."""
    values = np.asarray(mean, np.float32)
    if values.size in (1, channels) and values.ndim <= 1:
        return values.reshape(-1, 1, 1)
    if values.ndim > 3 and set(values.shape[:-3]) == {1}:
        values = values.reshape(values.shape[-3:])
    if values.ndim == 3 and values.shape[0] == channels:
        if values.shape[1:] in (size, tuple(whole)):
            return _middle(values, size)
        if min(np.subtract(values.shape[1:], size)) >= 0:
            misfit = f"the mean image is {sizes(values.shape[1:])}, and the images before the crop are {sizes(whole)}"
            raise UsageError(
                f"{misfit}; in Caffe they are equally large: see --resize and --crop, or give another --mean"
            )
    have = counted(values.size, "value") if values.ndim <= 1 else f"shape {values.shape}"
    raise UsageError(
        f"the mean has {have}, and the input is {channels}x{sizes(size)}; give a number, one for each channel, or an "
        "image as large"
    )


def read_mean(text: str) -> Array:
    """What `--mean` says: numbers joined by commas, or the path of a `.binaryproto` or `.npy`.

    Raises:
        UsageError: neither.
        ParseError: the file is damaged.

    Examples:
        >>> read_mean("104,117,123").tolist()
        [104.0, 117.0, 123.0]
    """
    try:
        return _as_float32([float(part) for part in text.split(",")])
    except ValueError:
        return read_mean_file(Path(text))


def read_mean_file(path: Path) -> Array:
    """A mean image, float32 in its stored shape: a `BlobProto` in a file, or numpy's format.

    Raises:
        ParseError: the file cannot be read or is damaged.
        UsageError: its ending says nothing.
    """
    if path.suffix.lower() not in {".binaryproto", ".npy"}:
        raise UsageError(f"the mean '{path}' is neither numbers (104,117,123) nor a .binaryproto or .npy")
    if path.suffix.lower() == ".npy":
        return _as_float32(read_arrays(path).get("", ()))
    content = read_file(path, MAX_MEAN_BYTES)
    from bnfold.caffe.blobs import read_blob

    try:
        blob, problem = read_blob(content, 0, len(content))
    except ParseError as error:
        other = other_format(content[:HEAD], "the mean of images")
        raise ParseError(other or f"is not a BlobProto: {error}", path) from None
    values = values_of(blob)
    if problem or not values.size:
        raise ParseError(f"is not a mean image: {problem or 'it has no values'}", path)
    return _as_float32(values)


def _as_float32(values: ArrayLike) -> Array:
    """Values, of which those that are too large become infinite, and so are refused."""
    with np.errstate(over="ignore"):
        return np.asarray(values, np.float32)


def from_words(
    mean: str | None = None,
    scale: float | None = None,
    swap_channels: bool = False,
    resize: Size | None = None,
    crop: Size | None = None,
) -> Preparation:
    """What a command line says; where it says nothing, the prototxt's `transform_param` counts.

    Raises:
        UsageError, ParseError: `mean` is no mean, see `read_mean`.
    """
    return Preparation(
        mean=None if mean is None else read_mean(mean),
        scale=1.0 if scale is None else scale,
        swap_channels=swap_channels,
        resize=resize,
        crop=crop,
        origin="the command line",
    )


def from_net(net: Net) -> Preparation | None:
    """The settings of the data layer that an input stands for, by its `transform_param`; None where there is none.

    Raises:
        ParseError: its mean file cannot be read.
        UsageError: the mean file is not there.
    """
    data = net.origin.data.values() if isinstance(net.origin, Origin) else ()
    layer = next((layer for layer in data if layer.HasField("transform_param")), None)
    return None if layer is None else _from_layer(layer, Path(net.file))


def _from_layer(layer: LayerParameter, path: Path) -> Preparation:
    transform, image = layer.transform_param, layer.image_data_param
    mean: Array | None = np.array(transform.mean_value, np.float32) if transform.mean_value else None
    if transform.mean_file:
        mean = read_mean_file(_beside(path, transform.mean_file))
    crops = (
        (transform.crop_size,) * 2,
        (transform.crop_h, transform.crop_w),
        (transform.crop_height, transform.crop_width),
    )
    crop = next(filter(all, crops), None)
    resize = (image.new_height, image.new_width)
    for wanted in transform.resize_param:
        resize = (wanted.height, wanted.width)
    settings = Preparation(mean, transform.scale, crop=crop, resize=resize if any(resize) else None)
    grey = transform.force_gray or not image.is_color
    return replace(settings, grey=grey, origin=f"transform_param of '{layer.name}'")


def _beside(prototxt: Path, name: str) -> Path:
    """The mean file that a prototxt names, if it lies in the prototxt's folder: from the net comes any name.

    Raises:
        UsageError: it does not.
    """
    folder = prototxt.resolve().parent
    places = [folder / name, folder / Path(name).name]
    found = next((place for place in places if place.resolve().is_relative_to(folder) and place.exists()), None)
    if found is None:
        raise UsageError(f"{prototxt}: beside it the mean file '{name}' is not there; give the mean with --mean")
    return found


def _values_said(kinds: Sequence[Kind], grey: bool, channels: int) -> Iterator[str]:
    """What happens to the values before anything else."""
    if turned := sum(kind.turned for kind in kinds):
        yield "turned as their EXIF orientation says" + _share(turned, kinds)
    deep = sum(kind.deep for kind in kinds)
    if deep:
        yield "16 bits scaled to 8" + _share(deep, kinds)
    coloured, plain = (sum(kind.colour is colour for kind in kinds) for colour in (True, False))
    if grey and coloured:
        yield "colours made grey" + _share(coloured, kinds)
    if channels == 3 and (plain or (grey and coloured)):
        yield "grey in all planes" + ("" if grey else _share(plain, kinds))


def _share(count: int, kinds: Sequence[Kind]) -> str:
    return "" if count == len(kinds) else f" ({count} of {len(kinds)})"
