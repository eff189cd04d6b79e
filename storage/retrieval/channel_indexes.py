"""The vector indexes of a pipeline, one per channel, each derived from the change log.

A search first reads the last position of the log and applies what is new, so that commits of other
processes show at once.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from sqlalchemy import Connection

from regard.core.catalog import ChannelQuery, ChannelSearch, DerivedIndexes, Neighbours
from regard.core.errors import EngineUnavailable, HomeError, IndexMismatch
from regard.core.filters import AssetFilter
from regard.core.machine import share_work
from regard.core.records import Channel, Float32Array
from regard.storage.database.catalog import Catalog
from regard.storage.database.change_log import (
    Moment,
    last_position,
    moment,
    moment_now,
    read_changes,
)
from regard.storage.database.embeddings import Embeddings, read_channel
from regard.storage.database.stored_pipelines import StoredChannel, StoredPipeline, index_folder
from regard.storage.retrieval.passing_contents import PassingContents
from regard.storage.retrieval.recall import QUERIES, RecallReport, measure_recall
from regard.storage.retrieval.verification import Finding, verify_channel
from regard.storage.vectors.engine import (
    Additions,
    IndexIdentity,
    VectorEngine,
    VectorIndex,
    disk_errors_named,
    sample_rows,
)

_log = logging.getLogger(__name__)

# Vectors applied in one step, which make a segment that is merged on disk alone, and sealed rows
# that make a snapshot due; both bound memory.
_STEP = _UNSAVED_ROWS = 65_536
# Positions of the log from which an empty index is filled from the catalog at once.
_LONG_LOG = 4096
# Sampled queries of each kind, to choose how deep searches look. Recall is measured with others.
_SAMPLE = 256
_DEPTH_SEED, _RECALL_SEED = 0, 1
_NEVER = Moment(-1, -1)
# Seconds to wait for another thread that changes an index, before asking whether the engine is away.
_TURN_SECONDS = 1.0
# Neighbours that are kept, of 28 bytes each.
_KEPT = 1 << 20
# Searches of more queries at once are not made by people who turn pages.
_MOST_QUERIES = 32

# The channel, the filter, whether the search is exact, and the queries' vectors.
QueryKey = tuple[Channel, AssetFilter, bool, bytes]


class ChannelIndexes(ChannelSearch, DerivedIndexes):
    """Opens, updates, searches and stores the indexes of one pipeline's channels."""

    def __init__(
        self,
        catalog: Catalog,
        pipeline: StoredPipeline,
        engine: VectorEngine,
    ) -> None:
        """Indexes are opened on first use."""
        self._catalog = catalog
        self._pipeline = pipeline
        self._passing = PassingContents()
        self._recent = _RecentNeighbours(_NEVER)
        self._folder = index_folder(engine.folder, pipeline.fingerprint)
        self.engine = engine
        self._is_away = False
        self._indexes: dict[Channel, VectorIndex] = {}
        self._opening = threading.Lock()
        self._replacing = threading.Lock()
        self._catching_up = {channel: threading.Lock() for channel in pipeline.channels}

    def search(self, asked: Sequence[ChannelQuery], asset_filter: AssetFilter) -> list[Neighbours]:
        # The indexes may go on past this moment, but a set that excludes what it does not list
        # would then let new embeddings through: hence the reader of the hits applies the
        # filter again.
        now = moment_now(self._catalog.database)
        cached = self._passing.cached(asset_filter, now.assets)
        if cached is None:
            with self._catalog.database.reading() as connection:
                now = moment(connection)
                cached = (self._passing.read(connection, asset_filter, now.assets),)
        (allowed,) = cached
        recent = self._recent_at(now)
        found: dict[int, Neighbours] = {}
        keys = [(one.channel, asset_filter, one.exact, one.vectors.tobytes()) for one in asked]
        for place, query in enumerate(asked):
            if (known := recent.get(keys[place], query.k)) is not None:
                found[place] = known
        order = sorted(
            (place for place in range(len(asked)) if place not in found),
            key=lambda place: -self._index(asked[place].channel).row_count,
        )

        def answer(place: int) -> Neighbours:
            query = asked[place]
            index = self._fresh(query.channel, now.embeddings)
            # One column more than there are rows, so that padding shows that these are all.
            width = min(query.k, index.row_count + 1)
            neighbours = index.search(query.vectors, width, allowed, exact=query.exact)
            recent.keep(keys[place], neighbours)
            return neighbours

        # The largest channel first.
        found.update(zip(order, share_work(answer, order), strict=True))
        return [found[place] for place in range(len(asked))]

    def _recent_at(self, now: Moment) -> _RecentNeighbours:
        """The answers that hold at a moment."""
        with self._replacing:
            if now > self._recent.moment:
                self._recent = _RecentNeighbours(now)
            # Another thread may have seen a later moment than this one.
            return self._recent if self._recent.moment == now else _RecentNeighbours(now)

    def catch_up(self) -> None:
        """As in the Protocol; raises IndexMismatch for an index that does not fit the catalog."""
        with self._later_when_away():
            self._catch_up()

    def snapshot(self) -> None:
        """Write each index that has changed since its last snapshot, and lists of what is large."""
        with self._later_when_away():
            self._snapshot()

    @contextmanager
    def _later_when_away(self) -> Iterator[None]:
        """Leave to later calls what can't be done while the engine is away."""
        try:
            yield
        except EngineUnavailable as error:
            if not self._is_away:
                _log.warning("%s; what it lacks is applied when it is back", error.message)
            self._is_away = True
        else:
            self._is_away = False

    def _catch_up(self) -> None:
        visible = moment_now(self._catalog.database).embeddings
        share_work(lambda channel: self._fresh(channel, visible), list(self._pipeline.channels))

    def _snapshot(self) -> None:
        def write(channel: Channel) -> None:
            self._indexes[channel].snapshot(partial(self._sample_queries, channel))

        with disk_errors_named(self._folder):
            share_work(write, sorted(self._indexes, key=lambda one: -self._indexes[one].row_count))

    def _sample_queries(self, channel: Channel) -> list[Float32Array]:
        """Samples of what a channel is searched with: vectors of each kind in its space.

        Captions stand for texts.
        """
        return [
            sample_rows(self._index(one), _SAMPLE, _DEPTH_SEED)[1]
            for one in self._pipeline.channels
            if one.space == channel.space
        ]

    def measure_recall(self) -> RecallReport:
        """Measure how much searches of each channel miss, and keep the result with the indexes.

        Queries are stored vectors of each kind in the channel's space.
        """
        visible, indexes = self._all_fresh()
        channels = tuple(
            measure_recall(index, one.kind, *sample_rows(sampled, QUERIES, _RECALL_SEED))
            for channel, index in indexes.items()
            for one, sampled in indexes.items()
            if one.space == channel.space
        )
        report = RecallReport.now(visible, channels)
        with disk_errors_named(self._folder):
            report.write(self._folder)
        return report

    def last_recall(self) -> RecallReport | None:
        """The last measurement of recall, by any process; None before the first."""
        return RecallReport.read(self._folder)

    def rebuild(self) -> None:
        """Rebuild every index from the catalog, ignoring what is on disk."""
        with self._opening:
            self._indexes = {
                channel: self.engine.create(self._identity(stored))
                for channel, stored in self._pipeline.channels.items()
            }
            self._recent = _RecentNeighbours(_NEVER)
        self._catch_up()
        self._snapshot()

    def verify(self) -> list[Finding]:
        """Compare every updated index with the embeddings in the catalog."""
        findings: list[Finding] = []
        for channel, stored in self._pipeline.channels.items():
            try:
                findings += self._verify(channel, stored)
            except IndexMismatch as error:
                findings.append(Finding(error.message, in_index=True))
            except HomeError as error:
                findings.append(Finding(error.message, in_index=False))
        return findings

    def stats(self) -> Mapping[str, Mapping[str, Any]]:
        """Counts and sizes by channel."""
        _, indexes = self._all_fresh()
        return {
            str(channel): {**index.stats(), "applied_through": index.applied_through}
            for channel, index in indexes.items()
        }

    def stored_stats(self) -> Mapping[str, Mapping[str, Any]]:
        """Counts by channel as of the last snapshots, from their manifests alone.

        Channels without one are left out. Raises IndexMismatch for a damaged one.
        """
        found: dict[str, Mapping[str, Any]] = {}
        for channel, stored in self._pipeline.channels.items():
            stats = self.engine.kept_stats(self._identity(stored))
            if stats is not None:
                found[str(channel)] = stats
        return found

    def _verify(self, channel: Channel, stored: StoredChannel) -> list[Finding]:
        """Compare one index with the catalog at one moment."""
        index = self._index(channel)
        with self._changing(channel, index) as connection:
            self._apply(connection, index, stored)
            findings = verify_channel(connection, stored, index.ids(), index.vectors)
        return findings + [
            Finding(f"in the index {channel}, {damage}", in_index=True) for damage in index.damage()
        ]

    def _all_fresh(self) -> tuple[int, dict[Channel, VectorIndex]]:
        """The last position of the log, and all indexes updated to it."""
        visible = moment_now(self._catalog.database).embeddings
        return visible, {one: self._fresh(one, visible) for one in self._pipeline.channels}

    def _fresh(self, channel: Channel, visible: int) -> VectorIndex:
        """The channel's index, updated to a position that was just read."""
        index = self._index(channel)
        if index.applied_through == visible:
            return index
        # Another thread or process may have passed `visible`.
        with self._changing(channel, index) as connection:
            self._apply(connection, index, self._pipeline.channels[channel])
        return index

    @contextmanager
    def _changing(self, channel: Channel, index: VectorIndex) -> Iterator[Connection]:
        """The right to change an index, and a read transaction that sees all that was applied."""
        turn = self._catching_up[channel]
        while not turn.acquire(timeout=_TURN_SECONDS):
            index.check()
        try:
            with index.changing(), self._catalog.database.reading() as connection:
                yield connection
        finally:
            turn.release()

    def _apply(self, connection: Connection, index: VectorIndex, stored: StoredChannel) -> None:
        """Update an index to the moment that a read transaction sees."""
        visible, applied = last_position(connection), index.applied_through
        if applied > visible:
            raise IndexMismatch(
                f"the index {stored.channel} is ahead of its catalog", remedy="run: regard rebuild"
            )
        try:
            if applied == 0 and visible > _LONG_LOG:
                # In a home that can't be written to, rows stay in memory; see below.
                with contextlib.suppress(OSError):
                    index.fill(map(_additions, read_channel(connection, stored)), through=visible)
                    applied = index.applied_through
            while applied < visible:
                batch = read_changes(connection, stored, applied, visible, _STEP)
                index.apply(_additions(batch.added), batch.removed_ids, through=batch.through)
                applied = batch.through
                if index.unsaved_rows > _UNSAVED_ROWS:
                    with contextlib.suppress(OSError):
                        index.snapshot()
        except ValueError as error:
            raise HomeError(
                f"the catalog holds damaged vectors in {stored.channel}: {error}",
                remedy="see them with: regard verify",
            ) from error

    def _index(self, channel: Channel) -> VectorIndex:
        index = self._indexes.get(channel)
        if index is not None:
            return index
        with self._opening:
            if channel not in self._indexes:
                identity = self._identity(self._pipeline.channels[channel])
                self._indexes[channel] = self.engine.open(identity)
            return self._indexes[channel]

    def _identity(self, stored: StoredChannel) -> IndexIdentity:
        return IndexIdentity(
            catalog=self._catalog.uuid,
            pipeline=self._pipeline.fingerprint,
            space=stored.channel.space,
            kind=stored.channel.kind,
            dimension=stored.dimension,
        )


