"""Which class a region shows, told by the classes' names alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from regard.core.records import Float32Array, Int64Array
from regard.evaluation.semantic_labels import SemanticClass

# Sentences → rows (n, d) in one space.
EncodeTexts = Callable[[Sequence[str]], Float32Array]

PLAIN = "{}"
"""The prompt that is the class' name alone."""


class ClassTexts:
    """The classes as texts in the spaces that regions are compared in, each space with its weight."""

    def __init__(
        self,
        classes: Sequence[SemanticClass],
        spaces: Mapping[str, tuple[EncodeTexts, float]],
        prompt: str = PLAIN,
    ) -> None:
        """Encode every name of every class once; `prompt` holds `{}` where the name goes."""
        texts = [prompt.replace(PLAIN, name) for named in classes for name in named.names]
        self._starts = np.cumsum([0, *(len(named.names) for named in classes)])[:-1]
        self._texts = {name: weight * encode(texts) for name, (encode, weight) in spaces.items()}

    def nearest(self, vectors: Mapping[str, Float32Array]) -> Int64Array:
        """For each row of `vectors`, (n, d) by space, the class of the name it comes nearest to.

        Classes count from 1; of equally near ones the first. Scores of several spaces add up.
        """
        # (n, names): inner products, summed over spaces.
        scores = np.sum([rows @ self._texts[space].T for space, rows in vectors.items()], axis=0)
        best = np.maximum.reduceat(scores, self._starts, axis=1)  # (n, classes)
        nearest: Int64Array = best.argmax(axis=1).astype(np.int64) + 1
        return nearest
