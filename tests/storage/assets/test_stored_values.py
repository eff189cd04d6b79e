"""What the catalog stores comes back: facts, stamps, paths, masks and vectors."""

from __future__ import annotations

import dataclasses
import json
import math
import zlib
from contextlib import nullcontext
from datetime import datetime
from typing import Any

import numpy as np
import pytest
from catalog_samples import (
    IMAGE,
    D,
    Home,
    analysis,
    header,
    save,
    stamp,
    unit,
)
from sqlalchemy import select

from regard.core.catalog import AnalysedFile, FileStamp
from regard.core.errors import UnstorableValue
from regard.core.facts import Capture, PhotoFacts
from regard.core.filters import EVERYTHING
from regard.core.geometry import Box
from regard.core.records import Analysis, Embedding, Kind, Region
from regard.photos.masks import encode_mask, mask_from_box
from regard.storage.database import schema

FACTS = PhotoFacts(
    taken_at=datetime(2024, 2, 29, 23, 59, 59, 123456),
    utc_offset_minutes=-570,
    camera_make="Ünïcode 🎞",
    camera_model="M",
    lens="50mm ƒ/1.8",
    latitude=-41.123456789012,
    longitude=179.999999999999,
    title="líne\nfeed\tand tab",
    description="説明 " * 4000,
    keywords=("zebra", "Äpfel", "zebra crossing", "k" * 256),
    rating=-1,
    capture=Capture(1 / 8000, 1.8, 102_400, 50.0, -12.5),
)


def stored_facts(home: Home, path: bytes) -> PhotoFacts:
    with home.catalog.database.reading() as connection:
        row = connection.execute(select(schema.asset).where(schema.asset.c.path == path)).one()
        keywords = connection.execute(
            select(schema.asset_keyword.c.keyword)
            .where(schema.asset_keyword.c.asset_id == row.id)
            .order_by(schema.asset_keyword.c.position)
        ).scalars()
        names = {field.name for field in dataclasses.fields(PhotoFacts)} - {"keywords", "capture"}
        return PhotoFacts(
            **{name: getattr(row, name) for name in names},
            keywords=tuple(keywords),
            capture=Capture(**json.loads(row.capture)),
        )


def test_facts_round_trip(home: Home) -> None:
    with home.writing() as writer:
        save(writer, "/p/a.jpg", "a", facts=FACTS)
        assert stored_facts(home, b"/p/a.jpg") == FACTS
        fewer = dataclasses.replace(FACTS, keywords=("one",), taken_at=datetime(1, 1, 1))
        writer.attach(stamp("/p/a.jpg"), header("a").sha256, fewer)
        assert stored_facts(home, b"/p/a.jpg") == fewer
        writer.attach(stamp("/p/a.jpg"), header("a").sha256, PhotoFacts())
        assert stored_facts(home, b"/p/a.jpg") == PhotoFacts()
        writer.attach(stamp("/p/a.jpg"), header("a").sha256, FACTS)
        writer.fail(stamp("/p/a.jpg"), "it is damaged")
        assert stored_facts(home, b"/p/a.jpg") == PhotoFacts()
    assert home.rows(schema.asset_keyword) == []


@pytest.mark.parametrize(
    ("facts", "stored"),
    [
        (PhotoFacts(title="a\0b", lens="\ud83c"), PhotoFacts(title="a\ufffdb", lens="?")),
        (PhotoFacts(keywords=("a\0", "a\ufffd")), PhotoFacts(keywords=("a\ufffd",))),
        (PhotoFacts(latitude=math.nan, longitude=1.0), PhotoFacts()),
        (PhotoFacts(rating=2**15, utc_offset_minutes=-(2**31)), PhotoFacts()),
        (PhotoFacts(rating=-(2**80), utc_offset_minutes=2**80), PhotoFacts()),
        (
            PhotoFacts(capture=Capture(math.inf, math.nan, 2**63, -math.inf, 1e308)),
            PhotoFacts(capture=Capture(altitude_m=1e308)),
        ),
        (PhotoFacts(taken_at=datetime.max), PhotoFacts(taken_at=datetime.max)),
        (PhotoFacts(taken_at=datetime.min), PhotoFacts(taken_at=datetime.min)),
    ],
)
def test_facts_that_a_database_refuses_are_left_out(
    home: Home, facts: PhotoFacts, stored: PhotoFacts
) -> None:
    with home.writing() as writer:
        save(writer, "/p/a.jpg", "a", facts=facts)
    assert stored_facts(home, b"/p/a.jpg") == stored


