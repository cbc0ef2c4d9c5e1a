"""What can go wrong, as sentences that a user can act on.

    BnfoldError                 anything that this package raises on purpose
    ├── UsageError              the call itself is wrong (an option, a combination, an output path)
    ├── ModelError              a model cannot be read or makes no sense as a network
    │   ├── ParseError          a file is not what its name promises; carries file, line and column
    │   └── WeightsError        the weights do not fit the network
    ├── UnsupportedError        a network is sound, but what was asked of it cannot be done exactly
    └── WriteError              an output could not be written; the old file is as it was
    LeftoverWarning             outputs are whole, and something is left beside them

Each message names the file or the layer, says what is wrong and, where there is a way out, what to do.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

MAX_GUESSES = 20
MAX_SLIPS = 500
MAX_GUESSED = 60
PLURALS = {"axis": "axes", "box": "boxes", "index": "indices"}
LEAST_ALIKE = 0.7  # of difflib's ratio: "Elementwise" may mean Eltwise, and "ConvLSTM" is no LSTM
PARAM = "_param"
ACRONYM = 3  # letters of a layer's name that is as close to others by chance: bn, gn, grn, lrn, mvn, rnn
SHORT = 5  # letters in which only one may be wrong


class BnfoldError(Exception):
    """The root of every error that bnfold raises on purpose; `str(error)` is one sentence for the user.

    A name that a mapping does not have, as in `net["conv1"]`, is a KeyError as everywhere in Python.
    """


class UsageError(BnfoldError):
    """The call is wrong: an unknown blob, two options that exclude each other, an output onto an input."""


class ModelError(BnfoldError):
    """A model cannot be read, or what it says is not a network."""


class ParseError(ModelError):
    """A file is malformed at a known place.

    Args:
        message: what is wrong there, without the place.
        file: the file, or None for text that came from memory.
        line: 1-based line, or None where lines mean nothing (a binary file).
        column: 1-based column, or None.
    """

    def __init__(
        self, message: str, file: Path | None = None, line: int | None = None, column: int | None = None
    ) -> None:
        self.file, self.line, self.column = file, line, column
        place = ":".join(str(part) for part in (file, line, column) if part is not None)
        super().__init__(f"{place}: {message}" if place else message)


class WeightsError(ModelError):
    """The caffemodel does not give the network what it needs: missing, misshapen or not finite."""


class UnsupportedError(BnfoldError):
    """Something sound that cannot be done exactly; lists every case at once.

    Args:
        message: the sentence that introduces the cases.
        cases: one sentence for each layer concerned.
    """

    def __init__(self, message: str, cases: Sequence[str] = ()) -> None:
        self.cases = tuple(cases)
        super().__init__("\n  ".join((message, *self.cases)))


class WriteError(BnfoldError):
    """An output could not be written whole; what stood there before is untouched."""


class LeftoverWarning(UserWarning):
    """All outputs are whole; something beside them could not be removed, or is of no more use, or a disk did not do."""


# What their sentences are made of.


@contextmanager
def telling_which(name: str, files: Iterable[Path] = ()) -> Iterator[None]:
    """Put a network's name, where it has one, in front of an error that names neither it nor its files."""
    try:
        yield
    except BnfoldError as error:
        if not any(str(known) in str(error) for known in (name, *files)):
            error.args = (f"{name}: {error}",)
        raise


def quoted(names: Iterable[str]) -> str:
    """Names in a sentence: `'conv1', 'bn1'`."""
    return ", ".join(f"'{name}'" for name in names)


def named(noun: str, names: Sequence[str]) -> str:
    """Names behind what they are of, in one number or the other.

    Examples:
        >>> named("output", ["a"]), named("output", ["a", "b"])
        ("output 'a'", "outputs 'a', 'b'")
    """
    said = few([f"'{name}'" for name in names])
    return f"{noun}{'s' * (len(names) != 1)} {said}"


