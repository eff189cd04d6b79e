"""Names, synonyms and descriptions of the 1000 ImageNet classes, and their sentence embeddings.

Embedding every description takes most of a minute on one core, too long for a first search. The
embeddings therefore ship as `vocabulary.npz`: little-endian float16 unit rows `synonyms` (s, 384)
and `descriptions` (1000, 384), and int32 `starts` (1000,). `python -m
regard.models.lite.vocabulary` rebuilds the file from the pinned packages, and a test compares the
two.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np

from regard.core.errors import ModelError
from regard.core.records import Float32Array, Int64Array
from regard.models.lite.sentences import SentenceEncoder
from regard.models.lite.weights import CLASS_DESCRIPTIONS, CLASS_NAMES, CLASS_SYNONYMS

FILE = "vocabulary.npz"


@dataclass(frozen=True, slots=True)
class ClassTexts:
    """Names of the classes. The synonyms of a class are adjacent and begin with its clean name."""

    names: tuple[str, ...]  # (1000,)
    synonyms: tuple[str, ...]  # (s,), ordered by class
    starts: Int64Array  # (1000,) index of each class's first synonym
    descriptions: tuple[str, ...]  # (1000,) "name. description"


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Unit-length embeddings of synonyms (s, 384) and descriptions (1000, 384), float32."""

    synonym_vectors: Float32Array
    description_vectors: Float32Array
    starts: Int64Array

    def similarity(self, vectors: Float32Array) -> Float32Array:
        """Similarity of sentences to classes: (n, 384) → (n, 1000), in [-1, 1].

        The mean of the cosines to the nearest synonym and to the description.
        """
        if not len(vectors):
            return np.zeros((0, len(self.starts)), dtype=np.float32)
        # For a few sentences the other order takes a third longer.
        nearest = np.maximum.reduceat(self.synonym_vectors @ vectors.T, self.starts, axis=0)
        described = self.description_vectors @ vectors.T
        return np.ascontiguousarray((nearest + described).T / 2, dtype=np.float32)


@functools.cache
def class_texts() -> ClassTexts:
    """Read the classes' names and descriptions from the pinned package."""
    names: list[str] = json.loads(CLASS_NAMES.read())
    labels: dict[str, str] = json.loads(CLASS_SYNONYMS.read())
    described: dict[str, dict[str, object]] = json.loads(CLASS_DESCRIPTIONS.read())
    synonyms: list[str] = []
    starts: list[int] = []
    descriptions: list[str] = []
    for number, name in enumerate(names):
        entry = described.get(str(number), {})
        others = entry.get("name", [])
        starts.append(len(synonyms))
        synonyms += dict.fromkeys(
            [name, *labels[str(number)].split(", "), *(others if isinstance(others, list) else [])]
        )
        descriptions.append(f"{name}. {entry.get('description', '')}")
    return ClassTexts(tuple(names), tuple(synonyms), np.asarray(starts), tuple(descriptions))


@functools.cache
def vocabulary() -> Vocabulary:
    """Load the shipped embeddings; raises ModelError when the file is missing or damaged."""
    file = resources.files(__package__).joinpath(FILE)
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            synonyms, descriptions, starts = (
                arrays[key] for key in ("synonyms", "descriptions", "starts")
            )
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            f"the lite profile's {FILE} is missing or damaged", remedy="reinstall regard"
        ) from error
    return Vocabulary(
        synonym_vectors=synonyms.astype(np.float32),
        description_vectors=descriptions.astype(np.float32),
        starts=starts.astype(np.int64),
    )


def main() -> None:
    """Rebuild `vocabulary.npz` beside this module."""
    texts, encoder = class_texts(), SentenceEncoder()
    np.savez_compressed(
        Path(__file__).with_name(FILE),
        synonyms=encoder.encode(texts.synonyms).astype("<f2"),
        descriptions=encoder.encode(texts.descriptions).astype("<f2"),
        starts=texts.starts.astype("<i4"),
    )


if __name__ == "__main__":
    main()
