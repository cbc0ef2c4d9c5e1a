"""Numbers as people read them; every rendering for people writes them alike."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from bnfold.errors import is_everyday

if TYPE_CHECKING:
    from bnfold.compare.records import ClassifierDiff


def small(value: float | None) -> str:
    """An error: two figures, or all in front of the point; with an exponent unless it is of everyday size.

    Examples:
        >>> small(0.000123), small(0.87), small(1.0), small(17.2), small(1234.5), small(0.0), small(None)
        ('1.2e-04', '0.87', '1.0', '17', '1,234', '0', '')
    """
    if value is None:
        return ""
    if value == 0:
        return "0"
    if not math.isfinite(value):
        return "∞" if value > 0 else "-∞" if value < 0 else "NaN"
    if 99.5 <= abs(value) < 99_999.5:
        return f"{value:,.0f}"
    return f"{value:#.2g}".rstrip(".") if is_everyday(value) else f"{value:.1e}"


def ordinary(value: float | None) -> str:
    """A value of everyday size: four figures, the zeros among them, so that a column lines up.

    Examples:
        >>> ordinary(12.3456), ordinary(-0.5), ordinary(0.0), ordinary(1234.5), ordinary(123456.0)
        ('12.35', '-0.5000', '0', '1234', '1.235e+05')
    """
    return "" if value is None else f"{value:#.4g}".rstrip(".") if value else "0"


def percent(share: float | None) -> str:
    """A share; only the whole is 100 %.

    Examples:
        >>> percent(0.99444), percent(1.0), percent(49_999 / 50_000), percent(None)
        ('99.44 %', '100 %', '99.99 %', '')
    """
    return "" if share is None else f"{min(share * 100, 100 if share == 1 else 99.99):.4g} %"


def same_answer(found: ClassifierDiff) -> str:
    """The share of the samples with the same answer; "-" where no sample has one, as with scores that are NaN."""
    return percent(found.agreement) if found.samples else "-"


def counted_share(share: float, whole: int) -> str:
    """A share as a count.

    Examples:
        >>> counted_share(2 / 3, 4_500)
        '3,000 of 4,500'
    """
    return f"{round(share * whole):,} of {whole:,}"


def answers(found: ClassifierDiff) -> list[tuple[str, str, str]]:
    """(share, reference, candidate): how often each is right, where labels are known, and how often they agree."""
    agreement = ("same answer", same_answer(found), counted_share(found.agreement, found.samples))
    if not found.labelled:
        return [agreement]
    return [
        ("top-1", percent(found.reference_top1), percent(found.candidate_top1)),
        ("top-5", percent(found.reference_top5), percent(found.candidate_top5)),
        agreement,
    ]


def decibels(value: float) -> str:
    """A ratio in decibels.

    Examples:
        >>> decibels(118.234), decibels(math.inf)
        ('118.2', '∞')
    """
    return f"{value:.1f}" if math.isfinite(value) else small(value)


def bits(number: float) -> str:
    """A number of bits, without a sign on what rounds to nothing.

    Examples:
        >>> bits(2.04), bits(-0.04)
        ('2.0', '0.0')
    """
    return f"{round(number, 1) + 0.0:.1f}"


def near_one(value: float) -> str:
    """A cosine: its distance from 1 is what matters.

    Examples:
        >>> near_one(1.0), near_one(0.99999988), near_one(0.5)
        ('1', '1 - 1.2e-07', '0.5')
    """
    if value >= 1:
        return "1"
    return f"1 - {1 - value:.1e}" if value > 0.99 else f"{value:.4g}"


def middle(name: str, most: int) -> str:
    """A name of at most `most` letters; a longer one loses its middle, since both ends tell layers apart.

    Examples:
        >>> middle("inception_4a/3x3_reduce/bn", 16), middle("conv1", 16)
        ('inceptio…duce/bn', 'conv1')
    """
    if len(name) <= most:
        return name
    head = most // 2
    return f"{name[:head]}…{name[head + 1 - most :]}"


def class_name(label: int, names: Sequence[str]) -> str:
    """What a class is called, or its number where nobody named it."""
    return names[label] if 0 <= label < len(names) else str(label)


def amount(number: int) -> str:
    """A large number in three figures.

    Examples:
        >>> amount(950), amount(999_999), amount(1_534_000), amount(11_558_837_248)
        ('950', '1 M', '1.53 M', '11.6 G')
    """
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if number >= 0.9995 * size:
            return f"{number / size:.3g} {unit}"
    return str(number)


def size(number: int) -> str:
    """A number of bytes.

    Examples:
        >>> size(512), size(4200), size(241_000_000)
        ('512 B', '4.2 kB', '241.0 MB')
    """
    power = min(max(len(str(number)) - 1, 0) // 3, len(UNITS) - 1)
    return f"{number / 1000**power:.{1 if power else 0}f} {UNITS[power]}"


UNITS = ("B", "kB", "MB", "GB", "TB")
