"""Image files as Pillow decodes them: whole, of bounded size, from regular files only.

Files are turned as their EXIF orientation says, as cv::imread does since OpenCV 3.1. Records of an LMDB are not, since
Caffe decodes those unchanged (`DecodeDatumToCVMatNative` in io.cpp).

Where only grey is asked for, of a JPEG its brightness is decoded alone, as OpenCV does, and no colours made grey.
"""

from __future__ import annotations

import warnings
from io import BytesIO
from pathlib import Path
from typing import IO, TYPE_CHECKING

from bnfold.data.pixels import turned
from bnfold.errors import ParseError
from bnfold.io.formats import HEAD, other_format
from bnfold.io.mapping import open_regular

if TYPE_CHECKING:
    from PIL import Image


def read_image(path: Path, *, grey: bool = False) -> Image.Image:
    """The image of a file. Raises ParseError."""
    with open_regular(path) as stream:
        return turned(_opened(stream, path, "", whole=True, grey=grey))


def read_header(path: Path) -> Image.Image:
    """The same without its pixels."""
    with open_regular(path) as stream:
        return _opened(stream, path, "", whole=False)


def decode_image(content: bytes, path: Path, record: str, *, whole: bool = True, grey: bool = False) -> Image.Image:
    """The image whose file is `content`, a record of `path`; its header alone unless `whole`. Raises ParseError."""
    return _opened(BytesIO(content), path, f"record '{record}' ", whole=whole, grey=grey)


def _opened(stream: IO[bytes], path: Path, who: str, *, whole: bool, grey: bool = False) -> Image.Image:
    from PIL import Image, UnidentifiedImageError

    try:
        # Pillow leaves a file open that it cannot identify, so the file is ours.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what is damaged beside the pixels
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(stream) as image:
                if grey:
                    image.draft("L", None)
                if whole:
                    image.load()
                return image
    except MemoryError:
        raise
    except Exception as error:  # each format of Pillow's has its own
        stream.seek(0)
        if isinstance(error, UnidentifiedImageError) and (other := other_format(stream.read(HEAD), "an image")):
            raise ParseError(f"{who}{other}", path) from None
        reason = "its format is not known" if isinstance(error, UnidentifiedImageError) else error
        raise ParseError(f"{who}cannot be read as an image: {reason}", path) from None
