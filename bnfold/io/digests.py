"""The hash of a file that a model was made from."""

from __future__ import annotations

from pathlib import Path

from bnfold.io.mapping import map_file


def digest(path: Path) -> str:
    """`sha256:` and the digest of a file in hexadecimal. Raises ParseError where it cannot be read."""
    from hashlib import sha256

    return f"sha256:{sha256(map_file(path)).hexdigest()}"
