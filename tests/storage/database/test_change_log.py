"""The change log: positions become visible in order, ids are never used twice, steps add up."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from typing import Any

import numpy as np
import pytest
from catalog_samples import CAPTION, IMAGE, REGION, D, Home, attach, on_sqlite, open_home, save
from sqlalchemy import event, select

from regard.core.catalog import ChannelQuery
from regard.core.errors import HomeError
from regard.core.filters import EVERYTHING
from regard.core.records import Channel
from regard.storage.database import schema
from regard.storage.database.change_log import (
    last_position,
    moment,
    moment_now,
    read_changes,
    record_changes,
)
from regard.storage.database.embeddings import EmbeddingBlock


def one_each(channel: int, *ids: int) -> list[EmbeddingBlock]:
    """Embeddings to log, each of one vector."""
    return [EmbeddingBlock(channel, number, 1) for number in ids]


class Watcher:
    """Polls the log as a reader does, and notes what must never be seen."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.seen: list[int] = []
        self.wrong: list[object] = []
        self._looks = threading.Semaphore(0)

    def __enter__(self) -> Watcher:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stopped.is_set():
            self.look()

    def wait_for_looks(self) -> None:
        """Wait until it has looked, from the beginning to the end, at what is there now."""
        while self._looks.acquire(blocking=False):
            pass
        for _ in range(2):
            assert self._looks.acquire(timeout=120)

    def look(self) -> int:
        with self._home.catalog.database.reading() as connection:
            visible = last_position(connection)
            positions = list(
                connection.execute(
                    select(schema.change.c.position).order_by(schema.change.c.position)
                ).scalars()
            )
        if positions != list(range(1, visible + 1)):
            self.wrong.append((visible, positions))
        self.seen.append(visible)
        self._looks.release()
        return visible


def test_a_transaction_that_began_first_and_commits_last(home: Home, backend: str) -> None:
    """The trap of sequences: the later numbers commit first, and a reader passes by the others."""
    channel = home.pipeline.channels[IMAGE].id
    database = home.catalog.database
    first_began, second_committed = threading.Event(), threading.Event()

    def first() -> None:
        with database.writing() as connection:
            connection.execute(schema.collection.insert().values(name="first"))
            first_began.set()
            # SQLite lets the second one begin only when this one has ended.
            if backend == "postgresql":
                assert second_committed.wait(120)
            record_changes(connection, one_each(channel, 101, 102), [])
            watcher.wait_for_looks()

    def second() -> None:
        assert first_began.wait(120)
        with database.writing() as connection:
            record_changes(connection, one_each(channel, 201, 202, 203), [])
            watcher.wait_for_looks()
        second_committed.set()

    threads = [threading.Thread(target=work) for work in (first, second)]
    with Watcher(home) as watcher:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert watcher.look() == 5
    assert watcher.wrong == []
    order = [row.embedding_id for row in home.rows(schema.change)]
    assert order == (
        [201, 202, 203, 101, 102] if backend == "postgresql" else [101, 102, 201, 202, 203]
    )


def test_numbers_taken_hold_back_those_who_come_later(home: Home) -> None:
    """One that has taken its numbers but not committed: nobody gets or sees a later number."""
    channel = home.pipeline.channels[IMAGE].id
    database = home.catalog.database
    taken, let_go = threading.Event(), threading.Event()

    def slow() -> None:
        with database.writing() as connection:
            record_changes(connection, one_each(channel, 1), [])
            taken.set()
            assert let_go.wait(120)

    def quick() -> None:
        assert taken.wait(120)
        with database.writing() as connection:
            record_changes(connection, one_each(channel, 2), [])

    threads = [threading.Thread(target=work) for work in (slow, quick)]
    with Watcher(home) as watcher:
        for thread in threads:
            thread.start()
        taken.wait(120)
        # Time in which a later number would show; nothing tells that none does.
        time.sleep(0.2)
        assert set(watcher.seen) <= {0}
        let_go.set()
        for thread in threads:
            thread.join()
    assert watcher.look() == 2
    assert watcher.wrong == []
    assert [row.embedding_id for row in home.rows(schema.change)] == [1, 2]


def test_many_writers_and_rollbacks_leave_no_gap(home: Home) -> None:
    channel = home.pipeline.channels[IMAGE].id
    database = home.catalog.database

    def write(seed: int) -> None:
        rng = random.Random(seed)
        for number in range(8):
            with contextlib.suppress(ZeroDivisionError), database.writing() as connection:
                record_changes(
                    connection, one_each(channel, 1 + seed * 1000 + number) * rng.randint(1, 3), []
                )
                time.sleep(rng.random() / 200)
                if rng.random() < 0.3:
                    raise ZeroDivisionError

    threads = [threading.Thread(target=write, args=(seed,)) for seed in range(4)]
    with Watcher(home) as watcher:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    watcher.look()
    assert watcher.wrong == []
    assert watcher.seen == sorted(watcher.seen)


def embedding_ids(home: Home) -> set[int]:
    return {row.id for row in home.vectors()}


