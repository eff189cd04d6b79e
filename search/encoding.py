"""Encodes queries: one vector for each channel that a query is routed to.

A query has one or several terms. Its vector in a channel is the normalised sum of the vectors of
the terms that are routed there, times their weights; negative terms have a minus.
"""

from __future__ import annotations

import functools
import itertools
import math
import threading
import unicodedata
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np

from regard.core.catalog import SearchCatalog, StoredVectors
from regard.core.errors import CannotWork, UnanswerableQuery
from regard.core.protocols import Encoder, Profile
from regard.core.records import (
    KEYWORDS,
    Channel,
    Float32Array,
    Kind,
    QueryKind,
    Routes,
    Target,
    WeightedChannel,
)
from regard.core.words import is_latin
from regard.search.answers import ImageQuery, LikeQuery, Reference, Term, TextQuery
from regard.search.keywords import MOST_WORDS, WeightedWords, words_of

# Terms cancel out if their sum is below this share of their weights: the rest is rounding.
_CANCELLED = 1e-4
# Texts whose vectors are kept, of 2.5 kB each with `lite`.
_KEPT_TEXTS = 1024
# The most texts of several callers in one batch: all of them wait for it.
_TOGETHER = 8
# Arrows, shapes, emoji and letters of private fonts.
_PICTOGRAMS = frozenset({"So", "Co", "Cn"})
_FIRST_PICTOGRAM = "\u2190"


@dataclass(frozen=True, slots=True, eq=False)
class ChannelVectors:
    """A channel with its weight in the fusion, and the vectors (n, d) of n queries in it.

    `term_vectors` (t, d) are the vectors of the terms, if one query has several.
    """

    weighted: WeightedChannel
    vectors: Float32Array
    term_vectors: Float32Array | None = None


@dataclass(frozen=True, slots=True)
class Excluded:
    """The trivial answers, which a query names itself: assets, and items (contents or regions), by
    id.

    `asset_contents` are the contents of those assets, `region_contents` those of regions it names.
    """

    assets: frozenset[int] = frozenset()
    items: frozenset[int] = frozenset()
    asset_contents: frozenset[int] = frozenset()
    region_contents: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True, eq=False)
class _TermVector:
    """The vector (d,) of a term in a channel, with the channel's weight by its route."""

    term: Term
    weighted: WeightedChannel
    vector: Float32Array


_Text = tuple[str, str]  # space and text


class TextEncoding:
    """Encodes texts with the encoders of a profile, and keeps the vectors of the last ones.

    People turn pages, add filters and search for regions with the same text. Texts of searches
    that wait for their turn are encoded with others, as several texts take far less time together.
    Thread-safe.
    """

    def __init__(self, profile: Profile) -> None:
        """Nothing is encoded yet."""
        self._profile = profile
        self._lock = threading.Lock()
        # By space and text.
        self._vectors: OrderedDict[_Text, Float32Array] = OrderedDict()
        self._expected: dict[_Text, None] = {}
        self._running: dict[_Text, Future[dict[_Text, Float32Array]]] = {}

    def expect(self, spaces: Iterable[str], texts: Sequence[str]) -> None:
        """Announce texts, which may then be encoded with those of other callers."""
        with self._lock:
            for one in itertools.product(spaces, texts):
                if one not in self._vectors and one not in self._running:
                    self._expected[one] = None

    def encode(self, space: str, texts: Sequence[str]) -> Float32Array:
        """The vectors (n, d) of n texts in a space."""
        wanted = [(space, text) for text in texts]
        with self._lock:
            known = {one: self._vectors[one] for one in wanted if one in self._vectors}
            awaited = {one: self._running[one] for one in wanted if one in self._running}
            missing = [one for one in dict.fromkeys(wanted) if not (one in known or one in awaited)]
            if missing:
                others = (one for one in self._expected if one[0] == space and one not in missing)
                missing += list(itertools.islice(others, max(0, _TOGETHER - len(missing))))
            batch: Future[dict[_Text, Float32Array]] = Future()
            for one in missing:
                self._running[one] = batch
            for one in (*wanted, *missing):
                self._expected.pop(one, None)
        if missing:
            known |= self._encode(space, missing, batch)
        for one, running in awaited.items():
            known[one] = running.result()[one]
        with self._lock:
            for one in wanted:
                self._vectors[one] = known[one]
                self._vectors.move_to_end(one)
        return np.stack([known[one] for one in wanted])

    def _encode(
        self, space: str, texts: Sequence[_Text], batch: Future[dict[_Text, Float32Array]]
    ) -> dict[_Text, Float32Array]:
        """Encode and keep texts; others get the result from the batch."""
        try:
            rows = self._profile.encoder(space).encode_texts([text for _, text in texts])
        except BaseException as error:
            batch.set_exception(error)
            raise
        else:
            encoded = dict(zip(texts, rows, strict=True))
            with self._lock:
                self._vectors.update(encoded)
                while len(self._vectors) > _KEPT_TEXTS:
                    self._vectors.popitem(last=False)
            batch.set_result(encoded)
            return encoded
        finally:
            with self._lock:
                for one in texts:
                    self._running.pop(one, None)


