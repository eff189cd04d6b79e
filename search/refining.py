"""Refines the first hits of an answer: what its text names is looked for in each photograph.

The region that was nearest is one of those that the index found without knowing the query. A
grounding model reads the photograph together with the text, which takes as long as analysing it,
so that only the first hits are refined.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from regard.core.assets import Asset
from regard.core.errors import CannotWork, DecodeError, UnanswerableQuery
from regard.core.protocols import Profile
from regard.core.records import Image, Region, Target
from regard.search.answers import Answer, ComposedQuery, Hit, Query, Scope, TextQuery
from regard.search.timing import Clock, Observe

# Hits of higher ranks keep their regions.
MOST_REFINED = 20

# Decodes the photograph of an asset, or the frame at a time in ms of a video; raises DecodeError,
# or CannotWork if it is gone or has changed.
LoadImage = Callable[[Asset, int | None], Image]
Search = Callable[[Query, Scope], Answer]


class Refiner:
    """Refines answers with the grounder of a profile, one photograph at a time."""

    def __init__(
        self, profile: Profile, load_image: LoadImage | None, observe: Observe | None = None
    ) -> None:
        """`load_image` is None where originals can't be read."""
        self._profile = profile
        self._load_image = load_image
        self._observe = observe
        # Several at once would only take each other's cores and memory.
        self._turn = threading.Lock()

    def search(self, search: Search, query: Query, scope: Scope) -> Answer:
        """Search, and add the region that the text names to the first hits that show it.

        Of several hits of an asset the first gets it, whatever the page. Raises UnanswerableQuery
        for a query without text or a profile without a grounder, ModelError or MissingDependency
        when the grounder can't be loaded.
        """
        problem = self._profile.grounding_problem()
        if problem is not None:
            raise problem
        text = _wanted_text(query)
        if text is None:
            raise UnanswerableQuery(
                "only hits of a text can be refined", remedy="add what to look for in words"
            )
        plain = replace(scope, refined_ranks=0)
        most = min(scope.refined_ranks, MOST_REFINED)
        answer = search(query, plain)
        earlier: set[int] = set()
        if scope.offset and scope.target is Target.REGION:
            head = replace(plain, offset=0, limit=min(scope.offset, most))
            earlier = {hit.asset.id for hit in search(query, head).hits}
        clock = Clock()
        hits = self._refine(answer.hits, text, most, earlier)
        clock.lap("refine")
        return replace(answer, hits=hits, took_ms=answer.took_ms + clock.stop(self._observe))

    def _refine(
        self, hits: Sequence[Hit], text: str, most: int, earlier: Collection[int]
    ) -> tuple[Hit, ...]:
        """Refine, up to the rank `most`, the first hit of each asset not among the `earlier`."""
        seen = set(earlier)
        by_picture: dict[tuple[int | None, int | None], Region | None] = {}
        refined: list[Hit] = []
        for hit in hits:
            asset = hit.asset
            region = None
            if asset.id not in seen and hit.rank <= most:
                moment = None if hit.region is None else hit.region.time_ms
                picture = asset.content_id, asset.poster_ms if moment is None else moment
                if picture not in by_picture:
                    by_picture[picture] = self._ground(asset, picture[1], text)
                region = by_picture[picture]
            seen.add(asset.id)
            refined.append(replace(hit, refined=region))
        return tuple(refined)

    def _ground(self, asset: Asset, time_ms: int | None, text: str) -> Region | None:
        if self._load_image is None:
            return None
        try:
            image = self._load_image(asset, time_ms)
        except (DecodeError, CannotWork):
            # The hit stays as it is: gone and unreadable photographs are reported elsewhere.
            return None
        with self._turn:
            (region,) = self._profile.grounder().ground([image], [text])
        return region


def _wanted_text(query: Query) -> str | None:
    """What a query's positive texts say; None without one."""
    queries: list[Query] = [query]
    if isinstance(query, ComposedQuery):
        queries = [term.query for term in query.terms if not term.negative]
    texts = [one.text for one in queries if isinstance(one, TextQuery)]
    return ", ".join(texts) or None
