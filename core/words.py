"""Words of a text, in one way for whoever writes queries and whoever holds texts to them.

A word is a run of letters and digits with the marks that belong to them, as vowels do in Hindi; capitals
and accents make no difference.
"""

from __future__ import annotations

import itertools
import re
import unicodedata

_WORD = re.compile(r"[^\W_]+")
_ACCENTS = re.compile("[\u0300-\u036f]")
# Emoji and plain digits differ by these, words do not.
_VARIANTS = re.compile("[\ufe00-\ufe0f\U000e0100-\U000e01ef]")
_MARKS = frozenset({"Mn", "Mc"})


def split_words(text: str) -> list[str]:
    """The words of a text in lower case, accents kept."""
    lower = unicodedata.normalize("NFC", text).lower()
    if lower.isascii():
        return _WORD.findall(lower)
    runs = itertools.groupby(_VARIANTS.sub("", lower), _is_of_word)
    words = ("".join(letters) for is_word, letters in runs if is_word)
    # A mark alone, as after an emoji, says nothing.
    return [word for word in words if _WORD.search(word)]


def is_word(text: str) -> bool:
    """Whether a text could be one of the words that `split_words` gives."""
    return all(map(_is_of_word, text)) and _WORD.search(text) is not None


def folded(word: str) -> str:
    """A word without its accents: what is equal by this is the same word."""
    return unicodedata.normalize("NFC", _ACCENTS.sub("", unicodedata.normalize("NFD", word)))


def _is_of_word(letter: str) -> bool:
    return letter.isalnum() or unicodedata.category(letter) in _MARKS