class _RecentNeighbours:
    """The last answers by query, so that later pages of a query search nothing.

    They hold for one moment of the catalog. Any number of threads may use them.
    """

    def __init__(self, moment: Moment) -> None:
        self.moment = moment
        self._lock = threading.Lock()
        self._answers: OrderedDict[QueryKey, Neighbours] = OrderedDict()
        self._count = 0

    def get(self, key: QueryKey, k: int) -> Neighbours | None:
        """An answer with at least `k` neighbours, or all there are, cut to `k`."""
        with self._lock:
            found = self._answers.get(key)
            if found is None:
                return None
            self._answers.move_to_end(key)
        width = found.ids.shape[1]
        is_whole = width == 0 or bool((found.ids[:, -1] < 0).all())
        if width < k and not is_whole:
            return None
        first = slice(None), slice(k)
        return Neighbours(
            found.scores[first], found.ids[first], found.contents[first], found.regions[first]
        )

    def keep(self, key: QueryKey, found: Neighbours) -> None:
        """Keep an answer, in place of those used longest ago."""
        if len(found.ids) > _MOST_QUERIES or found.ids.size > _KEPT:
            return
        with self._lock:
            replaced = self._answers.pop(key, None)
            self._count += found.ids.size - (0 if replaced is None else replaced.ids.size)
            self._answers[key] = found
            while self._count > _KEPT:
                self._count -= self._answers.popitem(last=False)[1].ids.size


def _additions(embeddings: Embeddings) -> Additions:
    return embeddings.ids, embeddings.vectors, embeddings.contents, embeddings.regions
