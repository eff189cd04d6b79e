"""Words of a text, in one way for whoever writes queries and whoever holds texts to them.

A word is a run of letters and digits; capitals and accents make no difference.
"""

from __future__ import annotations

import re
import unicodedata

_WORD = re.compile(r"[^\W_]+")
_ACCENTS = re.compile("[\u0300-\u036f]")


def split_words(text: str) -> list[str]:
    """The words of a text in lower case, accents kept."""
    return _WORD.findall(unicodedata.normalize("NFC", text).lower())


def folded(word: str) -> str:
    """A word without its accents: what is equal by this is the same word."""
    return unicodedata.normalize("NFC", _ACCENTS.sub("", unicodedata.normalize("NFD", word)))
