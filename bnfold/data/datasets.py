"""Opening what `--data` names: images, lists, Caffe's own data sets (LMDB, HDF5), an `.npz` or an `.npy`."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol

import numpy as np

from bnfold.data.arrays import LABELS, label_among, read_arrays, read_headers
from bnfold.data.decoding import decode
from bnfold.data.pixels import Kind, Size, kind_of, turned
from bnfold.data.preparation import Preparation
from bnfold.data.samples import ALL, Arrays, Feed, Part, Samples, input_misfit, labels_misfit, nothing_for
from bnfold.errors import BnfoldError, ParseError, UsageError, few, plural, quoted
from bnfold.io.files import absence, nearby
from bnfold.io.formats import HEAD, MODELS, other_format
from bnfold.io.mapping import open_regular, read_file
from bnfold.net import Array

if TYPE_CHECKING:
    from PIL import Image

ENDINGS = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
HDF5 = frozenset({".h5", ".hdf5"})
LOOKED_AT = 1000
"""Images whose headers are read, to say what is done to them."""
MOST_OTHERS = 100_000
"""Entries of a folder of images that may be none, beside as many as there are images: / has more."""
MAX_LIST_BYTES = 1 << 30
THUMBNAIL = 128  # pixels of the longer side of a picture in a report


class PictureSource(Protocol):
    """Images by number, as a folder or a database has them."""

    @property
    def count(self) -> int:
        """How many there are."""

    def name(self, number: int) -> str:
        """What to call one in a report."""

    def where(self, number: int) -> str:
        """The same for a message, which says the whole path."""

    def content(self, number: int) -> bytes:
        """The bytes that one is decoded from, by which a checkpoint knows it again. Raises ParseError."""

    def kind(self, number: int) -> Kind:
        """What one holds, without decoding it."""

    def load(self, number: int, *, grey: bool = False) -> Image.Image | Array:
        """An image of Pillow's, or pixels (height, width, channels) in the order blue, green, red.

        Args:
            number: which one.
            grey: colours are not needed.

        Raises:
            ParseError: it is damaged.
        """


@dataclass(frozen=True, slots=True)
class Images:
    """Images as samples of one input, read when they are asked for.

    Attributes:
        blob, channels, size: the input, its planes and its (height, width).
        pictures: the images themselves.
        preparation: how an image becomes an input.
        labels, class_names: the true classes, where known.
        source: where they are, for the report.
        kinds: what the first of them hold.
    """

    parallel: ClassVar[bool] = True

    blob: str
    channels: int
    size: Size
    pictures: PictureSource
    preparation: Preparation
    labels: Array | None = None
    class_names: Sequence[str] = ()
    source: str = ""
    kinds: tuple[Kind, ...] = ()

    @property
    def description(self) -> str:
        """Count, place, and what is done to them."""
        done = self.preparation.done(self.kinds, self.channels, self.size)
        seen = f" (of the first {len(self.kinds):,})" if len(self.kinds) < self.count and self.kinds else ""
        return f"{self.count:,} {plural('image', self.count)} of {self.source}, {done}{seen}"

    @property
    def count(self) -> int:
        """How many images there are."""
        return self.pictures.count

    def sample(self, number: int) -> dict[str, Array]:
        """Read one image and prepare it. Raises UsageError where it does not fit the input."""
        try:
            loaded = self.pictures.load(number, grey=self.channels == 1 or self.preparation.grey)
            planes = self.preparation.planes(loaded, self.channels, self.size)
        except UsageError as error:
            raise UsageError(f"{self.pictures.where(number)}: {error}") from None
        return {self.blob: planes}

    def name(self, number: int) -> str:
        """The file, as seen from the folder or the list; the key in a database."""
        return self.pictures.name(number)

    def picture(self, number: int) -> Array | None:
        """A small version of the image itself."""
        from PIL import Image

        loaded = self.pictures.load(number)
        if isinstance(loaded, np.ndarray):
            if loaded.dtype != np.uint8 or loaded.shape[2] not in (1, 3):
                return None
            loaded = Image.fromarray(loaded[:, :, 0] if loaded.shape[2] == 1 else loaded[:, :, ::-1])
        image = loaded.convert("RGB")
        image.thumbnail((THUMBNAIL, THUMBNAIL))
        return np.asarray(image)


@dataclass(frozen=True, slots=True)
class Files:
    """Image files; names are as seen from `root`."""

    files: Sequence[Path]
    root: Path

    def __reduce__(self) -> tuple[type[Files], tuple[list[Path], Path]]:
        """For workers, which may run in another folder: by whole paths."""
        return Files, ([path.absolute() for path in self.files], self.root.absolute())

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.files)

    def name(self, number: int) -> str:
        """The path from the root, or the whole one."""
        path, root = self.files[number].absolute(), self.root.absolute()
        return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(self.files[number])

    def where(self, number: int) -> str:
        """The whole path."""
        return str(self.files[number])

    def content(self, number: int) -> bytes:
        """The whole file."""
        return read_file(self.files[number], sys.maxsize)

    def kind(self, number: int) -> Kind:
        """By its header."""
        with open_regular(self.files[number]) as stream:
            return kind_of(decode(stream, self.files[number], whole=False), turn=True)

    def load(self, number: int, *, grey: bool = False) -> Image.Image:
        """Decode one."""
        with open_regular(self.files[number]) as stream:
            return turned(decode(stream, self.files[number], grey=grey))


def open_samples(
    path: str | os.PathLike[str],
    feeds: Mapping[str, Feed],
    preparation: Preparation | Callable[[], Preparation | None] | None = None,
    labels: Array | None = None,
    part: Part = ALL,
) -> Samples:
    """The samples at a path.

    Args:
        path: a folder of images, with one sub-folder per class or without; an LMDB of Caffe's; a text list with a
            `path label` per line, as Caffe's ImageData layer reads it (paths from the list's folder; the label may be
            left out), or with HDF5 files, as its HDF5Data layer does; an `.h5` file; an `.npz` with an array for each
            input and perhaps `label`; an `.npy` for the single input.
        feeds: the inputs.
        preparation: of images, or what finds it; nothing by default but the size.
        labels: the true classes, which go before those found at the path.
        part: those that will be taken; of others less is read.

    Raises:
        UsageError: there is nothing there that fits, or nothing to prepare so.
        ParseError: a file is damaged.
    """
    place = Path(path)
    if reason := absence(place):
        raise UsageError(f"the data '{place}' {reason}{nearby(place)}")
    try:
        if is_arrays(place):
            inputs, labels = read_inputs(place, feeds, labels, part)
            return Arrays(inputs, labels, source=str(place))
        lines = None if place.is_dir() or is_database(place) or is_hdf5(place) else _lines(place)
        if is_hdf5(place) or (lines and is_hdf5(Path(lines[0][1]))):
            from bnfold.data.tables import open_tables

            files = [place] if lines is None else [_file_in_line(place, *line) for line in lines]
            return open_tables(files, str(place), feeds, labels)
        return _images_at(place, lines, feeds, preparation, labels, part)
    except OSError as error:  # no rights, or what lies there goes meanwhile
        raise UsageError(f"the data '{place}' cannot be read: {error.strerror or error}") from None


def _images_at(
    place: Path,
    lines: list[tuple[int, str]] | None,
    feeds: Mapping[str, Feed],
    preparation: Preparation | Callable[[], Preparation | None] | None,
    labels: Array | None,
    part: Part,
) -> Images:
    if len(needed(feeds)) != 1:
        raise UsageError(f"images fit a network with one input, and this one has {quoted(feeds)}; give an .npz")
    blob, feed = next(iter(needed(feeds).items()))
    channels, size = _image_input(blob, feed)
    pictures: PictureSource
    source = str(place)
    if is_database(place):
        from bnfold.data.lmdb import open_database

        pictures, found = open_database(place, part)
        names: Sequence[str] = ()
    else:
        _need_pillow()
        files, found, names = _listed_images(place, lines) if lines is not None else _folder(place)
        source += _passed_over(place, names, found is None) if place.is_dir() else ""
        pictures = Files(files, place if place.is_dir() else place.parent)
    true = found if labels is None else labels
    if true is not None and len(true) != pictures.count:
        raise UsageError(f"{len(true):,} labels for {pictures.count:,} images of {place}")
    prepared = preparation() if callable(preparation) else preparation
    if prepared is not None and prepared.swap_channels and channels == 1:
        raise UsageError(f"--swap-channels would be ignored: input '{blob}' has one channel")
    first = part.most if part.most and part.seed is None else LOOKED_AT
    kinds = tuple(pictures.kind(number) for number in range(min(pictures.count, first, LOOKED_AT)))
    return Images(blob, channels, size, pictures, prepared or Preparation(), true, names, source, kinds)


def data_files(path: str | os.PathLike[str]) -> list[Path]:
    """What a data set reads: the file or folder itself, and the files that a list names."""
    place = Path(path)
    try:
        if place.is_dir() or is_arrays(place) or is_database(place) or is_hdf5(place):
            return [place]
        lines = _lines(place)
        if is_hdf5(Path(lines[0][1])):
            return [place, *(_file_in_line(place, *line) for line in lines)]
        return [place, *_listed_images(place, lines)[0]]
    except (BnfoldError, OSError):  # for `open_samples` to say
        return [place]


def needed(feeds: Mapping[str, Feed]) -> dict[str, Feed]:
    """The inputs that data must bring: all but those whose values follow from the network."""
    return {name: feed for name, feed in feeds.items() if not feed.follows}


def is_arrays(path: str | os.PathLike[str]) -> bool:
    """Whether a path names arrays in numpy's format."""
    return Path(path).suffix.lower() in {".npy", ".npz"}


