"""Stacks in the catalog: found after each change of their folder, listed folded or not."""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from unittest.mock import patch

import pytest
from catalog_samples import Home, analysis, header, on_sqlite, stamp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_assets import Assets
from sqlalchemy import func, select

from regard.core.assets import Asset, AssetOrder, AssetState
from regard.core.catalog import AnalysedFile, KnownAsset
from regard.core.errors import Conflict, NotFound, UsageError
from regard.core.facts import DatePrecision, PhotoFacts
from regard.core.filters import EVERYTHING, AssetFilter, Fact
from regard.storage.assets import stacks
from regard.storage.assets.collections import SqlCollections
from regard.storage.assets.editing import SqlAssetEditing
from regard.storage.assets.reading import SqlAssetReading
from regard.storage.assets.review import SqlDuplicateReview
from regard.storage.database import schema
from regard.storage.database.change_log import assets_version

_NOON = datetime.datetime(2024, 5, 1, 12)
_FORMATS = {".cr2": "RAW", ".mov": "MOV", ".heic": "HEIF"}
_ALL_FACETS = ("camera", "month", "format", "tags", "collection")


def _save(
    home: Home, *paths: str, seconds: float = 0.0, update: bool = True, **facts: object
) -> None:
    """Index files, all taken in one second by one camera, as one run."""
    with home.writing() as writer:
        for path in paths:
            form = _FORMATS.get(os.path.splitext(path)[1].lower(), "JPEG")
            content = replace(header(path), format=form)
            taken_at = _NOON + datetime.timedelta(seconds=seconds)
            known = PhotoFacts(taken_at=taken_at, camera_model="R5", **facts)  # type: ignore[arg-type]
            if writer.is_analysed(content.sha256):
                writer.attach(stamp(path), content.sha256, known)
            else:
                writer.save([AnalysedFile(stamp(path), content, known, analysis(path, 0))])
        if update:
            writer.update_stacks()


def _assets(home: Home) -> dict[str, Asset]:
    return {asset.uri: asset for asset in SqlAssetReading(home.catalog).page(limit=1000)}


def _stacks(home: Home) -> dict[str, set[str]]:
    """The stacks by the path of what stands for them."""
    found = _assets(home)
    uris = {asset.id: uri for uri, asset in found.items()}
    members: dict[str, set[str]] = {}
    for uri, asset in found.items():
        if asset.stack_id is not None:
            members.setdefault(uris[asset.stack_id], set()).add(uri)
    for cover, uris_of in members.items():
        assert found[cover].stack_count == len(uris_of)
    return members


def _marks(home: Home) -> int:
    return len(home.rows(schema.stale_folder))


def _folded(home: Home, asset_filter: AssetFilter = EVERYTHING, **options: object) -> list[str]:
    found = SqlAssetReading(home.catalog).page(asset_filter, folded=True, **options)  # type: ignore[arg-type]
    return [asset.uri for asset in found]


PAIR = ("/p/IMG_1.JPG", "/p/IMG_1.CR2")


def test_a_run_finds_the_stacks_of_its_folders(home: Home) -> None:
    _save(home, *PAIR, "/p/IMG_2.JPG", "/p/q/IMG_1.MOV", "/q/IMG_1.CR2")
    assert _stacks(home) == {"/p/IMG_1.JPG": set(PAIR)}
    assert _assets(home)["/p/IMG_2.JPG"].stack_count is None
    assert _marks(home) == 0


def test_a_file_that_comes_or_goes_changes_its_stack(home: Home) -> None:
    _save(home, *PAIR)
    _save(home, "/p/IMG_1-edited.jpg", "/p/IMG_1.MOV")
    whole = {*PAIR, "/p/IMG_1-edited.jpg", "/p/IMG_1.MOV"}
    assert _stacks(home) == {"/p/IMG_1-edited.jpg": whole}
    edited = _assets(home)["/p/IMG_1-edited.jpg"]
    with home.writing() as writer:
        writer.remove([KnownAsset(edited.id, stamp(edited.path), None)])
        # Nothing points to what is gone, even if the run is killed here.
        assert {asset.stack_id for asset in _assets(home).values()} == {None}
        writer.update_stacks()
    assert _stacks(home) == {"/p/IMG_1.JPG": whole - {edited.uri}}


