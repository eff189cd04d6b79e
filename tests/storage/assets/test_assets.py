"""Assets as a service reads and edits them, on both databases: lists, facets, tags, uploads,
trash."""

from __future__ import annotations

import datetime
import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from catalog_samples import Home, analysis, attach, header, on_sqlite, save
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_assets import NOON, STORE, Assets, place
from sqlalchemy import update

from regard.core.assets import Asset, AssetEdit, AssetOrder, AssetState
from regard.core.catalog import AnalysedFile, FileStamp
from regard.core.errors import Conflict, NameTaken, NotFound, UsageError
from regard.core.facts import Capture, PhotoFacts
from regard.core.filters import AssetFilter
from regard.core.jobs import JobKind
from regard.photos.masks import mask_area
from regard.storage.assets.overview import count_visible
from regard.storage.database import schema
from regard.storage.service.jobs import SqlJobQueue

quick = settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.fixture
def assets(home: Home) -> Assets:
    return Assets(home)


def edited(**values: object) -> AssetEdit:
    return AssetEdit(frozenset(values), **values)  # type: ignore[arg-type]


def library(assets: Assets) -> list[Asset]:
    """Two collections of assets in every state, many of them of one date."""
    for number in range(24):
        day = None if number % 4 == 0 else NOON + datetime.timedelta(days=30 * (number % 5))
        make = ["Nikon", "nikon corporation", None][number % 3]
        facts = PhotoFacts(
            taken_at=day,
            camera_make=make,
            camera_model=f"Nikon D{number % 4}" if number % 2 else None,
            keywords=tuple(["sea", "land", "sky"][: number % 4]),
        )
        assets.upload(
            f"p{number}",
            ["one", "two"][number % 2],
            facts=facts,
            mtime_ns=1_000_000 * (number % 3),
            tags=("chosen",) if number % 5 == 0 else (),
        )
        if number == 15:
            assets.analyse("one", but=["p4"])
            assets.analyse("two")
    found = assets.reading.page(order=AssetOrder.FIRST_ADDED)
    assets.editing.trash([found[2].id, found[3].id, found[17].id])
    return assets.reading.page(order=AssetOrder.FIRST_ADDED) + assets.reading.page(
        state=AssetState.TRASHED, order=AssetOrder.FIRST_ADDED
    )


ORDERS: dict[AssetOrder, Callable[[Asset], object]] = {
    AssetOrder.NEWEST: lambda asset: (asset.dated_at, asset.id),
    AssetOrder.OLDEST: lambda asset: (asset.dated_at, asset.id),
    AssetOrder.LAST_ADDED: lambda asset: asset.id,
    AssetOrder.FIRST_ADDED: lambda asset: asset.id,
}


def test_pages_of_any_size_and_order_hold_each_asset_once(assets: Assets) -> None:
    everything = library(assets)
    assert {asset.state for asset in everything} == set(AssetState)

    @quick
    @given(
        order=st.sampled_from(list(AssetOrder)),
        limit=st.integers(1, 26),
        state=st.sampled_from([None, *AssetState]),
        visible=st.sampled_from([None, ("one",), ("two", "nowhere"), ()]),
        width=st.sampled_from([None, 40, 41]),
    )
    def check(
        order: AssetOrder,
        limit: int,
        state: AssetState | None,
        visible: tuple[str, ...] | None,
        width: int | None,
    ) -> None:
        wanted = [
            asset
            for asset in everything
            if (asset.state is state if state else asset.state is not AssetState.TRASHED)
            and (visible is None or asset.collection in visible)
            and (width is None or (asset.width or 0) >= width)
        ]
        wanted.sort(key=ORDERS[order], reverse=order.descending)  # type: ignore[arg-type]
        found: list[Asset] = []
        while True:
            after = (found[-1].dated_at, found[-1].id) if found else None
            page = assets.reading.page(
                AssetFilter(min_width=width),
                visible=visible,
                state=state,
                order=order,
                after=after,
                limit=limit,
            )
            assert len(page) <= limit
            found += page
            if len(page) < limit:
                break
        assert found == wanted

    check()


@on_sqlite
def test_what_stays_is_on_exactly_one_page_while_others_come_and_go(assets: Assets) -> None:
    stays = {assets.upload(f"p{number}").asset for number in range(10)}
    goes = [assets.upload(f"q{number}").asset for number in range(5)]
    for order in AssetOrder:
        seen: list[Asset] = []
        while page := assets.reading.page(
            order=order, after=(seen[-1].dated_at, seen[-1].id) if seen else None, limit=3
        ):
            seen += page
            if len(seen) < 10:
                assets.upload(f"{order}{len(seen)}")
            if goes:
                assets.editing.trash([goes.pop()])
        counts = Counter(asset.id for asset in seen)
        assert max(counts.values()) == 1
        assert stays <= set(counts)


