"""The schema and who may use a database: migrations, other programs' tables, damaged files."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from catalog_process import Worker
from catalog_samples import (
    CAPTION,
    IMAGE,
    REGION,
    SPEC,
    open_home,
    postgresql_in_campaign,
    save,
    unit,
)
from sqlalchemy import DateTime, bindparam, event, inspect, select, text

from regard.core.catalog import ChannelQuery
from regard.core.errors import HomeError, HomeVersionError, RegardError, UsageError
from regard.core.filters import EVERYTHING
from regard.storage.assets.stacks import update_stacks
from regard.storage.database import migrations, schema
from regard.storage.database.catalog import open_catalog
from regard.storage.database.change_log import last_position
from regard.storage.database.connection import BUSY_TIMEOUT_SECONDS, Database
from regard.storage.database.stored_pipelines import index_folder, make_live
from regard.storage.database.upgrading import upgrade

pytestmark = pytest.mark.slow


@pytest.fixture
def url(make_url) -> str:  # type: ignore[no-untyped-def]
    """A new, empty database."""
    return make_url()


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    opened = Database(url)
    yield opened
    opened.close()


def tables(database: Database) -> set[str]:
    with database.reading() as connection:
        names = inspect(connection).get_table_names()
    return {name for name in names if not is_of_words(name)}


def is_of_words(name: str | None) -> bool:
    """Whether a table or an index belongs to the databases' own full-text search."""
    return name is not None and name.startswith(("asset_text_words", "caption_words"))


def run(database: Database, statement: str) -> None:
    with database.writing() as connection:
        connection.execute(text(statement))


def downgrade(database: Database) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    with database.writing() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "base")


# Derived columns are not compared: each database has its own expressions.
@pytest.mark.filterwarnings("ignore:Computed default")
def test_migrated_schema_is_the_one_in_schema(database: Database) -> None:
    upgrade(database)
    with database.reading() as connection:
        context = MigrationContext.configure(
            connection,
            opts={
                "compare_type": True,
                "compare_server_default": True,
                "include_name": lambda name, *_: not is_of_words(name),
            },
        )
        assert compare_metadata(context, schema.metadata) == []
        inspector = inspect(connection)
        for table in schema.metadata.sorted_tables:
            # What Alembic does not compare.
            assert inspector.get_pk_constraint(table.name)["constrained_columns"] == [
                column.name for column in table.primary_key
            ]
            assert {
                key["options"].get("ondelete") for key in inspector.get_foreign_keys(table.name)
            } == {constraint.ondelete for constraint in table.foreign_key_constraints}
        derived = {one["name"] for one in inspector.get_columns("asset") if "computed" in one}
        assert derived == {c.name for c in schema.asset.c if c.server_default is not None}
        checks = {check["name"] for check in inspector.get_check_constraints("asset")}
        assert "ck_asset_failed_without_content" in checks


@pytest.mark.parametrize("backend", ["sqlite"])
def test_sqlite_never_reuses_keys(database: Database) -> None:
    """AUTOINCREMENT is not compared by Alembic either."""
    upgrade(database)
    with database.reading() as connection:
        made = dict(
            connection.execute(
                text("SELECT name, sql FROM sqlite_master WHERE type = 'table'")
            ).all()
        )
    for table in schema.metadata.sorted_tables:
        wanted = bool(table.dialect_options["sqlite"]["autoincrement"])
        assert ("AUTOINCREMENT" in made[table.name]) == wanted, table.name


def test_upgrade_is_repeatable_and_downgrade_leaves_nothing(database: Database) -> None:
    upgrade(database)
    upgrade(database)
    assert tables(database) == {*schema.metadata.tables, "alembic_version"}
    downgrade(database)
    assert tables(database) == {"alembic_version"}
    upgrade(database)
    assert tables(database) == {*schema.metadata.tables, "alembic_version"}


def test_failed_migration_rolls_back_wholly(database: Database) -> None:
    def fail_at(conn: object, cursor: object, statement: str, *_: object) -> None:
        if "CREATE TABLE embedding" in statement:
            raise KeyboardInterrupt

    event.listen(database.engine, "before_cursor_execute", fail_at)
    with pytest.raises(KeyboardInterrupt):
        upgrade(database)
    event.remove(database.engine, "before_cursor_execute", fail_at)
    assert tables(database) == set()
    upgrade(database)
    assert set(schema.metadata.tables) <= tables(database)


