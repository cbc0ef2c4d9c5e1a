"""Opening what `--data` names: a folder of images, a text list, an `.npz` or an `.npy`."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bnfold.data.arrays import read_arrays
from bnfold.data.preparation import Preparation, Size
from bnfold.data.samples import Arrays, Feed, Samples
from bnfold.errors import BnfoldError, ParseError, UsageError
from bnfold.io.mapping import open_regular
from bnfold.net import Array

ENDINGS = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
LABELS = ("label", "labels", "y", "target", "targets")
THUMBNAIL = 128  # pixels of the longer side of a picture in a report


@dataclass(frozen=True, slots=True)
class Images:
    """Image files as samples of one input, read when they are asked for.

    Attributes:
        blob, channels, size: the input, its planes and its (height, width).
        files: one per sample.
        labels, class_names: the true classes, where known.
        preparation: how an image becomes an input.
    """

    blob: str
    channels: int
    size: Size
    files: Sequence[Path]
    preparation: Preparation
    labels: Array | None = None
    class_names: Sequence[str] = ()
    source: str = ""
    root: Path = field(default_factory=Path)

    @property
    def description(self) -> str:
        """Count, place and preparation."""
        return f"{len(self.files)} images of {self.source}, {self.preparation}"

    @property
    def count(self) -> int:
        """How many images there are."""
        return len(self.files)

    def sample(self, number: int) -> dict[str, Array]:
        """Read one image and prepare it."""
        try:
            planes = self.preparation.planes(self._image(number), self.channels, self.size)
        except UsageError as error:
            raise UsageError(f"{self.files[number]}: {error}") from None
        return {self.blob: planes}

    def name(self, number: int) -> str:
        """The file, as seen from the folder or the list."""
        path = self.files[number]
        return path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else str(path)

    def picture(self, number: int) -> Array | None:
        """A small version of the file itself."""
        image = self._image(number).convert("RGB")
        image.thumbnail((THUMBNAIL, THUMBNAIL))
        return np.asarray(image)

    def _image(self, number: int) -> Any:
        from PIL import Image

        path = self.files[number]
        try:
            # Pillow leaves a file open that it cannot identify, so the file is ours.
            with open_regular(path) as stream, warnings.catch_warnings():
                warnings.simplefilter("error", Image.DecompressionBombWarning)
                with Image.open(stream) as image:
                    image.load()
                    return image
        except (MemoryError, ParseError):
            raise
        except Exception as error:  # each format of Pillow's has its own
            raise ParseError(f"cannot be read as an image: {error}", path) from None


def open_samples(
    path: str | os.PathLike[str],
    feeds: Mapping[str, Feed],
    preparation: Preparation | Callable[[], Preparation | None] | None = None,
    labels: Array | None = None,
) -> Samples:
    """The samples at a path.

    Args:
        path: a folder of images, with one sub-folder per class or without; a text list with a `path label` per line,
            as Caffe's ImageData layer reads it (paths from the list's folder; the label may be left out); an `.npz`
            with an array for each input and perhaps `label`; an `.npy` for the single input.
        feeds: the inputs.
        preparation: of images, or what finds it; nothing by default but the size.
        labels: the true classes, which go before those found at the path.

    Raises:
        UsageError: there is nothing there that fits.
        ParseError: a file is damaged.
    """
    place = Path(path)
    if not place.exists():
        raise UsageError(f"the data '{place}' does not exist")
    if is_arrays(place):
        inputs, labels = read_inputs(place, feeds, labels)
        return Arrays(inputs, labels, source=str(place))
    if len(needed(feeds)) != 1:
        raise UsageError(f"images fit a network with one input, and this one has {', '.join(feeds)}; give an .npz")
    _need_pillow()
    files, found, names = _folder(place) if place.is_dir() else _list(place)
    blob, feed = next(iter(needed(feeds).items()))
    channels, size = _image_input(blob, feed)
    true = found if labels is None else labels
    if true is not None and len(true) != len(files):
        raise UsageError(f"{len(true)} labels for {len(files)} images of {place}")
    root = place if place.is_dir() else place.parent
    found_there = preparation() if callable(preparation) else preparation
    return Images(blob, channels, size, files, found_there or Preparation(), true, names, str(place), root)


def files_of(path: str | os.PathLike[str]) -> list[Path]:
    """What a data set reads: the file or folder itself, and the images that a list names."""
    place = Path(path)
    if place.is_dir() or is_arrays(place):
        return [place]
    try:
        return [place, *_list(place)[0]]
    except BnfoldError:  # for `open_samples` to say
        return [place]


def needed(feeds: Mapping[str, Feed]) -> dict[str, Feed]:
    """The inputs that data must bring: all but those whose values follow from the network."""
    return {name: feed for name, feed in feeds.items() if feed.meaning is None or not feed.meaning.fixed}


def is_arrays(path: str | os.PathLike[str]) -> bool:
    """Whether a path names arrays in numpy's format."""
    return Path(path).suffix in {".npy", ".npz"}


