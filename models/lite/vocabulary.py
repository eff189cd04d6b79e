"""The 1000 ImageNet classes as words: names, synonyms, descriptions and their sentence embeddings.

Embedding every description takes most of a minute on one core, far more than a first search may take,
so the embeddings ship as a file, `vocabulary.npz`. `python -m regard.models.lite.build_vocabulary`
derives it again from the pinned packages, and a test holds the two together.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from importlib import resources

import numpy as np

from regard.core.errors import ModelError
from regard.core.records import Float32Array, Int64Array
from regard.models.lite.weights import CLASS_DESCRIPTIONS, CLASS_NAMES, CLASS_SYNONYMS

FILE = "vocabulary.npz"


@dataclass(frozen=True, slots=True)
class ClassTexts:
    """What the classes are called; a class' synonyms stand together, its clean name first."""

    names: tuple[str, ...]  # one a class
    synonyms: tuple[str, ...]  # all, class by class
    starts: Int64Array  # (1000,) where each class' synonyms begin
    descriptions: tuple[str, ...]  # "name. description", one a class


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The embeddings: of all synonyms (s, 384) and of the descriptions (1000, 384), unit rows."""

    synonym_vectors: Float32Array
    description_vectors: Float32Array
    starts: Int64Array

    def similarity(self, vectors: Float32Array) -> Float32Array:
        """How close sentences are to classes: (n, 384) → (n, 1000), in [-1, 1].

        The mean of two cosines: to the nearest synonym, and to the description.
        """
        if not len(vectors):
            return np.zeros((0, len(self.starts)), dtype=np.float32)
        nearest = np.maximum.reduceat(vectors @ self.synonym_vectors.T, self.starts, axis=1)
        described = vectors @ self.description_vectors.T
        return np.asarray((nearest + described) / 2, dtype=np.float32)


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
    """Load the shipped embeddings; raises ModelError when the installation lacks them."""
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
