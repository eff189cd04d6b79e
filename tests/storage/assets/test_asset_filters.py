"""Filters of assets as SQL, on both databases, against the same conditions in plain Python.

And what search makes of them: exactly the embeddings whose content has an asset that passes.
"""

from __future__ import annotations

import datetime
import math
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pytest
from catalog_samples import (
    IMAGE,
    REGION,
    D,
    Home,
    analysis,
    header,
    on_sqlite,
    stamp,
    unit,
)
from filter_oracle import (
    DAY,
    DIVIDING_PARTS,
    FILTERS,
    SINGLE,
    Made,
    full_name,
    made_assets,
    nfc,
    should_pass,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, insert, select, update

from regard.core.catalog import AnalysedFile, ChannelQuery, ContentHeader
from regard.core.errors import NotFound, UsageError
from regard.core.facts import PhotoFacts
from regard.core.filters import (
    EVERYTHING,
    AssetFilter,
    Fact,
    GpsBox,
    GpsCircle,
    Orientation,
    PathPart,
)
from regard.core.idset import IdSet
from regard.core.records import (
    Float32Array,
    QueryKind,
    Routes,
    Target,
    WeightedChannel,
)
from regard.core.relevance import Calibrations
from regard.core.words import folded
from regard.search.answers import Scope, TextQuery
from regard.search.engine import SearchEngine
from regard.storage.assets.filters import passes, stored_field
from regard.storage.assets.rows import path_columns
from regard.storage.database import schema
from regard.storage.database.change_log import moment, record_changes
from regard.storage.retrieval.passing_contents import PassingContents


class Filled:
    """A catalog with the made assets."""

    def __init__(self, home: Home, assets: list[Made]) -> None:
        self.home = home
        self.assets: dict[int, Made] = {}
        self.passing = PassingContents()
        with home.writing("one") as writer:
            for made in {asset.content: asset for asset in assets}.values():
                name = f"content {made.content}"
                content = ContentHeader(
                    *(header(name).sha256, "jpeg", *made.size),
                    duration_ms=made.duration_ms,
                )
                path = f"/placeholder/{made.content}"
                regions = analysis(name, made.content % 3)
                writer.save([AnalysedFile(stamp(path), content, PhotoFacts(), regions)])
        with home.catalog.database.writing() as connection:
            placeholders = list(connection.execute(select(schema.asset.c.id)).scalars())
            for name in ("two", "empty"):
                connection.execute(insert(schema.collection).values(name=name))
            for made in assets:
                self.assets[_insert(connection, made)] = made
            connection.execute(schema.asset.delete().where(schema.asset.c.id.in_(placeholders)))
            record_changes(connection, [], [])
        self.content_of = {row.id: row.content_id for row in home.rows(schema.asset)}
        self.contents = {row.id for row in home.rows(schema.content)}
        self.regions_of = Counter(row.content_id for row in home.rows(schema.region))

    def passing_ids(self, chosen: AssetFilter) -> set[int]:
        statement = (
            select(schema.asset.c.id)
            .join_from(
                schema.asset, schema.content, schema.content.c.id == schema.asset.c.content_id
            )
            .where(passes(chosen))
        )
        with self.home.catalog.database.reading() as connection:
            return set(connection.execute(statement).scalars())

    def expected_ids(self, chosen: AssetFilter) -> set[int]:
        return {number for number, made in self.assets.items() if should_pass(made, chosen)}

    def allowed(self, chosen: AssetFilter) -> IdSet | None:
        with self.home.catalog.database.reading() as connection:
            version = moment(connection).assets
            cached = self.passing.cached(chosen, version)
            return cached[0] if cached else self.passing.read(connection, chosen, version)

    def expected_contents(self, chosen: AssetFilter) -> set[int]:
        return {self.content_of[number] for number in self.expected_ids(chosen)}

    def let_through(self, allowed: IdSet | None) -> set[int]:
        return {n for n in self.contents if allowed is None or n in allowed}


def _insert(connection: Connection, made: Made) -> int:
    collection, content = schema.collection.c, schema.content.c
    sha256 = header(f"content {made.content}").sha256
    number = connection.execute(
        insert(schema.asset)
        .values(
            collection_id=select(collection.id)
            .where(collection.name == made.collection)
            .scalar_subquery(),
            **path_columns(made.path),
            content_id=None
            if made.failed
            else select(content.id).where(content.sha256 == sha256).scalar_subquery(),
            failure="it is damaged" if made.failed else None,
            size=1,
            mtime_ns=1,
            capture="{}",
            taken_at=made.taken_at,
            taken_precision=None if made.taken_at is None else made.precision,
            camera_make=made.camera[0],
            camera_model=made.camera[1],
            latitude=made.place[0],
            longitude=made.place[1],
            title=made.title,
            edited_title=made.edited_title,
            rating=made.rating,
            lens=made.lens,
            description=made.description,
            managed=made.upload is not None or None,
            file_name=made.upload,
            external_id=made.external_id,
            country=made.country,
            city=made.city,
            city_folded=None if made.city is None else folded(made.city),
            deleted_at=DAY if made.trashed else None,
        )
        .returning(schema.asset.c.id)
    ).scalar_one()
    for tag in set(map(nfc, made.tags)):
        connection.execute(insert(schema.asset_tag).values(asset_id=number, tag=tag))
    for name, value in made.custom.items():
        connection.execute(
            insert(schema.asset_field).values(asset_id=number, name=name, value=stored_field(value))
        )
    return int(number)


@pytest.fixture
def filled(home: Home) -> Filled:
    return Filled(home, made_assets(random.Random(1)))


quick = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@quick
@given(chosen=SINGLE | FILTERS)
def test_a_filter_passes_exactly_the_assets_and_embeddings_that_the_oracle_does(
    filled: Filled, chosen: AssetFilter
) -> None:
    assert filled.passing_ids(chosen) == filled.expected_ids(chosen)
    assert filled.let_through(filled.allowed(chosen)) == filled.expected_contents(chosen)


def test_every_condition_divides_the_assets(filled: Filled) -> None:
    """The property above would hold of conditions that let all or nothing through, too."""
    for chosen in (
        AssetFilter(collections=("one",)),
        AssetFilter(taken_from=DAY),
        AssetFilter(taken_to=DAY),
        AssetFilter(cameras=("canon EOS 5d",)),
        AssetFilter(cameras=("nikon d90",)),
        AssetFilter(gps_box=GpsBox(179, -20, -179, 0)),
        AssetFilter(gps_box=GpsBox(-180, -90, -179, 90)),
        AssetFilter(gps_near=GpsCircle(-17, 179.9, 50)),
        # The whole earth, its other side included.
        AssetFilter(gps_near=GpsCircle(52.5, 13.4, 20_050)),
        AssetFilter(min_width=31),
        AssetFilter(max_height=30),
        AssetFilter(orientation=Orientation.SQUARE),
        AssetFilter(tags=("red", "Red")),
        AssetFilter(without_tags=("50%",)),
        AssetFilter(custom=(("k", True),)),
        AssetFilter(custom=(("k", 1.0),)),
        AssetFilter(external_ids=("x", "é", "7", "50%")),
        AssetFilter(path_prefixes=(b"/p/a",)),
        *(AssetFilter(has=(fact,)) for fact in Fact if fact is not Fact.STACK),
        *(AssetFilter(path_parts=(part,)) for part in DIVIDING_PARTS),
        AssetFilter(without=(AssetFilter(taken_from=DAY),)),
        AssetFilter(without=(AssetFilter(gps_near=GpsCircle(52.5, 13.4, 50)),)),
        AssetFilter(also=(AssetFilter(cameras=("D90",)), AssetFilter(tags=("red",)))),
        AssetFilter(without=(AssetFilter(cameras=("D90",), tags=("red",)),)),
        AssetFilter(without=(AssetFilter(collections=("one",)), AssetFilter(tags=("red",)))),
    ):
        passed = filled.passing_ids(chosen)
        assert passed == filled.expected_ids(chosen)
        assert 0 < len(passed) < len(filled.passing_ids(EVERYTHING)), chosen
    assert 0 < len(filled.passing_ids(EVERYTHING)) < len(filled.assets)
    statement = select(schema.asset.c.id, schema.asset.c.camera)
    with filled.home.catalog.database.reading() as connection:
        names = {row.id: row.camera for row in connection.execute(statement)}
    assert names == {number: full_name(made.camera) for number, made in filled.assets.items()}


@on_sqlite
@pytest.mark.parametrize("share", [0.0, 0.1, 0.9, 1.0])
def test_the_trash_filters_nothing_while_it_is_empty(home: Home, share: float) -> None:
    rng = random.Random(8)
    filled = Filled(home, [replace(made, trashed=False, failed=False) for made in made_assets(rng)])
    assert filled.allowed(EVERYTHING) is None
    chosen = sorted(filled.assets)[: round(share * len(filled.assets))]
    with home.catalog.database.writing() as connection:
        trashed = update(schema.asset).values(deleted_at=DAY)
        connection.execute(trashed.where(schema.asset.c.id.in_(chosen)))
        record_changes(connection, [], [])
    for number in chosen:
        filled.assets[number] = replace(filled.assets[number], trashed=True)
    allowed = filled.allowed(EVERYTHING)
    assert filled.let_through(allowed) == filled.expected_contents(EVERYTHING)
    assert (allowed is None) == (share == 0.0)


@on_sqlite
def test_a_cached_filter_holds_until_assets_change(filled: Filled) -> None:
    chosen = AssetFilter(tags=("red",))
    before = filled.allowed(chosen)
    assert filled.allowed(replace(chosen)) is before
    # More filters than are kept push it out.
    for width in range(100):
        filled.allowed(AssetFilter(min_width=width))
    assert len(filled.passing._cache) < 100
    assert filled.allowed(chosen) is not before
    number, made = next((n, m) for n, m in filled.assets.items() if should_pass(m, chosen))
    with filled.home.catalog.database.writing() as connection:
        connection.execute(
            schema.asset_tag.delete().where(
                schema.asset_tag.c.asset_id == number, schema.asset_tag.c.tag == "red"
            )
        )
        record_changes(connection, [], [])
    filled.assets[number] = replace(made, tags=made.tags - {"red"})
    allowed = filled.allowed(chosen)
    assert allowed is not None
    assert filled.let_through(allowed) == filled.expected_contents(chosen)


@on_sqlite
@quick
@given(
    chosen=SINGLE | FILTERS,
    target=st.sampled_from(list(Target)),
    limit=st.integers(1, 40),
    offset=st.integers(0, 5),
)
def test_search_gives_as_many_hits_as_pass(
    filled: Filled, chosen: AssetFilter, target: Target, limit: int, offset: int
) -> None:
    home = filled.home
    engine = SearchEngine(OneSpace(), home.searching(), home.indexes())  # type: ignore[arg-type]
    hits = engine.search(TextQuery("red"), Scope(target, limit, chosen, offset)).hits
    expected = filled.expected_ids(chosen)
    if target is Target.IMAGE:
        there = len(expected)
    else:
        there = sum(filled.regions_of[filled.content_of[number]] for number in expected)
    assert len(hits) == max(0, min(limit, there - offset))
    assert {hit.asset.id for hit in hits} <= expected
    assert [hit.rank for hit in hits] == list(range(offset + 1, offset + 1 + len(hits)))


@on_sqlite
def test_unknown_collections_are_named(filled: Filled) -> None:
    indexes = filled.home.indexes()
    asked = [ChannelQuery(IMAGE, np.zeros((1, D), np.float32), 3)]
    assert (indexes.search(asked, AssetFilter(collections=("empty",)))[0][1] == -1).all()
    assert (indexes.search(asked, AssetFilter(collections=()))[0][1] == -1).all()
    with pytest.raises(NotFound, match="no collection is named x") as caught:
        indexes.search(asked, AssetFilter(collections=("one", "x")))
    assert caught.value.remedy == "the collections are: empty, one, two"
    for inner in (
        AssetFilter(also=(AssetFilter(without=(AssetFilter(collections=("x",)),)),)),
        AssetFilter(collections=("one",), without=(AssetFilter(collections=("x",)),)),
    ):
        with pytest.raises(NotFound, match="no collection is named x"):
            indexes.search(asked, inner)


def test_filters_are_equal_when_they_mean_the_same() -> None:
    """They are keys of what is kept: Python takes 1 for True, a filter must not."""
    one, truth = AssetFilter(custom=(("k", 1),)), AssetFilter(custom=(("k", True),))
    assert one != truth
    assert one == AssetFilter(custom=(("k", 1.0),))
    assert len({one, truth, AssetFilter(custom=(("k", 1.0),)), EVERYTHING}) == 3
    assert EVERYTHING.is_everything
    assert not AssetFilter(collections=()).is_everything
    assert not truth.is_everything


@pytest.mark.parametrize(
    "wrong",
    [
        {"tags": ("a\0",)},
        {"without_tags": ("\ud800",)},
        {"cameras": ("\udfff",)},
        {"external_ids": ("a\0",)},
        {"collections": ("\0",)},
        {"custom": (("\0", 1),)},
        {"custom": (("k", "\ud800"),)},
        {"custom": (("k", math.nan),)},
        {"custom": (("k", math.inf),)},
        {"min_width": -1},
        {"max_height": 2**31},
        {"path_prefixes": (b"",)},
        {"taken_from": DAY.replace(tzinfo=datetime.UTC)},
    ],
)
def test_values_that_no_asset_could_have(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        AssetFilter(**wrong)


@pytest.mark.parametrize(
    "wrong", [{"part": b""}, {"part": b"//"}, {"part": b"a\0"}, {"part": b"a", "below": (b"",)}]
)
def test_parts_of_paths_that_no_path_has(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        PathPart(**wrong)


class OneSpace:
    """A profile that answers text in the samples' space."""

    routes: ClassVar[Routes] = {
        (QueryKind.TEXT, Target.IMAGE): (WeightedChannel(IMAGE), WeightedChannel(REGION)),
        (QueryKind.TEXT, Target.REGION): (WeightedChannel(REGION),),
    }
    calibrations: ClassVar[Calibrations] = {}

    def encoder(self, _space: str) -> OneSpace:
        return self

    def components(self, _space: str, rows: Float32Array) -> Float32Array:
        return rows

    def knows(self, word: str) -> bool:
        return True

    def encode_texts(self, texts: Sequence[str]) -> Float32Array:
        return np.stack([unit(text) for text in texts])