@pytest.mark.parametrize("leaving", ["/p/IMG_1.JPG", "/p/IMG_1.CR2"])
@pytest.mark.parametrize("others", [(), ("/p/IMG_1.MOV",)])
@pytest.mark.parametrize("how", ["move", "remove", "trash", "purge", "unstack"])
def test_the_log_names_the_files_that_one_leaves(
    home: Home, leaving: str, others: tuple[str, ...], how: str
) -> None:
    _save(home, *PAIR, *others, "/p/IMG_2.JPG")
    found = _assets(home)
    left = found[leaving]
    rest = {found[uri].id for uri in (*PAIR, *others)} - {left.id}
    before = max(row.position for row in home.rows(schema.asset_change))
    if how == "move":
        with home.writing() as writer:
            facts = PhotoFacts(taken_at=_NOON, camera_model="R5")
            writer.attach(stamp("/q/x.jpg"), header(leaving).sha256, facts, moved_from=left.id)
            writer.update_stacks()
    elif how == "remove":
        with home.writing() as writer:
            writer.remove([KnownAsset(left.id, stamp(left.path), None)])
            writer.update_stacks()
    elif how == "unstack":
        SqlAssetEditing(home.catalog).unstack([left.id])
    else:
        SqlAssetEditing(home.catalog).trash([left.id])
        if how == "purge":
            SqlAssetEditing(home.catalog).purge_some()
    log = [row for row in home.rows(schema.asset_change) if row.position > before]
    assert {row.asset_id for row in log if row.asset_id != left.id} == rest


def test_what_people_choose_stays_over_later_runs(home: Home) -> None:
    _save(home, *PAIR, "/p/IMG_1.MOV", "/p/z.jpg", "/q/IMG_1.JPG")
    ids = {uri: asset.id for uri, asset in _assets(home).items()}
    editing = SqlAssetEditing(home.catalog)
    assert editing.unstack([ids["/p/IMG_1.CR2"], ids["/p/z.jpg"]]) == 1
    rest = {"/p/IMG_1.JPG", "/p/IMG_1.MOV"}
    assert _stacks(home) == {"/p/IMG_1.JPG": rest}
    _save(home, "/p/IMG_1-edited.jpg")
    assert _stacks(home) == {"/p/IMG_1-edited.jpg": {*rest, "/p/IMG_1-edited.jpg"}}
    # With one of a stack, the whole stack comes.
    assert editing.stack([ids["/p/z.jpg"], ids["/p/IMG_1.MOV"]]) == 4
    made = {*rest, "/p/IMG_1-edited.jpg", "/p/z.jpg"}
    assert set(map(frozenset, _stacks(home).values())) == {frozenset(made)}
    _save(home, "/p/IMG_1~2.jpg", "/p/IMG_2.JPG")
    assert set(map(frozenset, _stacks(home).values())) == {frozenset(made)}
    # Over the trash, too.
    editing.trash([ids["/p/IMG_1.MOV"]])
    assert set(map(frozenset, _stacks(home).values())) == {frozenset(made - {"/p/IMG_1.MOV"})}
    editing.restore([ids["/p/IMG_1.MOV"]])
    assert set(map(frozenset, _stacks(home).values())) == {frozenset(made)}
    # Two that people made are never one.
    assert editing.unstack([ids["/p/z.jpg"]]) == 1
    assert editing.stack([ids["/p/z.jpg"], ids["/p/IMG_1.CR2"]]) == 2
    assert {len(members) for members in _stacks(home).values()} == {2, 3}


def test_what_can_be_in_no_stack_is_refused(home: Home) -> None:
    _save(home, *PAIR, "/q/IMG_1.JPG", "/p/gone.jpg")
    ids = {uri: asset.id for uri, asset in _assets(home).items()}
    editing = SqlAssetEditing(home.catalog)
    editing.trash([ids["/p/gone.jpg"]])
    one = ids[PAIR[0]]
    for others, error, words in (
        ([], UsageError, "at least two"),
        ([one], UsageError, "at least two"),
        ([ids["/q/IMG_1.JPG"]], Conflict, "different folders"),
        ([ids["/p/gone.jpg"]], Conflict, "is in the trash"),
        ([4711], NotFound, "a4711"),
    ):
        with pytest.raises(error, match=words):
            editing.stack([one, *others])
    with pytest.raises(NotFound, match="a4711"):
        editing.unstack([one, 4711])
    assert _stacks(home) == {PAIR[0]: set(PAIR)}


def test_what_a_killed_run_left_is_found_by_the_next(home: Home) -> None:
    _save(home, *PAIR, update=False)
    assert _stacks(home) == {}
    assert _marks(home) > 0
    _save(home, "/q/IMG_9.JPG")
    assert _stacks(home) == {"/p/IMG_1.JPG": set(PAIR)}
    assert _marks(home) == 0


