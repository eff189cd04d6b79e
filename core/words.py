"""Splits texts into words, in the same way for queries and for indexed texts.

A word is a run of letters and digits with their combining marks, such as vowels in Hindi. Case,
accents and compatible forms (NFKC), such as full width, make no difference.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Sequence

_WORD = re.compile(r"[^\W_]+")
_ACCENTS = re.compile("[\u0300-\u036f]")
# Variation selectors distinguish emoji from plain digits, but not words.
_VARIANTS = re.compile("[\ufe00-\ufe0f\U000e0100-\U000e01ef]")
_MARKS = frozenset({"Mn", "Mc"})
# Letters that are not others with an accent, as people write them without a key for them.
_PLAIN = {"ß": "ss", "æ": "ae", "œ": "oe", "ø": "o", "ł": "l", "đ": "d", "ð": "d", "ı": "i"}
_AS_PLAIN = str.maketrans(_PLAIN)
_AS_DIGRAPHS = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ø": "oe", "å": "aa"})
# A digraph within a word that is hardly one by chance.
_DIGRAPH = re.compile("(?<=[b-df-hj-np-tv-z])([aou])e(?=[b-df-hj-np-tv-z])(?!s$)")
_SHORTEST_DIGRAPH_WORD = 5
# The spellings of longer ones could be too many for a query of PostgreSQL.
_LONGEST_RESPELLED = 50
# The other way round, and accents that are left out in capitals.
_OTHER_LETTERS = (
    *((usual, letter) for letter, usual in _PLAIN.items()),
    *(("е", "ё"), *zip("αεηιουω", "άέήίόύώ", strict=True)),
)


def split_words(text: str) -> list[str]:
    """The words of a text in lower case, with accents."""
    lower = unicodedata.normalize("NFC", text).lower()
    if lower.isascii():
        return _WORD.findall(lower)
    runs = itertools.groupby(_VARIANTS.sub("", lower), _is_of_word)
    words = ("".join(letters) for is_word, letters in runs if is_word)
    # A mark alone, as after an emoji, is not a word.
    return [word for word in words if _WORD.search(word)]


def telling_words(words: Sequence[str]) -> list[str]:
    """The distinct words without function words; all of them if there are no others.

    "The Who" is a name.
    """
    distinct = {folded(word): word for word in reversed(words)}
    telling = [word for key, word in distinct.items() if key not in _SILENT]
    return (telling or [*distinct.values()])[::-1]


def is_function_word(word: str) -> bool:
    """Whether a word in lower case is a function word, or applies to every photograph."""
    return folded(word) in _SILENT


def is_word(text: str) -> bool:
    """Whether `split_words` could return the text as a word."""
    if _WORD.fullmatch(text):
        return True
    return all(map(_is_of_word, text)) and _WORD.search(text) is not None


def composed(text: str) -> str:
    """The text with composed letters (NFC): texts that look the same are then equal."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def is_latin(letter: str) -> bool:
    """Whether a letter is of the Latin script, or an ASCII digit."""
    return letter.isascii() or unicodedata.name(letter, "").startswith("LATIN ")


def folded(word: str) -> str:
    """A word in plain form; words that are equal in this form are the same word."""
    if word.isascii():
        return word.lower()
    return unicodedata.normalize("NFKC", unaccented(unicodedata.normalize("NFKC", word))).lower()


def respellings(word: str) -> list[str]:
    """A word in lower case as others write it, and as SQLite's index has it, which drops accents
    of Latin letters only: Straße as strasse, Lodz as łodz, Muenchen as munchen."""
    plain, with_digraphs = plain_forms(word)
    bases = [plain]
    if len(plain) >= _SHORTEST_DIGRAPH_WORD:
        bases.append(_DIGRAPH.sub(r"\1", plain))
    spellings = [*bases, with_digraphs]
    if len(word) > _LONGEST_RESPELLED:
        bases = []
    for base, (usual, letter) in itertools.product(dict.fromkeys(bases), _OTHER_LETTERS):
        parts = base.split(usual)
        spellings += (
            usual.join(parts[:cut]) + letter + usual.join(parts[cut:])
            for cut in range(1, len(parts))
        )
        spellings += [letter.join(parts)] if len(parts) > 2 else []
    return [spelling for spelling in dict.fromkeys(spellings) if spelling != word]


def plain_forms(word: str) -> tuple[str, str]:
    """A word in A to Z as far as possible, without accents, and with digraphs for umlauts.

    Words with an equal form are spellings of the same word.
    """
    if word.isascii():
        return (word.lower(),) * 2
    digraphs = unicodedata.normalize("NFC", word).lower().translate(_AS_DIGRAPHS)
    return folded(word).translate(_AS_PLAIN), folded(digraphs).translate(_AS_PLAIN)


def unaccented(word: str) -> str:
    """A word without accents, decomposed (NFD)."""
    return _ACCENTS.sub("", unicodedata.normalize("NFD", word))


def _is_of_word(letter: str) -> bool:
    return letter.isalnum() or unicodedata.category(letter) in _MARKS


# English function words, and words that apply to every photograph.
_SILENT = frozenset(
    split_words("""
    a about after all also am an and any are as at be been before being between both but by can could did
    do does doing down each few for from had has have having he her here hers him his how i if in into is
    it its just me more most my no nor not of off on once only or other our out over own s same she so
    some such t than that the their them then there these they this those through to too under until up
    very was we were what when where which while who whom why will with you your
    image images photo photograph photographs photos picture pictures
    """)
)
