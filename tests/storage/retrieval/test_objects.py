"""Things, pairs and groups in the catalog: when they come, when they go, and who sees what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from catalog_samples import Home, attach
from sqlalchemy import event

from regard.core.filters import EVERYTHING, AssetFilter
from regard.core.same_objects import PAIR, THING, ContentThings, SameObject, Sighting
from regard.storage.assets.editing import SqlAssetEditing
from regard.storage.database import schema
from regard.storage.retrieval import objects
from regard.storage.retrieval.objects import SqlObjects


@pytest.fixture
def store(home: Home) -> SqlObjects:
    return SqlObjects(home.catalog, home.pipeline)


def things(content: int, *regions: int) -> ContentThings:
    rows = np.zeros(len(regions), THING)
    rows["region"] = regions
    rows["score"] = 0.5
    rows["local"] = np.nan
    colours = np.eye(11, dtype=np.float32)[: len(regions)]
    return ContentThings(content, np.asarray([0.5, 0.25], np.float32), rows, colours)


def compared(one: ContentThings, among: int, *pairs: tuple[int, int, float]) -> ContentThings:
    rows = one.things.copy()
    rows["local"], rows["neighbours"] = 0.25, 3
    return replace(one, things=rows, pairs=np.array(list(pairs), PAIR), among=among)


def group(number: int, *contents: int) -> SameObject:
    seen = tuple(
        Sighting(content, number + place, content, 0.75) for place, content in enumerate(contents)
    )
    return SameObject(number, seen, (0.5, 0.25, 0.125, 2.0))


def shown(found: Sequence[SameObject]) -> list[list[int]]:
    return [[seen.content for seen in one.sightings] for one in found]


def three(home: Home, store: SqlObjects) -> list[int]:
    """Three contents with things that are not compared."""
    for name in "abc":
        home.save(f"/{name}", name)
    ids = store.without_things(0, 10)
    store.save_things([things(content, content * 10) for content in ids])
    return ids


def test_things_and_pairs_come_back_as_they_were_kept(home: Home, store: SqlObjects) -> None:
    home.save("/a", "a")
    home.save("/b", "b")
    assert (store.count_without_things(), store.count_due()) == (2, 0)
    first, second = store.without_things(0, 10)
    assert store.without_things(0, 1) == [first]
    assert store.without_things(first, 10) == [second]
    kept = [things(first, 7, 9), things(second)]
    store.save_things([*kept, things(999, 3)])
    # Another process may have found the same.
    store.save_things(kept)
    assert store.without_things(0, 10) == []
    assert (store.count_without_things(), store.count_due()) == (0, 2)
    pairs = [(7, 20, 0.5), (9, 21, 0.25)]
    store.save_comparisons([compared(kept[0], 2, *pairs), compared(kept[1], 2)])
    assert (store.comparisons(), store.grouped_comparisons()) == (1, 0)
    assert store.count_due() == 0
    one, other = store.stored_things()
    assert (one.content, other.content) == (first, second)
    assert one.things["region"].tolist() == [7, 9]
    assert one.things["local"].tolist() == [0.25, 0.25]
    assert one.scores.tolist() == [0.5, 0.25]
    assert np.array_equal(one.colours, kept[0].colours)
    assert one.pairs.tolist() == pairs
    assert len(other.things) == len(other.pairs) == 0
    assert [item.content for item in store.stored_things([second, 999])] == [second]


def test_contents_are_compared_again_when_their_number_has_doubled(
    home: Home, store: SqlObjects
) -> None:
    ids = three(home, store)
    first, *rest = store.stored_things(ids)
    store.save_comparisons([compared(first, 1), *(compared(one, 3) for one in rest)])
    assert store.count_due() == 1


def test_edits_leave_comparisons_valid_and_deletions_remove_them(
    home: Home, store: SqlObjects
) -> None:
    ids = three(home, store)
    store.save_comparisons([compared(one, 3) for one in store.stored_things(ids)])
    with home.writing() as writer:
        attach(writer, "/another", "a")
    editing = SqlAssetEditing(home.catalog)
    assert store.count_due() == 0
    assets = {row.content_id: row.id for row in home.rows(schema.asset)}  # type: ignore[attr-defined]
    editing.trash([assets[ids[1]]])
    assert store.count_due() == 0
    # What came in the meantime was not compared with it.
    editing.restore([assets[ids[1]]])
    assert store.without_things(0, 10) == [ids[1]]
    with home.writing() as writer:
        writer.remove(list(writer.known_assets(b"/c")))
    assert [one.content for one in store.stored_things()] == [ids[0]]


def test_groups_replace_earlier_ones_and_show_what_passes(
    home: Home, store: SqlObjects, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "_GROUPS_AT_ONCE", 2)
    ids = three(home, store)
    store.save_comparisons([compared(one, 3) for one in store.stored_things(ids)])
    assert list(store.groups(EVERYTHING, 0)) == []
    first = [group(number, *ids) for number in (5, 15, 25)]
    store.save_groups(first, 1)
    assert store.grouped_comparisons() == store.comparisons() == 1
    assert list(store.groups(EVERYTHING, 0)) == first
    assert list(store.groups(EVERYTHING, 15)) == first[1:]
    second = [group(10, ids[0], ids[1]), *(group(number, *ids) for number in (20, 30, 40, 50))]
    store.save_groups(second, 1)
    assert list(store.groups(EVERYTHING, 0)) == second
    assert len(home.rows(schema.object_group)) == 5
    with home.writing() as writer:
        writer.remove(list(writer.known_assets(b"/a")))
    assert shown(list(store.groups(EVERYTHING, 0)))[:2] == [[ids[1]], [ids[1], ids[2]]]
    nobody = AssetFilter(tags=("none has it",))
    assert shown(list(store.groups(nobody, 0))) == [[]] * 5
    store.save_groups([], 1)
    assert list(store.groups(EVERYTHING, 0)) == []


def test_a_page_of_groups_takes_few_statements(home: Home, store: SqlObjects) -> None:
    ids = three(home, store)
    store.save_comparisons([compared(one, 3) for one in store.stored_things(ids)])
    store.save_groups([group(10 * number, *ids) for number in range(1, 400)], 1)
    statements: list[str] = []
    engine = home.catalog.database.engine
    event.listen(engine, "before_cursor_execute", lambda *said: statements.append(said[2]))
    assert len(list(store.groups(EVERYTHING, 0))) == 399
    assert len([one for one in statements if one.startswith("SELECT")]) == 2
