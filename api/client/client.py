"""The client itself: resources by name, searches, changes, and what the server is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Unpack

from regard.api.client.albums import Albums
from regard.api.client.assets import Assets, Trash
from regard.api.client.collections import Collections
from regard.api.client.connection import Call, Connection, pages, pairs
from regard.api.client.duplicates import Duplicates
from regard.api.client.jobs import Jobs
from regard.api.client.pipelines import Pipelines
from regard.api.client.problems import shown_url
from regard.api.client.regions import Regions
from regard.api.client.searching import Facet, SearchOptions, search_call
from regard.api.schemas import (
    ChangeDocument,
    ChangeList,
    Health,
    HitDocument,
    InfoDocument,
    Readiness,
    SearchAnswer,
    SuggestionDocument,
    SuggestionList,
)

_TIMEOUT_SECONDS = 60.0


class Client:
    """A server and the key for it; close it, or use it in a `with` statement.

    Safe to use from several threads.
    """

    def __init__(
        self, base_url: str, key: str | None = None, timeout: float | None = _TIMEOUT_SECONDS
    ) -> None:
        """`timeout` is how many seconds the server may be silent, None without limit.

        Nothing is sent yet. Raises UsageError for what is not an address or a key.
        """
        self._connection = Connection(base_url, key, timeout)
        self.url = shown_url(self._connection.url)
        self.collections = Collections(self._connection)
        self.albums = Albums(self._connection)
        self.assets = Assets(self._connection)
        self.trash = Trash(self._connection)
        self.regions = Regions(self._connection)
        self.duplicates = Duplicates(self._connection)
        self.jobs = Jobs(self._connection)
        self.pipelines = Pipelines(self._connection)
        self.session = Session(self._connection)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connection."""
        self._connection.close()

    def search(
        self,
        text: str | None = None,
        *,
        limit: int | None = None,
        cursor: str | None = None,
        facets: Sequence[Facet] = (),
        **options: Unpack[SearchOptions],
    ) -> SearchAnswer:
        """Search by plain text, by a `query` in the query language, by `terms`, or by several of
        these.

        Terms name the `images` sent with the request by their numbers, from 1; docs/http.md
        describes all options. Raises ServerProblem `malformed-query`, `unanswerable-query`,
        `unusable-image`, `not-found`.
        """
        call = search_call(text, options, limit=limit, cursor=cursor, facets=facets)
        return self._connection.read(SearchAnswer, call)

    def iterate_hits(
        self, text: str | None = None, *, page: int | None = None, **options: Unpack[SearchOptions]
    ) -> Iterator[HitDocument]:
        """Hits of a search, best first, read `page` at a time, as many as the server gives."""
        return pages(
            lambda cursor: self.search(text, limit=page, cursor=cursor, **options),
            lambda answer: answer.hits,
        )

    def suggest(self, text: str, limit: int | None = None) -> list[SuggestionDocument]:
        """Tags, albums, places, cameras and lenses that complete a query up to the caret."""
        query = pairs(q=text, limit=limit)
        return self._connection.get(SuggestionList, "/v1/suggestions", query).items

    def list_changes(
        self, since: int = 0, *, limit: int | None = None, collection: Sequence[str] = ()
    ) -> ChangeList:
        """Changes after a position; `next` is the position to continue from."""
        query = pairs(since=since, limit=limit, collection=list(collection))
        return self._connection.get(ChangeList, "/v1/changes", query)

    def changes(
        self, since: int = 0, *, collection: Sequence[str] = ()
    ) -> Iterator[ChangeDocument]:
        """All changes after a position, in order, up to now."""
        while True:
            page = self.list_changes(since, collection=collection)
            yield from page.changes
            since = page.next
            if not page.more:
                return

    def info(self) -> InfoDocument:
        """The server, and what the key allows."""
        return self._connection.get(InfoDocument, "/v1/info")

    def health(self) -> Health:
        """Whether the server is up; needs no key."""
        return self._connection.get(Health, "/healthz")

    def ready(self) -> Readiness:
        """Whether searches can be answered now, or why not; needs no key."""
        call = Call("GET", "/readyz", repeatable=True, accepted=(200, 503))
        return self._connection.read(Readiness, call)

    def metrics(self) -> str:
        """Metrics in Prometheus text format."""
        return self._connection.content("/metrics", []).decode()


class Session:
    """`/v1/session`: the key in a cookie, as browsers keep it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def start(self, key: str) -> None:
        """Store a key in a cookie of this client; raises ServerProblem `key-invalid`."""
        self._connection.send(Call("POST", "/v1/session", json={"key": key}, repeatable=True))

    def end(self) -> None:
        """Drop the cookie."""
        self._connection.send(Call("DELETE", "/v1/session", repeatable=True))
