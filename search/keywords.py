"""Ranks items by the query's words that they contain.

An item's score is the sum, over the query's words, of the word's rarity times the weight of the
best field that contains it:

    score(item) = Σ over words  weight(word) · idf(word) · max over fields with it  field weight

with BM25's idf (Robertson & Zaragoza, 2009, section 3.3.1) over contents. Lengths and repetitions
do not count: titles, tags and captions are short, and a word twice in a path says no more. An
item's strength, from 0 to below 1, is its score as a share of that of a text with all words in the
best field. Function words are ignored.

Rarity decides the order alone. An item with all words in its names (title, tags, file and folder
names) is `complete`, however many others have them: something matches. It is `named`, and comes
first, if the words are a whole name, were asked for as a phrase, or one of them has digits, as in
IMG_0012: models know nothing of those.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from regard.core.catalog import NAME_FIELDS, WORD_FIELDS, Occurrences, WordField, Words
from regard.core.records import BoolArray, Float32Array, Float64Array, Int64Array, Target
from regard.core.words import split_words, telling_words
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
# Lowers the strength of common words: one of this idf counts half.
_HALF_IDF = 1.0
# Longer texts are hardly searches, and each word costs two lookups.
MOST_WORDS = 16
# File names are indexed without suffixes, and searched with or without.
_SUFFIX = re.compile(
    rf"(?<=\w)(?:{'|'.join(re.escape(suffix.decode()) for suffix in sorted(PHOTO_SUFFIXES))})(?!\w)",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class WeightedWords:
    """Words to look up, their weight, and the place of their text among those of the query."""

    words: Words
    weight: float = 1.0
    text: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class KeywordRanking:
    """Items (n,) that contain words of a query, best first, ties by id.

    `ranks` start at 1, and are equal for equal scores. `regions` are the regions of matching
    captions, or 0. `fields` (n, w) are the places in `WORD_FIELDS` where an item has each word, or
    -1. `named` items come first; `is_complete` says whether any item has all words in its names.
    """

    words: tuple[Words, ...]
    items: Int64Array
    scores: Float32Array
    strengths: Float32Array
    ranks: Int64Array
    contents: Int64Array
    regions: Int64Array
    fields: Int64Array
    named: BoolArray
    is_complete: bool


def words_of(
    text: str, *, phrase: bool = False, weight: float = 1.0, place: int = 0
) -> list[WeightedWords]:
    """The words of a text to look up, without function words, or all of them as a `phrase`.

    The last item looks for a whole name, unless the text is long. Suffixes of file names are
    removed, as in the index.
    """
    words = split_words(_SUFFIX.sub(" ", text))
    if phrase:
        return [WeightedWords(Words(tuple(words), exact=True), weight, place)] if words else []
    telling = telling_words(words)
    found = [WeightedWords(Words((word,)), weight, place) for word in telling[:MOST_WORDS]]
    if 0 < len(telling) < MOST_WORDS:
        found.append(WeightedWords(Words(tuple(telling), exact=True, whole=True), 0.0, place))
    return found


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
    worth = rarity * np.asarray([item.weight for item in asked])  # (w,)
    # The best field of each item and word.
    held = np.zeros((len(ids), len(asked)))  # (n, w)
    np.maximum.at(held, (rows, places), _WEIGHTS[fields])
    where = np.full((len(ids), len(asked)), -1, np.int64)
    best = _WEIGHTS[fields] == held[rows, places]
    where[rows[best], places[best]] = fields[best]
    scores = held @ worth
    in_names = np.zeros(held.shape, np.bool_)
    is_name = _IS_NAME[fields]
    in_names[rows[is_name], places[is_name]] = True
    complete, named = _completeness(asked, in_names)
    of_content = np.zeros(len(ids), np.int64)
    of_content[rows] = contents
    of_region = np.zeros(len(ids), np.int64)
    of_region[rows] = regions
    looked_up = [place for place, item in enumerate(asked) if not item.words.whole]
    chosen = np.flatnonzero(scores > 0)
    strengths = scores / (worth.sum() + _HALF_IDF)
    scores += worth.sum() * named
    order = chosen[np.lexsort((ids[chosen], -scores[chosen]))]
    scores = scores[order]
    return KeywordRanking(
        words=tuple(asked[place].words for place in looked_up),
        items=ids[order],
        scores=scores.astype(np.float32),
        strengths=strengths[order].astype(np.float32),
        ranks=np.searchsorted(-scores, -scores) + 1,
        contents=of_content[order],
        regions=of_region[order],
        fields=where[order][:, looked_up],
        named=named[order],
        is_complete=bool(complete.any()),
    )


def _completeness(
    asked: Sequence[WeightedWords], in_names: BoolArray
) -> tuple[BoolArray, BoolArray]:
    """Which of n items are `complete` and `named`, by the words (n, w) that their names have."""
    complete = np.full(len(in_names), bool(asked))
    named = complete.copy()
    for text in {item.text for item in asked}:
        of_text = [place for place, item in enumerate(asked) if item.text == text]
        whole = [place for place in of_text if asked[place].words.whole]
        words = [place for place in of_text if not asked[place].words.whole]
        has_whole = in_names[:, whole].any(axis=1)
        has_all = in_names[:, words].all(axis=1) | has_whole
        is_literal = any(asked[place].words.exact for place in words) or any(
            letter.isdigit() for place in words for letter in asked[place].words.words[0]
        )
        complete &= has_all
        named &= has_all if is_literal else has_whole
    return complete, named


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
_IS_NAME = np.asarray([field in NAME_FIELDS for field in WORD_FIELDS])