def test_facets_equal_a_count_in_python(assets: Assets) -> None:
    library(assets)
    for chosen, visible in itertools.product(
        (
            AssetFilter(),
            AssetFilter(tags=("sea",)),
            AssetFilter(collections=("one",)),
            AssetFilter(tags=("sea",), without_tags=("sky",), cameras=("nikon d1",)),
        ),
        (None, ("two",), ()),
    ):
        found: list[Asset] = assets.reading.page(chosen, visible=visible, limit=1000)
        counted = {
            "camera": Counter(asset.camera for asset in found if asset.camera),
            "month": Counter(f"{asset.taken_at:%Y-%m}" for asset in found if asset.taken_at),
            "tags": Counter(tag for asset in found for tag in asset.tags),
            "collection": Counter(asset.collection for asset in found),
        }
        facets = assets.reading.facets(chosen, list(counted), visible=visible)
        for name, counts in counted.items():
            assert {item.value: item.count for item in facets[name]} == counts
            numbers = [item.count for item in facets[name]]
            assert numbers == sorted(numbers, reverse=True)
        assert all(counted.values()) or chosen != AssetFilter() or visible is not None


@on_sqlite
def test_a_facet_has_the_fifty_most_frequent_values(assets: Assets) -> None:
    for number in range(3):
        assets.upload(f"p{number}", tags=[f"t{tag:02}" for tag in range(number, 60)])
    values = assets.reading.facets(AssetFilter(), ["tags"])["tags"]
    assert len(values) == 50
    assert {item.value for item in values} <= {f"t{tag:02}" for tag in range(2, 60)}


@on_sqlite
def test_a_record_shows_its_state_and_the_first_sentence(assets: Assets) -> None:
    new = assets.upload("new").asset
    assert assets.record(new).state is AssetState.PENDING
    bad = assets.upload("bad").asset
    assets.analyse(but=["bad"])
    record = assets.record(new)
    assert (record.state, record.caption) == (AssetState.INDEXED, "a picture of new")
    failed = assets.record(bad)
    assert (failed.state, failed.failure_reason, failed.width) == (
        AssetState.FAILED,
        "it is cut off",
        None,
    )
    assets.editing.trash([bad])
    assert assets.record(bad).state is AssetState.TRASHED
    with pytest.raises(NotFound):
        assets.reading.get(new, visible=("two",))


@on_sqlite
def test_details_hold_facts_regions_and_sentences(assets: Assets) -> None:
    facts = PhotoFacts(
        taken_at=NOON,
        camera_make="Canon",
        latitude=52.5,
        longitude=13.4,
        rating=3,
        keywords=("b", "a"),
        capture=Capture(f_number=2.8, iso=400),
    )
    with assets.home.writing("one") as writer:
        save(writer, "/photos/p", "p", 3, facts)
    asset = assets.reading.page()[0]
    detail = assets.reading.detail(asset.id)
    assert detail.facts == facts
    assert [region.caption for region in detail.regions] == ["a piece of p", None, None]
    assert [(caption.text, caption.region) for caption in detail.captions] == [
        ("a picture of p", None),
        ("a piece of p", detail.regions[0].id),
    ]
    for region in detail.regions:
        assert assets.reading.region(region.id) == (region, asset)
        assert mask_area(assets.reading.mask(region.id)) == region.area
    for call in (assets.reading.detail, assets.reading.get):
        with pytest.raises(NotFound):
            call(asset.id, visible=("two",))
    with pytest.raises(NotFound):
        assets.reading.region(detail.regions[0].id, visible=("two",))
    for number in (0, detail.regions[-1].id + 1):
        with pytest.raises(NotFound):
            assets.reading.region(number)
        with pytest.raises(NotFound):
            assets.reading.mask(number)


@on_sqlite
def test_a_region_belongs_to_the_asset_that_one_may_see_and_that_lives(assets: Assets) -> None:
    with assets.home.writing("one") as writer:
        save(writer, "/photos/p", "p")
        attach(writer, "/photos/q", "p")
    with assets.home.writing("two") as writer:
        attach(writer, "/photos/p", "p")
    first, second, other = assets.reading.page(order=AssetOrder.FIRST_ADDED)
    region = assets.reading.detail(first.id).regions[0].id
    assert assets.reading.region(region)[1].id == first.id
    assets.editing.trash([first.id])
    assert assets.reading.region(region)[1].id == second.id
    assert assets.reading.region(region, visible=("two",))[1].id == other.id