def text_spaces(routes: Routes, target: Target) -> list[str]:
    """The spaces that texts are encoded in; raises UnanswerableQuery."""
    routed = _route(routes, QueryKind.TEXT, target)
    return _spaces(item for item in routed if item.channel.kind is not Kind.KEYWORD)


def encode_texts(
    encoding: TextEncoding, routes: Routes, texts: Sequence[str], target: Target
) -> list[ChannelVectors]:
    """Encode n texts, each a separate query, as vectors (n, d); raises UnanswerableQuery."""
    routed = [
        weighted
        for weighted in _route(routes, QueryKind.TEXT, target)
        if weighted.channel.kind is not Kind.KEYWORD
    ]
    vectors = {space: encoding.encode(space, texts) for space in _spaces(routed)}
    return [ChannelVectors(weighted, vectors[weighted.channel.space]) for weighted in routed]


@dataclass(frozen=True, slots=True)
class ReadText:
    """A text as a profile's encoders can read it: None if they know none of its words.

    `unknown` are the words, or else the symbols, that they do not know.
    """

    text: str | None
    unknown: tuple[str, ...] = ()


def read_texts(profile: Profile, spaces: Sequence[str], texts: Sequence[str]) -> list[ReadText]:
    """Leave out of each text what no encoder of its spaces knows.

    Compatible forms of letters are one (NFKC), such as full-width ones.
    """
    encoders = [profile.encoder(space) for space in spaces]
    return [_read_text(encoders, text) for text in texts]


def _read_text(encoders: Sequence[Encoder], text: str) -> ReadText:
    def is_known(word: str) -> bool:
        return any(encoder.knows(word) for encoder in encoders)

    plain = unicodedata.normalize("NFKC", text)
    kept: list[str] = []
    unknown: dict[str, None] = {}
    has_known = False
    for run, is_word in _split_scripts(plain):
        if is_word and not is_known(run):
            unknown[run.lower()] = None
            kept.append(" ")
        else:
            has_known = has_known or is_word
            kept.append(run)
    # Of punctuation alone, such as "$", an encoder may know something.
    if not has_known and (unknown or not is_known(plain.strip())):
        return ReadText(None, tuple(unknown) or (text.strip(),))
    return ReadText(" ".join("".join(kept).split()) if unknown else plain, tuple(unknown))


@functools.lru_cache(maxsize=1024)
def _letters_of(letter: str) -> str | None:
    """What a letter is a part of; "" for spaces and punctuation, which no encoder need know.

    None for accents, variants, skin tones and joiners: they belong to what precedes them.
    """
    category = unicodedata.category(letter)
    if category[0] == "M" or category == "Cf" or "\U0001f3fb" <= letter <= "\U0001f3ff":
        return None
    if letter.isalnum():
        return "latin" if is_latin(letter) else "script"
    is_pictogram = letter >= _FIRST_PICTOGRAM and category in _PICTOGRAMS
    return "symbol" if is_pictogram else ""


