"""LMDB's file format, as far as a database has to be whole before liblmdb may open it.

liblmdb trusts its files, so a damaged one may end the process. Every number that it goes by is checked here first;
nothing outside the file is read, and no page twice.

    file: pages of one size; the first two are metas, of which that of the later transaction counts
    page: number 8, pad 2, marks 2, end of the pointers 2, begin of the nodes 2, pointers 2 each, in the order of keys
    node: bytes of the value 4 (of a branch the page below, 6), marks 2, bytes of the key 2, key, value

A value that is too large lies on pages of its own, and the number of the first stands in its place; that page has the
number of its pages where others have the end of the pointers.
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path

from bnfold.errors import ParseError

HEADER = 16
# Marks; magic, version; size of a page; flags of the tree of records, their number, root; last page, transaction.
_META = struct.Struct("<10xH4x 2I 16x I44x 4xH26x2Q 2Q")
_PAGE = struct.Struct("<Q2x3H")
_APART_PAGE = struct.Struct("<Q2xHI")
_NODE = struct.Struct("<4H")
_BRANCH, _LEAF, _OVERFLOW, _METAS, _KINDS = 1, 2, 4, 8, 0x6F
_APART = 1
_NOWHERE = (1 << 64) - 1
_SIZES = frozenset(1 << power for power in range(9, 17))


@dataclass(frozen=True, slots=True)
class Pages:
    """The pages of a database; `==` tells whether two are of the same state of the same one.

    Attributes:
        size: bytes of each.
        last: the number of the last.
        transaction: the one that wrote last.
        count: records, as the file says.
        root: the page on top; none is there where there is no record.
        flags: how keys are ordered, 0 by their bytes.
    """

    size: int
    last: int
    transaction: int
    count: int
    root: int
    flags: int

    @classmethod
    def of(cls, content: mmap.mmap, path: Path) -> Pages:
        """Those of a file. Raises ParseError where it is no LMDB, or cut off."""
        found: list[Pages] = []
        for place in range(2):
            at = place * found[0].size if found else 0
            if at + _META.size > len(content):
                break
            marks, magic, version, size, flags, count, root, last, transaction = _META.unpack_from(content, at)
            if not marks & _METAS or (magic, version) != (0xBEEFC0DE, 1) or size not in _SIZES:
                break
            found.append(cls(size, last, transaction, count, root, flags))
        if len(found) != 2 or found[0].size != found[1].size:
            raise ParseError("is no LMDB, or a damaged one; copy it again", path)
        pages = max(found, key=lambda each: each.transaction)
        if pages.flags:
            raise ParseError("has keys that are numbers, or several values of one, and Caffe's LMDBs have not", path)
        if (whole := (pages.last + 1) * pages.size) > len(content):
            raise damaged(path, f"it has {len(content):,} bytes of {whole:,}")
        return pages

    def keys(self, content: mmap.mmap, path: Path) -> list[bytes]:
        """The keys in their order, after a look at all pages. Raises ParseError where liblmdb could not go by them."""
        keys: list[bytes] = []
        seen = bytearray(self.last + 1)
        waiting = [] if self.root == _NOWHERE else [self.root]
        while waiting:
            number = waiting.pop()
            if not 2 <= number <= self.last or seen[number]:
                raise damaged(path, f"page {number:,} is outside, or has two places")
            seen[number] = 1
            begin = number * self.size
            itself, marks, lower, upper = _PAGE.unpack_from(content, begin)
            if itself != number or marks & _KINDS not in (_BRANCH, _LEAF) or not HEADER < lower <= upper <= self.size:
                raise damaged(path, f"page {number:,} has none of its headers")
            below = []
            for offset in struct.unpack_from(f"<{(lower - HEADER) // 2}H", content, begin + HEADER):
                if not upper <= offset <= self.size - _NODE.size:
                    raise damaged(path, f"page {number:,} points outside itself")
                low, high, flags, length = _NODE.unpack_from(content, begin + offset)
                at = offset + _NODE.size + length
                if at > self.size:
                    raise damaged(path, f"a key on page {number:,} leaves it")
                if marks & _BRANCH:
                    below.append(low | high << 16 | flags << 32)
                    continue
                many = low | high << 16
                if flags not in (0, _APART) or at + (8 if flags else many) > self.size:
                    raise damaged(path, f"a record on page {number:,} leaves it, or is none")
                key = content[begin + at - length : begin + at]
                if keys and key <= keys[-1]:
                    raise damaged(path, f"the key '{key.decode(errors='backslashreplace')}' is out of order")
                keys.append(key)
                if flags:
                    self._check_apart(content, begin + at, many, path)
            if marks & _BRANCH and len(below) < 2:
                raise damaged(path, f"page {number:,} leads to a single one")
            waiting += reversed(below)
        if len(keys) != self.count:
            raise damaged(path, f"it says that it has {self.count:,} records, and has {len(keys):,}")
        return keys

    def _check_apart(self, content: mmap.mmap, at: int, many: int, path: Path) -> None:
        """A value that lies on pages of its own, whose number stands at `at`. Raises ParseError."""
        number = int.from_bytes(content[at : at + 8], "little")
        itself, marks, count = _APART_PAGE.unpack_from(content, number * self.size) if number <= self.last else (0,) * 3
        wanted = (HEADER + many - 1) // self.size + 1
        if (itself, marks & _KINDS, count) != (number, _OVERFLOW, wanted) or number + count > self.last + 1:
            raise damaged(path, f"page {number:,} has none of a record's headers")


def damaged(path: Path, what: str) -> ParseError:
    """What is raised of a database that is damaged."""
    return ParseError(f"is a damaged LMDB: {what}; copy it again", path)