@postgresql_in_campaign
@pytest.mark.parametrize("revision", ["9999", "abc123def456"])
def test_schema_of_another_version(url: str, database: Database, revision: str) -> None:
    upgrade(database)
    run(database, f"UPDATE alembic_version SET version_num = '{revision}'")
    with pytest.raises(HomeVersionError, match=revision) as caught:
        open_catalog(url)
    assert "pip install --upgrade" in str(caught.value)


@postgresql_in_campaign
def test_schema_of_two_heads(url: str, database: Database) -> None:
    upgrade(database)
    run(database, "INSERT INTO alembic_version VALUES ('other')")
    with pytest.raises(HomeVersionError, match="other"):
        open_catalog(url)


@postgresql_in_campaign
@pytest.mark.parametrize("name", ["asset", "wp_posts"])
def test_tables_of_another_program(url: str, database: Database, name: str) -> None:
    run(database, f"CREATE TABLE {name} (id INTEGER)")
    with pytest.raises(HomeVersionError, match="not regard's"):
        open_catalog(url)
    assert tables(database) == {name}


def test_threads_open_a_new_home_at_once(url: str, tmp_path: Path) -> None:
    uuids: list[str] = []
    errors: list[RegardError] = []
    at_once = threading.Barrier(6)

    def open_it() -> None:
        at_once.wait()
        try:
            with open_home(url, tmp_path) as opened:
                uuids.append(opened.catalog.uuid)
                assert opened.pipeline.id == 1
        except RegardError as error:
            errors.append(error)

    threads = [threading.Thread(target=open_it) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(uuids) == 6
    assert len(set(uuids)) == 1


def test_processes_open_a_new_home_at_once(url: str, tmp_path: Path) -> None:
    with Worker(url, tmp_path) as first, Worker(url, tmp_path) as second:
        first.tell("open")
        second.tell("open")
        assert first.answer() == second.answer()
        assert first.ask("hold") == "done"
        assert first.ask("save", "/p/a.jpg", "a") == "done"
        assert second.ask("hold")[0] == "LeaseHeld"


@pytest.mark.parametrize("backend", ["sqlite"])
def test_sqlite_pragmas_hold_on_each_connection(database: Database) -> None:
    wanted = {
        "journal_mode": "wal",
        "synchronous": 2,
        "foreign_keys": 1,
        "busy_timeout": BUSY_TIMEOUT_SECONDS * 1000,
    }
    with database.reading() as first, database.reading() as second:
        for connection in (first, second):
            found = {
                name: connection.execute(text(f"PRAGMA {name}")).scalar_one() for name in wanted
            }
            assert found == wanted


def test_a_reading_transaction_sees_one_moment(url: str, tmp_path: Path) -> None:
    with open_home(url, tmp_path) as home:
        with home.catalog.database.reading() as connection:
            count = text("SELECT count(*) FROM content")
            assert connection.execute(count).scalar_one() == 0
            home.save("/p/a.jpg", "a")
            assert connection.execute(count).scalar_one() == 0
        assert home.counts()["content"] == 1


@pytest.mark.parametrize("backend", ["postgresql"])
def test_a_postgresql_reader_cannot_write(database: Database) -> None:
    upgrade(database)
    with pytest.raises(HomeError, match="read-only"), database.reading() as connection:
        connection.execute(schema.collection.insert().values(name="x"))
    with database.writing() as connection:
        connection.execute(schema.collection.insert().values(name="x"))


@postgresql_in_campaign
def test_catalog_without_identity(url: str, database: Database, tmp_path: Path) -> None:
    with open_home(url, tmp_path):
        pass
    run(database, "UPDATE catalog_info SET key = 'something else'")
    with pytest.raises(HomeError, match="no identity"):
        open_catalog(url)


def test_switch_to_wal_waits_for_a_writer(tmp_path: Path) -> None:
    """As when two processes make a home at once: SQLite itself refuses without waiting."""
    file = tmp_path / "catalog.sqlite3"
    database = Database(f"sqlite:///{file}")
    other = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
    other.execute("PRAGMA user_version=1")
    other.execute("BEGIN IMMEDIATE")
    leave = threading.Timer(0.2, lambda: other.execute("COMMIT"))
    leave.start()
    upgrade(database)
    leave.join()
    assert set(schema.metadata.tables) <= tables(database)
    other.close()
    database.close()


def assert_one_sentence(error: RegardError) -> None:
    assert "\n" not in str(error)
    assert error.remedy
    assert "Traceback" not in str(error)


@pytest.mark.parametrize(
    "content",
    [
        b"this is not a database, but a text file of some length\n" * 100,
        b"SQLite format 3\0" + b"\xff" * 4096,
    ],
)
def test_damaged_sqlite_file(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "catalog.sqlite3"
    file.write_bytes(content)
    with pytest.raises(HomeError, match="can't be used") as caught:
        open_catalog(f"sqlite:///{file}")
    assert_one_sentence(caught.value)
    assert file.read_bytes() == content


def test_sqlite_file_damaged_in_the_middle(tmp_path: Path) -> None:
    file = tmp_path / "catalog.sqlite3"
    with open_home(f"sqlite:///{file}", tmp_path) as home, home.writing() as writer:
        for number in range(50):
            save(writer, f"/p/{number}.jpg", str(number))
    data = bytearray(file.read_bytes())
    data[8192:] = b"\xa5" * (len(data) - 8192)
    file.write_bytes(data)
    with pytest.raises(HomeError) as caught, open_home(f"sqlite:///{file}", tmp_path) as home:
        home.findings()
    assert_one_sentence(caught.value)


def test_sqlite_file_that_cannot_be_opened(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing" / "catalog.sqlite3"):
        with pytest.raises(HomeError, match="can't be used") as caught:
            open_catalog(f"sqlite:///{path}")
        assert_one_sentence(caught.value)


@pytest.mark.parametrize(
    "bad",
    [
        "nonsense",
        "",
        "mysql://localhost/x",
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite+aiosqlite:///x.sqlite3",
        "postgresql+asyncpg://localhost/x",
        "postgresql+nonsense://localhost/x",
        "postgresql://localhost:port/x",
    ],
)
def test_url_that_names_no_catalog(bad: str) -> None:
    with pytest.raises(UsageError) as caught:
        Database(bad)
    assert_one_sentence(caught.value)


def test_server_that_is_not_there() -> None:
    with pytest.raises(HomeError, match="server is up") as caught:
        open_catalog("postgres://user:secret@127.0.0.1:1/x")
    assert_one_sentence(caught.value)
    assert "secret" not in str(caught.value)


@postgresql_in_campaign
def test_jobs_keep_their_ids_when_they_may_be_of_no_collection(database: Database) -> None:
    """SQLite rebuilds their table, and must remember which ids were used."""
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    with database.writing() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0004")
    run(database, "INSERT INTO collection (name) VALUES ('holiday')")
    add = (
        "INSERT INTO job (kind, state, collection_id, parameters, done, cancel_requested, created_at) "
        "VALUES ('upload', 'done', {}, '[]', 0, FALSE, '2026-01-01')"
    )
    for _ in range(3):
        run(database, add.format(1))
    run(database, "DELETE FROM job WHERE id = 3")
    upgrade(database)
    run(database, add.format("NULL"))
    with database.reading() as connection:
        found = connection.execute(text("SELECT id, collection_id FROM job ORDER BY id")).all()
    assert [tuple(row) for row in found] == [(1, 1), (2, 1), (4, None)]


def test_older_homes_get_precisions_and_composed_letters(database: Database) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    with database.writing() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0005")
    composed, in_parts = "\u00fc", "u\u0308"
    values = {"one": composed, "two": in_parts, "path": f"/{in_parts}".encode()}
    values["plain"] = b"/plain"
    statements = (
        "INSERT INTO collection (name) VALUES (:one), (:two)",
        "INSERT INTO content (sha256, format, width, height) VALUES ('00', 'PNG', 1, 1)",
        "INSERT INTO asset (collection_id, path, uri, content_id, size, mtime_ns, capture, taken_at)"
        " VALUES (1, :path, '', 1, 1, 1, '{}', '2024-05-01 00:00:00'),"
        " (2, :plain, '', 1, 1, 1, '{}', NULL)",
        "INSERT INTO asset_keyword (asset_id, position, keyword) VALUES (1, 0, :two)",
        "INSERT INTO asset_tag (asset_id, tag) VALUES (1, :one), (1, :two), (2, :two)",
        "INSERT INTO asset_field (asset_id, name, value) VALUES (1, 'k', '\"' || :two || '\"')",
        "INSERT INTO api_key (name, secret_sha256, scope, collections, created_at)"
        """ VALUES ('k', 'd', 'read', '["' || :two || '"]', '2024-05-01 00:00:00')""",
    )
    with database.writing() as connection:
        for statement in statements:
            connection.execute(text(statement), values)
    upgrade(database)

    def rows(query: str) -> list[tuple[object, ...]]:
        with database.reading() as connection:
            return [tuple(row) for row in connection.execute(text(query))]

    assert rows("SELECT name FROM collection ORDER BY id") == [(composed,), (f"{composed} (2)",)]
    assert rows("SELECT taken_precision FROM asset ORDER BY id") == [("time",), (None,)]
    [(path,), (same,)] = rows("SELECT composed_path FROM asset ORDER BY id")
    assert (bytes(path), same) == (f"/{composed}".encode(), None)  # type: ignore[arg-type]
    assert rows("SELECT keyword FROM asset_keyword") == [(composed,)]
    assert rows("SELECT asset_id, tag FROM asset_tag ORDER BY asset_id") == [
        (1, composed), (2, composed)
    ]  # fmt: skip
    assert rows("SELECT value FROM asset_field") == [(f'"{composed}"',)]
    [(bound,)] = rows("SELECT collections FROM api_key")
    assert json.loads(str(bound)) == [f"{composed} (2)"]


def test_older_homes_get_countries_and_cities(database: Database) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    with database.writing() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0016")
        for statement in (
            "INSERT INTO collection (name) VALUES ('default')",
            "INSERT INTO content (sha256, format, width, height) VALUES ('00', 'PNG', 1, 1)",
        ):
            connection.execute(text(statement))
        places = [(50.94, 6.96), (45.0, -30.0), (None, None), (-33.86, 151.21)]
        connection.execute(
            text(
                "INSERT INTO asset (collection_id, path, uri, content_id, size, mtime_ns, capture,"
                " latitude, longitude) VALUES (1, :path, '', 1, 1, 1, '{}', :north, :east)"
            ),
            [
                {"path": b"/%d" % number, "north": north, "east": east}
                for number, (north, east) in enumerate(places)
            ],
        )
    upgrade(database)
    with database.reading() as connection:
        found = connection.execute(
            text("SELECT country, city, city_folded FROM asset ORDER BY id")
        ).all()
    nowhere = (None, None, None)
    assert [tuple(row) for row in found] == [
        ("DE", "Köln", "koln"), nowhere, nowhere, ("AU", "Sydney", "sydney")
    ]  # fmt: skip


CONTENTS = 600  # converted in three steps


def test_older_homes_get_their_stacks_from_the_next_update(database: Database) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    files = {
        **{b"/p/1.jpg": "JPEG", b"/p/1.cr2": "RAW", b"/q/1.jpg": "JPEG"},
        **{b"/store/1.jpg": "JPEG", b"/store/1.cr2": "RAW"},
    }
    with database.writing() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0021")
        for statement in (
            "INSERT INTO counter (name, value) VALUES ('change', 0), ('assets', 1), ('pruned', 0)"
            " ON CONFLICT DO NOTHING",
            "INSERT INTO collection (name) VALUES ('default')",
        ):
            connection.execute(text(statement))
        for number, (path, form) in enumerate(files.items(), 1):
            values = {"path": path, "number": number, "form": form, "sha256": f"{number:064}"}
            connection.execute(
                text(
                    "INSERT INTO content (sha256, format, width, height)"
                    " VALUES (:sha256, :form, 4, 3)"
                ),
                values,
            )
            connection.execute(
                text(
                    "INSERT INTO asset (collection_id, path, uri, content_id, size, mtime_ns,"
                    " capture, managed, file_name, taken_at)"
                    " VALUES (1, :path, :sha256, :number, 1, 1, '{}', :managed, :name, :taken_at)"
                ).bindparams(bindparam("taken_at", type_=DateTime())),
                {
                    **values,
                    "managed": True if path.startswith(b"/store") else None,
                    "name": path.rpartition(b"/")[2].decode(),
                    "taken_at": datetime(2024, 5, 1, 12),
                },
            )
    upgrade(database)
    with database.reading() as connection:
        marked = connection.execute(select(schema.stale_folder.c.path)).scalars().all()
    assert {bytes(path) for path in marked} == {b"/p", b"/q", b"2024-05-01"}
    update_stacks(database)
    with database.reading() as connection:
        asset = schema.asset.c
        stacks = connection.execute(select(asset.id, asset.stack_id).order_by(asset.id)).all()
        assert connection.execute(select(schema.stale_folder)).all() == []
    assert [tuple(row) for row in stacks] == [(1, 1), (2, 1), (3, None), (4, 4), (5, 4)]


def make_home_of_single_vectors(database: Database) -> None:
    """A home before 0008: contents with two regions and a caption, their rows interleaved."""
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    with database.writing() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0007")
        for statement in (
            "INSERT INTO catalog_info (key, value) VALUES ('catalog_uuid', 'the same')",
            "INSERT INTO counter (name, value) VALUES ('change', 0), ('assets', 1), ('pruned', 0)",
            "INSERT INTO collection (name) VALUES ('default')",
        ):
            connection.execute(text(statement))
        pipeline = make_live(connection, SPEC)
    contents = range(1, CONTENTS + 1)
    owned: list[dict[str, object]] = []
    for content in contents:
        for kind, region, caption in (
            (REGION, 2 * content - 1, None),
            (IMAGE, None, None),
            (REGION, 2 * content, None),
            (CAPTION, None, content),
        ):
            number = len(owned) + 1
            values = {"content": content, "channel": pipeline.channels[kind].id, "id": number}
            vector = unit((kind, content, region)).astype("<f2").tobytes()
            owned.append({**values, "region": region, "caption": caption, "vector": vector})
    with database.writing() as connection:
        for statement in (
            "INSERT INTO content (sha256, format, width, height) VALUES (:name, 'jpeg', 40, 30)",
            "INSERT INTO asset (collection_id, path, uri, content_id, size, mtime_ns, capture, added_at)"
            " VALUES (1, :path, :name, :content, 1, 1, '{}', '2024-05-01 00:00:00')",
            "INSERT INTO analysis (content_id, pipeline_id) VALUES (:content, 1)",
            "INSERT INTO region (content_id, pipeline_id, ordinal, x, y, width, height, area, score, mask)"
            " VALUES (:content, 1, 0, 1, 1, 3, 4, 12, 0.5, :path),"
            " (:content, 1, 1, 2, 1, 3, 4, 12, 0.5, :path)",
            "INSERT INTO caption (content_id, pipeline_id, text, model)"
            " VALUES (:content, 1, 'a picture', 'm')",
        ):
            connection.execute(
                text(statement),
                [{"content": n, "name": f"{n:064}", "path": b"/%d" % n} for n in contents],
            )
        connection.execute(
            text(
                "INSERT INTO embedding (content_id, pipeline_id, channel_id, region_id, caption_id, vector)"
                " VALUES (:content, 1, :channel, :region, :caption, :vector)"
            ),
            owned,
        )
        connection.execute(
            text("INSERT INTO change VALUES (:id, :channel, :id, TRUE)"),
            owned,
        )
        connection.execute(
            text("UPDATE counter SET value = :last WHERE name = 'change'"), {"last": len(owned)}
        )


def test_single_vectors_become_rows_although_killed_in_the_middle(
    url: str, database: Database, tmp_path: Path
) -> None:
    make_home_of_single_vectors(database)
    deletions = 0

    def kill(conn: object, cursor: object, statement: str, *_: object) -> None:
        nonlocal deletions
        deletions += statement.startswith("DELETE FROM former_embedding")
        if deletions == 2:
            raise KeyboardInterrupt

    event.listen(database.engine, "before_cursor_execute", kill)
    with pytest.raises(KeyboardInterrupt):
        upgrade(database)
    event.remove(database.engine, "before_cursor_execute", kill)
    assert {"embedding", "former_embedding"} <= tables(database)
    with open_home(url, tmp_path / "indexes") as home:
        assert home.catalog.uuid == "the same"
        assert tables(database) == {*schema.metadata.tables, "alembic_version"}
        assert home.findings() == []
        former = 4 * CONTENTS
        vectors = home.vectors()
        assert len(vectors) == former
        assert min(row.id for row in vectors) > former
        with home.catalog.database.reading() as connection:
            # One change for each content and channel.
            assert last_position(connection) == former + 3 * CONTENTS
        indexes = home.indexes()
        for kind in (IMAGE, REGION, CAPTION):
            # What the former version left is not used.
            folder = index_folder(home.folder, home.pipeline.fingerprint)
            directory = folder / f"{kind.space}-{kind.kind}"
            directory.mkdir(parents=True)
            (directory / "manifest.json").write_text('{"format": 1}')
        queries = {(IMAGE, 7, None): 0, (REGION, 300, 599): 599, (CAPTION, CONTENTS, None): 0}
        for (channel, content, region), wanted in queries.items():
            query = ChannelQuery(channel, unit((channel, content, region))[np.newaxis], 1)
            (found,) = indexes.search([query], EVERYTHING)
            assert (found.contents.item(), found.regions.item()) == (content, wanted)
        assert indexes.verify() == []
        home.save("/new.jpg", "new")
        assert home.findings() == []


@pytest.mark.parametrize("backend", ["sqlite"])
def test_converted_home_gives_its_pages_back(database: Database) -> None:
    make_home_of_single_vectors(database)
    upgrade(database)
    with database.reading() as connection:
        assert connection.exec_driver_sql("PRAGMA freelist_count").scalar_one() == 0
