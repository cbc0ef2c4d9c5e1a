"""The hashes of the files that a model was made from, computed beside the work: hashing takes as long as folding."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from threading import Thread

PIECE = 1 << 22


class Digests:
    """SHA-256 of some files, begun at once in a thread of its own and waited for when they are asked for.

    Args:
        files: what to hash; a file that cannot be read has no digest, and is somebody else's error.
    """

    def __init__(self, files: Iterable[Path]) -> None:
        self._found: dict[Path, str] = {}
        # A daemon: a run that stops with a sentence does not wait for it.
        self._thread = Thread(target=self._hash, args=(tuple(files),), daemon=True)
        self._thread.start()

    def found(self) -> dict[Path, str]:
        """File -> `sha256:` and the digest in hexadecimal."""
        self._thread.join()
        return self._found

    def _hash(self, files: Iterable[Path]) -> None:
        import hashlib

        # Each piece needs Python's lock once, and may wait for it; `hashlib.file_digest` takes 16 times as many.
        buffer = memoryview(bytearray(PIECE))
        for path in files:
            digest = hashlib.sha256()
            try:
                with path.open("rb", buffering=0) as file:
                    while size := file.readinto(buffer):
                        digest.update(buffer[:size])
            except OSError:
                continue
            self._found[path] = f"sha256:{digest.hexdigest()}"
