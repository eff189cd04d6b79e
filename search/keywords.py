"""Ranks items by the query's words that they contain.

An item's score is the sum, over the query's words, of the word's rarity times the weight of the
best field that contains it:

    score(item) = Σ over words  weight(word) · idf(word) · max over fields with it  field weight

with BM25's idf (Robertson & Zaragoza, 2009, section 3.3.1) over contents. Lengths and repetitions
do not count: titles, tags and captions are short, and a word twice in a path says no more. An
item's strength, from 0 to below 1, is its score as a share of that of a text with all words in the
best field. Function words are ignored.

Rarity decides the order alone. An item with all words in what people wrote (title, tags,
description, file and folder names, text in the picture) is `complete`, however many others have
them: something matches. Items that the query names come first. Their `naming` says how:
`CONTAINED`, if their names (all but description and text) have the words, and these were asked for
as a phrase or one has digits, as in IMG_0012: models know nothing of those. `WHOLE`, if the words
are a whole name; `EXACT`, if that of the file with its suffix. A sentence is rarely a whole name,
and does not name items that have a part of it: "a cat" is not a name of cat.png.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from regard.core.catalog import NAME_FIELDS, WORD_FIELDS, Occurrences, WordField, Words
from regard.core.records import BoolArray, Float32Array, Float64Array, Int64Array, Target
from regard.core.words import split_words, telling_words
from regard.photos.formats import PHOTO_SUFFIXES, VIDEO_SUFFIXES
from regard.search.answers import WordMatch

# The weight of a word by field: most for what a person wrote, least for what models wrote, as they
# err. Text in the picture was written by people, too.
FIELD_WEIGHTS: Mapping[WordField, float] = {
    WordField.TITLE: 1.0,
    WordField.TAG: 1.0,
    WordField.FILE_NAME: 0.8,
    WordField.DESCRIPTION: 0.6,
    WordField.FOLDER: 0.6,
    WordField.CAPTION: 0.2,
    WordField.REGION_CAPTION: 0.2,
    WordField.TEXT: 0.8,
    # At 0.4, photographs that resemble a word which the models cannot read come before.
    WordField.SIMILAR_TEXT: 0.6,
}
# Lowers the strength of common words: one of this idf counts half.
_HALF_IDF = 1.0
# Longer texts are hardly searches, and each word costs two lookups; a whole name costs one.
MOST_WORDS = 16
_MOST_NAME_WORDS = 64
CONTAINED, WHOLE, EXACT = 1, 2, 3
# File names are indexed without suffixes, and searched with or without.
_SUFFIXES = [re.escape(suffix.decode()) for suffix in sorted(PHOTO_SUFFIXES | VIDEO_SUFFIXES)]
_SUFFIX = re.compile(rf"(?<=[^\s.])(?:{'|'.join(_SUFFIXES)})(?!\w)", re.IGNORECASE)


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
    captions or lines of text, or 0. `read_scores` are what words in text in the picture add to the
    scores, and `read_shares` their shares of the strengths. `lines` (n,) are the lines of text with
    the most words, of contents whose lines have all of them, or 0. `fields` (n, w) are the places in
    `WORD_FIELDS` where an item has each word, or -1. `naming` (n,) is 0 for items that the query
    does not name, and descends; `is_complete` says whether any item has all words in what people
    wrote.
    """

    words: tuple[Words, ...]
    items: Int64Array
    scores: Float32Array
    strengths: Float32Array
    ranks: Int64Array
    contents: Int64Array
    regions: Int64Array
    read_scores: Float32Array
    read_shares: Float64Array
    lines: Int64Array
    fields: Int64Array
    naming: Int64Array
    is_complete: bool


def words_of(
    text: str, *, phrase: bool = False, weight: float = 1.0, place: int = 0
) -> list[WeightedWords]:
    """The words of a text to look up, without function words, or all of them as a `phrase`.

    Suffixes of file names are removed, as in the index. The last items look for a whole name, unless
    the text is long.
    """
    words = split_words(_SUFFIX.sub(" ", text))
    if phrase:
        found = [Words(tuple(words), exact=True)] if words else []
    else:
        found = [Words((word,)) for word in telling_words(words)[:MOST_WORDS]]
    weighted = [WeightedWords(item, weight, place) for item in found]
    return weighted + [WeightedWords(item, 0.0, place) for item in _whole_names(text)]