def test_ids_are_never_used_again(home: Home) -> None:
    used: set[int] = set()
    for round_number in range(3):
        with open_home(home.url, home.folder) as opened, opened.writing() as writer:
            save(writer, "/p/a.jpg", f"a{round_number}")
            save(writer, "/p/b.jpg", f"b{round_number}")
            new = embedding_ids(opened)
            assert not new & used
            assert min(new) > max(used, default=0)
            used |= new
            # The highest ids of all go.
            writer.remove(list(writer.known_assets(b"/p/b.jpg")))
            save(writer, "/p/c.jpg", f"c{round_number}")
            newer = embedding_ids(opened) - new
            assert min(newer) > max(used)
            used |= newer
            writer.remove(list(writer.known_assets(b"/")))
    logged = home.rows(schema.change)
    assert {row.embedding_id + n for row in logged for n in range(row.vector_count)} == used


def replay(
    home: Home, channel: Channel, limit: int, after: int = 0
) -> dict[int, tuple[int, int, bytes]]:
    """What an index holds that takes the log in steps of `limit`, from the beginning."""
    state: dict[int, tuple[int, int, bytes]] = {}
    stored = home.pipeline.channels[channel]
    with home.catalog.database.reading() as connection:
        visible = last_position(connection)
        while after < visible:
            batch = read_changes(connection, stored, after, visible, limit)
            assert after < batch.through <= visible
            added = batch.added
            # At least one row, which has up to two vectors here.
            assert len(added.ids) + len(batch.removed_ids) <= max(limit, 2)
            assert added.vectors.shape == (len(added.ids), D)
            assert not set(added.ids.tolist()) & set(batch.removed_ids.tolist())
            for row in zip(added.ids, added.contents, added.regions, added.vectors, strict=True):
                number, content, region = (int(one) for one in row[:3])
                assert number not in state
                state[number] = (content, region, row[3].astype("<f2").tobytes())
            for number in batch.removed_ids.tolist():
                state.pop(number, None)
            after = batch.through
    return state


def test_small_steps_reach_the_state_of_one_step(home: Home) -> None:
    rng = random.Random(7)
    with home.writing() as writer:
        for number in range(40):
            path = f"/p/{rng.randrange(8)}.jpg"
            name = str(rng.randrange(12))
            if not writer.is_analysed(f"{name}") and rng.random() < 0.6:
                save(writer, path, f"{name}-{number}", regions=rng.randrange(3))
            else:
                writer.remove(list(writer.known_assets(path.encode())))
    for channel in (IMAGE, REGION, CAPTION):
        stored = home.pipeline.channels[channel]
        truth = {
            row.id: (row.content_id, row.region_id, row.vector)
            for row in home.vectors()
            if row.channel_id == stored.id
        }
        for limit in (1, 2, 7, 10_000):
            assert replay(home, channel, limit) == truth, (channel, limit)


@on_sqlite
def test_changes_are_read_in_the_order_of_an_index(home: Home) -> None:
    home.save("/p/a.jpg", "a")
    plans: list[str] = []

    def explain(conn: Any, cursor: Any, statement: str, parameters: Any, *_: object) -> None:
        if "FROM change" in statement:
            steps = conn.connection.cursor().execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
            plans.extend(step[3] for step in steps)

    event.listen(home.catalog.database.engine, "before_cursor_execute", explain)
    replay(home, REGION, 100)
    event.remove(home.catalog.database.engine, "before_cursor_execute", explain)
    assert plans
    for step in plans:
        assert step.startswith("SEARCH"), plans


def test_what_was_added_and_deleted_is_only_removed(home: Home) -> None:
    with home.writing() as writer:
        save(writer, "/p/a.jpg", "a")
        attach(writer, "/p/b.jpg", "a")
        writer.remove(list(writer.known_assets(b"/")))
    stored = home.pipeline.channels[IMAGE]
    with home.catalog.database.reading() as connection:
        batch = read_changes(connection, stored, 0, 6, 100)
        assert batch.added.ids.size == 0
        assert batch.added.vectors.dtype == np.float16
        assert batch.removed_ids.size == 1
        assert batch.through == last_position(connection) == 6
        at_the_end = read_changes(connection, stored, 6, 6, 100)
    assert at_the_end.added.ids.size == at_the_end.removed_ids.size == 0
    assert at_the_end.through == 6


@pytest.mark.parametrize("counter", ["change", "assets"])
def test_a_lost_counter_is_named(home: Home, counter: str) -> None:
    home.execute(schema.counter.delete().where(schema.counter.c.name == counter))
    with pytest.raises(HomeError, match=r"lost its counter of \w+"):
        home.indexes().search([ChannelQuery(IMAGE, np.zeros((1, D), np.float32), 1)], EVERYTHING)
    if counter == "change":
        with pytest.raises(HomeError, match=r"lost its counter of \w+"):
            home.findings()


def test_a_moment_without_a_transaction(home: Home) -> None:
    """The one that a transaction begun then sees; a statement that fails is named, and harms
    nothing."""
    database = home.catalog.database
    for turn in range(3):
        home.save(f"/{turn}.jpg", str(turn))
        now = moment_now(database)
        with database.reading() as connection:
            assert now == moment(connection)
        with pytest.raises(HomeError, match="can't be used"):
            database.read_once("SELECT name, value FROM no_such_table")
    assert now.assets >= 3