def is_hdf5(path: Path) -> bool:
    """Whether a path names an HDF5 file."""
    return path.suffix.lower() in HDF5


def is_database(path: Path) -> bool:
    """Whether a path names an LMDB.

    Raises:
        UsageError: it is a LevelDB, which nothing reads any more.
    """
    if (path / "CURRENT").exists() and any(path.glob("MANIFEST-*")):
        raise UsageError(f"'{path}' is a LevelDB; write it as LMDB (convert_imageset --backend lmdb), or give an .npz")
    return path.suffix.lower() == ".mdb" or (path / "data.mdb").exists()


def read_inputs(
    path: Path, feeds: Mapping[str, Feed], labels: Array | None, part: Part
) -> tuple[dict[str, Array], Array | None]:
    """The arrays of a file by input, and its labels; those that are given go first. No others are read.

    Args:
        path: the file.
        feeds: the inputs.
        labels: the true classes.
        part: the samples that will be looked at.

    Raises:
        UsageError: it has nothing for an input.
        ParseError: the file is damaged.
    """
    there = read_headers(path)
    names = {name: name for name in feeds if name in there}
    others = [name for name in there if name not in feeds and name not in LABELS]
    if not names and len(needed(feeds)) == len(others) == 1:
        names = {next(iter(needed(feeds))): others[0]}
    missing = [name for name in needed(feeds) if name not in names]
    if missing:
        raise UsageError(f"{path}: {nothing_for(missing, there)}")
    for name, source in names.items():
        _require_axes(path, name, there[source].shape, feeds[name])
    label = label_among(there, feeds) if labels is None else None
    count = max((there[source].shape[0] for source in names.values() if there[source].shape), default=0)
    if label is not None:
        if prod(shape := there[label].shape) > count:
            raise UsageError(f"{path}: {labels_misfit(shape, count)}")
        labels = read_arrays(path, {label})[label].reshape(-1)
    arrays = read_arrays(path, names.values(), part.numbers(count))
    return {name: arrays[source] for name, source in names.items()}, labels


