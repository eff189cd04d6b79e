"""What lists, filters and counts read: indexes, not all assets. SQLite says so of each statement.

Times are not measured. Each plan is checked before and after ANALYZE, which can change it.
"""

from __future__ import annotations

import datetime
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from catalog_samples import IMAGE, Home, attach, open_home, save, save_all, stamp
from sqlalchemy import event

from regard.core.assets import AssetOrder, AssetState
from regard.core.facts import PhotoFacts
from regard.core.filters import EVERYTHING, AssetFilter, Fact, GpsBox, GpsCircle
from regard.storage.assets.collections import SqlCollections
from regard.storage.assets.editing import SqlAssetEditing
from regard.storage.assets.facets import FACETS
from regard.storage.assets.filters import passing_contents
from regard.storage.assets.overview import count_visible, read_overview
from regard.storage.assets.reading import SqlAssetReading
from regard.storage.assets.uploads import SqlUploads
from regard.storage.assets.vocabulary import SqlVocabulary, Vocabulary
from regard.storage.pipelines.states import read_pipelines
from regard.storage.retrieval.duplicates import SqlDuplicates
from regard.storage.retrieval.objects import SqlObjects

_ASSETS = 150
_DAY = datetime.datetime(2024, 5, 1)
_LATER = _DAY + datetime.timedelta(days=5)
_LATE = _DAY.replace(year=2030), 10
# Not the sizes, formats and parts of paths of photographs, which are looked up asset by asset, nor
# negations, which most assets pass.
_NARROW = {
    "dates": AssetFilter(taken_from=_DAY, taken_to=_LATER),
    "camera": AssetFilter(cameras=("Canon EOS 90",)),
    "tag": AssetFilter(tags=("rare",)),
    "external id": AssetFilter(external_ids=("one",)),
    "folder": AssetFilter(path_prefixes=(b"/p/3.jpg",)),
    "collection": AssetFilter(collections=("other",)),
    "custom field": AssetFilter(custom=(("shoot", 7),)),
    "box": AssetFilter(gps_box=GpsBox(1, 1, 2, 2)),
    "ids": AssetFilter(ids=(3, 5)),
    "stack": AssetFilter(stacks=(3,)),
    "circle": AssetFilter(gps_near=GpsCircle(1.5, 1.5, 5)),
    "lens": AssetFilter(lenses=("x",)),
    "country": AssetFilter(countries=("DE",)),
    "city": AssetFilter(cities=("Berlin",)),
    "album": AssetFilter(albums=(1,)),
    "rating": AssetFilter(min_rating=3),
    "duration": AssetFilter(min_duration=3),
    "any of two": AssetFilter(any_of=(AssetFilter(tags=("rare",)), AssetFilter(cameras=("x",)))),
    "nested": AssetFilter(also=(AssetFilter(tags=("rare",)),)),
    **{
        f"has {fact}": AssetFilter(has=(fact,))
        for fact in (
            *(Fact.GPS, Fact.LENS, Fact.TITLE, Fact.DESCRIPTION, Fact.RATING, Fact.TAG),
            *(Fact.STACK, Fact.VIDEO),
        )
    },
}


@pytest.fixture(scope="module", params=["fresh", "analysed"])
def filled(
    migrated_file: Path, tmp_path_factory: pytest.TempPathFactory, request: Any
) -> Iterator[Home]:
    """Assets, few with anything special; shared, because most tests only read."""
    folder = tmp_path_factory.mktemp("plans")
    shutil.copyfile(migrated_file, folder / "catalog.sqlite3")
    with open_home(f"sqlite:///{folder / 'catalog.sqlite3'}", folder) as home:
        with home.writing() as writer:
            for number in range(_ASSETS):
                save(writer, f"/p/{number}.jpg", str(number), regions=0, facts=_facts(number))
            save(writer, "/p/0.png", "png", regions=0, facts=_facts(0))
            writer.update_stacks()
        home.save("/q/1.jpg", "other", "other")
        SqlAssetEditing(home.catalog).trash([7, 8])
        if request.param == "analysed":
            with home.catalog.database.writing() as connection:
                connection.exec_driver_sql("ANALYZE")
        yield home


def _facts(number: int) -> PhotoFacts:
    facts = PhotoFacts(
        taken_at=_DAY + datetime.timedelta(days=number),
        camera_make="Canon",
        camera_model=f"EOS {number}",
        keywords=("common",) if number else ("rare",),
    )
    if number % 50:
        return facts
    return replace(
        facts, title="x", description="x", lens="x", rating=3, latitude=1.5, longitude=1.5
    )


@contextmanager
def plans(home: Home) -> Iterator[list[str]]:
    """The steps of the plans of all queries in the block, such as `SCAN asset`."""
    asked: list[tuple[str, Any]] = []
    steps: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, values: Any, *_: Any) -> None:
        if statement.lstrip().startswith(("SELECT", "WITH")):
            asked.append((statement, values))

    engine = home.catalog.database.engine
    event.listen(engine, "before_cursor_execute", note)
    try:
        yield steps
    finally:
        event.remove(engine, "before_cursor_execute", note)
    with home.catalog.database.reading() as connection:
        for statement, values in asked:
            rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)
            steps += [row.detail for row in rows]


def reads_all_assets(steps: list[str]) -> list[str]:
    """Steps that read the rows of all assets, or of all live ones."""
    return [
        step
        for step in steps
        if step == "SCAN asset"
        or "content_id>?" in step
        or (step.startswith("SCAN asset USING INDEX") and "ix_asset_live" in step)
    ]


