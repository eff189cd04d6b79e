"""Snapshots: what is on disk is one whole state, whatever happened while it was written."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from vector_oracle import (
    APPROXIMATE,
    LISTED,
    MULTIPLYING,
    SMALL,
    STAND_IN,
    Implementation,
    Truth,
    add,
    as_rows,
    identity,
    remove,
    unit_rows,
)

from regard.core.errors import IndexMismatch
from regard.core.records import Kind
from regard.storage.files import durable as durable_files
from regard.storage.vectors import lists as lists_module
from regard.storage.vectors.index import SegmentedIndex
from regard.storage.vectors.manifest import IndexIdentity, Manifest

NO_IDS = np.empty(0, np.int64)
D = 16


def step(index: SegmentedIndex, position: int, rows: int = 47) -> None:
    """A step of the log that depends on its position alone: rows to add, some of the former to
    go."""
    rng = np.random.default_rng(position)
    ids = np.arange(position * 1000, position * 1000 + rows)
    gone = np.arange((position - 1) * 1000, (position - 1) * 1000 + rows, 7)
    index.apply(as_rows(ids, unit_rows(rng, rows)), gone, through=position)


def contents(index: SegmentedIndex) -> tuple[int, list[int], bytes]:
    ids = index.ids()
    return index.applied_through, ids.tolist(), index.vectors(ids).tobytes()


@pytest.fixture(params=[MULTIPLYING, APPROXIMATE], ids=["exact", "lists"])
def implementation(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Implementation:
    chosen: Implementation = request.param
    chosen.prepare(monkeypatch)
    return chosen


@pytest.fixture
def saved(implementation: Implementation, tmp_path: Path) -> SegmentedIndex:
    """An index with every kind of file: rows, a delta, tombstones, and lists if it has any."""
    index = implementation.create(tmp_path / "index")
    for position in range(1, 8):
        step(index, position)
    stats = index.stats()
    assert stats["segments"] > 1
    assert stats["tombstones"] > 0
    assert stats["delta_rows"] > 0
    implementation.snapshot(index)
    assert (index.stats()["segments_with_lists"] > 1) == implementation.has_lists
    return index


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


def rewritten(**changes: Any) -> Callable[[Path], None]:
    """Change the manifest's fields and mend its checksum."""

    def change(directory: Path) -> None:
        path = directory / "manifest.json"
        document = json.loads(path.read_text("utf-8"))
        del document["checksum"]
        document.update(changes)
        canonical = json.dumps(document, sort_keys=True, separators=(",", ":"))
        document["checksum"] = hashlib.sha256(canonical.encode()).hexdigest()
        path.write_text(json.dumps(document), "utf-8")

    return change


def changed(pattern: str, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def apply(directory: Path) -> None:
        path = sorted(directory.glob(pattern))[0]
        # Another file: the former one is still mapped, and may not become shorter.
        aside = path.with_name("aside")
        aside.write_bytes(change(path.read_bytes()))
        aside.replace(path)

    return apply


def flip(data: bytes) -> bytes:
    place = len(data) // 2
    return data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :]