def _split_scripts(text: str) -> Iterator[tuple[str, bool]]:
    """The runs of a text that are Latin words or numbers, words of other scripts, pictograms, or
    none of these, and whether an encoder has to know them.

    Chinese and Japanese write Latin words without spaces around them.
    """
    run, kind = "", ""
    for letter in text:
        of_letter = _letters_of(letter)
        if of_letter is None:
            of_letter = kind
        if of_letter != kind and run:
            yield run, bool(kind)
            run = ""
        run, kind = run + letter, of_letter
    if run:
        yield run, bool(kind)


def encode_terms(
    profile: Profile,
    encoding: TextEncoding,
    catalog: SearchCatalog,
    routes: Routes,
    terms: Sequence[Term],
    target: Target,
) -> tuple[list[ChannelVectors], Excluded]:
    """Encode one query of several terms as vectors (1, d), with what its answer excludes.

    A channel's weight is that of its route, the largest if positive terms' routes differ, times
    the share of positive weight routed there. Channels with negative terms alone, and those in
    which the terms cancel out, are left out. Raises UnanswerableQuery if no channel is left, or
    none takes this kind of query, NotFound for an unknown id.
    """
    texts = list(dict.fromkeys(t.query.text for t in terms if isinstance(t.query, TextQuery)))
    of_texts = encode_texts(encoding, routes, texts, target) if texts else []
    by_channel: dict[Channel, list[_TermVector]] = {}
    assets: set[int] = set()
    items: set[int] = set()
    asset_contents: set[int] = set()
    region_contents: set[int] = set()
    for term in terms:
        match term.query:
            case TextQuery(text):
                row = texts.index(text)
                routed = [(channel.weighted, channel.vectors[row]) for channel in of_texts]
            case ImageQuery():
                routed = _encode_picture(profile, routes, term.query, target)
            case LikeQuery(reference):
                routed, content = _read_vectors(catalog, routes, reference, target)
                if not reference.is_region:
                    assets.add(reference.id)
                    asset_contents.add(content)
                else:
                    region_contents.add(content)
                    # The region itself, or the photograph that has it.
                    items.add(reference.id if target is Target.REGION else content)
        for weighted, vector in routed:
            by_channel.setdefault(weighted.channel, []).append(_TermVector(term, weighted, vector))
    total = math.fsum(term.weight for term in terms if not term.negative)
    combined = (_combine(vectors, total) for vectors in by_channel.values())
    channels = [channel for channel in combined if channel is not None]
    if not channels:
        raise UnanswerableQuery(
            "the terms of the query cancel each other out",
            remedy="change their weights, or remove one of them",
        )
    excluded = Excluded(
        frozenset(assets), frozenset(items), frozenset(asset_contents), frozenset(region_contents)
    )
    return channels, excluded


def words_of_terms(
    routes: Routes, terms: Sequence[Term], target: Target
) -> tuple[WeightedChannel, list[WeightedWords]] | None:
    """The keyword index with its weight, and the words of the positive texts; None without such a
    route.

    Negative texts look up no words: that a title lacks a word says little. The weight is that of
    the route times the texts' share of positive weight.
    """
    texts = [term for term in terms if isinstance(term.query, TextQuery) and not term.negative]
    routed = routes.get((QueryKind.TEXT, target), ()) if texts else ()
    weight = next((item.weight for item in routed if item.channel.kind is Kind.KEYWORD), 0.0)
    if not weight:
        return None
    largest = max(term.weight for term in texts)
    words = [
        item
        for place, term in enumerate(texts)
        if isinstance(term.query, TextQuery)
        for item in words_of(
            term.query.text, phrase=term.query.phrase, weight=term.weight / largest, place=place
        )
    ]
    total = math.fsum(term.weight for term in terms if not term.negative)
    share = math.fsum(term.weight for term in texts) / total
    return WeightedChannel(KEYWORDS, weight * share), _first_words(words)


