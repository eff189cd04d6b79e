"""Random histories of two collections, beside a model of plain dictionaries."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from catalog_samples import (
    Home,
    attach,
    header,
    open_home,
    postgresql_in_campaign,
    save,
    stamp,
)
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from regard.storage.assets.indexing import SqlIndexingCatalog
from regard.storage.database import schema
from regard.storage.database.change_log import last_position

COLLECTIONS = st.sampled_from(["one", "two"])
PATHS = st.sampled_from([f"/{folder}/{name}.jpg" for folder in "pq" for name in "ab"])
NAMES = st.sampled_from(["x", "y", "z"])
ROOTS = st.sampled_from(["/", "/p", "/q/a.jpg"])


class History(RuleBasedStateMachine):
    make_home: Callable[[Path], contextlib.AbstractContextManager[Home]]

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="regard-history-"))
        self.stack = contextlib.ExitStack()
        self.home = self.stack.enter_context(type(self).make_home(self.folder))
        self.indexes = self.home.indexes()
        # collection → path → content's name, None for a file that could not be used
        self.truth: dict[str, dict[str, str | None]] = {"one": {}, "two": {}}
        self.lease = contextlib.ExitStack()
        self.holder = ""
        self.highest_id = 0

    def teardown(self) -> None:
        self.lease.close()
        self.stack.close()
        shutil.rmtree(self.folder)

    def writer(self, collection: str) -> SqlIndexingCatalog:
        if self.holder != collection:
            self.lease.close()
            self.current = self.lease.enter_context(self.home.writing(collection))
            self.holder = collection
        return self.current

    def live(self) -> set[str]:
        return {name for paths in self.truth.values() for name in paths.values() if name}

    @rule(collection=COLLECTIONS, path=PATHS, name=NAMES, regions=st.integers(0, 3))
    def index(self, collection: str, path: str, name: str, regions: int) -> None:
        writer = self.writer(collection)
        assert writer.is_analysed(header(name).sha256) == (name in self.live())
        if name in self.live():
            attach(writer, path, name)
        else:
            save(writer, path, name, regions)
        self.truth[collection][path] = name

    @rule(collection=COLLECTIONS, source=PATHS, destination=PATHS)
    def move(self, collection: str, source: str, destination: str) -> None:
        paths = self.truth[collection]
        name = paths.get(source)
        if name is None or source == destination:
            return
        writer = self.writer(collection)
        (asset,) = writer.known_assets(source.encode())
        attach(writer, destination, name, moved_from=asset.id)
        (moved,) = writer.known_assets(destination.encode())
        assert moved.id == asset.id
        paths[destination] = paths.pop(source)

    @rule(collection=COLLECTIONS, path=PATHS)
    def fail(self, collection: str, path: str) -> None:
        self.writer(collection).fail(stamp(path), "it is damaged")
        self.truth[collection][path] = None

    @rule(collection=COLLECTIONS, root=ROOTS)
    def remove(self, collection: str, root: str) -> None:
        paths = self.truth[collection]
        gone = [path for path in paths if root == "/" or f"{path}/".startswith(f"{root}/")]
        writer = self.writer(collection)
        assert writer.remove(list(writer.known_assets(root.encode()))) == len(gone)
        for path in gone:
            del paths[path]

    @rule()
    def reopen_indexes(self) -> None:
        self.indexes.snapshot()
        self.indexes = self.home.indexes()

    @invariant()
    def catalog_is_whole(self) -> None:
        assert self.home.findings() == []
        assert self.indexes.verify() == []

    @invariant()
    def catalog_holds_the_truth(self) -> None:
        names = {header(name).sha256: name for name in "xyz"}
        contents = {row.id: names[row.sha256] for row in self.home.rows(schema.content)}
        collections = {row.id: row.name for row in self.home.rows(schema.collection)}
        held: dict[str, dict[str, str | None]] = {"one": {}, "two": {}}
        for row in self.home.rows(schema.asset):
            assert (row.failure is None) == (row.content_id is not None)
            held[collections[row.collection_id]][row.uri] = contents.get(row.content_id)
        assert held == self.truth
        assert set(contents.values()) == self.live()

    @invariant()
    def ids_are_never_used_again(self) -> None:
        changes = self.home.rows(schema.change)
        added = [row.embedding_id for row in changes if row.added]
        assert len(set(added)) == len(added)
        with self.home.catalog.database.reading() as connection:
            assert last_position(connection) == len(changes)


@postgresql_in_campaign
def test_histories(empty_catalog: Callable[[Path], str]) -> None:
    class OfBackend(History):
        @staticmethod
        def make_home(folder: Path) -> contextlib.AbstractContextManager[Home]:
            return open_home(empty_catalog(folder), folder / "indexes")

    run_state_machine_as_test(
        OfBackend,
        settings=settings(
            max_examples=4,
            stateful_step_count=12,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            database=None,
        ),
    )