@pytest.mark.parametrize("name", _NARROW)
def test_narrow_filters_read_no_asset_that_fails_them(filled: Home, name: str) -> None:
    with plans(filled) as steps, filled.catalog.database.reading() as connection:
        connection.execute(passing_contents(_NARROW[name])).all()
    assert steps
    assert not [step for step in steps if step.startswith("SCAN asset") and "ix_asset_live" in step]
    assert "SCAN asset" not in steps


@pytest.mark.parametrize("order", [AssetOrder.NEWEST, AssetOrder.OLDEST])
@pytest.mark.parametrize("after", [None, _LATE])
@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize(
    ("asset_filter", "visible", "state"),
    [
        (EVERYTHING, None, None),
        (EVERYTHING, ["other"], None),
        (EVERYTHING, ["other", "default"], None),
        (AssetFilter(collections=("other",)), None, None),
        (EVERYTHING, None, AssetState.TRASHED),
    ],
)
def test_pages_by_date_follow_an_index(
    filled: Home,
    order: AssetOrder,
    after: Any,
    asset_filter: AssetFilter,
    visible: list[str] | None,
    state: AssetState | None,
    folded: bool,
) -> None:
    reading = SqlAssetReading(filled.catalog)
    with plans(filled) as steps:
        reading.page(
            asset_filter, visible=visible, state=state, order=order, after=after, folded=folded
        )
    used = [step for step in steps if "ix_asset_" in step]
    assert used
    assert all("COVERING INDEX" in step for step in used)
    assert not reads_all_assets(steps)


def test_failed_assets_are_listed_from_their_own_index(filled: Home) -> None:
    with plans(filled) as steps:
        SqlAssetReading(filled.catalog).page(state=AssetState.FAILED)
    assert any("ix_asset_failed" in step for step in steps)
    assert not reads_all_assets(steps)


def _counts(home: Home) -> dict[str, Callable[[], Any]]:
    reading = SqlAssetReading(home.catalog)
    return {
        "facets": lambda: reading.facets(EVERYTHING, FACETS),
        "facets of a tag": lambda: reading.facets(AssetFilter(tags=("rare",)), FACETS),
        "months": reading.months,
        "folded facets": lambda: reading.facets(EVERYTHING, FACETS, folded=True),
        "folded months": lambda: reading.months(folded=True),
        "collections": SqlCollections(home.catalog).page,
        "overview": lambda: read_overview(home.catalog),
        "visible": lambda: count_visible(home.catalog, None),
        "pipelines": lambda: read_pipelines(home.catalog),
        "vocabulary": lambda: [SqlVocabulary(home.catalog).read(kind, list) for kind in Vocabulary],
        "managed": lambda: SqlUploads(home.catalog).needs(b"/store/x"),
        "uploads": lambda: SqlUploads(home.catalog).relocate_originals(lambda _: b""),
    }


@pytest.mark.parametrize(
    "name",
    [
        *("facets", "facets of a tag", "months", "collections", "folded facets", "folded months"),
        *("overview", "visible", "pipelines", "managed", "uploads", "vocabulary"),
    ],
)
def test_counts_read_no_row_of_all_assets(filled: Home, name: str) -> None:
    counted = _counts(filled)[name]
    with plans(filled) as steps:
        counted()
    assert steps
    assert not reads_all_assets(steps)
    # What analyses own is counted by `analysis`.
    owned = {"region", "caption", "embedding"}
    assert not [step for step in steps if owned.intersection(step.split()[1:2])]


@pytest.mark.parametrize("name", ["facets", "months", "collections", "visible"])
def test_counts_are_read_again_only_after_a_change(filled: Home, name: str) -> None:
    counted = _counts(filled)[name]
    before = counted()
    with plans(filled) as steps:
        assert counted() == before
    assert not any("asset" in step or "analysis" in step for step in steps)
    filled.save(f"/q/{name}.jpg", name, "other")
    assert counted() != before


def test_bursts_are_read_in_the_order_of_an_index(filled: Home) -> None:
    duplicates = SqlDuplicates(filled.catalog, filled.pipeline)
    with plans(filled) as steps:
        found = list(duplicates.exposures(EVERYTHING, 20))
    assert found
    assert any("ix_asset_camera" in step for step in steps)
    assert not any("TEMP B-TREE" in step for step in steps)


def test_what_waits_for_comparison_is_counted_by_indexes_and_groups_read_by_number(
    filled: Home,
) -> None:
    duplicates = SqlDuplicates(filled.catalog, filled.pipeline)
    objects = SqlObjects(filled.catalog, filled.pipeline)
    contents = objects.without_things(0, 1000)
    with plans(filled) as steps:
        assert objects.count_without_things() == len(contents) > 0
        assert objects.count_due() == 0
        assert list(objects.groups(EVERYTHING, 0)) == []
        assert duplicates.count_uncompared(IMAGE) == 0
    scans = [step for step in steps if step.startswith("SCAN")]
    # Once through all analyses or contents, and nothing else: what each needs is looked up.
    assert {step.split()[1] for step in scans} <= {"analysis", "content", "signature"}
    assert not any("TEMP B-TREE" in step for step in steps)


def test_writing_files_reads_no_other_asset_of_their_collection(filled: Home) -> None:
    with filled.writing() as writer:
        moved = next(iter(writer.known_assets(b"/p/11.jpg"))).id
        with plans(filled) as steps:
            save_all(writer, [(f"/p/new-{number}.jpg", f"new {number}", 0) for number in range(3)])
            attach(writer, "/p/copy.jpg", "5")
            attach(writer, "/p/moved.jpg", "11", moved_from=moved)
            writer.fail(stamp("/p/failed.jpg"), "unreadable")
    assert sum("(collection_id=? AND path=?)" in step for step in steps) >= 4
    assert not [step for step in steps if step.endswith("(collection_id=?)")]
    assert not reads_all_assets(steps)