@on_sqlite
def test_a_kill_while_stacks_are_found_leaves_the_rest_to_the_next_call(home: Home) -> None:
    for folder in "abc":
        _save(home, f"/{folder}/1.jpg", f"/{folder}/1.cr2", update=False)
    real, calls = stacks.find_stacks, []

    def die_at_the_second(files: Iterable[stacks.StackFile]) -> object:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(files)

    with patch.object(stacks, "find_stacks", die_at_the_second), suppress(KeyboardInterrupt):
        stacks.update_stacks(home.catalog.database)
    assert len(_stacks(home)) == 1
    stacks.update_stacks(home.catalog.database)
    assert len(_stacks(home)) == 3


def test_the_trash_takes_a_photograph_out_of_its_stack_and_gives_it_back(home: Home) -> None:
    _save(home, *PAIR, "/p/IMG_1.MOV")
    editing = SqlAssetEditing(home.catalog)
    cover = _assets(home)["/p/IMG_1.JPG"].id
    editing.trash([cover])
    assert _stacks(home) == {"/p/IMG_1.CR2": {"/p/IMG_1.CR2", "/p/IMG_1.MOV"}}
    assert SqlAssetReading(home.catalog).get(cover).stack_id is None
    editing.restore([cover])
    assert _stacks(home) == {"/p/IMG_1.JPG": {*PAIR, "/p/IMG_1.MOV"}}
    found = _assets(home)
    SqlDuplicateReview(home.catalog).merge(cover, [found["/p/IMG_1.MOV"].id])
    assert _stacks(home) == {"/p/IMG_1.JPG": set(PAIR)}
    editing.trash([cover])
    assert editing.purge_some().assets == 2
    assert _stacks(home) == {}


def test_a_moved_file_leaves_its_stack_and_joins_another(home: Home) -> None:
    _save(home, *PAIR, "/q/IMG_1.MOV")
    picture = _assets(home)["/p/IMG_1.JPG"]
    with home.writing() as writer:
        facts = PhotoFacts(taken_at=_NOON, camera_model="R5")
        assert picture.sha256 is not None
        writer.attach(stamp("/q/IMG_1.JPG"), picture.sha256, facts, moved_from=picture.id)
        writer.update_stacks()
    assert _stacks(home) == {"/q/IMG_1.JPG": {"/q/IMG_1.JPG", "/q/IMG_1.MOV"}}


def test_all_members_are_logged_as_changed_when_their_stack_changes(home: Home) -> None:
    _save(home, *PAIR, "/p/IMG_2.JPG")
    before = _last_change(home)
    _save(home, "/p/IMG_1.MOV")
    names = {asset.id: uri for uri, asset in _assets(home).items()}
    with home.catalog.database.reading() as connection:
        change = schema.asset_change.c
        rows = connection.execute(
            select(change.asset_id, change.kind).where(change.position > before)
        ).all()
    said = {(names[row.asset_id], row.kind) for row in rows}
    assert said == {
        ("/p/IMG_1.MOV", "added"),
        *((path, "changed") for path in (*PAIR, "/p/IMG_1.MOV")),
    }
    version = _last_change(home)
    _save(home, update=True)
    assert _last_change(home) == version


def _last_change(home: Home) -> int:
    with home.catalog.database.reading() as connection:
        return assets_version(connection)


def test_only_a_folder_s_own_files_are_read(home: Home) -> None:
    below = [f"/p/{name}/{number}.jpg" for name in ("a", "b", "b0") for number in range(3)]
    _save(home, *below, *PAIR, "/p/b0.jpg", "/p/b.jpg", "/p0/IMG_1.MOV", "/p.jpg")
    with home.catalog.database.reading() as connection:
        (collection,) = connection.execute(select(schema.collection.c.id)).scalars()
        ids = stacks._ids_in(connection, collection, b"/p")
    names = {asset.id: uri for uri, asset in _assets(home).items()}
    assert {names[number] for number in ids} == {*PAIR, "/p/b0.jpg", "/p/b.jpg"}