def _require_axes(path: Path, name: str, shape: Sequence[int], feed: Feed) -> None:
    """Stop before the values of an array are read that the input `name` cannot mean, whatever they are."""
    wanted = prod(size or 1 for size in feed.shape)
    if None not in feed.shape and len(shape) > 1 and prod(shape[1:]) > wanted:
        raise UsageError(f"{path}: {input_misfit(name, feed.shape, shape)}")


def _folder(folder: Path) -> tuple[list[Path], Array | None, Sequence[str]]:
    """Files, classes and class names; a sub-folder with images is a class only where no image lies beside it."""
    direct = _images(folder.iterdir(), folder)
    if direct:
        return direct, None, ()
    entries = [entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith(".")]
    images = {entry.name: found for entry in entries if (found := _images(_below(entry), entry))}
    classes = list(images)
    numbered = bool(classes) and all(re.fullmatch(r"[0-9]{1,9}", name) for name in classes)
    classes.sort(key=lambda name: (int(name) if numbered else 0, name))
    files, labels = [], []
    for place, name in enumerate(classes):
        files += images[name]
        labels += [int(name) if numbered else place] * len(images[name])
    if not files:
        raise UsageError(f"there is no image in '{folder}': no name ends in {', '.join(sorted(ENDINGS))}")
    return files, np.array(labels), () if numbered else classes


def _passed_over(folder: Path, classes: Sequence[str], direct: bool) -> str:
    """What to say of sub-folders without images, which move the classes behind them forward.

    Beside images that lie in the folder itself (`direct`) those with images are said, which are no classes then.
    """
    others = sorted({entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith(".")})
    if direct:
        below = {name: _below(folder / name, strict=False) for name in others}
        left = [name for name in others if any(one.suffix.lower() in ENDINGS and one.is_file() for one in below[name])]
        said = "its sub-folders with images passed over"
    else:
        left = [name for name in others if classes and name not in classes and name < classes[-1]]
        said = "without images, so no class"
    return f" ({said}: {few(list(map(repr, left)))})" if left else ""


