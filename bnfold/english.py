"""What English wants of the words in a sentence."""

from __future__ import annotations


def with_article(noun: str) -> str:
    """A noun with its indefinite article, by how it is said: letters that are spelt out count as such.

    Example:
        >>> with_article("ReLU"), with_article("Eltwise"), with_article("LSTM"), with_article("Accuracy")
        ('a ReLU', 'an Eltwise', 'an LSTM', 'an Accuracy')
    """
    spelt = len(noun) > 1 and noun[:2].isupper()
    return f"{'an' if noun[:1] in ('AEFHILMNORSX' if spelt else 'AEIOaeio') else 'a'} {noun}"