def test_lists_and_counts_agree_folded_and_not(home: Home) -> None:
    _save(home, *PAIR, "/p/IMG_1.MOV", keywords=("a",))
    _save(home, "/p/IMG_2.CR2", "/p/IMG_2.HEIC", seconds=40 * 86_400, latitude=1.0, longitude=2.0)
    _save(home, "/p/IMG_3.JPG", seconds=41 * 86_400)
    reading = SqlAssetReading(home.catalog)
    assert len(_assets(home)) == 6
    shown = ["/p/IMG_3.JPG", "/p/IMG_2.HEIC", "/p/IMG_1.JPG"]
    assert _folded(home) == shown
    assert _folded(home, order=AssetOrder.OLDEST) == shown[::-1]
    assert _folded(home, offset=1, limit=1) == shown[1:2]
    assert _folded(home, state=AssetState.INDEXED) == shown
    assert _folded(home, visible=["default"]) == shown
    months = reading.months(folded=True).months
    assert [(month.value, month.count) for month in months] == [("2024-06", 2), ("2024-05", 1)]
    facets = reading.facets(EVERYTHING, _ALL_FACETS, folded=True)
    assert {item.value: item.count for item in facets["format"]} == {"JPEG": 2, "HEIF": 1}
    for name, count in (("camera", 3), ("collection", 3), ("tags", 1)):
        assert [item.count for item in facets[name]] == [count], name
    assert reading.places(cell_degrees=1, limit=5, folded=True).total == 1
    assert reading.places(cell_degrees=1, limit=5).total == 2


def test_a_photograph_is_hidden_only_where_its_cover_passes(home: Home) -> None:
    _save(home, *PAIR, "/p/IMG_1.MOV")
    raws = AssetFilter(formats=("RAW",))
    assert _folded(home, raws) == ["/p/IMG_1.CR2"]
    assert _folded(home, AssetFilter(without=(AssetFilter(formats=("JPEG",)),))) == [
        "/p/IMG_1.MOV",
        "/p/IMG_1.CR2",
    ]
    found = _assets(home)
    SqlAssetEditing(home.catalog).tag([found["/p/IMG_1.MOV"].id], add=["x"])
    assert _folded(home, AssetFilter(tags=("x",))) == ["/p/IMG_1.MOV"]
    reading = SqlAssetReading(home.catalog)
    (count,) = reading.facets(raws, ["format"], folded=True)["format"]
    assert (count.value, count.count) == ("RAW", 1)
    searching = home.searching()
    assert [asset.uri for asset in searching.newest(raws, 0, 9, folded=True)] == ["/p/IMG_1.CR2"]
    assert len(searching.newest(EVERYTHING, 0, 9, folded=True)) == 1
    assert len(searching.newest(EVERYTHING, 0, 9)) == 3


def test_filters_find_a_stack_by_any_of_its_photographs_and_are_not_folded(home: Home) -> None:
    _save(home, *PAIR, "/p/IMG_2.JPG")
    found = _assets(home)
    for path in PAIR:
        whole = AssetFilter(stacks=(found[path].id,))
        assert set(_folded(home, whole)) == set(PAIR)
        assert set(_folded(home, AssetFilter(also=(whole,)))) == set(PAIR)
    assert _folded(home, AssetFilter(stacks=(found["/p/IMG_2.JPG"].id, 999))) == []
    assert _folded(home, AssetFilter(has=(Fact.STACK,))) == ["/p/IMG_1.JPG"]
    assert _folded(home, AssetFilter(without=(AssetFilter(has=(Fact.STACK,)),))) == ["/p/IMG_2.JPG"]


def test_a_deleted_collection_leaves_no_marks(home: Home) -> None:
    _save(home, *PAIR, update=False)
    editing, collections = SqlAssetEditing(home.catalog), SqlCollections(home.catalog)
    number = collections.named("default").id
    while editing.purge_some(number, trashed_only=False).has_more:
        pass
    stacks.update_stacks(home.catalog.database)
    assert _marks(home) == 0


_NAMES = ["1.JPG", "1.CR2", "1.MOV", "1-edited.jpg", "2.JPG", "2.CR2"]
_STEPS = st.lists(
    st.tuples(
        st.sampled_from(["save", "trash", "restore", "remove", "move", "update"]),
        st.sampled_from([f"/{folder}/{name}" for folder in "ab" for name in _NAMES]),
    ),
    max_size=14,
)


