"""Lists, facets, records and counts of assets, on both databases."""

from __future__ import annotations

import datetime
import itertools
from collections import Counter
from collections.abc import Callable

import pytest
from catalog_samples import attach, on_sqlite, save
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_assets import NOON, Assets

from regard.core.assets import Asset, AssetOrder, AssetState
from regard.core.catalog import FileStamp
from regard.core.errors import NotFound
from regard.core.facts import Capture, PhotoFacts
from regard.core.filters import AssetFilter, GpsBox
from regard.photos.masks import mask_area
from regard.storage.assets.overview import count_visible

quick = settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


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
def test_counts_are_kept_until_assets_change_however_the_map_is_moved(assets: Assets) -> None:
    assets.upload("one", facts=PhotoFacts(latitude=1.0, longitude=2.0))
    facets = assets.reading.facets(AssetFilter(), ["camera"])
    months = assets.reading.months()
    for step in range(65):
        box = GpsBox(0, 0, 3 + step / 1000, 3)
        found = assets.reading.places(AssetFilter(gps_box=box), cell_degrees=1.0, limit=9)
        assert found.total == 1
    assert assets.reading.facets(AssetFilter(), ["camera"]) is facets
    assert assets.reading.months() is months
    assets.upload("two")
    assert assets.reading.months() is not months


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
    assert failed(below=b"/photos/a") == ["1", "2"]
    assert failed(managed=True) == ["cut.jpg"]
    everything = assets.reading.with_failures(collection)
    assert failed(after=everything[1].id, limit=2) == ["ab", "b"]
    assets.editing.trash([everything[0].id])
    assert failed(below=b"/photos/a") == ["2"]


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
