"""Images as Pillow decodes them: whole, and of bounded size.

Files are turned as their EXIF orientation says, as cv::imread does since OpenCV 3.1. Records of an LMDB are not, since
Caffe decodes those unchanged (`DecodeDatumToCVMatNative` in io.cpp).

Where only grey is asked for, of a JPEG its brightness is decoded alone, as OpenCV does, and no colours made grey.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import IO, TYPE_CHECKING

from bnfold.errors import ParseError
from bnfold.io.formats import HEAD, other_format

if TYPE_CHECKING:
    from PIL import Image

UNKNOWN = "its format is not known; take it out, or write it as PNG or JPEG"


def decode(stream: IO[bytes], path: Path, record: str = "", *, whole: bool = True, grey: bool = False) -> Image.Image:
    """The image that a stream holds, which is of a file, or of a record of it.

    Args:
        stream: from its beginning.
        path: of the file.
        record: its name.
        whole: the pixels, too, and not the header alone.
        grey: colours are not needed.

    Raises:
        ParseError: it is damaged.
    """
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
        who = f"record '{record}' " if record else ""
        if isinstance(error, UnidentifiedImageError) and (other := other_format(stream.read(HEAD), "an image")):
            raise ParseError(f"{who}{other}", path) from None
        reason = UNKNOWN if isinstance(error, UnidentifiedImageError) else error
        raise ParseError(f"{who}cannot be read as an image: {reason}", path) from None
