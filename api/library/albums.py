"""Albums in queries: the filter that an album stands for, and the queries of saved searches."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

from regard.core.errors import UsageError
from regard.core.filters import AssetFilter
from regard.core.words import composed
from regard.search.alternatives import SORTED_HITS
from regard.search.answers import Order, Scope
from regard.search.engine import SearchEngine
from regard.search.language.parsing import parse_query
from regard.search.language.planning import (
    GetPath,
    compose_query,
    intersect,
    read_filter,
    read_terms,
)
from regard.search.language.syntax import WrittenPicture
from regard.storage.assets.albums import SqlAlbums
from regard.storage.assets.reading import Visible

_NOTHING = AssetFilter(collections=())


class AlbumFilters:
    """Makes the filters of albums, by name, within the assets that a search covers.

    A saved search of filters alone is these filters; with terms, it is the likely ones of its first
    hits, which each call finds again. Stacks are folded as in the search itself.
    """

    def __init__(
        self,
        albums: SqlAlbums,
        engine: Callable[[], SearchEngine],
        path: GetPath,
        within: AssetFilter,
        visible: Visible = None,
    ) -> None:
        self._albums = albums
        self._engine = engine
        self._path = path
        self._within = within
        self._visible = visible

    def __call__(self, name: str) -> AssetFilter:
        """The filter of an album; raises NotFound."""
        album = self._albums.named(composed(name), visible=self._visible)
        if album.query is None:
            return AssetFilter(albums=(album.id,))
        written = parse_query(album.query)
        chosen = read_filter(written, self._path, _refuse_album)
        if not written.terms:
            return chosen
        scope = Scope(limit=SORTED_HITS, filter=intersect(self._within, chosen), order=Order.NEWEST)
        query = compose_query(read_terms(written, _refuse_picture))
        hits = self._engine().search(query, scope).hits
        return AssetFilter(ids=tuple(sorted(hit.asset.id for hit in hits))) if hits else _NOTHING


def require_saved(query: str, path: GetPath) -> None:
    """Raise UsageError for a query that cannot be saved as an album."""
    written = parse_query(query)
    if not written.terms and not written.conditions:
        raise UsageError("the query is empty", remedy="give a query that finds something")
    read_filter(written, path, _refuse_album)
    compose_query(read_terms(written, _refuse_picture))


def _refuse_album(_name: str) -> NoReturn:
    raise UsageError("a saved search cannot name an album", remedy="write its query instead")


def _refuse_picture(_picture: WrittenPicture) -> NoReturn:
    raise UsageError("a saved search cannot have a picture", remedy="use like: and an id")
