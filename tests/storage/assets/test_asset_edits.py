"""Edits, tags, trash and collections, on both databases."""

from __future__ import annotations

from dataclasses import replace

import pytest
from catalog_samples import Home, attach, header, on_sqlite, save
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_assets import Assets, edited

from regard.core.catalog import FileStamp
from regard.core.errors import Conflict, NameTaken, NotFound, UsageError
from regard.core.facts import PhotoFacts
from regard.core.filters import AssetFilter

quick = settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


# Edits


@on_sqlite
def test_an_edit_changes_what_it_names_alone(assets: Assets) -> None:
    facts = PhotoFacts(title="from the file", keywords=("sea",))
    asset = assets.upload("p", facts=facts, custom={"a": 1, "b": [1]}, tags=["t"]).asset
    before = assets.record(asset)
    assert (before.title, before.tags, before.custom) == (
        "from the file", ("sea", "t"), {"a": 1, "b": [1]},
    )  # fmt: skip
    for edit, after in (
        (edited(title="mine"), {"title": "mine"}),
        (edited(tags=("x", "sea")), {"tags": ("sea", "x")}),
        (edited(custom={"a": None, "c": "d"}), {"custom": {"b": [1], "c": "d"}}),
        (edited(external_id="e"), {"external_id": "e"}),
        (edited(title=None), {"title": "from the file"}),
        (edited(tags=()), {"tags": ()}),
        (edited(external_id=None), {"external_id": None}),
        (edited(), {}),
    ):
        assets.editing.edit(asset, edit)
        before = replace(before, **after)  # type: ignore[arg-type]
        assert assets.record(asset) == before
    with pytest.raises(NotFound):
        assets.editing.edit(asset, edited(title="x"), visible=("two",))


def test_custom_fields_of_any_length_can_be_filtered_by(assets: Assets) -> None:
    """PostgreSQL's index takes 2,704 bytes, of text that does not compress."""
    long = "".join(header(str(number)).sha256 for number in range(500))
    asset = assets.upload("p", custom={"long": long, "short": "s"}).asset
    other = assets.upload("q", custom={"long": long[:-1] + "z"}).asset
    for value, ids in ((long, [asset]), (long[:-1] + "z", [other]), ("s", [])):
        found = assets.reading.page(AssetFilter(custom=(("long", value),)))
        assert [record.id for record in found] == ids
    assert assets.record(asset).custom["long"] == long


@settings(quick, max_examples=8)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("file"), st.frozensets(st.sampled_from("abcd"))),
            st.tuples(st.just("add"), st.frozensets(st.sampled_from("abcdx"), max_size=2)),
            st.tuples(st.just("take"), st.frozensets(st.sampled_from("abcdx"), max_size=2)),
        ),
        max_size=8,
    )
)
def test_tags_of_people_stand_beside_what_the_file_says_again(
    home: Home, history: list[tuple[str, frozenset[str]]]
) -> None:
    """A tag is there when the last that happened to it was that it came."""
    assets = Assets(home)
    with home.writing("one") as writer:
        save(writer, "/photos/p", "p")
        asset = assets.reading.page()[0].id
        said: frozenset[str] = frozenset()
        tags: set[str] = set()
        for what, words in history:
            if what == "file":
                facts = PhotoFacts(keywords=tuple(sorted(words)))
                writer.attach(FileStamp(b"/photos/p", 1, 1), header("p").sha256, facts)
                tags = (tags - (said - words)) | (words - said)
                said = words
                assert assets.reading.detail(asset).facts.keywords == facts.keywords
            elif what == "add":
                assets.editing.tag([asset], add=sorted(words))
                tags |= words
            else:
                assets.editing.tag([asset], remove=sorted(words))
                tags -= words
            assert set(assets.record(asset).tags) == tags
        writer.remove(list(writer.known_assets(b"/photos")))


@on_sqlite
def test_many_are_changed_all_or_none(assets: Assets) -> None:
    first, second = assets.upload("p").asset, assets.upload("q", "two").asset
    position = assets.position()
    for call in (
        lambda ids: assets.editing.tag(ids, add=["t"], visible=("one",)),
        lambda ids: assets.editing.trash(ids, visible=("one",)),
        lambda ids: assets.editing.restore(ids, visible=("one",)),
    ):
        for ids in ([first, second], [first, 10**9]):
            with pytest.raises(NotFound):
                call(ids)
    assert assets.events(position) == []
    assert assets.record(first).tags == ()
    assets.editing.tag([first, second, first], add=["t", "u"])
    assets.editing.tag([first], add=["t"], remove=["u"])
    assert assets.record(first).tags == ("t",)
    assert assets.record(second).tags == ("t", "u")


