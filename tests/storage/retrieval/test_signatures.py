"""Signatures and pairs of copies in the catalog: when they come, when they go, what lists are made
of."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import pytest
from catalog_samples import IMAGE, Home, analysis, header, stamp
from sqlalchemy import delete, update

from regard.core.catalog import AnalysedFile
from regard.core.duplicates import CopyPair
from regard.core.errors import UsageError
from regard.core.facts import PhotoFacts
from regard.core.filters import EVERYTHING, AssetFilter
from regard.core.records import Signature, signature_shape
from regard.storage.assets.editing import SqlAssetEditing
from regard.storage.database import schema
from regard.storage.retrieval.duplicates import SqlDuplicates

NOON = datetime(2024, 5, 1, 12)


def signature(seed: int = 0, width: int = 40, height: int = 30) -> Signature:
    grey = np.random.default_rng(seed).integers(0, 256, signature_shape(width, height), np.uint8)
    return Signature(grey, width, height)


def save(
    home: Home,
    path: str,
    name: str,
    *,
    signed: bool = True,
    collection: str = "default",
    facts: PhotoFacts | None = None,
) -> None:
    with home.writing(collection) as writer:
        there = signature(len(name)) if signed else None
        found = facts or PhotoFacts()
        writer.save([AnalysedFile(stamp(path), header(name), found, analysis(name, 0), there)])


def attach(home: Home, path: str, name: str, collection: str = "default") -> None:
    with home.writing(collection) as writer:
        writer.attach(stamp(path), header(name).sha256, PhotoFacts())


def contents(home: Home) -> dict[str, int]:
    return {row.sha256: row.id for row in home.rows(schema.content)}  # type: ignore[attr-defined]


@pytest.fixture
def store(home: Home) -> SqlDuplicates:
    return SqlDuplicates(home.catalog, home.pipeline)


def test_a_signature_comes_with_its_content_and_goes_with_it(
    home: Home, store: SqlDuplicates
) -> None:
    save(home, "/a.jpg", "one")
    save(home, "/b.jpg", "other", signed=False)
    ids = contents(home)
    one, other = ids[header("one").sha256], ids[header("other").sha256]
    found = store.signatures([one, other, 999])
    assert list(found) == [one]
    assert np.array_equal(found[one].grey, signature(3).grey)
    assert (found[one].width, found[one].height) == (40, 30)
    assert [item.content for item in store.unsigned(0, 10)] == [other]
    assert store.count_unsigned() == 1
    store.save_comparisons([one, other], [CopyPair(one, other, 0.9)])
    with home.writing() as writer:
        writer.remove(list(writer.known_assets(b"/a.jpg")))
    assert home.rows(schema.signature) == []
    assert list(store.copy_pairs()) == []
    assert [row.content_id for row in home.rows(schema.comparison)] == [other]  # type: ignore[attr-defined]


def test_contents_of_older_homes_get_theirs_later(home: Home, store: SqlDuplicates) -> None:
    for name in "abc":
        save(home, f"/{name}.jpg", name, signed=False)
    attach(home, "/d.jpg", "c")
    first, *rest = store.unsigned(0, 10)
    assert [[file.path for file in item.files] for item in rest] == [
        [b"/b.jpg"],
        [b"/c.jpg", b"/d.jpg"],
    ]
    assert first.sha256 == header("a").sha256
    assert [item.content for item in store.unsigned(first.content, 1)] == [rest[0].content]
    # One that has gone meanwhile is dropped.
    store.save_signatures({first.content: signature(1), 999: signature(2)})
    assert store.has_untried()
    # One had no usable file: the next run tries it again, and nothing waits for it.
    store.save_signatures({rest[0].content: None, rest[1].content: signature(3), 999: None})
    assert not store.has_untried()
    assert store.unsigned(0, 10) == [rest[0]]
    assert store.count_unsigned() == 1
    assert store.count_unsigned(AssetFilter(collections=("default",))) == 1
    assert store.count_unsigned(AssetFilter(tags=("none has it",))) == 0
    assert store.count_uncompared(IMAGE) == 2
    assert store.signatures([rest[0].content]) == {}
    store.save_signatures({rest[0].content: signature(4)})
    assert store.count_unsigned() == 0
    # And one that had been good of another version is not, from then on.
    store.save_signatures({rest[0].content: None})
    assert store.count_unsigned() == 1


def test_what_waits_for_its_analysis_needs_no_signature_yet(
    home: Home, store: SqlDuplicates
) -> None:
    save(home, "/a.jpg", "a", signed=False)
    home.execute(delete(schema.analysis))
    assert store.unsigned(0, 10) == []
    assert not store.has_untried()


def test_a_signature_of_another_version_or_size_counts_as_none(
    home: Home, store: SqlDuplicates
) -> None:
    save(home, "/a.jpg", "a")
    save(home, "/b.jpg", "bb")
    first, second = contents(home).values()
    store.save_comparisons([first, second], [])
    with home.catalog.database.writing() as connection:
        table = schema.signature
        connection.execute(update(table).where(table.c.content_id == first).values(version=0))
        connection.execute(update(table).where(table.c.content_id == second).values(grey=b"12"))
    assert store.signatures([first, second]) == {}
    assert [item.content for item in store.unsigned(0, 10)] == [first]
    store.save_signatures({first: signature(9)})
    assert list(store.signatures([first])) == [first]


def test_what_was_compared_is_not_compared_again(home: Home, store: SqlDuplicates) -> None:
    for name in ("a", "bb", "ccc"):
        save(home, f"/{name}.jpg", name)
    ids = sorted(contents(home).values())
    assert store.uncompared(IMAGE, 0, 2) == ids[:2]
    assert store.uncompared(IMAGE, ids[1], 2) == ids[2:]
    vectors = store.image_vectors(IMAGE, ids)
    assert sorted(vectors) == ids
    assert all(abs(np.linalg.norm(vector) - 1) < 0.01 for vector in vectors.values())
    pairs = [CopyPair(ids[0], ids[1], 0.98)]
    store.save_comparisons(ids[:2], pairs)
    # Another process may have found the same.
    store.save_comparisons(ids[:2], [*pairs, CopyPair(ids[1], 999, 0.9)])
    assert list(store.copy_pairs()) == pairs
    assert store.uncompared(IMAGE, 0, 10) == ids[2:]
    assert store.pairs_among(ids) == {(ids[0], ids[1])}
    assert store.pairs_among([ids[1], ids[2]]) == set()


def test_what_comes_out_of_the_trash_is_compared_again(home: Home, store: SqlDuplicates) -> None:
    save(home, "/a.jpg", "a")
    [content] = contents(home).values()
    [row] = home.rows(schema.asset)
    store.save_comparisons([content], [])
    editing = SqlAssetEditing(home.catalog)
    editing.trash([row.id])  # type: ignore[attr-defined]
    assert store.count_uncompared(IMAGE) == 0
    editing.restore([row.id])  # type: ignore[attr-defined]
    assert store.uncompared(IMAGE, 0, 10) == [content]


def test_lists_are_of_what_passes_and_is_not_in_the_trash(home: Home, store: SqlDuplicates) -> None:
    save(home, "/a1.jpg", "a", collection="one")
    attach(home, "/a2.jpg", "a", "two")
    save(home, "/b1.jpg", "b", collection="one")
    attach(home, "/b2.jpg", "b", "one")
    first, second = sorted(contents(home).values())
    one = AssetFilter(collections=("one",))
    assert list(store.repeated_contents(EVERYTHING, 0)) == [first, second]
    assert list(store.repeated_contents(EVERYTHING, second)) == [second]
    assert list(store.repeated_contents(one, 0)) == [second]
    found = store.records([first, second], one)
    assert {key: [asset.path for asset in assets] for key, assets in found.items()} == {
        first: [b"/a1.jpg"],
        second: [b"/b1.jpg", b"/b2.jpg"],
    }
    SqlAssetEditing(home.catalog).trash([found[second][0].id])
    assert list(store.repeated_contents(one, 0)) == []


def test_exposures_come_in_the_order_of_camera_and_time(home: Home, store: SqlDuplicates) -> None:
    for number, (camera, seconds) in enumerate([("B", 1), ("A", 5), ("A", 2), (None, 0), ("A", 5)]):
        taken = NOON + timedelta(seconds=seconds)
        facts = PhotoFacts(camera_model=camera, taken_at=taken)
        save(home, f"/{number}.jpg", "x" * (number + 1), facts=facts)
    save(home, "/undated.jpg", "undated", facts=PhotoFacts(camera_model="A"))
    found = list(store.exposures(EVERYTHING, 0))
    assert [(shot.camera, shot.taken_at.second) for shot in found] == [
        ("A", 2),
        ("A", 5),
        ("A", 5),
        ("B", 1),
    ]
    assert found[1].asset < found[2].asset
    for place, shot in enumerate(found):
        assert list(store.exposures(EVERYTHING, shot.asset)) == found[place:]
    with pytest.raises(UsageError, match="changed"):
        list(store.exposures(EVERYTHING, 999))