def _whole_names(text: str) -> list[Words]:
    """The names that a whole text may be: with a suffix, that of a file, or a title that has it."""
    last = [match for match in _SUFFIX.finditer(text) if not text[match.end() :].strip()]
    stem, suffix = (text[: last[0].start()], last[0][0][1:].lower()) if last else (text, "")
    words = tuple(split_words(stem))
    if not 0 < len(words) <= _MOST_NAME_WORDS:
        return []
    names = [Words(words, exact=True, whole=True)]
    if suffix:
        names.append(Words((*words, suffix), exact=True, whole=True))
        names.append(Words(words, exact=True, whole=True, suffix=suffix))
    return names


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
    missing = np.maximum(found.total - frequencies, 0)
    rarity = np.log1p((missing + 0.5) / (frequencies + 0.5))
    worth = rarity * np.asarray([item.weight for item in asked])  # (w,)
    # The best field of each item and word.
    held = np.zeros((len(ids), len(asked)))  # (n, w)
    np.maximum.at(held, (rows, places), _WEIGHTS[fields])
    where = np.full((len(ids), len(asked)), -1, np.int64)
    best = _WEIGHTS[fields] == held[rows, places]
    where[rows[best], places[best]] = fields[best]
    scores = held @ worth
    read_scores = (held * _IS_LINE[where]) @ worth
    read_shares = np.divide(read_scores, scores, out=np.zeros_like(scores), where=scores > 0)
    in_written, in_names = np.zeros((2, *held.shape), np.bool_)
    is_written, is_name = _IS_WRITTEN[fields], _IS_NAME[fields]
    in_written[rows[is_written], places[is_written]] = True
    in_names[rows[is_name], places[is_name]] = True
    is_complete = bool(_have_all_words(asked, in_written).any())
    naming = _naming(asked, in_names)
    of_content = np.zeros(len(ids), np.int64)
    of_content[rows] = contents
    of_region = np.zeros(len(ids), np.int64)
    of_region[rows] = regions
    lines = np.zeros(len(ids), np.int64)
    if target is Target.IMAGE:
        is_line = _IS_LINE[fields] & (regions > 0)
        of_lines = rows[is_line], regions[is_line], places[is_line], fields[is_line]
        lines = _best_lines(asked, worth, len(ids), *of_lines)
    chosen = np.flatnonzero((scores > 0) | (naming > 0))
    strengths = scores / (worth.sum() + _HALF_IDF)
    scores += 2 * worth.sum() * naming
    order = chosen[np.lexsort((ids[chosen], -scores[chosen]))]
    scores = scores[order]
    return KeywordRanking(
        words=tuple(item.words for item in asked),
        items=ids[order],
        scores=scores.astype(np.float32),
        strengths=strengths[order].astype(np.float32),
        ranks=np.searchsorted(-scores, -scores) + 1,
        contents=of_content[order],
        regions=of_region[order],
        read_scores=read_scores[order].astype(np.float32),
        read_shares=read_shares[order],
        lines=lines[order],
        fields=where[order],
        naming=naming[order],
        is_complete=is_complete,
    )


def _best_lines(
    asked: Sequence[WeightedWords],
    worth: Float64Array,
    count: int,
    rows: Int64Array,
    regions: Int64Array,
    places: Int64Array,
    fields: Int64Array,
) -> Int64Array:
    """Of each of `count` items, the line with the most of the words (w,), or 0.

    It is 0 unless the lines of the item have all words. `rows`, `regions`, `places` and `fields`
    (m,) are the words that were found in lines.
    """
    has = np.zeros((count, len(asked)), np.bool_)
    has[rows, places] = True
    lines, first, of_line = np.unique(regions, return_index=True, return_inverse=True)
    held = np.zeros((len(lines), len(asked)))
    np.maximum.at(held, (of_line, places), _WEIGHTS[fields])
    # Of equal lines, the first one.
    order = np.lexsort((-lines, held @ worth))
    best = np.zeros(count, np.int64)
    best[rows[first[order]]] = lines[order]
    return np.where(_have_all_words(asked, has) & (has @ worth > 0), best, 0)


def _have_all_words(asked: Sequence[WeightedWords], has: BoolArray) -> BoolArray:
    """Which of n items have all words, or the whole name, of each text: (n, w) → (n,)."""
    complete = np.full(len(has), bool(asked))
    for text in {item.text for item in asked}:
        words = [place for place, item in enumerate(asked) if item.text == text]
        whole = [place for place in words if asked[place].words.whole]
        words = [place for place in words if not asked[place].words.whole]
        complete &= has[:, words].all(axis=1) | has[:, whole].any(axis=1)
    return complete


def _naming(asked: Sequence[WeightedWords], in_names: BoolArray) -> Int64Array:
    """How each of n items is named, by the words (n, w) that its names have; the least of texts."""
    naming = np.full(len(in_names), EXACT if asked else 0)
    for text in {item.text for item in asked}:
        places = [place for place, item in enumerate(asked) if item.text == text]
        words = [asked[place].words for place in places]
        is_literal = any(
            not item.whole and (item.exact or any(map(str.isdigit, item.words[0])))
            for item in words
        )
        has_all = _have_all_words([asked[place] for place in places], in_names[:, places])
        of_text = CONTAINED * (has_all & is_literal).astype(np.int64)
        for place, item in zip(places, words, strict=True):
            if item.whole:
                level = EXACT if item.suffix else WHOLE
                np.maximum(of_text, level * in_names[:, place], out=of_text)
        np.minimum(naming, of_text, out=naming)
    return naming


def word_matches(
    ranking: KeywordRanking, places: Int64Array, *, is_read: bool
) -> list[tuple[WordMatch, ...]]:
    """The words and whole names of the query that the items at places (m,) have, with their fields.

    With `is_read` those in text in the picture, else the others.
    """
    texts = [" ".join(filter(None, [*words.words, words.suffix])) for words in ranking.words]

    # Many items have the same words in the same fields.
    @functools.cache
    def matches(*fields: int) -> tuple[WordMatch, ...]:
        found = zip(texts, fields, strict=True)
        return tuple(
            dict.fromkeys(
                WordMatch(text, WORD_FIELDS[at].value)
                for text, at in found
                if at >= 0 and _IS_LINE[at] == is_read
            )
        )

    return [matches(*fields) for fields in ranking.fields[places].tolist()]


_WEIGHTS = np.asarray([FIELD_WEIGHTS[field] for field in WORD_FIELDS])
_IS_NAME = np.asarray([field in NAME_FIELDS for field in WORD_FIELDS])
_IS_LINE = np.asarray([field in {WordField.TEXT, WordField.SIMILAR_TEXT} for field in WORD_FIELDS])
_WRITTEN_FIELDS = NAME_FIELDS | {WordField.DESCRIPTION, WordField.TEXT}
_IS_WRITTEN = np.asarray([field in _WRITTEN_FIELDS for field in WORD_FIELDS])