@on_sqlite
def test_failures_are_those_of_a_folder_or_of_uploads(assets: Assets) -> None:
    with assets.home.writing("one") as writer:
        for path in ("/photos/a/1", "/photos/a/2", "/photos/ab", "/photos/b"):
            writer.fail(FileStamp(path.encode(), 1, 1), "it is not a photograph")
    assets.upload("cut")
    assets.analyse(but=["cut"])
    collection = assets.collections.named("one").id

    def failed(**where: object) -> list[str]:
        found = assets.reading.with_failures(collection, **where)  # type: ignore[arg-type]
        return [asset.file_name for asset in found]

    assert failed() == ["1", "2", "ab", "b", "cut.jpg"]
    assert failed(below="/photos/a") == ["1", "2"]
    assert failed(managed=True) == ["cut.jpg"]
    everything = assets.reading.with_failures(collection)
    assert failed(after=everything[1].id, limit=2) == ["ab", "b"]
    assets.editing.trash([everything[0].id])
    assert failed(below="/photos/a") == ["2"]


def test_counts_cover_the_visible_collections(assets: Assets) -> None:
    for name, collection in (("p", "one"), ("p", "two"), ("q", "two"), ("r", "one")):
        assets.upload(name, collection)
    for collection in ("one", "two"):
        assets.analyse(collection)
    gone = assets.reading.page(order=AssetOrder.LAST_ADDED)[0]
    assets.editing.trash([gone.id])
    for visible in (None, ("one",), ("two", "three"), ()):
        left = assets.reading.page(visible=visible)
        details = {asset.content_id: assets.reading.detail(asset.id) for asset in left}
        counts = count_visible(assets.home.catalog, visible)
        assert counts.assets == len(left)
        assert counts.contents == len(details)
        assert counts.regions == sum(len(detail.regions) for detail in details.values())
        assert counts.captions == sum(len(detail.captions) for detail in details.values())
        assert counts.embeddings == 4 * len(details)


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


# Uploads


@on_sqlite
def test_the_same_bytes_are_one_asset_of_a_collection(assets: Assets) -> None:
    first = assets.upload("p", external_id="x")
    again = assets.upload("p", external_id="x", title="other")
    elsewhere = assets.upload("p", "two", external_id="x")
    assert (first.status, again.status, elsewhere.status) == ("created", "existing", "created")
    assert first.asset == again.asset != elsewhere.asset
    assert assets.record(first.asset).title is None
    assert assets.record(first.asset).content_id == assets.record(elsewhere.asset).content_id


def test_an_external_id_names_one_asset_of_a_collection(assets: Assets) -> None:
    first = assets.upload("p", external_id="x").asset
    for taken in (
        lambda: assets.upload("q", external_id="x"),
        lambda: assets.editing.edit(assets.upload("r").asset, edited(external_id="x")),
        lambda: assets.upload("r", external_id="x"),
    ):
        with pytest.raises(NameTaken):
            taken()
    second = assets.upload("s", external_id="y").asset
    with pytest.raises(NameTaken):
        assets.upload("p", external_id="y")
    assert [asset.external_id for asset in assets.reading.page(order=AssetOrder.FIRST_ADDED)] == [
        "x", None, "y",
    ]  # fmt: skip
    assert assets.record(second).external_id == "y"
    # Of the asset in the trash it is too: it may come back.
    assets.editing.trash([first])
    with pytest.raises(NameTaken):
        assets.upload("q", external_id="x")
    assets.editing.purge_some()
    assert assets.upload("q", external_id="x").status == "created"


@on_sqlite
def test_an_upload_brings_its_twin_back_from_the_trash(assets: Assets) -> None:
    asset = assets.upload("p").asset
    assets.analyse()
    assets.editing.trash([asset])
    position = assets.position()
    again = assets.upload("p")
    assert (again.asset, again.status) == (asset, "restored")
    assert assets.events(position) == [("added", asset)]
    assert assets.record(asset).state is AssetState.INDEXED
    assert assets.uploads.waiting_originals("one") == []


