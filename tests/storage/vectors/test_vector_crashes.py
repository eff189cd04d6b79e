"""An index on disk is whole, whatever ended its writer."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from made_processes import Forked
from vector_oracle import (
    APPROXIMATE,
    Implementation,
    add,
    contents,
    step,
)

from regard.storage.files import durable as durable_files
from regard.storage.vectors.segments.index import SegmentedIndex


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
from vector_oracle import APPROXIMATE, step
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
        writer = Forked(
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
