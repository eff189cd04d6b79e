"""Splits texts into words, in the same way for queries and for indexed texts.

A word is a run of letters and digits with their combining marks, such as vowels in Hindi. Case and
accents make no difference.
"""

from __future__ import annotations

import itertools
import re
import unicodedata

_WORD = re.compile(r"[^\W_]+")
_ACCENTS = re.compile("[\u0300-\u036f]")
# Variation selectors distinguish emoji from plain digits, but not words.
_VARIANTS = re.compile("[\ufe00-\ufe0f\U000e0100-\U000e01ef]")
_MARKS = frozenset({"Mn", "Mc"})


def split_words(text: str) -> list[str]:
    """The words of a text in lower case, with accents."""
    lower = unicodedata.normalize("NFC", text).lower()
    if lower.isascii():
        return _WORD.findall(lower)
    runs = itertools.groupby(_VARIANTS.sub("", lower), _is_of_word)
    words = ("".join(letters) for is_word, letters in runs if is_word)
    # A mark alone, as after an emoji, is not a word.
    return [word for word in words if _WORD.search(word)]


def is_word(text: str) -> bool:
    """Whether `split_words` could return the text as a word."""
    return all(map(_is_of_word, text)) and _WORD.search(text) is not None


def folded(word: str) -> str:
    """A word without accents; words that are equal in this form are the same word."""
    return unicodedata.normalize("NFC", _ACCENTS.sub("", unicodedata.normalize("NFD", word)))


def _is_of_word(letter: str) -> bool:
    return letter.isalnum() or unicodedata.category(letter) in _MARKS
