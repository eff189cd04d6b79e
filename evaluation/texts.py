"""Measures how well words in photographs are found by search, against labels.

Each word of the labels is searched alone. It is found in a photograph if the hit says that the text
in the picture has it, or a similar word. What such hits say is right if the labels of the photograph
have the word, in singular or plural. Photographs without text are labelled with no texts.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regard.core.catalog import WordField
from regard.core.errors import UsageError
from regard.core.protocols import Analyzer
from regard.core.records import Image
from regard.core.texts import Reader
from regard.core.words import folded, split_words
from regard.evaluation.statistics import Share

FoundWords = Callable[[Sequence[str]], Sequence[Mapping[str, WordField]]]
"""For each word, the photographs whose text has it or a similar one, and which of both."""


def read_texts(path: Path) -> dict[str, list[str]]:
    """The texts in each photograph, by file name; raises UsageError for another file.

    The file is a JSON object: for each file name a list of objects with a `text`.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        return {name: [str(one["text"]) for one in texts] for name, texts in document.items()}
    except OSError as error:
        raise UsageError(f"the texts {path} can't be read: {error.strerror}") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UsageError(
            f"{path} does not hold the texts of photographs",
            remedy="compose such a set with benchmarks/photoset/make_text_photos.py",
        ) from error


@dataclass(frozen=True, slots=True)
class TextReport:
    """`words` are those found of all in the photographs, `as_read` without similar ones, `precision`
    what hits say rightly.

    `cost` is the processor time of reading over that of the analysis, by kind of photograph: those
    `with_text` and those `without`; None without such photographs.
    """

    words: Share
    as_read: Share
    precision: Share
    missed: tuple[tuple[str, str], ...]
    wrong: tuple[tuple[str, str], ...]
    cost: Mapping[str, float | None]

    def to_json(self) -> dict[str, Any]:
        """All measures; `missed` and `wrong` are pairs of word and photograph."""
        return {
            "words": self.words.to_json(),
            "as_read": self.as_read.to_json(),
            "precision": self.precision.to_json(),
            "cost": dict(self.cost),
            "missed": [list(pair) for pair in self.missed],
            "wrong": [list(pair) for pair in self.wrong],
        }

    def to_text(self) -> str:
        """The measures for people."""
        costs = [
            f"reading ÷ analysis, photographs {name.replace('_', ' ')}: {cost:.2f}"
            for name, cost in self.cost.items()
            if cost is not None
        ]
        lines = [
            f"words found            {self.words}",
            f"  as they were read    {self.as_read}",
            f"precision              {self.precision}",
            *costs,
            *(f"missed: {word} in {name}" for word, name in self.missed),
            *(f"wrong: {word} in {name}" for word, name in self.wrong),
        ]
        return "\n".join(lines)


def evaluate_texts(
    labels: Mapping[str, Sequence[str]], find: FoundWords, cost: Mapping[str, float | None]
) -> TextReport:
    """Search each word of the labels."""
    held = {
        name: {folded(word) for text in texts for word in split_words(text)}
        for name, texts in labels.items()
    }
    words = sorted(set().union(*held.values()))
    found = dict(zip(words, find(words), strict=True))
    pairs = [(word, name) for name, of_photo in held.items() for word in sorted(of_photo)]
    said = [(word, name) for word, fields in found.items() for name in fields]
    right = [bool(_forms(word) & held[name]) for word, name in said]
    return TextReport(
        Share.of(name in found[word] for word, name in pairs),
        Share.of(found[word].get(name) is WordField.TEXT for word, name in pairs),
        Share.of(right),
        tuple((word, name) for word, name in pairs if name not in found[word]),
        tuple(pair for pair, is_right in zip(said, right, strict=True) if not is_right),
        cost,
    )


def _forms(word: str) -> set[str]:
    """A word, its plural and its singular."""
    return {word, f"{word}s", f"{word}es", word.removesuffix("s"), word.removesuffix("es")}


def reading_cost(reader: Reader, analyzer: Analyzer, images: Sequence[Image]) -> float | None:
    """The processor time of reading images over that of analysing them, in turns."""
    if not images:
        return None
    reader.read(images[:1])
    analyzer.analyze(images[:1])
    read = analysed = 0.0
    for image in images:
        started = time.process_time()
        reader.read([image])
        between = time.process_time()
        analyzer.analyze([image])
        read += between - started
        analysed += time.process_time() - between
    return read / analysed