def counted(number: int, noun: str) -> str:
    """A number of things, in one number or the other.

    Examples:
        >>> counted(1, "bottom"), counted(1_000, "axis"), counted(2, "box")
        ('1 bottom', '1,000 axes', '2 boxes')
    """
    return f"{number:,} {plural(noun, number)}"


def plural(noun: str, number: int) -> str:
    """A noun behind a number.

    Examples:
        >>> plural("sample", 1), plural("sample", 2), plural("axis", 2)
        ('sample', 'samples', 'axes')
    """
    return noun if number == 1 else PLURALS.get(noun, f"{noun}s")


def is_or_are(words: Collection[str]) -> str:
    """The verb of a sentence on some words."""
    return "is" if len(words) == 1 else "are"


def few(words: Sequence[str], most: int = 6) -> str:
    """The first of some words, and how many more there are.

    Examples:
        >>> few(["a", "b"]), few(list("abcdefgh"), 3)
        ('a, b', 'a, b, c and 5 more')
    """
    return ", ".join(words[:most]) + (f" and {len(words) - most:,} more" if len(words) > most else "")


def first_of(alike: Sequence[str]) -> str:
    """The first of some sentences that say the same of others, and how many more there are.

    Examples:
        >>> first_of(["'a' stays"]), first_of(["'a' stays", "'b' stays"])
        ("'a' stays", "'a' stays (and 1 more like this)")
    """
    return alike[0] + (f" (and {len(alike) - 1:,} more like this)" if len(alike) > 1 else "")


def listed(words: Sequence[str]) -> str:
    """Words in a sentence, the last one behind "and".

    Examples:
        >>> listed(["a"]), listed(["a", "b"]), listed(["a", "b", "c"])
        ('a', 'a and b', 'a, b and c')
    """
    *others, last = words
    return f"{', '.join(others)} and {last}" if others else last


def as_subject(paths: Sequence[Path]) -> str:
    """Some files as the beginning of a sentence on what became of them."""
    return f"{', '.join(map(str, paths))} {'was' if len(paths) == 1 else 'were'}"


def is_everyday(error: float) -> bool:
    """Whether an error is large enough to be written without an exponent: 0.97 of a range, and not 9.7e-01."""
    return 0.01 <= abs(error) < 99.5


def with_article(noun: str) -> str:
    """A noun with its indefinite article, by how it is said: letters that are spelt out count as such.

    Examples:
        >>> with_article("ReLU"), with_article("Eltwise"), with_article("LSTM"), with_article("Accuracy")
        ('a ReLU', 'an Eltwise', 'an LSTM', 'an Accuracy')
    """
    spelt = len(noun) > 1 and noun[:2].isupper()
    return f"{'an' if noun[:1] in ('AEFHILMNORSX' if spelt else 'AEIOaeio') else 'a'} {noun}"


class Guesses:
    """Guesses at a millisecond each, so they are for typos and not for all words of a hostile file."""

    def __init__(self) -> None:
        self._made = 0
        self._slips: dict[tuple[str, str], str] = {}

    def at(self, word: str, words: Collection[str]) -> str:
        """` (did you mean 'num_output'?)`, or nothing where no word is close or enough was guessed."""
        self._made += 1
        close = _closest(word, words, LEAST_ALIKE) if self._made <= MAX_GUESSES else ""
        return f" (did you mean '{close}'?)" if close else ""

    def slip(self, word: str, words: Collection[str], of: str) -> str:
        """The known word, of those `of` a message or enum, that `word` is a slip of; empty where it is its own word.

        One letter or two are wrong, or the parts stand in another order (`output_num`). What differs in a number or in
        a part of one letter (`pad_l` beside `pad_h`, `relu6` beside `relu`), and what parameters are called by three
        letters (`gn_param`), is another name and no slip.
        """
        key = word, of
        if key not in self._slips:
            if len(self._slips) >= MAX_SLIPS or len(word) > MAX_GUESSED:
                return ""
            slips = [known for known in words if _is_slip(word, known)]
            self._slips[key] = min(slips, key=lambda known: _distance(word.lower(), known.lower()), default="")
        return self._slips[key]