@on_sqlite
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(_STEPS)
def test_whatever_happened_stacks_are_those_of_the_files_that_are_there(
    home: Home, steps: list[tuple[str, str]]
) -> None:
    editing, reading = SqlAssetEditing(home.catalog), SqlAssetReading(home.catalog)
    for step, path in steps:
        there = _assets(home).get(path)
        if step == "save":
            _save(home, path, update=False)
        elif step == "restore":
            trashed = reading.page(state=AssetState.TRASHED)
            editing.restore([asset.id for asset in trashed if asset.uri == path])
        elif step == "update":
            stacks.update_stacks(home.catalog.database)
        elif there is not None and step == "trash":
            editing.trash([there.id])
        elif there is not None:
            with home.writing() as writer:
                if step == "remove":
                    writer.remove([KnownAsset(there.id, stamp(path), None)])
                elif there.sha256 is not None:
                    target = path.replace("/a/", "/c/").replace("/b/", "/a/")
                    facts = PhotoFacts(taken_at=_NOON, camera_model="R5")
                    writer.attach(stamp(target), there.sha256, facts, moved_from=there.id)
        # Nothing is ever hidden by what is not shown itself.
        shown = set(_folded(home))
        ids = {asset.id: asset for asset in _assets(home).values()}
        for asset in ids.values():
            assert asset.uri in shown or ids[asset.stack_id or 0].uri in shown
    stacks.update_stacks(home.catalog.database)
    found = _assets(home)
    by_folder: dict[str, list[stacks.StackFile]] = {}
    for uri, asset in found.items():
        kind = {"RAW": stacks.FileKind.RAW, "MOV": stacks.FileKind.VIDEO}
        by_folder.setdefault(os.path.dirname(uri), []).append(
            stacks.StackFile(
                asset.id,
                os.path.basename(uri),
                kind.get(asset.format or "", stacks.FileKind.PICTURE),
                asset.camera,
                asset.taken_at,
            )
        )
    expected = {
        member: stack.cover
        for files in by_folder.values()
        for stack in stacks.find_stacks(files)
        for member in stack.members
    }
    assert expected == {
        asset.id: asset.stack_id for asset in found.values() if asset.stack_id is not None
    }
    with home.catalog.database.reading() as connection:
        trashed = schema.asset.c.deleted_at.is_not(None) & schema.asset.c.stack_id.is_not(None)
        statement = select(func.count()).select_from(schema.asset).where(trashed)
        assert connection.execute(statement).scalar_one() == 0


def _upload(assets: Assets, name: str, taken_at: datetime.datetime | None, at: str = "one") -> int:
    facts = PhotoFacts(taken_at=taken_at, taken_precision=DatePrecision.TIME, camera_model="R5")
    return assets.upload(name, at, facts=facts if taken_at else PhotoFacts()).asset


def _stacked(assets: Assets) -> set[frozenset[int]]:
    stacks.update_stacks(assets.home.catalog.database)
    members: dict[int, set[int]] = {}
    for asset in assets.reading.page(limit=1000):
        if asset.stack_id is not None:
            members.setdefault(asset.stack_id, set()).add(asset.id)
    return set(map(frozenset, members.values()))


@on_sqlite
def test_uploads_of_one_day_form_stacks(assets: Assets) -> None:
    midnight = datetime.datetime(2024, 5, 2)
    late = midnight - datetime.timedelta(seconds=0.5)
    one = _upload(assets, "IMG_1", _NOON)
    assert _stacked(assets) == set()
    edit = _upload(assets, "IMG_1-edited", _NOON)
    others = [
        _upload(assets, "IMG_1~2", _NOON, "two"),
        _upload(assets, "IMG_1-Edit", _NOON + datetime.timedelta(days=1)),
        _upload(assets, "IMG_1 copy", _NOON + datetime.timedelta(seconds=2)),
        _upload(assets, "IMG_1 (1)", None),
        _upload(assets, "IMG_2", late),
        _upload(assets, "IMG_2-edited", midnight),
    ]
    assert _stacked(assets) == {frozenset({one, edit})}
    assets.editing.trash([edit])
    assert _stacked(assets) == set()
    assets.editing.restore([edit])
    assert _stacked(assets) == {frozenset({one, edit})}
    assert assets.editing.stack([one, others[2]]) == 3
    assert _stacked(assets) == {frozenset({one, edit, others[2]})}
    for other in (*others[:2], others[3], others[5]):
        with pytest.raises(Conflict):
            assets.editing.stack([one, other])
    assert assets.editing.restack([one, edit, others[2]]) == 3
    assert _stacked(assets) == {frozenset({one, edit})}


@on_sqlite
def test_an_upload_of_another_day_leaves_its_stack(assets: Assets) -> None:
    pair = [_upload(assets, name, _NOON) for name in ("IMG_1", "IMG_1-edited")]
    other = _upload(assets, "IMG_1-edited~2", _NOON + datetime.timedelta(days=1))
    assert _stacked(assets) == {frozenset(pair)}
    writer = assets.writer("one")
    with writer.writer_lease():
        facts = PhotoFacts(
            taken_at=_NOON + datetime.timedelta(days=1),
            taken_precision=DatePrecision.TIME,
            camera_model="R5",
        )
        found = stamp(assets.record(pair[1]).path)
        writer.save([AnalysedFile(found, header("IMG_1-edited"), facts, analysis("p", 0))])
    assert _stacked(assets) == {frozenset({pair[1], other})}
