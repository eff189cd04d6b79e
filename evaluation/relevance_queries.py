"""Queries of every form, made from labels, and what is right for each.

An answer is right when every wanted term is about it, and no unwanted term is. A text is about the
photographs it captions, or the objects it describes; a box is about the objects with the same text
as the object in it; a picture is about the objects with the same text as any of its own. So a
photograph is right for "A and B" when it shows both, and for a picture when it shows one of its
objects again. The photograph from which a query is taken is neither right nor wrong.

Several terms are combined as people combine them: two things seen together, one thing without
another, a picture with a word, two pictures of one thing; or the description of one object, cut in
two. Their weights are drawn at random.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from regard.core.geometry import Box
from regard.core.records import QueryKind, Target
from regard.core.relevance import Form
from regard.evaluation.labels import LabelledSet
from regard.evaluation.retrieval import Answer, boxes_by_text, images_by_caption, is_right_region

FOLDS = 10
# At most this many queries of one picture, and of each sort of several terms; all single texts
# count.
_MOST = 600
_MOST_COMPOSED = 250
_MOST_MIXED = 100
_WEIGHTS = (0.5, 1.0, 1.0, 2.0)

# A photograph, or a box of one.
_Thing = tuple[str, Box | None]
_Things = frozenset[_Thing]


@dataclass(frozen=True, slots=True)
class LabelledTerm:
    """A text; or a labelled photograph, with a box the object that is there."""

    text: str = ""
    file_name: str = ""
    box: Box | None = None
    weight: float = 1.0
    negative: bool = False

    @property
    def kind(self) -> QueryKind:
        """The kind of query."""
        if not self.file_name:
            return QueryKind.TEXT
        return QueryKind.IMAGE if self.box is None else QueryKind.REGION


@dataclass(frozen=True, slots=True)
class LabelledQuery:
    """Terms, and what is right for them: boxes by file name, None for the whole photograph.

    `folds` are those of all its texts: models are measured on folds they were not fitted to.
    """

    terms: tuple[LabelledTerm, ...]
    right: Mapping[str, Sequence[Box | None]]
    folds: frozenset[int]

    @property
    def is_text(self) -> bool:
        """Whether it is a text and nothing else."""
        return len(self.terms) == 1 and self.terms[0].kind is QueryKind.TEXT

    @property
    def own(self) -> frozenset[str]:
        """The photographs from which it is taken."""
        return frozenset(term.file_name for term in self.terms if term.file_name)

    def is_right(self, answer: Answer) -> bool:
        """Whether a hit is right; of regions those that meet a right box at IoU ≥ 0.5."""
        found = self.right.get(answer.file_name, ())
        boxes = [box for box in found if box is not None]
        return len(boxes) < len(found) or is_right_region(answer, {answer.file_name: boxes})


def fold(text: str) -> int:
    """The fold of a text; texts that end in the same word share one, on every machine."""
    words = re.findall(r"\w+", text.lower())
    return hashlib.sha256((words or [text])[-1].encode()).digest()[0] % FOLDS


def labelled_queries(
    labels: LabelledSet, form: Form, target: Target, absent: Sequence[str] = ()
) -> list[LabelledQuery]:
    """All queries of one form that the labels give; the same labels give the same.

    `absent` are texts of what no photograph shows: with them, nothing is right.
    """
    made = _Maker(labels, target)
    match form:
        case Form.TEXT:
            return [*made.texts(), *(_absent(text) for text in absent)]
        case Form.IMAGE:
            return _some([made.pictures()], _MOST)
        case Form.REGION:
            return _some([made.boxes()], _MOST)
        case Form.TEXTS:
            pairs = zip(absent[::2], absent[1::2], strict=False)
            return [
                *_some(made.composed_texts(), _MOST_COMPOSED),
                *(_absent(*pair) for pair in pairs),
            ]
        case Form.MIXED:
            return [*_some(made.mixed(), _MOST_MIXED), *made.with_absent(absent)]


class _Maker:
    """Makes the queries for one target."""

    def __init__(self, labels: LabelledSet, target: Target) -> None:
        self._labels = labels
        self._target = target
        # What each text is about, by what photographs bear and by what their objects are called.
        self._objects: dict[str, _Things] = {
            text: frozenset(
                (name, None if target is Target.IMAGE else box)
                for name, boxes in of_text.items()
                for box in boxes
            )
            for text, of_text in sorted(boxes_by_text(labels).items())
        }
        self._texts = self._objects
        if target is Target.IMAGE:
            self._texts = {
                text: frozenset((name, None) for name in names)
                for text, names in sorted(images_by_caption(labels).items())
            }
        self._shown = {
            image.file_name: tuple(sorted({thing.text for thing in image.objects}))
            for image in labels.images
        }
        # One object of each text, in every photograph that shows it.
        self._sightings: dict[str, list[LabelledTerm]] = defaultdict(list)
        for image in labels.images:
            for text in self._shown[image.file_name]:
                box = next(thing.box for thing in image.objects if thing.text == text)
                self._sightings[text].append(LabelledTerm(file_name=image.file_name, box=box))
        self._rng = np.random.default_rng(0)

    def texts(self) -> Iterator[LabelledQuery]:
        for text in self._texts:
            yield self._query([LabelledTerm(text)])

    def pictures(self) -> Iterator[LabelledQuery]:
        for name, texts in self._shown.items():
            if texts:
                yield self._query([LabelledTerm(file_name=name)])

    def boxes(self) -> Iterator[LabelledQuery]:
        for image in self._labels.images:
            for thing in image.objects:
                yield self._query([LabelledTerm(file_name=image.file_name, box=thing.box)])

    def composed_texts(self) -> Iterator[Iterable[LabelledQuery]]:
        """Two things together, two parts of one description, and one thing without another."""
        pairs = self._pairs(self._texts)
        if self._target is Target.IMAGE:
            yield (self._query([LabelledTerm(a), self._other(b)]) for a, b in pairs)
        else:
            yield (self._halves(text) for text in self._texts if len(text.split()) > 1)
        yield (self._query([LabelledTerm(a), self._other(b, negative=True)]) for a, b in pairs)

    def mixed(self) -> Iterator[Iterable[LabelledQuery]]:
        """A picture or a box with a text, for it or against it, and two that show one thing."""
        pairs = self._pairs(self._objects)
        alike = [
            (text, one, other)
            for text, found in self._sightings.items()
            for one, other in itertools.pairwise(found)
        ]
        for whole in (True, False):
            seen = [
                (text, _whole(term) if whole else term)
                for text, found in self._sightings.items()
                for term in found
            ]
            yield (self._query([term, self._other(text)]) for text, term in seen)
            against = [
                (term, unwanted)
                for text, term in seen
                for unwanted in self._beside(text, term, whole=whole)
            ]
            yield (self._query([t, self._other(text, negative=True)]) for t, text in against)
            two = [
                (_whole(one), _whole(other)) if whole else (one, other) for _, one, other in alike
            ]
            yield (self._query([one, self._weighted(other)]) for one, other in two)
            if self._target is Target.IMAGE:
                together = [
                    (_whole(term) if whole else term, b)
                    for a, b in pairs
                    for term in self._sightings[a]
                    if b not in self._shown[term.file_name]
                ]
                yield (self._query([term, self._other(b)]) for term, b in together)

    def with_absent(self, absent: Sequence[str]) -> Iterator[LabelledQuery]:
        """A picture or a box with a text of what is nowhere."""
        terms = [found[0] for _, found in sorted(self._sightings.items())]
        for number, (text, term) in enumerate(zip(absent, terms, strict=False)):
            picture = _whole(term) if number % 2 else term
            yield LabelledQuery((picture, LabelledTerm(text)), {}, frozenset())

    def _pairs(self, of_texts: Mapping[str, _Things]) -> list[tuple[str, str]]:
        """Texts of one photograph, each pair once, in an order that is drawn."""
        together: dict[str, set[str]] = defaultdict(set)
        for text, things in of_texts.items():
            for name, _ in things:
                together[name].add(text)
        pairs = {
            pair
            for _, texts in sorted(together.items())
            for pair in itertools.combinations(sorted(texts), 2)
        }
        return [(a, b) if self._rng.random() < 0.5 else (b, a) for a, b in sorted(pairs)]

    def _beside(self, text: str, term: LabelledTerm, *, whole: bool) -> list[str]:
        """Negative terms: what else the term's photograph shows, or what appears with it."""
        if whole:
            return [other for other in self._shown[term.file_name] if other != text]
        names = {name for name, _ in self._objects[text]}
        seen = {other for name in names for other in self._shown[name]}
        return sorted(seen - {text})[:1]

    def _other(self, text: str, *, negative: bool = False) -> LabelledTerm:
        return LabelledTerm(text, weight=float(self._rng.choice(_WEIGHTS)), negative=negative)

    def _weighted(self, term: LabelledTerm) -> LabelledTerm:
        weight = float(self._rng.choice(_WEIGHTS))
        return LabelledTerm(file_name=term.file_name, box=term.box, weight=weight)

    def _halves(self, text: str) -> LabelledQuery:
        words = text.split()
        middle = len(words) // 2
        halves = (" ".join(words[:middle]), " ".join(words[middle:]))
        terms = (LabelledTerm(halves[0]), self._other(halves[1]))
        return LabelledQuery(terms, _by_name(self._texts[text]), frozenset({fold(text)}))

    def _query(self, terms: Sequence[LabelledTerm]) -> LabelledQuery:
        about = [self._about(term) for term in terms]
        wanted = [
            things for term, (things, _) in zip(terms, about, strict=True) if not term.negative
        ]
        unwanted = [things for term, (things, _) in zip(terms, about, strict=True) if term.negative]
        right = frozenset.intersection(*wanted).difference(*unwanted)
        own = {term.file_name for term in terms}
        return LabelledQuery(
            tuple(terms),
            _by_name(thing for thing in right if thing[0] not in own),
            frozenset(fold(text) for _, texts in about for text in texts),
        )

    def _about(self, term: LabelledTerm) -> tuple[_Things, Sequence[str]]:
        """What a term is about, and the texts that say it."""
        if term.text:
            things = self._texts.get(term.text) or self._objects[term.text]
            return things, (term.text,)
        texts = self._shown[term.file_name]
        if term.box is not None:
            image = next(i for i in self._labels.images if i.file_name == term.file_name)
            texts = tuple(thing.text for thing in image.objects if thing.box == term.box)[:1]
        return frozenset[_Thing]().union(*(self._objects[text] for text in texts)), texts


def _whole(term: LabelledTerm) -> LabelledTerm:
    return LabelledTerm(file_name=term.file_name)


def _absent(*texts: str) -> LabelledQuery:
    return LabelledQuery(tuple(LabelledTerm(text) for text in texts), {}, frozenset())


def _by_name(things: Iterable[_Thing]) -> dict[str, list[Box | None]]:
    found: dict[str, list[Box | None]] = defaultdict(list)
    for name, box in things:
        found[name].append(box)
    return dict(found)


def _some(sorts: Iterable[Iterable[LabelledQuery]], most: int) -> list[LabelledQuery]:
    """Up to `most` of each sort, drawn without choice."""
    found = []
    for sort in sorts:
        queries = list(sort)
        if len(queries) > most:
            chosen = np.random.default_rng(0).choice(len(queries), most, replace=False)
            queries = [queries[place] for place in sorted(chosen.tolist())]
        found += queries
    return found