def did_you_mean(word: str, words: Collection[str]) -> str:
    """` (did you mean 'conv1'?)` for a name that a user typed, or nothing."""
    close = _closest(word, words, 0.6)
    return f" (did you mean '{close}'?)" if close else ""


def did_you_mean_of(word: str, words: Collection[str]) -> str:
    """The same; where no name is close, some of those that there are.

    Examples:
        >>> did_you_mean_of("cnv1", ["conv1"]), did_you_mean_of("x", ["data"]), did_you_mean_of("x", ["a", "b"])
        (" (did you mean 'conv1'?)", " (there is 'data')", " (there are 'a', 'b')")
    """
    quoted_words = [f"'{known}'" for known in words]
    return did_you_mean(word, words) or f" (there {is_or_are(quoted_words)} {few(quoted_words)})" * bool(words)


def did_you_mean_blob(word: str, blobs: Collection[str], option: str = "") -> str:
    """The same for a blob, and for several of them joined by commas behind an option that takes one.

    Of versions made in place, `conv1@bn1`, only who types an @ hears. A file has one name for all of them, which the
    last one keeps, so that it is among the blobs.

    Examples:
        >>> did_you_mean_blob("x", ["c@conv", "c@bn", "c"]), did_you_mean_blob("c@b", ["c@conv", "c@bn", "c"])
        (" (there is 'c')", " (did you mean 'c@bn'?)")
    """
    known = set(blobs)
    if option and not known.isdisjoint(part.strip() for part in word.split(",")):
        return one_by_one(option)
    return did_you_mean_of(word, [name for name in blobs if "@" in word or name.rpartition("@")[0] not in known])


def one_by_one(option: str) -> str:
    """What to do with several names behind an option that takes one."""
    return f"; several are given one by one, each behind its own {option}"


def _closest(word: str, words: Collection[str], cutoff: float) -> str:
    """The known word of the same letters (`ChannelShuffle`), else the closest, whatever its case; or nothing."""
    from difflib import get_close_matches  # for those alone who mistype

    if len(word) > MAX_GUESSED:
        return ""
    folded = {known.lower(): known for known in words}
    letters = sorted(word.lower())
    if turned := next((known for lower, known in folded.items() if sorted(lower) == letters), ""):
        return turned
    return "".join(folded[close] for close in get_close_matches(word.lower(), folded, n=1, cutoff=cutoff))


def _is_slip(word: str, known: str) -> bool:
    if word.endswith(PARAM) and known.endswith(PARAM):  # which tells nothing: gn_param is no slip of bn_param
        word, known = word.removesuffix(PARAM), known.removesuffix(PARAM)
        if len(word) <= ACRONYM:
            return False
    if abs(len(word) - len(known)) > 2 or _stem(word) == _stem(known):
        return False
    if sorted(word.lower().split("_")) == sorted(known.lower().split("_")):
        return True
    most = 1 if len(word) <= SHORT else 2
    return _distance(word.lower(), known.lower()) <= most


def _stem(word: str) -> str:
    """A name without its numbers and its parts of one letter."""
    return re.sub(r"\d+|_[A-Za-z](?=_|$)", "", word)


def _distance(one: str, other: str) -> int:
    """How many letters must be put in, taken out, changed, or swapped with the next one (Damerau, Levenshtein)."""
    rows = [list(range(len(other) + 1))]
    for i, a in enumerate(one, 1):
        row = [i]
        for j, b in enumerate(other, 1):
            best = min(rows[-1][j] + 1, row[-1] + 1, rows[-1][j - 1] + (a != b))
            if i > 1 and j > 1 and a == other[j - 2] and one[i - 2] == b:
                best = min(best, rows[-2][j - 2] + 1)
            row.append(best)
        rows.append(row)
    return rows[-1][-1]
