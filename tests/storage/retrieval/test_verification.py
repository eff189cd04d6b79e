"""`verify` finds each kind of damage that is planted, and nothing in a good catalog."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from catalog_samples import Home, attach, save_all, unit
from sqlalchemy import Select, delete, select, text, update

from regard.storage.assets.overview import read_overview
from regard.storage.database import schema
from regard.storage.database.embeddings import ids_to_bytes
from regard.storage.retrieval.verification import rebuild_counts


def fill(home: Home) -> None:
    with home.writing() as writer:
        save_all(writer, [(f"/p/{number}.jpg", str(number), 2) for number in range(6)])
        attach(writer, "/q/1.jpg", "1")
        writer.remove(list(writer.known_assets(b"/p/5.jpg")))
        writer.fail(next(writer.known_assets(b"/p/4.jpg")).stamp, "it is damaged")


def first(column: object) -> Select[tuple[int]]:
    return select(column).order_by(column).limit(1)  # type: ignore[call-overload,no-any-return]


def of_kind(home: Home, kind: str) -> object:
    (stored,) = (s for s in home.pipeline.channels.values() if s.channel.kind == kind)
    return schema.embedding.c.channel_id == stored.id


def one_embedding(home: Home, kind: str) -> object:
    chosen = first(schema.embedding.c.id).where(of_kind(home, kind))  # type: ignore[arg-type]
    return schema.embedding.c.id == chosen.scalar_subquery()


def vector(seed: object) -> bytes:
    return unit(seed).astype("<f2").tobytes()


def one_row(table: str) -> object:
    column = next(iter(schema.metadata.tables[table].primary_key))
    return column == first(column).scalar_subquery()


# What is planted, and what has to be said about it: of the tables, then of the indexes.
DAMAGES: dict[str, tuple[Callable[[Home], object], str, str]] = {
    "an image's embedding is deleted": (
        lambda home: delete(schema.embedding).where(one_embedding(home, "image")),
        "1 contents lack a vector",
        "1 rows of the index joint-1/image are not embeddings",
    ),
    "a region's embedding is deleted": (
        lambda home: delete(schema.embedding).where(one_embedding(home, "region")),
        "2 regions lack a vector",
        "2 rows of the index joint-1/region are not embeddings",
    ),
    "a caption's embedding is deleted": (
        lambda home: delete(schema.embedding).where(one_embedding(home, "caption")),
        "1 deleted embeddings are not in the change log",
        "1 rows of the index joint-1/caption are not embeddings",
    ),
    "a region is deleted": (
        lambda home: delete(schema.region).where(one_row("region")),
        "1 vectors in joint-1/region are of no region",
        "",
    ),
    "a vector is altered": (
        lambda home: (
            update(schema.embedding)
            .where(one_embedding(home, "region"))
            .values(vectors=vector("another") + vector("one more"))
        ),
        "",
        "2 vectors of the index joint-1/region differ",
    ),
    "a vector is cut": (
        lambda home: (
            update(schema.embedding).where(one_embedding(home, "image")).values(vectors=b"\0\0")
        ),
        "1 rows of vectors in joint-1/image have another size than their counts say",
        "the catalog holds damaged vectors",
    ),
    "ids of regions are cut": (
        lambda home: (
            update(schema.embedding).where(one_embedding(home, "region")).values(regions=b"\1" * 9)
        ),
        "1 rows of vectors in joint-1/region have another size than their counts say",
        "the catalog holds damaged vectors",
    ),
    "a vector names a region of another content": (
        lambda home: (
            update(schema.embedding)
            .where(one_embedding(home, "region"))
            .values(regions=ids_to_bytes([1, 1000]))
        ),
        "1 vectors in joint-1/region are of no region",
        "",
    ),
    "two rows have an id": (
        lambda home: (
            update(schema.embedding)
            .where(one_embedding(home, "caption"))
            .values(id=schema.embedding.c.id - 1)
        ),
        "1 ids of embeddings stand for two vectors",
        "1 rows of the index joint-1/caption are not embeddings",
    ),
    "ids will be used again": (
        lambda home: (
            update(schema.counter).where(schema.counter.c.name == "embedding").values(value=0)
        ),
        "12 rows of embeddings have ids beyond their counter",
        "",
    ),
    "a vector is not a unit vector": (
        lambda home: (
            update(schema.embedding)
            .where(one_embedding(home, "image"))
            .values(vectors=np.full(8, np.nan, "<f2").tobytes())
        ),
        "",
        "1 vectors in joint-1/image are not normalised",
    ),
    "an embedding is changed past the log": (
        lambda home: (
            update(schema.embedding)
            .where(one_embedding(home, "image"))
            .values(id=schema.embedding.c.id + 1000)
        ),
        "1 embeddings are not in the change log",
        "1 embeddings are not in the index joint-1/image",
    ),
    "a row of the log is dropped": (
        lambda home: delete(schema.change).where(one_row("change")),
        "1 positions are missing from the change log",
        "",
    ),
    "a deletion of the log is dropped": (
        lambda home: delete(schema.change).where(
            schema.change.c.position
            == first(schema.change.c.position)
            .where(schema.change.c.added.is_(False))
            .scalar_subquery()
        ),
        "1 deleted embeddings are not in the change log",
        "",
    ),
    "an addition of the log is turned into a deletion": (
        lambda home: update(schema.change).where(one_row("change")).values(added=False),
        "1 embeddings are logged as deleted",
        "",
    ),
    "the log's counter fell back": (
        lambda home: (
            update(schema.counter)
            .where(schema.counter.c.name == "change")
            .values(value=schema.counter.c.value - 2)
        ),
        "2 positions of the change log lie beyond its counter",
        "the index joint-1/image is ahead of its catalog",
    ),
    "the counter of assets fell back": (
        lambda home: (
            update(schema.counter).where(schema.counter.c.name == "assets").values(value=1)
        ),
        "8 positions of the log of assets lie beyond its counter",
        "",
    ),
    "a content has lost its asset": (
        lambda home: delete(schema.asset).where(one_row("asset")),
        "1 contents have no asset",
        "",
    ),
    "a content has lost its analysis": (
        lambda home: delete(schema.analysis).where(one_row("analysis")),
        "1 contents are not analysed",
        "",
    ),
}


# A third of them on PostgreSQL in quick tests.
@pytest.mark.parametrize(
    ("backend", "damage"),
    [("sqlite", damage) for damage in DAMAGES]
    + [
        pytest.param("postgresql", damage, marks=[pytest.mark.campaign] if place % 3 else [])
        for place, damage in enumerate(DAMAGES)
    ],
)
def test_planted_damage_is_found(home: Home, damage: str) -> None:
    fill(home)
    indexes = home.indexes()
    assert indexes.verify() == []
    assert home.findings() == []
    plant, in_tables, in_indexes = DAMAGES[damage]
    home.execute(plant(home))
    of_tables = [finding.message for finding in home.findings()]
    of_indexes = [finding.message for finding in indexes.verify()]
    if in_tables:
        assert any(message.startswith(in_tables) for message in of_tables), of_tables
    else:
        assert of_tables == []
    if in_indexes:
        assert in_indexes in of_indexes
    else:
        assert of_indexes == []


@pytest.mark.parametrize("counter", ["region_count", "caption_count", "vector_count"])
def test_wrong_counters_of_analyses_are_found_and_rebuilt(home: Home, counter: str) -> None:
    fill(home)
    before = read_overview(home.catalog)
    column = schema.analysis.c[counter]
    home.execute(update(schema.analysis).where(one_row("analysis")).values({column: column + 1}))
    assert read_overview(home.catalog) != before
    (finding,) = home.findings()
    assert finding.message == "1 analyses do not count their regions, captions and vectors right"
    assert finding.in_index
    assert rebuild_counts(home.catalog.database) == 1
    assert home.findings() == []
    assert read_overview(home.catalog) == before


@pytest.mark.parametrize("backend", ["sqlite"])
def test_rows_that_name_what_is_not_there(home: Home) -> None:
    """Left by a program that did not switch foreign keys on."""
    fill(home)
    with home.catalog.database.engine.connect() as connection:
        connection.exec_driver_sql("COMMIT")
        connection.exec_driver_sql("PRAGMA foreign_keys=OFF")
        connection.exec_driver_sql("DELETE FROM content WHERE id = 1")
        connection.exec_driver_sql("PRAGMA foreign_keys=ON")
        connection.exec_driver_sql("BEGIN")
    messages = [finding.message for finding in home.findings()]
    for table, count in {
        "asset": 1,
        "analysis": 1,
        "region": 2,
        "caption": 2,
        "embedding": 3,
    }.items():
        assert f"{count} rows of {table} name a content that is not there" in messages


@pytest.mark.parametrize("backend", ["postgresql"])
def test_each_foreign_key_is_looked_at(home: Home) -> None:
    """In a database whose constraints someone has dropped."""
    fill(home)
    try:
        home.execute(text("ALTER TABLE caption DROP CONSTRAINT fk_caption_region_id_region"))
        home.execute(update(schema.caption).where(one_row("caption")).values(region_id=10_000))
        assert [finding.message for finding in home.findings()] == [
            "1 rows of caption name a region that is not there"
        ]
    finally:
        home.execute(delete(schema.caption))
        home.execute(
            text(
                "ALTER TABLE caption ADD CONSTRAINT fk_caption_region_id_region "
                "FOREIGN KEY (region_id) REFERENCES region (id) ON DELETE CASCADE"
            )
        )