@on_sqlite
@pytest.mark.parametrize("trashed", [False, True])
def test_an_upload_that_failed_keeps_what_people_said_of_it(assets: Assets, trashed: bool) -> None:
    asset = assets.upload("p", external_id="x", tags=["t"], custom={"a": 1}).asset
    assets.analyse(but=["p"])
    assert assets.record(asset).state is AssetState.FAILED
    if trashed:
        assets.editing.trash([asset])
    position = assets.position()
    again = assets.upload("p", external_id="x")
    assert (again.asset, again.status) == (asset, "restored" if trashed else "existing")
    assert assets.events(position) == [("added" if trashed else "changed", asset)]
    record = assets.record(asset)
    assert (record.state, record.tags, record.custom, record.external_id) == (
        AssetState.PENDING, ("t",), {"a": 1}, "x",
    )  # fmt: skip
    assets.analyse()
    assert assets.record(asset).state is AssetState.INDEXED


@on_sqlite
def test_a_managed_file_that_was_lost_is_there_again_after_an_upload(assets: Assets) -> None:
    asset = assets.upload("p", mtime_ns=1_000).asset
    assert assets.upload("p", mtime_ns=2_000).status == "existing"
    assert assets.record(asset).mtime_ns == 2_000


@on_sqlite
@pytest.mark.parametrize("sound", [True, False])
def test_an_imported_twin_counts_while_its_file_is_there(assets: Assets, sound: bool) -> None:
    """Else the bytes that were sent would be kept by nobody."""
    assets.home.save("/photos/p", "p", "one")
    imported = assets.reading.page()[0]
    asked: list[FileStamp] = []

    def is_sound(stamp: FileStamp) -> bool:
        asked.append(stamp)
        return sound

    upload = assets.uploads.upload
    made = upload("one", upload_of("p"), is_sound=is_sound)
    assert asked == [FileStamp(imported.path, imported.size, imported.mtime_ns)]
    assert (made.status, made.asset == imported.id) == ("existing" if sound else "created", sound)
    assert assets.uploads.needs(place("p")) is not sound


def upload_of(name: str) -> object:
    from regard.storage.assets.uploads import Upload

    return Upload(FileStamp(place(name), 100, 1), header(name), PhotoFacts(), file_name="p.jpg")


def test_uploads_at_once_make_one_asset(assets: Assets) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda number: assets.upload(f"p{number % 2}", "new"), range(16)))
    assert len({upload.asset for upload in made}) == 2
    assert Counter(upload.status for upload in made) == {"created": 2, "existing": 14}
    assert [asset.collection for asset in assets.reading.page()] == ["new", "new"]


def test_an_external_id_that_many_want_at_once_goes_to_one(assets: Assets) -> None:
    ids = [assets.upload(f"p{number}").asset for number in range(6)]

    def take(asset: int) -> bool:
        try:
            assets.editing.edit(asset, edited(external_id="x"))
        except NameTaken:
            return False
        return True

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(take, ids)) == 1


def test_an_upload_waits_for_the_indexer_that_writes_the_same_content(assets: Assets) -> None:
    """On PostgreSQL it would find nothing, write the content too, and fail."""
    name, done = "p", threading.Event()
    with ThreadPoolExecutor(1) as pool:
        with assets.home.catalog.database.writing() as connection:
            connection.execute(
                schema.content.insert().values(
                    sha256=header(name).sha256, format="jpeg", width=40, height=30
                )
            )
            connection.execute(schema.collection.insert().values(name="one"))
            future = pool.submit(lambda: (assets.upload(name), done.set())[0])
            assert not done.wait(0.3)
        assert future.result().status == "created"


def test_what_is_restored_in_time_is_not_purged(assets: Assets) -> None:
    asset = assets.upload("p").asset
    assets.analyse()
    assets.editing.trash([asset])
    done = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        with assets.home.catalog.database.writing() as connection:
            connection.execute(update(schema.asset).values(deleted_at=None))
            future = pool.submit(lambda: (assets.editing.purge_some(), done.set())[0])
            assert not done.wait(0.3)
        assert future.result().assets == 0
    assert assets.record(asset).state is AssetState.INDEXED


def test_what_is_trashed_while_it_is_analysed_is_told_as_removed_last(assets: Assets) -> None:
    """On PostgreSQL the indexer saw it alive, and would tell of a change after that."""
    ids = [assets.upload("p").asset, assets.upload("p", "two").asset]
    position = assets.position()
    writer, stamp = assets.writer("one"), FileStamp(place("p"), 100, 1_000)
    with ThreadPoolExecutor(2) as pool, writer.writer_lease():
        with assets.home.catalog.database.writing() as connection:
            # Somebody else is at the log: all but that is done of the one, when the other begins.
            connection.execute(update(schema.counter).values(value=schema.counter.c.value))
            trashed = pool.submit(assets.editing.trash, ids)
            time.sleep(0.2)
            file = AnalysedFile(stamp, header("p"), PhotoFacts(), analysis("p"))
            saved = pool.submit(writer.save, [file])
            time.sleep(0.2)
        saved.result()
        trashed.result()
    told = assets.events(position)
    assert [event for event in told if event[0] == "removed"] == told[-2:]