DAMAGES = {
    "another format": rewritten(format=5),
    "another metric": rewritten(metric="l2"),
    "a missing field": rewritten(segments=None),
    "an unsafe name": rewritten(delta={"sha256": "../../secret", "rows": 1}),
    "manifest cut": changed("manifest.json", lambda data: data[:-40]),
    "manifest empty": changed("manifest.json", lambda _: b""),
    "manifest no text": changed("manifest.json", lambda _: b"\xff\xfe"),
    "manifest no object": changed("manifest.json", lambda _: b"[]"),
    "manifest digit": changed(
        "manifest.json",
        lambda data: data.replace(b'"applied_through": 7', b'"applied_through": 9'),
    ),
    "rows cut": changed("*.rows", lambda data: data[:-1]),
    "rows empty": changed("*.rows", lambda _: b""),
    "rows missing": lambda directory: sorted(directory.glob("*.rows"))[0].unlink(),
    "deleted cut": changed("*.deleted", lambda data: data[:-1]),
    "deleted bit": changed("*.deleted", flip),
    "deleted missing": lambda directory: next(directory.glob("*.deleted")).unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_damage_is_told_and_mended_by_rebuilding(
    implementation: Implementation, saved: SegmentedIndex, damage: Callable[[Path], None]
) -> None:
    damage(saved.directory)
    with pytest.raises(IndexMismatch) as caught:
        implementation.open(saved.directory)
    assert caught.value.remedy == "run: regard rebuild"
    assert str(saved.directory) in caught.value.message
    rebuilt = implementation.create(saved.directory)
    add(rebuilt, saved.ids(), saved.vectors(saved.ids()), through=7)
    implementation.snapshot(rebuilt)
    assert contents(implementation.open(saved.directory)) == contents(saved)


def assert_scores_are_right(index: SegmentedIndex, truth: Truth, queries: np.ndarray) -> None:
    """Check whole answers of an index some rows of which may be left out."""
    for k, exact in itertools.product((5, 60), (False, True)):
        scores, found = index.search(queries, k, exact=exact)[:2]
        right = np.array([[truth.rows[key] for key in row] for row in found.tolist()], np.float64)
        np.testing.assert_allclose(scores, np.einsum("qkd,qd->qk", right, queries), atol=2e-6)
        assert all(len(set(row)) == k for row in found.tolist())


@pytest.mark.parametrize("implementation", [APPROXIMATE], ids=["lists"], indirect=True)
def test_every_flipped_byte_is_told_and_gives_no_wrong_score(
    implementation: Implementation, saved: SegmentedIndex
) -> None:
    rng = np.random.default_rng(11)
    queries = unit_rows(rng, 3)
    truth = Truth()
    truth.add(saved.ids(), saved.vectors(saved.ids()))
    files = sorted(path for path in saved.directory.iterdir() if path.name != "lock")
    for path in rng.choice(np.array(files, object), 200):
        sound = path.read_bytes()
        # A change of several bits may turn a line break of JSON into a space.
        place, bits = rng.integers(len(sound)), int(rng.integers(1, 256))
        bits = 1 << bits % 8 if path.suffix == ".json" else bits
        aside = path.with_name("aside")
        aside.write_bytes(sound[:place] + bytes([sound[place] ^ bits]) + sound[place + 1 :])
        aside.replace(path)
        if path.suffix == ".json":
            with pytest.raises(IndexMismatch):
                saved.damaged_files()
        else:
            assert saved.damaged_files() == [path.name]
        try:
            opened = implementation.open(saved.directory)
        except IndexMismatch:
            opened = None
        if opened is not None:
            assert_scores_are_right(opened, truth, queries)
        aside.write_bytes(sound)
        aside.replace(path)


@pytest.mark.parametrize("byte", [0x00, 0x7C, 0xFF])
def test_damaged_rows_stay_out_of_merged_segments_and_of_training(
    implementation: Implementation, tmp_path: Path, byte: int
) -> None:
    """Bytes 7C make infinite numbers, and FF none."""
    index, truth = implementation.create(tmp_path), Truth()
    for position in range(1, 8):
        step(index, position)
    index.snapshot()
    truth.add(index.ids(), index.vectors(index.ids()))
    manifest = Manifest.read(tmp_path)
    assert manifest is not None
    for stored in manifest.segments:
        data = bytearray((tmp_path / f"{stored.sha256}.rows").read_bytes())
        data[100:300] = bytes([byte]) * 200
        (tmp_path / "aside").write_bytes(data)
        (tmp_path / "aside").replace(tmp_path / f"{stored.sha256}.rows")
    index = implementation.open(tmp_path)
    for position in range(8, 20):
        assert_scores_are_right(index, truth, unit_rows(np.random.default_rng(position), 6))
        implementation.snapshot(index)
        step(index, position)
        truth.add(index.ids(), index.vectors(index.ids()))
    implementation.snapshot(index)
    index = implementation.open(tmp_path)
    assert_scores_are_right(index, truth, unit_rows(np.random.default_rng(0), 1))


def test_rows_whose_ids_do_not_ascend_are_damage(
    implementation: Implementation, saved: SegmentedIndex
) -> None:
    manifest = Manifest.read(saved.directory)
    assert manifest is not None
    first = manifest.segments[0]
    data = (saved.directory / f"{first.sha256}.rows").read_bytes()
    ids = 2 * D * first.rows
    forged = data[:ids] + data[ids + 8 :][:8] + data[ids:][:8] + data[ids + 16 :]
    sha256 = hashlib.sha256(forged).hexdigest()
    (saved.directory / f"{sha256}.rows").write_bytes(forged)
    segments = (dataclasses.replace(first, sha256=sha256), *manifest.segments[1:])
    dataclasses.replace(manifest, segments=segments).write(saved.directory)
    with pytest.raises(IndexMismatch, match="ascending"):
        implementation.open(saved.directory)


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


class _Crash(BaseException):
    """The process ends here: nothing below may catch it."""


class FailingSystem:
    """Stands for `os`: carries out operations and stops for good before the n-th, or in its
    middle."""

    def __init__(self, stop_at: int) -> None:
        self.stop_at = stop_at
        self.log: list[tuple[str, str]] = []
        self._names: dict[int, str] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def _count(self, operation: str, name: str) -> bool:
        self.log.append((operation, name))
        if len(self.log) > self.stop_at:
            raise _Crash
        return len(self.log) == self.stop_at

    def open(self, path: Path, flags: int, mode: int = 0o777) -> int:
        self._count("open", Path(path).name)
        handle = os.open(path, flags, mode)
        self._names[handle] = Path(path).name
        return handle

    def write(self, handle: int, data: memoryview) -> int:
        if self._count("write", self._names[handle]):
            os.write(handle, data[: len(data) // 2])
            raise _Crash
        return os.write(handle, data)

    def fsync(self, handle: int) -> None:
        self._count("fsync", self._names[handle])
        os.fsync(handle)

    def replace(self, source: Path, target: Path) -> None:
        self._count("replace", target.name)
        os.replace(source, target)

    def unlink(self, path: Path) -> None:
        self._count("unlink", path.name)
        os.unlink(path)


def changed_copy(implementation: Implementation, saved: SegmentedIndex) -> SegmentedIndex:
    """The saved index, changed so that its next snapshot writes and removes every kind of file."""
    index = implementation.open(saved.directory)
    for position in range(8, 13):
        step(index, position)
    return index


def test_a_crash_anywhere_leaves_a_whole_snapshot(
    implementation: Implementation, saved: SegmentedIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = contents(saved)
    new = contents(changed_copy(implementation, saved))
    seen = []
    for stop_at in range(1, 200):
        index = changed_copy(implementation, saved)
        assert contents(index) == new
        monkeypatch.setattr(durable_files, "os", FailingSystem(stop_at))
        try:
            implementation.snapshot(index)
        except _Crash:
            monkeypatch.setattr(durable_files, "os", os)
        else:
            break
        found = contents(implementation.open(saved.directory))
        assert found in (old, new)
        seen.append(found)
        if found == new:
            # Back to the former contents for the next crash.
            rebuilt = implementation.create(saved.directory)
            add(rebuilt, saved.ids(), saved.vectors(saved.ids()), through=7)
            implementation.snapshot(rebuilt)
    assert len(seen) > 25
    assert old in seen
    assert new in seen
    assert contents(implementation.open(saved.directory)) == new


def test_a_crash_in_the_first_snapshot_leaves_nothing_or_all(
    implementation: Implementation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for stop_at in range(1, 200):
        directory = tmp_path / str(stop_at) / "index"
        index = implementation.create(directory)
        step(index, 1)
        monkeypatch.setattr(durable_files, "os", FailingSystem(stop_at))
        try:
            implementation.snapshot(index)
        except _Crash:
            monkeypatch.setattr(durable_files, "os", os)
            assert contents(implementation.open(directory)) in ((0, [], b""), contents(index))
            implementation.snapshot(index)
            assert contents(implementation.open(directory)) == contents(index)
        else:
            assert stop_at > 10
            return
    pytest.fail("the snapshot never came to an end")


def test_what_a_power_cut_may_lose_is_never_relied_on(
    implementation: Implementation, saved: SegmentedIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Contents are synced before their name, names before the manifest, it before what it
    replaces."""
    index = changed_copy(implementation, saved)
    system = FailingSystem(10_000)
    monkeypatch.setattr(durable_files, "os", system)
    implementation.snapshot(index)
    log = system.log
    replaced = [name for operation, name in log if operation == "replace"]
    assert replaced[-1] == "manifest.json"
    assert len(replaced) > 3
    for at, (operation, name) in enumerate(log):
        if operation == "replace":
            aside = (name if name == "manifest.json" else "new" + Path(name).suffix) + ".aside"
            before = [entry for entry in log[:at] if entry[1] == aside]
            assert before[-2:] == [("write", aside), ("fsync", aside)]
    directory_syncs = [i for i, entry in enumerate(log) if entry == ("fsync", "index")]
    last_data = log.index(("replace", replaced[-2]))
    manifest_opened = log.index(("open", "manifest.json.aside"))
    assert any(last_data < i < manifest_opened for i in directory_syncs)
    manifest_replaced = log.index(("replace", "manifest.json"))
    # What is there already is not written again.
    first_unlink = min(
        i for i, (operation, name) in enumerate(log) if operation == "unlink" and name[:3] != "new"
    )
    assert any(manifest_replaced < i < first_unlink for i in directory_syncs)


def test_a_full_disk_leaves_the_former_snapshot(
    implementation: Implementation, saved: SegmentedIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = changed_copy(implementation, saved)

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(durable_files.os, "write", full)
    with pytest.raises(OSError, match="No space"):
        implementation.snapshot(index)
    monkeypatch.undo()
    assert contents(implementation.open(saved.directory)) == contents(saved)
    implementation.snapshot(index)
    assert contents(implementation.open(saved.directory)) == contents(index)


WRITER = """
import sys
from pathlib import Path
sys.path[:0] = [sys.argv[2], str(Path(sys.argv[2]).parent)]
from test_vector_snapshots import step
from vector_oracle import APPROXIMATE
index = APPROXIMATE.open(Path(sys.argv[1]))
print("ready", flush=True)
for position in range(index.applied_through + 1, 100_000):
    step(index, position)
    APPROXIMATE.snapshot(index)
"""


def test_a_killed_writer_leaves_a_whole_snapshot(tmp_path: Path) -> None:
    expected = APPROXIMATE.create(tmp_path / "expected")
    reached = 0
    # The last ones only where the machine was so slow that nothing was written.
    for delay in (0.05, 0.21, 0.13, 1.0, 5.0, 20.0):
        if delay >= 1 and reached:
            break
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path / "index"), str(Path(__file__).parent)],
            stdout=subprocess.PIPE,
        )
        with writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"ready\n"
            threading.Event().wait(delay)
            writer.send_signal(signal.SIGKILL)
        found = APPROXIMATE.open(tmp_path / "index")
        assert found.applied_through >= reached
        for position in range(reached + 1, found.applied_through + 1):
            step(expected, position)
        reached = found.applied_through
        assert contents(found) == contents(expected)
    assert reached > 0


MERGING = dataclasses.replace(SMALL, merged_rows=4000)


def segments_to_merge(directory: Path, truth: Truth, count: int) -> SegmentedIndex:
    """An index with segments of 250 rows each, whose ids alternate."""
    index = LISTED.create(directory, limits=MERGING)
    for number in range(count):
        ids = np.arange(250) * count + number + 1
        rows = unit_rows(np.random.default_rng(number), 250)
        truth.add(ids, rows)
        index.apply(as_rows(ids, rows), NO_IDS, through=index.applied_through + 1)
    return index


def test_similar_segments_are_merged_on_disk(tmp_path: Path) -> None:
    truth = Truth()
    index = segments_to_merge(tmp_path / "index", truth, 4)
    assert index.stats()["segments"] == 4
    index.snapshot()
    assert index.stats()["segments"] == 4
    gone = np.arange(1, 1000, 9)
    truth.remove(gone)
    index.apply(as_rows(NO_IDS, np.empty((0, D), np.float32)), gone, through=9)
    LISTED.snapshot(index)
    for merged in (index, LISTED.open(index.directory)):
        assert merged.stats()["segments"] == 1
        assert merged.stats()["tombstones"] == 0
        assert merged.damaged_files() == []
        truth.check_contents(merged)
        truth.check_search(merged, unit_rows(np.random.default_rng(9), 5), 30)
    # A large segment with many deleted rows is written again alone.
    gone = truth.ids()[::3]
    truth.remove(gone)
    index.apply(as_rows(NO_IDS, np.empty((0, D), np.float32)), gone, through=10)
    assert index.stats()["tombstones"] == len(gone)
    LISTED.snapshot(index)
    assert index.stats()["tombstones"] == 0
    truth.check_contents(index)
    truth.check_contents(LISTED.open(index.directory))


def test_changes_while_segments_are_merged_remain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    LISTED.prepare(monkeypatch)
    truth = Truth()
    index = segments_to_merge(tmp_path / "index", truth, 4)
    late = 5000 + np.arange(80)

    def change() -> list[np.ndarray]:
        gone = np.arange(2, 1000, 5)
        truth.remove(gone)
        rows = unit_rows(np.random.default_rng(20), len(late))
        truth.add(late, rows)
        index.apply(as_rows(late, rows), gone, through=20)
        return [unit_rows(np.random.default_rng(21), 50)]

    index.snapshot(change)
    assert index.stats()["segments"] < 4
    truth.check_contents(index)
    truth.check_search(index, unit_rows(np.random.default_rng(22), 5), 30)
    index.snapshot()
    truth.check_contents(LISTED.open(index.directory))