def _below(folder: Path, *, strict: bool = True) -> Iterator[Path]:
    """All that lies in a folder and the folders in it. Raises UsageError where one cannot be read, if `strict`."""

    def refuse(error: OSError) -> None:
        raise UsageError(f"the folder '{error.filename}' cannot be read: {error.strerror}")

    for place, folders, files in os.walk(folder, onerror=refuse if strict else None):
        yield from (Path(place, name) for name in (*folders, *files))


def _images(paths: Iterable[Path], folder: Path) -> list[Path]:
    """The images among what a folder has, by name. Raises UsageError where hardly any entry is one."""
    images, others = [], 0
    for path in paths:
        is_there = path.is_file() or (path.is_symlink() and not path.exists())  # to be said when it is read
        if path.suffix.lower() in ENDINGS and is_there:
            images.append(path)
        elif (others := others + 1) > MOST_OTHERS + len(images):
            raise UsageError(
                f"'{folder}' has more than {others - 1:,} entries that are no images; give the folder of the images"
            )
    return sorted(images)


def _lines(path: Path) -> list[tuple[int, str]]:
    """Number and text of the lines of a list that are not empty."""
    if path.suffix.lower() in ENDINGS:
        raise UsageError(
            f"the data '{path}' is one image: give the folder that it is in, or a list of lines `path label`"
        )
    if path.suffix.lower().removeprefix(".") in MODELS:
        raise UsageError(f"the data '{path}' is a model by its suffix; give a folder of images, an .npz or a list")
    content = read_file(path, MAX_LIST_BYTES)
    if other := other_format(content[:HEAD], "data (a folder, an .npz or .npy, or a list of images)"):
        raise ParseError(other, path)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise UsageError(
            f"the data '{path}' is neither a folder, nor an .npz or .npy, nor a list of images in UTF-8; "
            "save it as an .npz (numpy.savez)"
        )
    lines = [(number, line.strip()) for number, line in enumerate(re.split("\r\n?|\n", text), start=1) if line.strip()]
    if not lines:
        raise UsageError(f"the list '{path}' is empty")
    return lines


def _file_in_line(path: Path, number: int, name: str) -> Path:
    """The file that a line names.

    Raises:
        ParseError: there is none.
    """
    place = path.parent / name
    if reason := absence(place) or ("" if place.is_file() else "is not a regular file"):
        why = ""
        if os.path.isfile(name):
            why = " in the folder of the list, where its paths start"
        elif place.suffix.lower() not in ENDINGS | HDF5:
            why = "; a line is `path label`, with a space between"
        else:
            why = f"{nearby(place)}; paths start in the folder of the list"
        raise ParseError(f"the file '{_shortened(name)}' {reason}{why}", path, number)
    return place


def _listed_images(path: Path, lines: Sequence[tuple[int, str]]) -> tuple[list[Path], Array | None, Sequence[str]]:
    """Files and labels of a list. As in Caffe the label is what follows the last space, so paths may have spaces."""
    files, labels = [], []
    for number, line in lines:
        name, _, label = line.rpartition(" ")
        if name and re.fullmatch(r"-?[0-9]{1,9}", label):
            files.append(_file_in_line(path, number, name.strip()))
            labels.append(int(label))
            continue
        try:
            files.append(_file_in_line(path, number, line))
            labels.append(-1)
        except ParseError:
            if name and os.path.isfile(path.parent / name.strip()):
                said = f"the label '{_shortened(label)}' of '{name.strip()}' is no whole number below a billion"
                raise ParseError(f"{said}; give the number of its class", path, number) from None
            raise
    return files, np.array(labels) if max(labels) >= 0 else None, ()


def _shortened(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:60]} .. ({len(text):,} letters)"


def _image_input(blob: str, feed: Feed) -> tuple[int, Size]:
    shape = feed.shape[-3:]  # with an axis for samples in front, or without
    if not (len(feed.shape) == 4 or (feed.shape[:1] in {(1,), (3,)} and len(shape) == 3)) or None in shape:
        raise UsageError(f"input '{blob}' has shape {feed.shape}, which is not (N, C, H, W) of images; give an .npz")
    channels, height, width = (int(size or 0) for size in shape)
    return channels, (height, width)


def _need_pillow() -> None:
    try:
        import PIL  # noqa: F401
    except ImportError:
        raise UsageError("reading images needs Pillow: pip install 'bnfold[images]'") from None
