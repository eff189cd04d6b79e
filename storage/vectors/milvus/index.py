"""The vector index of one channel in a collection of a Milvus server.

Columns: `id`, the primary key; `content`; `region`; `vector`, the float32 of the catalog's float16
values, which loses nothing, so Milvus' own inner products are exact. A graph (HNSW) nominates rows;
those whose graph is not built yet are searched by brute force, or by an interim index of Milvus,
which looks at an eighth of them and so returns too few of those that pass a filter.

Position: the row with id 0 keeps the position of the change log in `region`. Its `content` is -1,
which no filter allows. It is written after the rows and deletions that it covers have been
acknowledged, so a crash in between leaves an older position, and the step is done again: rows
replace themselves, and deletions of absent rows do nothing. A position that is read late has the
same effect.

Visibility: Milvus shows a write a moment after it acknowledges it. After each change, this process
asks for a timestamp, and its searches wait until Milvus shows everything up to it.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import numpy.typing as npt
from pymilvus import DataType, MilvusClient

from regard.core.catalog import Neighbours
from regard.core.errors import NotFound
from regard.core.idset import IdSet
from regard.core.records import Float16Array, Float32Array, Int64Array
from regard.storage.vectors.engine import Additions, IndexIdentity, Queries, VectorIndex
from regard.storage.vectors.milvus.server import (
    REQUEST_SECONDS,
    SEARCH_SECONDS,
    CollectionGone,
    MilvusServer,
)
from regard.storage.vectors.rows import (
    Rows,
    checked_ids,
    checked_queries,
    checked_rows,
    score_rows,
)

_POSITION_ID, _NO_CONTENT = 0, -1
# Milvus' limit for the hits of a search, the queries in it, and the rows of a query.
_MOST = 16_384
# Ids in an expression; parsing takes 6 us each.
_LISTED = 8_192
# Bytes of vectors in a request; a server takes 64 MB.
_REQUEST_BYTES = 16 << 20
# Hits of all queries in an answer.
_ANSWER_HITS = 200_000
# Rows that pass an expression up to which all are asked for, so that none is missed unnoticed.
_FEW_ROWS = 8_192
# Links and breadth of the graph, and the least breadth of a search. Texts lie apart from the rows
# that they search, and need so much; rows find rows with a tenth.
_LINKS, _BUILD_BREADTH, _BREADTH = 32, 200, 1000
# Hits beyond those asked for, among which ties are put in order, and how much deeper to look next.
_SPARE, _DEEPER = 32, 4
# Rows applied after which a snapshot lets Milvus build their graph; it does so later on its own.
_UNSEALED_ROWS = 8_192
_FIELDS = ["id", "content", "region"]
# Scores, ids, contents and regions (n,).
_Columns = tuple[npt.NDArray[Any], ...]


class MilvusIndex(VectorIndex):
    """Nearest neighbours by inner product over one channel, in the collection behind an alias."""

    def __init__(
        self,
        identity: IndexIdentity,
        server: MilvusServer,
        alias: str,
        alone: Callable[[], AbstractContextManager[None]],
    ) -> None:
        """An empty index at position 0; `read_kept` continues the one that is kept.

        `alone` is the right to change the index, over all processes.
        """
        self.identity = identity
        self.replaces = False
        """Whether changes go to a new collection, which a snapshot puts in place of the kept one."""
        self._server = server
        self._alias = alias
        self._alone = alone
        self._writing = threading.Lock()
        self._collection: str | None = None
        self._position = 0
        self._timestamp = 0
        self._rows: tuple[int, int] | None = None
        self._unsealed = 0
        self._page = max(1, min(_MOST, _REQUEST_BYTES // (4 * identity.dimension)))

    @property
    def applied_through(self) -> int:
        return self._position

    @property
    def is_exact(self) -> bool:
        return False

    @property
    def exists(self) -> bool:
        """Whether there is a collection."""
        return self._collection is not None

    @property
    def unsaved_rows(self) -> int:
        """None: Milvus acknowledges what it has made durable."""
        return 0

    @contextmanager
    def _client(self) -> Iterator[MilvusClient]:
        """As the server's; an index that is gone is empty, until the next change makes it again."""
        try:
            with self._server.client() as client:
                yield client
        except CollectionGone:
            self._collection, self._position, self._timestamp, self._rows = None, 0, 0, None
            raise

    def read_kept(self) -> None:
        """Continue the index that is kept, at its position."""
        if self.replaces:
            return
        try:
            self._read_position()
        except CollectionGone:  # another process has replaced it
            self._read_position()

    def _read_position(self) -> None:
        with self._client() as client:
            if not self.exists:
                if not client.has_collection(self._alias, timeout=SEARCH_SECONDS):
                    return
                alias = client.describe_alias(self._alias, timeout=SEARCH_SECONDS)
                self._collection = alias["collection_name"]
            # A position that is read late costs a replay; here that would be all rows.
            is_late_harmless = self._position > 0
            consistency = "Eventually" if is_late_harmless else "Strong"
            rows = client.query(
                self._collection,
                filter=f"id == {_POSITION_ID}",
                output_fields=["region"],
                timeout=SEARCH_SECONDS,
                consistency_level=consistency,
            )
        position = int(rows[0]["region"]) if rows else 0
        if position > self._position:
            self._timestamp, self._position = self._server.timestamp(), position

    def check(self) -> None:
        self._server.check()

    @contextmanager
    def changing(self) -> Iterator[None]:
        with self._alone():
            self.read_kept()
            yield

    def apply(self, additions: Additions, removals: Int64Array, *, through: int) -> None:
        rows = checked_rows(additions, self.identity.dimension)
        removed = checked_ids(removals)
        lasting = rows.take(~np.isin(rows.ids, removed)) if removed.size else rows
        removed = removed[removed > 0]
        with self._writing, self._client() as client:
            if through <= self._position:
                return
            if self._collection is None:
                self._collection = self._make_collection(client)
                if not self.replaces:
                    self._put_in_place(client, self._collection, 0)
            for start in range(0, len(lasting), self._page):
                entities = _entities(lasting.take(slice(start, start + self._page)))
                client.upsert(self._collection, entities, timeout=REQUEST_SECONDS)
            for start in range(0, len(removed), _LISTED):
                listed = removed[start : start + _LISTED].tolist()
                client.delete(self._collection, ids=listed, timeout=REQUEST_SECONDS)
            self._unsealed += len(lasting)
            timestamp = self._write_position(client, self._collection, through)
            self._timestamp, self._position = timestamp, through

    def fill(self, additions: Iterable[Additions], *, through: int) -> None:
        with self._writing, self._client() as client:
            if self._position or self.row_count:
                raise ValueError(f"an index with rows up to {self._position} can't be filled")
            collection = ""
            for arriving in additions:
                rows = checked_rows(arriving, self.identity.dimension)
                collection = collection or self._make_collection(client)
                for start in range(0, len(rows), self._page):
                    entities = _entities(rows.take(slice(start, start + self._page)))
                    client.insert(collection, entities, timeout=REQUEST_SECONDS)
            collection = collection or self._make_collection(client)
            timestamp = self._write_position(client, collection, through)
            client.flush(collection, timeout=REQUEST_SECONDS)
            self._put_in_place(client, collection, timestamp)
            self._collection, self.replaces = collection, False
            self._timestamp, self._position = timestamp, through

    def _make_collection(self, client: MilvusClient) -> str:
        """The name of a new collection, empty and loaded."""
        name = f"{self._alias}_{uuid.uuid4().hex[:12]}"
        schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("id", DataType.INT64, is_primary=True)
        schema.add_field("content", DataType.INT64)
        schema.add_field("region", DataType.INT64)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=self.identity.dimension)
        graph = client.prepare_index_params()
        graph.add_index(
            "vector",
            index_type="HNSW",
            metric_type="IP",
            params={"M": _LINKS, "efConstruction": _BUILD_BREADTH},
        )
        client.create_collection(
            name, schema=schema, index_params=graph, num_shards=1, timeout=REQUEST_SECONDS
        )
        return name

    def _write_position(self, client: MilvusClient, collection: str, through: int) -> int:
        """Write a position after all that it covers; return a timestamp after both."""
        entity = {
            "id": _POSITION_ID,
            "content": _NO_CONTENT,
            "region": through,
            "vector": np.zeros(self.identity.dimension, np.float32),
        }
        client.upsert(collection, [entity], timeout=REQUEST_SECONDS)
        return self._server.timestamp()

    def _put_in_place(self, client: MilvusClient, collection: str, timestamp: int) -> None:
        """Let the alias name a collection, once it shows all up to a timestamp; drop all others."""
        client.query(
            collection,
            filter=f"id == {_POSITION_ID}",
            timeout=REQUEST_SECONDS,
            **_consistency(timestamp),
        )
        names = client.list_collections(timeout=REQUEST_SECONDS)
        others = [n for n in names if n.startswith(f"{self._alias}_") and n != collection]
        if client.has_collection(self._alias, timeout=REQUEST_SECONDS):
            client.alter_alias(collection, self._alias, timeout=REQUEST_SECONDS)
        else:
            client.create_alias(collection, self._alias, timeout=REQUEST_SECONDS)
        for name in others:
            client.drop_collection(name, timeout=REQUEST_SECONDS)

    def snapshot(self, queries: Queries | None = None) -> None:
        alone = self._alone() if self.replaces else nullcontext()
        with alone, self._writing, self._client() as client:
            if self.replaces:
                collection = self._collection or self._make_collection(client)
                self._put_in_place(client, collection, self._timestamp)
                self._collection, self.replaces = collection, False
            if queries is not None and self._unsealed >= _UNSEALED_ROWS and self._collection:
                client.flush(self._collection, timeout=REQUEST_SECONDS)
                self._unsealed = 0

    def search(
        self, queries: Float32Array, k: int, allowed: IdSet | None = None, *, exact: bool = False
    ) -> Neighbours:
        """As in the Protocol.

        Filters with few ids become an expression; hits of others are filtered here, and the search
        goes deeper until enough are left. Of few rows that pass an expression, all are asked for.
        What Milvus returns too few of is read and scored.
        """
        checked = checked_queries(queries, k, self.identity.dimension)
        position = self._position
        try:
            return self._nearest(checked, k, allowed, exact=exact)
        except CollectionGone:
            # Another process has replaced it, perhaps by one that lacks what this one applied.
            self.read_kept()
            if not position or self._position < position:
                raise
            return self._nearest(checked, k, allowed, exact=exact)

    def _nearest(
        self, checked: Float32Array, k: int, allowed: IdSet | None, *, exact: bool
    ) -> Neighbours:
        found = Neighbours.empty(len(checked), k)
        count = min(k, self.row_count)
        if not count or not len(checked) or (allowed is not None and _is_empty(allowed)):
            return found
        expression = _expression(allowed)
        passing, needed = self.row_count, count
        if expression and not exact:
            # What an expression says need not be filtered again.
            passing, allowed = self._count(expression), None
            count = min(count, passing)
            needed = passing if passing <= _FEW_ROWS else count
        pending = np.arange(len(checked)) if count else np.zeros(0, np.int64)
        limit = needed + _SPARE if allowed is None else (needed + _SPARE) * _DEEPER
        while len(pending) and not exact:
            # The row of the position may be one of them.
            limit = min(limit, passing + 1)
            if limit > _MOST:
                break
            pending = self._search(
                checked, pending, limit, count, needed, expression, allowed, found
            )
            if limit > passing:
                break
            limit = min(limit * _DEEPER, max(_MOST, limit + 1))
        if len(pending):
            for row, best in zip(
                pending, self._scan(checked[pending], count, expression, allowed), strict=True
            ):
                _keep(found, int(row), best)
        return found

    def _search(
        self,
        queries: Float32Array,
        pending: Int64Array,
        limit: int,
        count: int,
        needed: int,
        expression: str,
        allowed: IdSet | None,
        found: Neighbours,
    ) -> Int64Array:
        """Put the `count` best of `limit` hits of pending queries into `found`.

        Returns the queries with fewer hits than `needed`.
        """
        unfinished = []
        breadth = {"ef": min(max(2 * limit, _BREADTH * (4 if expression else 1)), 2 * _MOST)}
        step = max(1, min(_ANSWER_HITS // limit, self._page))
        for start in range(0, len(pending), step):
            places = pending[start : start + step]
            with self._client() as client:
                answers = client.search(
                    self._collection,
                    list(queries[places]),
                    filter=expression,
                    limit=limit,
                    output_fields=["content", "region"],
                    search_params={"metric_type": "IP", "params": breadth},
                    timeout=SEARCH_SECONDS,
                    **_consistency(self._timestamp),
                )
            for place, answer in zip(places, answers, strict=True):
                hits = [hit["entity"] for hit in answer]
                best: _Columns = (
                    np.array(answer.distances, np.float32),
                    np.array(answer.ids, np.int64),
                    np.array([hit["content"] for hit in hits], np.int64),
                    np.array([hit["region"] for hit in hits], np.int64),
                )
                is_hit = best[1] != _POSITION_ID
                if allowed is not None:
                    is_hit &= allowed.contains(best[2])
                is_cut = len(hits) >= limit
                is_enough = np.count_nonzero(is_hit) >= needed
                best = _best(tuple(column[is_hit] for column in best), count + 1)
                is_tied = (
                    is_cut and len(best[0]) > count and best[0][count - 1] == answer.distances[-1]
                )
                if not is_enough or is_tied:
                    unfinished.append(place)
                else:
                    _keep(found, int(place), tuple(column[:count] for column in best))
        return np.array(unfinished, np.int64)

    def _scan(
        self, queries: Float32Array, count: int, expression: str, allowed: IdSet | None
    ) -> list[_Columns]:
        """The best rows of each query among all that pass: scores, ids, contents and regions."""
        nothing = np.zeros(0, np.int64)
        best: list[_Columns] = [(np.zeros(0, np.float32), nothing, nothing, nothing)] * len(queries)
        for page in self._read(expression):
            rows = page if allowed is None else page.take(allowed.contains(page.contents))
            for place, scores in enumerate(score_rows(queries, rows.vectors)):
                columns = (scores, rows.ids, rows.contents, rows.regions)
                joined = tuple(map(np.concatenate, zip(best[place], columns, strict=True)))
                best[place] = _best(joined, count)
        return best

    def _read(self, expression: str) -> Iterator[Rows]:
        """The rows that pass an expression, by ascending id, in steps."""
        after = _POSITION_ID
        conditions = f" and {expression}" if expression else ""
        while True:
            with self._client() as client:
                found = self._query(
                    client, f"id > {after}{conditions}", [*_FIELDS, "vector"], self._page
                )
            if found:
                ids, contents, regions = (
                    np.array([row[name] for row in found], np.int64) for name in _FIELDS
                )
                vectors = np.array([row["vector"] for row in found], np.float16)
                yield Rows(ids, contents, regions, vectors)
                after = int(found[-1]["id"])
            if len(found) < self._page:
                return

    def _query(
        self, client: MilvusClient, filter_: str, fields: list[str], limit: int
    ) -> list[dict[str, Any]]:
        """Up to `limit` rows, by ascending id."""
        found = client.query(
            self._collection,
            filter=filter_,
            output_fields=fields,
            limit=limit,
            timeout=SEARCH_SECONDS,
            **_consistency(self._timestamp),
        )
        return sorted(found, key=lambda row: row["id"])

    def _count(self, expression: str) -> int:
        """Rows that pass an expression."""
        with self._client() as client:
            (counted,) = client.query(
                self._collection,
                filter=f"id > {_POSITION_ID}" + (f" and {expression}" if expression else ""),
                output_fields=["count(*)"],
                timeout=SEARCH_SECONDS,
                **_consistency(self._timestamp),
            )
        return int(counted["count(*)"])

    @property
    def row_count(self) -> int:
        if self._collection is None:
            return 0
        position = self._position
        if self._rows is None or self._rows[0] != position:
            self._rows = position, self._count("")
        return self._rows[1]

    def ids(self) -> Int64Array:
        found: list[int] = []
        after = _POSITION_ID
        while self.exists:
            with self._client() as client:
                page = self._query(client, f"id > {after}", ["id"], _MOST)
            found += [row["id"] for row in page]
            if len(page) < _MOST:
                break
            after = found[-1]
        return np.array(found, np.int64)

    def vectors(self, ids: Int64Array) -> Float16Array:
        unique, places = np.unique(checked_ids(ids), return_inverse=True)
        vectors = np.zeros((len(unique), self.identity.dimension), np.float16)
        for start in range(0, len(unique), self._page):
            wanted = unique[start : start + self._page]
            found: list[dict[str, Any]] = []
            if self.exists:
                filter_ = f"id > {_POSITION_ID} and id in {wanted.tolist()}"
                with self._client() as client:
                    found = self._query(client, filter_, ["id", "vector"], len(wanted))
            if len(found) < len(wanted):
                missing = np.setdiff1d(wanted, [row["id"] for row in found])[0]
                raise NotFound(f"the vector index has no row {missing}")
            vectors[start : start + len(wanted)] = [row["vector"] for row in found]
        return vectors[places]

    def stats(self) -> Mapping[str, Any]:
        """The number of rows, and `graph_rows`: how many Milvus searches by graphs.

        The latter counts deleted rows, too, until Milvus merges segments.
        """
        graph_rows = 0
        if self.exists:
            with self._client() as client:
                segments = client.list_loaded_segments(self._collection, timeout=SEARCH_SECONDS)
            graph_rows = sum(one.num_rows for one in segments if one.index_name)
        return {"rows": self.row_count, "graph_rows": graph_rows}

    def damage(self) -> Sequence[str]:
        return []


def _consistency(timestamp: int) -> dict[str, Any]:
    """What lets a request see everything up to a timestamp, or up to now for 0."""
    if not timestamp:
        return {"consistency_level": "Strong"}
    return {"consistency_level": "Customized", "guarantee_timestamp": timestamp}


def _entities(rows: Rows) -> list[dict[str, Any]]:
    columns = (rows.ids.tolist(), rows.contents.tolist(), rows.regions.tolist())
    vectors = rows.vectors.astype(np.float32)
    return [
        {"id": id_, "content": content, "region": region, "vector": vector}
        for id_, content, region, vector in zip(*columns, vectors, strict=True)
    ]


def _expression(allowed: IdSet | None) -> str:
    """The condition on contents; empty for all, and for what lists too many."""
    if allowed is None or not 0 < allowed.listed_count <= _LISTED:
        return ""
    return f"content {'not in' if allowed.is_complement else 'in'} {allowed.listed().tolist()}"


def _is_empty(allowed: IdSet) -> bool:
    return not allowed.listed_count and not allowed.is_complement


def _best(columns: _Columns, count: int) -> _Columns:
    """The best rows of scores, ids and others (n,): by descending score, then ascending id."""
    order = np.lexsort((columns[1], -columns[0]))[:count]
    return tuple(column[order] for column in columns)


def _keep(found: Neighbours, row: int, best: _Columns) -> None:
    columns: _Columns = (found.scores, found.ids, found.contents, found.regions)
    for column, values in zip(columns, best, strict=True):
        column[row, : len(values)] = values
