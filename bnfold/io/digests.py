"""The hash of a file that a model was made from."""

from __future__ import annotations

from bnfold.io.wire import Buffer

LARGE = 1 << 24
"""Bytes from which a file is hashed only where somebody asks: 240 MB take 0.2 s, and scaling all of them 0.1 s."""


def digest(content: Buffer) -> str:
    """`sha256:` and the digest in hexadecimal."""
    from hashlib import sha256

    return f"sha256:{sha256(content).hexdigest()}"