def read_inputs(
    path: Path, feeds: Mapping[str, Feed], labels: Array | None = None
) -> tuple[dict[str, Array], Array | None]:
    """The arrays of a file by input, and its labels; those that are given go first.

    Raises:
        UsageError: it has nothing for an input.
        ParseError: the file is damaged.
    """
    arrays = read_arrays(path)
    if labels is None:
        labels = next((arrays[name].reshape(-1) for name in LABELS if name in arrays and name not in feeds), None)
    inputs = {name: array for name, array in arrays.items() if name in feeds}
    others = [name for name in arrays if name not in feeds and name not in LABELS]
    if not inputs and len(needed(feeds)) == len(others) == 1:
        inputs = {next(iter(needed(feeds))): arrays[others[0]]}
    missing = [name for name in needed(feeds) if name not in inputs]
    if missing:
        raise UsageError(f"{path}: there is nothing for input {', '.join(missing)}; it has {', '.join(arrays)}")
    return inputs, labels


def _folder(folder: Path) -> tuple[list[Path], Array | None, Sequence[str]]:
    """Files, classes and class names; a sub-folder is a class only where no image lies beside it."""
    direct = _images(folder.iterdir())
    if direct:
        return direct, None, ()
    classes = [entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith(".")]
    numbered = bool(classes) and all(name.isdecimal() for name in classes)
    classes.sort(key=lambda name: (int(name) if numbered else 0, name))
    files, labels = [], []
    for place, name in enumerate(classes):
        found = _images((folder / name).rglob("*"))
        files += found
        labels += [int(name) if numbered else place] * len(found)
    if not files:
        raise UsageError(f"there is no image in '{folder}'")
    return files, np.array(labels), () if numbered else classes


def _images(paths: Iterable[Path]) -> list[Path]:
    return sorted(path for path in paths if path.suffix.lower() in ENDINGS and path.is_file())


def _list(path: Path) -> tuple[list[Path], Array | None, Sequence[str]]:
    """Files and labels of a list. As in Caffe the label is what follows the last space, so paths may have spaces."""
    try:
        with open_regular(path) as stream:
            lines = stream.read().decode("utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        raise UsageError(f"the data '{path}' is neither a folder, nor an .npz or .npy, nor a list of images") from None
    files, labels = [], []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            name, _, label = line.strip().rpartition(" ")
            if not name or not label.lstrip("-").isdecimal():
                name, label = line.strip(), "-1"
            if not (path.parent / name).is_file():
                raise ParseError(f"there is no file '{name}'", path, number)
            files.append(path.parent / name)
            labels.append(int(label))
    if not files:
        raise UsageError(f"the list '{path}' is empty")
    return files, np.array(labels) if max(labels) >= 0 else None, ()


def _image_input(blob: str, feed: Feed) -> tuple[int, Size]:
    if len(feed.shape) != 4 or None in feed.shape[1:]:
        raise UsageError(f"input '{blob}' has shape {feed.shape}, which is none of images; give an .npz")
    _, channels, height, width = (int(size or 0) for size in feed.shape)
    return channels, (height, width)


def _need_pillow() -> None:
    try:
        import PIL  # noqa: F401
    except ImportError:
        raise UsageError("reading images needs Pillow: pip install 'bnfold[images]'") from None
