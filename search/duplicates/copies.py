"""Which contents are one picture: neighbours in the vector index, verified on pixels.

A perceptual hash moves as far by a tenth cut off as by another photograph, an embedding does not; so
the candidates of a content are its nearest neighbours, a few each, however large the library. Where most
of them turn out to be copies there may be more, and more are asked for. Signatures then decide
(`verification.py`). What was compared is kept, so that the next time only new contents cost anything.
"""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence

import numpy as np

from regard.core.catalog import ChannelQuery, ChannelSearch, SearchCatalog
from regard.core.duplicates import CopyPair, DuplicateCatalog
from regard.core.filters import EVERYTHING
from regard.core.records import Channel, Float32Array
from regard.core.signatures import Signature
from regard.search.duplicates.alignment import Picture
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


def compare_contents(
    catalog: DuplicateCatalog,
    owners: SearchCatalog,
    index: ChannelSearch,
    channel: Channel,
    comparer: Comparer,
    *,
    should_stop: Callable[[], bool] = lambda: False,
    advance: Callable[[int], None] = lambda done: None,
) -> bool:
    """Compare all contents that wait for it with their neighbours, some at a time, each portion kept.

    Returns whether none waits any more; false where `should_stop` turned true.
    """
    while not should_stop():
        contents = catalog.uncompared(channel, _AT_ONCE)
        if not contents:
            return True
        vectors = catalog.image_vectors(channel, contents)
        found: dict[tuple[int, int], float] = {}
        waiting, done = list(contents), []
        for number, count in enumerate(_NEIGHBOURS):
            neighbours = _neighbours(index, owners, channel, vectors, waiting, count)
            more = []
            for content in waiting:
                if should_stop():
                    break
                near = neighbours[content]
                comparer.prepare([content, *near])
                copies = 0
                for other in near:
                    similarity = comparer.similarity(content, other)
                    if similarity is not None:
                        found[min(content, other), max(content, other)] = similarity
                        copies += 1
                if copies >= _MOST * (count - 1) and number + 1 < len(_NEIGHBOURS):
                    more.append(content)
                else:
                    done.append(content)
            waiting = more
            if not waiting:
                break
        pairs = [CopyPair(*pair, similarity) for pair, similarity in sorted(found.items())]
        catalog.save_comparisons(sorted(done), pairs)
        advance(len(done))
    return False


def _neighbours(
    index: ChannelSearch,
    owners: SearchCatalog,
    channel: Channel,
    vectors: dict[int, Float32Array],
    contents: Sequence[int],
    count: int,
) -> dict[int, list[int]]:
    """The nearest other contents of each, nearest first, about `count`."""
    rows = np.stack([vectors[content] for content in contents])
    _, ids = index.search([ChannelQuery(channel, rows, count)], EVERYTHING)[0]
    of = owners.owners(ids.ravel()).contents.reshape(ids.shape)
    return {
        content: [int(other) for other in dict.fromkeys(row) if other not in {0, content}]
        for content, row in zip(contents, list(of), strict=True)
    }