@pytest.mark.parametrize(
    "change", [{"width": 2**80}, {"height": 2**63}, {"format": "a\ud800"}, {"format": "\udcff"}]
)
def test_an_unstorable_value_is_an_error_of_its_photograph(
    home: Home, change: dict[str, Any]
) -> None:
    bad = dataclasses.replace(header("b"), **change)
    with home.writing() as writer:
        save(writer, "/p/a.jpg", "a")
        before = home.counts()
        with pytest.raises(UnstorableValue, match="can't store"):
            writer.save([AnalysedFile(stamp("/p/b.jpg"), bad, PhotoFacts(), analysis("b"))])
        assert home.counts() == before
        save(writer, "/p/c.jpg", "c")
    assert home.findings() == []


def test_a_path_too_long_for_an_index_is_an_error_of_its_photograph(
    home: Home, backend: str
) -> None:
    path = b"/p/" + np.random.default_rng(1).bytes(6000).replace(b"\0", b"1")
    refused = pytest.raises(UnstorableValue, match="index row size")
    with home.writing() as writer, refused if backend == "postgresql" else nullcontext():
        writer.fail(stamp(path), "it is damaged")


def test_stamps_round_trip_and_are_clamped_to_64_bits(home: Home) -> None:
    stamps = [
        FileStamp(b"/p/1", 0, -1),
        FileStamp(b"/p/2", 2**62, 2**62, "size=1 mtime=2"),
        FileStamp(b"/p/3", 2**80, 2**80),
        FileStamp(b"/p/4", 1, -(2**80)),
    ]
    assert (stamps[2].size, stamps[2].mtime_ns) == (2**63 - 1, 2**63 - 1)
    with home.writing() as writer:
        for index, wanted in enumerate(stamps):
            writer.save(
                [AnalysedFile(wanted, header(str(index)), PhotoFacts(), analysis(str(index)))]
            )
        assert [asset.stamp for asset in writer.known_assets(b"/")] == stamps


def test_paths_keep_their_bytes(home: Home) -> None:
    path = b"/p/caf\xe9 50%\\_/\xff\xfe\n\xc3\xa9.jpg"
    with home.writing() as writer:
        save(writer, path, "a")
        (asset,) = writer.known_assets(b"/p/caf\xe9 50%\\_")
        assert asset.stamp.path == path
    (content,) = home.rows(schema.content)
    ((view,),) = home.searching().hit_records([content.id], [], EVERYTHING).assets.values()
    assert view.path == path
    assert view.uri == "/p/caf%E9 50%\\_/%FF%FE\né.jpg"


def test_masks_are_coco_counts_compressed_where_that_is_shorter(home: Home) -> None:
    pixels = np.random.default_rng(1).random((30, 40)) < 0.5
    long = encode_mask(pixels | (np.arange(40) < 20))
    short = mask_from_box(30, 40, Box(1, 1, 3, 4))
    regions = tuple(
        Region(Box(0, 0, 40, 30), mask, 1, score) for mask, score in ((long, 0.9), (short, 0.8))
    )
    with home.writing() as writer:
        made = Analysis(regions, (), (Embedding(IMAGE.space, Kind.IMAGE, unit("a")),))
        writer.save([AnalysedFile(stamp("/p/a.jpg"), header("a"), PhotoFacts(), made)])
    with home.catalog.database.reading() as connection:
        stored = connection.exec_driver_sql("SELECT mask FROM region ORDER BY id").scalars()
        first, second = (bytes(mask) for mask in stored)
    assert len(first) < len(long.counts)
    assert zlib.decompress(first) == long.counts
    assert second == short.counts
    assert [row.mask for row in home.rows(schema.region)] == [long.counts, short.counts]


def test_vectors_are_little_endian_float16(home: Home) -> None:
    home.save("/p/a.jpg", "a", regions=0)
    wanted = unit(("a", "image")).astype("<f2")
    stored = {row.vector for row in home.vectors()}
    assert wanted.tobytes() in stored
    assert {len(vector) for vector in stored} == {2 * D}
    # One number spelt out: 1.0 is 0x3C00, low byte first.
    with home.writing() as writer:
        vector = np.zeros(D, dtype=np.float32)
        vector[0] = 1.0
        made = Analysis((), (), (Embedding(IMAGE.space, Kind.IMAGE, vector),))
        writer.save([AnalysedFile(stamp("/p/b.jpg"), header("b"), PhotoFacts(), made)])
    assert b"\x00\x3c" + b"\0" * (2 * D - 2) in {row.vector for row in home.vectors()}