@on_sqlite
def test_what_is_done_to_the_trash_is_not_told(assets: Assets) -> None:
    """Who follows the log and takes `changed` for there would have it back."""
    asset = assets.upload("p").asset
    assets.analyse()
    assets.editing.trash([asset])
    position = assets.position()
    assets.editing.edit(asset, edited(title="x"))
    assets.editing.tag([asset], add=["t"])
    assets.editing.trash([asset])
    with assets.home.writing("one") as writer:
        attach(writer, "/photos/twin", "p")
    twin = assets.reading.page()[0].id
    with assets.home.writing("one") as writer:
        assets.editing.trash([twin])
        attach(writer, "/photos/twin", "p")
        writer.remove(list(writer.known_assets(b"/photos")))
    assert assets.events(position) == [("added", twin), ("removed", twin)]
    assets.editing.restore([asset])
    assert assets.events(position)[-1] == ("added", asset)
    assert assets.record(asset).tags == ("t",)


@on_sqlite
def test_an_edit_that_changes_nothing_is_no_change(assets: Assets) -> None:
    """Two systems that follow each other's changes would else go on for ever."""
    first, second = assets.upload("p", custom={"a": 1, "b": [2]}).asset, assets.upload("q").asset
    editing = assets.editing
    edit = edited(title="t", tags=("x", "y"), custom={"a": True, "c": "d"}, external_id="e")
    position = assets.position()
    editing.edit(first, edit)
    assert assets.events(position) == [("changed", first)]
    assert assets.record(first).custom == {"a": True, "b": [2], "c": "d"}
    position = assets.position()
    editing.edit(first, edit)
    editing.edit(first, edited(tags=("y", "x"), custom={"nothing": None}))
    editing.edit(first, edited())
    editing.tag([first], add=["x"], remove=["z"])
    assert assets.events(position) == []
    editing.tag([first, second], add=["x"])
    editing.tag([first, second], remove=["y"])
    for less in (edited(title=None), edited(external_id=None), edited(custom={"a": 1})):
        editing.edit(first, less)
    assert assets.events(position) == [
        ("changed", second), *[("changed", first)] * 4,
    ]  # fmt: skip
    assert assets.record(first).tags == ("x",)


# Collections


def test_change_log_reports_a_deleted_collection(assets: Assets) -> None:
    asset, other = assets.upload("p", "one").asset, assets.upload("q", "two").asset
    made = assets.collections.named("one")
    position = assets.position()
    assets.editing.purge_some(collection=made.id, trashed_only=False)
    assets.collections.delete(made.id)
    for visible in (("one",), None):
        [change] = assets.collections.changes(position, visible=visible)[0]
        assert (change.kind, change.asset, change.collection) == ("removed", asset, "one")
        assert change.collection_id == made.id
    assert assets.collections.changes(position, visible=("two", "nowhere"))[0] == []
    again = assets.upload("r", "one").asset
    found, _, _ = assets.collections.changes(0, visible=("one",))
    assert [change.asset for change in found] == [asset, asset, again]
    assert other not in {change.asset for change in found}
    with pytest.raises(UsageError):
        assets.collections.changes(assets.position() + 1)


@on_sqlite
def test_collections_are_made_counted_and_forgotten(assets: Assets) -> None:
    made = assets.collections.create("one")
    assert (made.assets, made.pending, made.failed, made.trashed) == (0, 0, 0, 0)
    with pytest.raises(NameTaken):
        assets.collections.create("one")
    ids = [assets.upload(name).asset for name in "abcd"]
    assets.analyse(but=["b"])
    assets.upload("e")
    assets.editing.trash(ids[2:3])
    counted = assets.collections.get(made.id)
    assert (counted.assets, counted.pending, counted.failed, counted.trashed) == (4, 1, 1, 1)
    assert assets.collections.named("one") == counted
    assert assets.collections.missing(["one", "two"]) == {"two"}
    with pytest.raises(NotFound):
        assets.collections.get(made.id, visible=("two",))
    with pytest.raises(Conflict):
        assets.collections.delete(made.id)
    assert assets.editing.purge_some(collection=made.id).assets == 1
    assert assets.editing.purge_some(collection=made.id, trashed_only=False).assets == 4
    assets.collections.delete(made.id)
    for call in (assets.collections.delete, assets.collections.get):
        with pytest.raises(NotFound):
            call(made.id)


def test_collections_are_listed_by_name_in_pages(assets: Assets) -> None:
    names = ["b", "Z", "é", "a", "10", "9", "a b"]
    for name in names:
        assets.collections.create(name)
    found: list[str] = []
    while page := assets.collections.page(after=found[-1] if found else None, limit=2):
        found += [record.name for record in page]
    assert sorted(found) == sorted(names)
    seen = assets.collections.page(visible=("a", "9", "nowhere"))
    assert {record.name for record in seen} == {"a", "9"}