def _first_words(words: Sequence[WeightedWords]) -> list[WeightedWords]:
    """The first of many words; whole names are kept if all words of their texts are."""
    kept = [item for item in words if not item.words.whole][:MOST_WORDS]
    whole = [item for item in words if item.words.whole]
    return kept + (whole if len(kept) + len(whole) == len(words) else [])


def _combine(terms: Sequence[_TermVector], total: float) -> ChannelVectors | None:
    """The terms' sum in one channel; None without a positive term, or if they cancel out."""
    positive = [item for item in terms if not item.term.negative]
    if not positive:
        return None
    share = math.fsum(item.term.weight for item in positive) / total
    weighted = WeightedChannel(
        positive[0].weighted.channel, max(item.weighted.weight for item in positive) * share
    )
    if len(terms) == 1:
        # Exactly the vector of the term alone.
        return ChannelVectors(weighted, terms[0].vector[None, :])
    vectors = np.stack([item.vector for item in terms]).astype(np.float64)  # (t, d)
    weights = np.asarray([(-1 if t.term.negative else 1) * t.term.weight for t in terms])
    # Very large or small weights would overflow; their ratios do not.
    mixed = (weights / np.abs(weights).max()) @ vectors  # (t,) @ (t, d)
    norm = float(np.linalg.norm(mixed))
    if norm <= _CANCELLED * float(np.abs(weights).sum() / np.abs(weights).max()):
        return None
    unit = (mixed / norm).astype(np.float32)
    return ChannelVectors(weighted, unit[None, :], vectors.astype(np.float32))


def _encode_picture(
    profile: Profile, routes: Routes, query: ImageQuery, target: Target
) -> list[tuple[WeightedChannel, Float32Array]]:
    kind = QueryKind.IMAGE if query.box is None else QueryKind.REGION
    routed = _route(routes, kind, target)
    spaces = _spaces(routed)
    if query.box is None:
        rows = {space: profile.encoder(space).encode_images([query.image])[0] for space in spaces}
    else:
        box = query.box.clipped(query.image.width, query.image.height)
        assert box is not None  # ImageQuery refuses such a box
        rows = {
            space: profile.encoder(space).encode_regions([query.image], [[box]], [[None]])[0][0]
            for space in spaces
        }
    return [(weighted, rows[weighted.channel.space]) for weighted in routed]


def _read_vectors(
    catalog: SearchCatalog, routes: Routes, reference: Reference, target: Target
) -> tuple[list[tuple[WeightedChannel, Float32Array]], int]:
    """The stored vectors of an asset or a region, and its content."""
    if reference.is_region:
        routed = _route(routes, QueryKind.REGION, target)
        stored, kind = catalog.region_vectors(reference.id), Kind.REGION
    else:
        routed = _route(routes, QueryKind.IMAGE, target)
        stored, kind = catalog.asset_vectors(reference.id), Kind.IMAGE
    rows = {space: _row(stored, Channel(space, kind)) for space in _spaces(routed)}
    return [(weighted, rows[weighted.channel.space]) for weighted in routed], stored.content


def _row(stored: StoredVectors, channel: Channel) -> Float32Array:
    try:
        return stored.vectors[channel]
    except KeyError:
        raise CannotWork(
            f"it has no vector in the channel {channel}",
            remedy="index the photograph again",
        ) from None


def _route(routes: Routes, kind: QueryKind, target: Target) -> tuple[WeightedChannel, ...]:
    try:
        return routes[kind, target]
    except KeyError:
        raise UnanswerableQuery(
            f"the models of this home cannot search {target}s by {kind}",
            remedy="choose another --target or profile",
        ) from None


def _spaces(channels: Iterable[WeightedChannel]) -> list[str]:
    return list(dict.fromkeys(weighted.channel.space for weighted in channels))
