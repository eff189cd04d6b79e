"""What is on disk is one whole state of an index, which any process may read."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import threading
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from vector_oracle import (
    APPROXIMATE,
    STAND_IN,
    Implementation,
    Truth,
    as_rows,
    contents,
    identity,
    remove,
    step,
    unit_rows,
)

from regard.core.errors import IndexMismatch
from regard.core.records import Kind
from regard.storage.vectors.engine import Additions, IndexIdentity
from regard.storage.vectors.segments import lists as lists_module
from regard.storage.vectors.segments.index import SegmentedIndex
from regard.storage.vectors.segments.manifest import Manifest

NO_IDS = np.empty(0, np.int64)
D = 16


def test_nothing_there_is_an_empty_index(implementation: Implementation, tmp_path: Path) -> None:
    index = implementation.open(tmp_path / "absent" / "index")
    assert contents(index) == (0, [], b"")
    implementation.snapshot(index)
    assert contents(implementation.open(tmp_path / "absent" / "index")) == (0, [], b"")


def test_reopened_it_is_the_same(implementation: Implementation, saved: SegmentedIndex) -> None:
    again = implementation.open(saved.directory)
    assert contents(again) == contents(saved)
    assert {**again.stats(), "bytes": 0} == {**saved.stats(), "bytes": 0}
    truth = implementation.truth()
    truth.add(saved.ids(), saved.vectors(saved.ids()))
    truth.check_search(again, unit_rows(np.random.default_rng(0), 5), 30)


def test_reopened_it_goes_on(implementation: Implementation, saved: SegmentedIndex) -> None:
    for position in range(8, 24):
        step(saved, position)
        again = implementation.open(saved.directory)
        step(again, position)
        implementation.snapshot(again)
        assert contents(again) == contents(saved)


def test_segments_are_copied_to_the_devices_when_opened(saved: SegmentedIndex) -> None:
    opened = STAND_IN.open(saved.directory)
    assert opened.stats()["device_segments"] == opened.stats()["segments"]


def steps_of(truth: Truth, failing_at: int = -1) -> Iterator[Additions]:
    """Seven steps of 150 rows each, or of a row of length 2."""
    for number in range(7):
        ids = np.arange(150) + 200 * number + 1
        rows = unit_rows(np.random.default_rng(number), 150)
        truth.add(ids, rows)
        yield as_rows(ids, 2 * rows if number == failing_at else rows)


def test_an_empty_index_is_filled_step_by_step(
    implementation: Implementation, tmp_path: Path
) -> None:
    truth = implementation.truth()
    index = implementation.create(tmp_path / "index")
    index.fill(steps_of(truth), through=9)
    assert index.stats()["mapped_segments"] == index.stats()["segments"] == 3
    implementation.settle(index)
    for filled in (index, implementation.open(index.directory)):
        assert filled.applied_through == 9
        assert filled.damage() == []
        truth.check_contents(filled)
        truth.check_search(filled, unit_rows(np.random.default_rng(9), 5), 30)
    with pytest.raises(ValueError, match="up to 9"):
        index.fill([], through=10)
    step(index, 10)
    assert index.row_count == 7 * 150 + 47


def test_what_fails_while_it_is_filled_leaves_it_empty(
    implementation: Implementation, tmp_path: Path
) -> None:
    truth = implementation.truth()
    index = implementation.create(tmp_path / "index")
    with pytest.raises(ValueError, match="has norm"):
        index.fill(steps_of(truth, failing_at=5), through=9)
    assert contents(index) == contents(implementation.open(index.directory)) == (0, [], b"")
    index.fill(steps_of(truth), through=9)
    truth.check_contents(implementation.open(index.directory))


def test_only_the_files_of_the_manifest_stay(
    implementation: Implementation, saved: SegmentedIndex
) -> None:
    (saved.directory / "left.rows.aside").write_bytes(b"by a crash")
    (saved.directory / ("0" * 64 + ".rows")).write_bytes(b"by a crash")
    (saved.directory / "readme.txt").write_text("not ours")
    for position in range(8, 30):
        step(saved, position)
        implementation.snapshot(saved)
    manifest = Manifest.read(saved.directory)
    assert manifest is not None
    names = {path.name for path in saved.directory.iterdir()}
    assert names == manifest.file_names() | {"manifest.json", "lock", "readme.txt"}


def test_sealed_segments_are_written_once(
    implementation: Implementation, saved: SegmentedIndex
) -> None:
    before = {path.name: path.stat().st_ino for path in saved.directory.glob("*.rows")}
    again = implementation.open(saved.directory)
    again.apply(as_rows(NO_IDS, np.empty((0, D), np.float32)), again.ids()[:1], through=50)
    implementation.snapshot(again)
    after = {path.name: path.stat().st_ino for path in again.directory.glob("*.rows")}
    assert len(after) > 2
    assert after == before


def test_an_unchanged_index_writes_nothing(
    implementation: Implementation, saved: SegmentedIndex
) -> None:
    manifest = saved.directory / "manifest.json"
    before = manifest.stat().st_ino
    implementation.snapshot(saved)
    assert manifest.stat().st_ino == before


def test_the_format_is_as_documented(saved: SegmentedIndex) -> None:
    """Read the files by docs/storage.md alone."""
    document = json.loads((saved.directory / "manifest.json").read_text("utf-8"))
    checksum = document.pop("checksum")
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":"))
    assert hashlib.sha256(canonical.encode()).hexdigest() == checksum
    assert document["format"] == 4
    assert document["metric"] == "inner_product"
    assert document["applied_through"] == 7
    bitmaps = (saved.directory / f"{document['deleted']['sha256']}.deleted").read_bytes()
    truth: dict[int, bytes] = {}
    for entry in [*document["segments"], document["delta"]]:
        data = (saved.directory / f"{entry['sha256']}.rows").read_bytes()
        n, size = entry["rows"], 2 * -(-document["dimension"] // 8) * 8
        assert hashlib.sha256(data).hexdigest() == entry["sha256"]
        assert len(data) == n * (size + 3 * 8 + 4)
        deleted = bytes((n + 7) // 8)
        if entry is not document["delta"]:
            deleted, bitmaps = bitmaps[: len(deleted)], bitmaps[len(deleted) :]
        for row in range(n):
            vector = data[size * row :][:size]
            head = b"".join(data[size * n + 8 * (column * n + row) :][:8] for column in range(3))
            checksum = int.from_bytes(data[(size + 24) * n + 4 * row :][:4], "little")
            assert zlib.crc32(head + vector) == checksum
            if not deleted[row // 8] >> row % 8 & 1:
                truth[int.from_bytes(head[:8], "little", signed=True)] = vector
    assert not bitmaps
    assert sorted(truth) == saved.ids().tolist()
    assert b"".join(truth[key] for key in sorted(truth)) == saved.vectors(saved.ids()).tobytes()
    listed = [entry for entry in document["segments"] if entry["lists"]]
    assert len(listed) == saved.stats()["segments_with_lists"]
    assert (document["model"] is None) == (not listed)
    for entry in listed:
        assert_lists_are_as_documented(saved.directory, document["model"], entry)


def assert_lists_are_as_documented(
    directory: Path, model: dict[str, Any], entry: dict[str, Any]
) -> None:
    r, c, g, n = model["directions"], model["lists"], model["groups"], entry["rows"]
    data = (directory / f"{model['sha256']}.model").read_bytes()
    assert hashlib.sha256(data).hexdigest() == model["sha256"]
    groups = np.frombuffer(data, "<i8", g + 1)
    assert groups[[0, -1]].tolist() == [0, c]
    single = D * r + c * r + g * r
    bounds = np.frombuffer(data, "<f4", 2 * D, 8 * (g + 1) + 4 * single)
    least, span = bounds.reshape(2, D)
    start = 8 * (g + 1) + 4 * (single + 2 * D)
    means, variances = np.frombuffer(data, "<f2", 2 * c * D, start).reshape(2, c, D)
    assert len(data) == start + means.nbytes + variances.nbytes
    assert (variances >= 0).all()
    rows = (directory / f"{entry['sha256']}.rows").read_bytes()
    vectors = np.frombuffer(rows, "<f2", n * D).reshape(n, D).astype(np.float32)
    data = (directory / f"{entry['lists']}.lists").read_bytes()
    assert hashlib.sha256(data).hexdigest() == entry["lists"]
    starts, of_rows = np.frombuffer(data, "<i8", c + 1), np.frombuffer(data, "<i4", n, 8 * (c + 1))
    place, seen = 8 * (c + 1) + -(-4 * n // 8) * 8, []
    for number, m in enumerate(np.diff(starts)):
        codes = np.frombuffer(data, np.uint8, m * D, place).reshape(m, D)
        positions = np.frombuffer(data, "<i8", m, place + m * D)
        assert (of_rows[positions] == number).all()
        clipped = np.clip(vectors[positions], least, least + span)
        assert (np.abs(least + (codes + 0.5) / 255 * span - clipped) <= span / 255 + 1e-6).all()
        seen += positions.tolist()
        place += m * (D + 8)
    assert sorted(seen) == list(range(n))
    assert place == len(data)


@pytest.mark.parametrize(
    "changes",
    [
        {"catalog": "another"},
        {"pipeline": "0" * 64},
        {"space": "lite-visual"},
        {"kind": Kind.IMAGE},
        {"dimension": 8},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_an_index_of_something_else_is_refused(
    implementation: Implementation, saved: SegmentedIndex, changes: dict[str, Any]
) -> None:
    other: IndexIdentity = dataclasses.replace(identity(), **changes)
    with pytest.raises(IndexMismatch, match=next(iter(changes))) as caught:
        SegmentedIndex.open(other, saved.directory)
    assert caught.value.remedy == "run: regard rebuild"
    # A rebuilt index replaces it, and its former user then sees that it is no longer its own.
    SegmentedIndex(other, saved.directory).snapshot()
    assert SegmentedIndex.open(other, saved.directory).ids().tolist() == []
    step(saved, 8)
    with pytest.raises(IndexMismatch):
        implementation.snapshot(saved)


def test_a_snapshot_that_is_ahead_stays(
    implementation: Implementation, saved: SegmentedIndex
) -> None:
    behind, ahead = implementation.open(saved.directory), implementation.open(saved.directory)
    for position in range(8, 25):
        step(ahead, position)
    implementation.snapshot(ahead)
    step(behind, 8)
    implementation.snapshot(behind)
    assert contents(implementation.open(saved.directory)) == contents(ahead)
    # Once it has caught up, it writes again what the other's snapshot removed.
    for position in range(9, 30):
        step(behind, position)
    implementation.snapshot(behind)
    assert contents(implementation.open(saved.directory)) == contents(behind)


def test_lists_of_another_model_are_not_taken_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, other = APPROXIMATE.create(tmp_path), APPROXIMATE.create(tmp_path)
    for position in range(1, 8):
        step(first, position)
        step(other, position)
    APPROXIMATE.snapshot(first)
    monkeypatch.setattr(lists_module, "_ROUNDS", 1)
    APPROXIMATE.snapshot(other)
    remove(first, first.ids()[:1])
    first.snapshot()
    assert APPROXIMATE.open(tmp_path).stats()["segments_with_lists"] == 0
    APPROXIMATE.snapshot(first)
    again = APPROXIMATE.open(tmp_path)
    assert again.stats()["segments_with_lists"] > 1
    truth = APPROXIMATE.truth()
    truth.add(first.ids(), first.vectors(first.ids()))
    truth.check_search(again, unit_rows(np.random.default_rng(0), 40), 10)


def test_searches_and_changes_go_on_while_lists_are_trained(tmp_path: Path) -> None:
    index = APPROXIMATE.create(tmp_path)
    truth = APPROXIMATE.truth()
    ids = np.arange(1, 401)
    truth.add(ids, unit_rows(np.random.default_rng(0), len(ids)))
    index.apply(as_rows(ids, truth.vectors()), NO_IDS, through=1)
    queries = unit_rows(np.random.default_rng(1), 40)

    def sample() -> list[Any]:
        """Called in the middle of the snapshot."""
        with ThreadPoolExecutor(1) as other:
            other.submit(change).result()
        return [queries]

    def change() -> None:
        truth.check_search(index, queries, 10)
        step(index, 2)
        added = np.arange(2000, 2047)
        truth.add(added, index.vectors(added))
        truth.check_search(index, queries, 10)

    index.snapshot(sample)
    assert index.stats()["segments_with_lists"] > 0
    truth.check_search(index, queries, 10)
    # What came meanwhile is replayed.
    again = APPROXIMATE.open(tmp_path)
    assert again.applied_through == 1
    step(again, 2)
    truth.check_search(again, queries, 10)


def test_what_stops_while_lists_are_trained_leaves_the_former_snapshot(tmp_path: Path) -> None:
    index = APPROXIMATE.create(tmp_path)
    for position in range(1, 8):
        step(index, position)
    APPROXIMATE.snapshot(index)
    former = contents(index)
    for position in range(8, 60):
        step(index, position)

    def stop() -> list[Any]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        index.snapshot(stop)
    again = APPROXIMATE.open(tmp_path)
    assert contents(again) == former
    assert again.damage() == []
    # The same process tries again.
    now = contents(index)
    APPROXIMATE.snapshot(index)
    assert contents(APPROXIMATE.open(tmp_path)) == now


def test_a_reader_whose_files_are_removed_reads_anew(
    implementation: Implementation, saved: SegmentedIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    former = Manifest.read(saved.directory)
    for position in range(8, 25):
        step(saved, position)
    implementation.snapshot(saved)
    answers = [former]
    read = Manifest.read
    monkeypatch.setattr(
        Manifest, "read", lambda path: answers.pop() if answers else read(path), raising=True
    )
    assert contents(implementation.open(saved.directory)) == contents(saved)


def test_opening_while_another_writes(
    implementation: Implementation, saved: SegmentedIndex
) -> None:
    expected = {7: contents(saved)}
    done = threading.Event()
    failures: list[Exception] = []
    opened = 0

    def write() -> None:
        try:
            for position in range(8, 1000):
                step(saved, position)
                expected[position] = contents(saved)
                implementation.snapshot(saved)
                if position >= 33 and opened >= 4:
                    break
        except Exception as error:  # noqa: BLE001 - shown by the main thread
            failures.append(error)
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not done.is_set():
        found = contents(implementation.open(saved.directory))
        assert found == expected[found[0]]
        opened += 1
    writer.join()
    assert not failures, failures[0]
    assert opened >= 4
