"""Ranks items by the query's words that they contain.

An item's score is the sum, over the query's words, of the word's rarity times the weight of the
best field that contains it:

    score(item) = Σ over words  weight(word) · idf(word) · max over fields with it  field weight

with BM25's idf (Robertson & Zaragoza, 2009, section 3.3.1) over contents. Lengths and repetitions
do not count: titles, tags and captions are short, and a word twice in a path says no more. An
item's strength, from 0 to below 1, is its score as a share of that of a text with all words in the
best field. Function words, and words of nearly every content, are ignored.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from regard.core.catalog import WORD_FIELDS, Occurrences, WordField, Words
from regard.core.records import Float32Array, Float64Array, Int64Array, Target
from regard.core.words import folded, split_words
from regard.photos.formats import PHOTO_SUFFIXES
from regard.search.answers import WordMatch

# The weight of a word by field: most for what a person wrote, least for what models wrote, as they
# err.
FIELD_WEIGHTS: Mapping[WordField, float] = {
    WordField.TITLE: 1.0,
    WordField.TAG: 1.0,
    WordField.FILE_NAME: 0.8,
    WordField.DESCRIPTION: 0.6,
    WordField.FOLDER: 0.6,
    WordField.CAPTION: 0.2,
    WordField.REGION_CAPTION: 0.2,
}
# Words that more than about three of four contents have are ignored.
_LEAST_IDF = 0.3
# Lowers the strength of common words: one of this idf counts half.
_HALF_IDF = 1.0
# Longer texts are hardly searches, and each word costs two lookups.
MOST_WORDS = 16
# File names are indexed without suffixes, and searched with or without.
_SUFFIX = re.compile(
    rf"(?<=\w)(?:{'|'.join(re.escape(suffix.decode()) for suffix in sorted(PHOTO_SUFFIXES))})(?!\w)",
    re.IGNORECASE,
)
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


@dataclass(frozen=True, slots=True)
class WeightedWords:
    """Words to look up, and their weight."""

    words: Words
    weight: float = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class KeywordRanking:
    """Items (n,) that contain words of a query, best first, ties by id.

    `ranks` start at 1, and are equal for equal scores. `regions` are the regions of matching
    captions, or 0. `fields` (n, w) are the places in `WORD_FIELDS` where an item has each word, or
    -1.
    """

    words: tuple[Words, ...]
    items: Int64Array
    scores: Float32Array
    strengths: Float32Array
    ranks: Int64Array
    contents: Int64Array
    regions: Int64Array
    fields: Int64Array


def words_of(text: str, *, phrase: bool = False, weight: float = 1.0) -> list[WeightedWords]:
    """The words of a text to look up, without function words, or all of them as a `phrase`.

    A text of function words only keeps them: "The Who" is a name. Suffixes of file names are
    removed, as in the index.
    """
    words = split_words(_SUFFIX.sub(" ", text))
    if phrase:
        return [WeightedWords(Words(tuple(words), exact=True), weight)] if words else []
    distinct = {folded(word): word for word in reversed(words)}
    telling = [word for key, word in distinct.items() if key not in _SILENT] or distinct.values()
    return [WeightedWords(Words((word,)), weight) for word in [*telling][::-1][:MOST_WORDS]]


def rank_words(
    asked: Sequence[WeightedWords], found: Occurrences, target: Target
) -> KeywordRanking:
    """Rank contents, or regions by their own captions, as the module describes."""
    items = found.contents if target is Target.IMAGE else found.regions
    kept = items > 0
    places, contents, regions = found.places[kept], found.contents[kept], found.regions[kept]
    fields = found.fields[kept]
    ids, rows = np.unique(items[kept], return_inverse=True)
    # The frequency of words is counted in contents for either target.
    base = int(found.contents.max(initial=0)) + 1
    pairs = np.unique(found.places * base + found.contents)
    frequencies = np.bincount(pairs // base, minlength=len(asked))[: len(asked)]
    for place, texts in found.more.items():
        frequencies[place] = min(max(frequencies[place], texts), found.total)
    rarity = _inverse_frequencies(frequencies, found.total)
    rarity[rarity < _LEAST_IDF] = 0.0
    worth = rarity * np.asarray([item.weight for item in asked])  # (w,)
    # The best field of each item and word.
    held = np.zeros((len(ids), len(asked)))  # (n, w)
    np.maximum.at(held, (rows, places), _WEIGHTS[fields])
    where = np.full((len(ids), len(asked)), -1, np.int64)
    best = _WEIGHTS[fields] == held[rows, places]
    where[rows[best], places[best]] = fields[best]
    scores = held @ worth
    of_content = np.zeros(len(ids), np.int64)
    of_content[rows] = contents
    of_region = np.zeros(len(ids), np.int64)
    of_region[rows] = regions
    chosen = np.flatnonzero(scores > 0)
    order = chosen[np.lexsort((ids[chosen], -scores[chosen]))]
    scores = scores[order]
    return KeywordRanking(
        words=tuple(item.words for item in asked),
        items=ids[order],
        scores=scores.astype(np.float32),
        strengths=(scores / (worth.sum() + _HALF_IDF)).astype(np.float32),
        ranks=np.searchsorted(-scores, -scores) + 1,
        contents=of_content[order],
        regions=of_region[order],
        fields=np.where(worth > 0, where[order], -1),
    )


def word_matches(ranking: KeywordRanking, place: int) -> tuple[WordMatch, ...]:
    """The query's words that the item at a place contains, with their fields."""
    return tuple(
        WordMatch(" ".join(words.words), WORD_FIELDS[field])
        for words, field in zip(ranking.words, ranking.fields[place].tolist(), strict=True)
        if field >= 0
    )


def _inverse_frequencies(frequencies: Int64Array, total: int) -> Float64Array:
    missing = np.maximum(total - frequencies, 0)
    return np.log1p((missing + 0.5) / (frequencies + 0.5))


_WEIGHTS = np.asarray([FIELD_WEIGHTS[field] for field in WORD_FIELDS])
