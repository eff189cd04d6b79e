"""Which contents are one picture: neighbours in the vector index, verified on pixels.

A perceptual hash moves as far by a tenth cut off as by another photograph, an embedding does not; so
the candidates of a content are its nearest neighbours, a few each, however large the library. Where most
of them turn out to be copies there may be more, and more are asked for. Signatures then decide
(`verification.py`). What was compared is kept, so that the next time only new contents cost anything.
"""

from __future__ import annotations

import functools
import itertools
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np

from regard.core.catalog import ChannelQuery, ChannelSearch, SearchCatalog
from regard.core.duplicates import CopyPair, DuplicateCatalog
from regard.core.filters import EVERYTHING
from regard.core.records import Channel, Float32Array
from regard.core.signatures import Signature
from regard.search.duplicates.pictures import Picture
from regard.search.duplicates.verification import similarity_of_copies

_AT_ONCE = 32
# Neighbours that are looked at; the next number where most of them were copies.
_NEIGHBOURS = (16, 64, 256)
_MOST = 0.75
# Prepared pictures take up to 300 kB each.
_PICTURES = 256
_REMEMBERED = 1 << 16


class Comparer:
    """Compares contents by their signatures, and remembers what it found; for one thread at a time."""

    def __init__(self, catalog: DuplicateCatalog) -> None:
        self._catalog = catalog
        self._pictures: OrderedDict[int, Picture] = OrderedDict()
        self._compared = functools.lru_cache(_REMEMBERED)(self._compare)

    def similarity(self, first: int, second: int) -> float | None:
        """Of two contents that are one picture, 0 to 1; None of all others."""
        # The same way round, whoever asks: the two ways differ by rounding.
        return self._compared(min(first, second), max(first, second))

    def prepare(self, contents: Collection[int]) -> None:
        """Read the signatures of contents at once that are going to be compared."""
        missing = [content for content in contents if content not in self._pictures]
        for content, signature in self._catalog.signatures(missing).items():
            self._keep(content, signature)

    def picture(self, content: int) -> Picture | None:
        """A content's prepared signature; None where it has none."""
        if content not in self._pictures:
            self.prepare([content])
        picture = self._pictures.get(content)
        if picture is not None:
            self._pictures.move_to_end(content)
        return picture

    def _keep(self, content: int, signature: Signature) -> None:
        self._pictures[content] = Picture(signature)
        while len(self._pictures) > _PICTURES:
            self._pictures.popitem(last=False)

    def _compare(self, first: int, second: int) -> float | None:
        ours, theirs = self.picture(first), self.picture(second)
        return None if ours is None or theirs is None else similarity_of_copies(ours, theirs)


class NeighbourComparison:
    """Compares contents with their neighbours in one channel, and keeps what comes of it."""

    def __init__(
        self,
        catalog: DuplicateCatalog,
        owners: SearchCatalog,
        index: ChannelSearch,
        channel: Channel,
        comparer: Comparer,
    ) -> None:
        self._catalog = catalog
        self._owners = owners
        self._index = index
        self._channel = channel
        self._comparer = comparer

    def run(
        self, *, should_stop: Callable[[], bool], advance: Callable[[int], None] = lambda done: None
    ) -> bool:
        """Compare all contents that wait for it, some at a time, each portion kept.

        Returns whether all were; false where `should_stop` turned true. One at the least is compared, so
        that whoever has little time each time gets to the end, too.
        """
        last = 0
        while contents := self._catalog.uncompared(self._channel, last, _AT_ONCE):
            last = contents[-1]
            vectors = self._catalog.image_vectors(self._channel, contents)
            # One may have gone meanwhile.
            contents = [content for content in contents if content in vectors]
            near = self._neighbours(vectors, contents, _NEIGHBOURS[0]) if contents else {}
            done: list[int] = []
            found: list[CopyPair] = []
            stopped = False
            for content in contents:
                copies = self._copies(content, vectors, near[content])
                found += [
                    CopyPair(min(content, other), max(content, other), similarity)
                    for other, similarity in copies.items()
                ]
                done.append(content)
                stopped = should_stop()
                if stopped:
                    break
            self._catalog.save_comparisons(done, sorted(set(found)))
            advance(len(done))
            if stopped:
                return False
        return True

    def _copies(
        self, content: int, vectors: Mapping[int, Float32Array], near: Sequence[int]
    ) -> dict[int, float]:
        """Those of a content's neighbours that are the same picture, and how alike."""
        copies = self._compared(content, near)
        for before, count in itertools.pairwise(_NEIGHBOURS):
            if len(copies) < _MOST * (before - 1):
                break
            copies = self._compared(content, self._neighbours(vectors, [content], count)[content])
        return copies

    def _compared(self, content: int, near: Sequence[int]) -> dict[int, float]:
        self._comparer.prepare([content, *near])
        found = {other: self._comparer.similarity(content, other) for other in near}
        return {other: alike for other, alike in found.items() if alike is not None}

    def _neighbours(
        self, vectors: Mapping[int, Float32Array], contents: Sequence[int], count: int
    ) -> dict[int, list[int]]:
        """The nearest other contents of each, nearest first, about `count`."""
        rows = np.stack([vectors[content] for content in contents])
        _, ids = self._index.search([ChannelQuery(self._channel, rows, count)], EVERYTHING)[0]
        of = self._owners.owners(ids.ravel()).contents.reshape(ids.shape)
        return {
            content: [int(other) for other in dict.fromkeys(row) if other not in {0, content}]
            for content, row in zip(contents, list(of), strict=True)
        }