def test_an_upload_purged_while_it_is_analysed_does_not_come_back(assets: Assets) -> None:
    asset = assets.upload("p").asset
    other = assets.upload("q").asset
    assets.editing.trash([asset])
    assets.editing.purge_some()
    writer = assets.writer("one")
    with writer.writer_lease():
        stamp = FileStamp(place("p"), 100, 1_000)
        purged = AnalysedFile(stamp, header("p"), PhotoFacts(), analysis("p"))
        writer.save([purged])
        writer.fail(stamp, "it is gone")
        # Those that share a transaction with it are written all the same.
        stamp = FileStamp(place("q"), 100, 1_000)
        writer.save([purged, AnalysedFile(stamp, header("q"), PhotoFacts(), analysis("q"))])
    assert [record.id for record in assets.reading.page()] == [other]
    assert assets.home.counts()["analysis"] == 1
    assert assets.contents() == {header("q").sha256}
    assert assets.home.findings() == []


@on_sqlite
def test_what_waits_is_not_analysed_and_not_in_the_trash(assets: Assets) -> None:
    for name in ("a", "b", "c"):
        assets.upload(name)
    assets.upload("a", "two")
    trashed = assets.upload("d").asset
    assets.editing.trash([trashed])
    assert assets.uploads.waiting_originals("one") == [place(name) for name in "abc"]
    assets.analyse(but=["b"])
    assert assets.uploads.waiting_originals("one") == []
    assert assets.uploads.waiting_originals("one", failed=True) == [place("b")]
    # Another collection's job has seen it.
    assert assets.uploads.waiting_originals("two") == []
    assert assets.uploads.waiting_originals("nowhere") == []


@on_sqlite
def test_an_upload_that_failed_does_not_wait_where_nothing_is_analysed(assets: Assets) -> None:
    assets.upload("a")
    assets.analyse(but=["a"])
    assert assets.uploads.waiting_originals("one") == []
    assert assets.uploads.waiting_originals("one", failed=True) == [place("a")]


@on_sqlite
def test_uploads_that_no_job_saw_are_told(assets: Assets) -> None:
    """A server was killed between an upload and its job; one whose job was cancelled is not
    wanted."""
    jobs = SqlJobQueue(assets.home.catalog)
    assets.home.save("/photos/p", "imported", "one")
    assert assets.uploads.collections_without_job() == []
    trashed = assets.upload("t", "two").asset
    assets.editing.trash([trashed])
    assert assets.uploads.collections_without_job() == []
    assets.upload("a")
    assets.upload("b", "two")
    jobs.add(JobKind.IMPORT, "one", root="photos", path="")
    assert sorted(assets.uploads.collections_without_job()) == ["one", "two"]
    job = jobs.add(JobKind.UPLOAD, "one")
    assert assets.uploads.collections_without_job() == ["two"]
    jobs.cancel(job.id)
    assert assets.uploads.collections_without_job() == ["two"]
    assets.upload("c")
    assert sorted(assets.uploads.collections_without_job()) == ["one", "two"]
    assets.analyse("one")
    assets.analyse("two", but=["b"])
    assert assets.uploads.collections_without_job() == []


def test_a_store_that_was_moved_is_followed(assets: Assets) -> None:
    ids = [assets.upload(f"p{number}").asset for number in range(3)]
    assets.home.save("/photos/p", "p", "one")
    there = STORE.with_name("elsewhere")

    def path_of(sha256: str) -> bytes:
        return str(there / sha256).encode()

    later = {path_of(header("p1").sha256): 7_000}
    assert assets.uploads.relocate_originals(path_of, later.get) == 3
    assert assets.uploads.relocate_originals(path_of, later.get) == 0
    assert [assets.record(asset).mtime_ns for asset in ids] == [1_000, 7_000, 1_000]
    for number, asset in enumerate(ids):
        record = assets.record(asset)
        assert record.path == path_of(header(f"p{number}").sha256)
        assert record.uri == record.path.decode()
    assert len(assets.reading.page(AssetFilter(path_prefixes=(b"/photos",)))) == 1
    assert len(assets.reading.page(AssetFilter(path_prefixes=(str(there).encode(),)))) == 3


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
