from __future__ import annotations

import contextlib
import hashlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from made_processes import Forked

from regard.core.catalog import FileStamp
from regard.core.errors import (
    CannotWork,
    HomeError,
    OriginalChanged,
    OriginalGone,
    OutsideRoots,
)
from regard.storage.files.originals import Originals, StoredOriginal, open_original

DATA = b"\xff\xd8\xff" + bytes(range(256)) * 100
SHA = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def originals(tmp_path: Path) -> Originals:
    return Originals(tmp_path / "home" / "originals")


def store(originals: Originals, data: bytes = DATA) -> StoredOriginal:
    with originals.incoming() as incoming:
        for start in range(0, len(data), 1000):
            incoming.write(data[start : start + 1000])
        return incoming.keep()


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_file_lies_under_the_hash_of_its_bytes(originals: Originals, tmp_path: Path) -> None:
    stored = store(originals)
    path = Path(os.fsdecode(stored.path))
    assert path == tmp_path / "home" / "originals" / SHA[:2] / SHA[2:4] / SHA
    assert path.read_bytes() == DATA
    assert (stored.sha256, stored.size, stored.was_there) == (SHA, len(DATA), False)
    assert stored.mtime_ns == path.stat().st_mtime_ns
    assert stored.path == originals.path_of(SHA)
    assert originals.holds(stored.path)
    assert files(tmp_path) == [f"home/originals/{SHA[:2]}/{SHA[2:4]}/{SHA}"]


def test_only_the_owner_may_see_it(originals: Originals, tmp_path: Path) -> None:
    path = Path(os.fsdecode(store(originals).path))
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.stat().st_nlink == 1
    folders = [path.parent, path.parent.parent, tmp_path / "home" / "originals"]
    folders.append(tmp_path / "home" / "originals" / "incoming")
    assert {folder.stat().st_mode & 0o777 for folder in folders} == {0o700}


def test_a_repeat_keeps_the_first_file(originals: Originals, tmp_path: Path) -> None:
    first = store(originals)
    path = Path(os.fsdecode(first.path))
    os.utime(path, ns=(1, 1_000_000_001))
    node = path.stat().st_ino
    again = store(originals)
    assert again == StoredOriginal(SHA, len(DATA), 1_000_000_001, first.path, was_there=True)
    assert path.stat().st_ino == node
    assert len(files(tmp_path)) == 1


def test_what_is_not_kept_goes_with_the_block(originals: Originals, tmp_path: Path) -> None:
    with originals.incoming() as incoming:
        incoming.write(DATA[:1])
        incoming.write(DATA[1:])
        for _ in range(2):
            with incoming.open() as opened:
                assert opened.read() == DATA
        assert len(files(tmp_path)) == 1
    assert files(tmp_path) == []
    with contextlib.suppress(KeyError), originals.incoming() as incoming:
        incoming.write(DATA)
        raise KeyError
    assert files(tmp_path) == []
    empty = hashlib.sha256().hexdigest()
    with originals.incoming() as incoming:
        kept = incoming.keep()
        assert incoming.keep() == kept
        assert f"home/originals/{empty[:2]}/{empty[2:4]}/{empty}" in files(tmp_path)
        with pytest.raises(ValueError, match="in the store"):
            incoming.write(b"more")
        with pytest.raises(ValueError, match="in the store"):
            incoming.open()
    assert kept.sha256 == empty
    assert len(files(tmp_path)) == 1


def test_many_files_at_once_hold_few_descriptors(originals: Originals) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with contextlib.ExitStack() as blocks:
        for number in range(20):
            incoming = blocks.enter_context(originals.incoming())
            incoming.write(b"%d" % number)
            incoming.keep()
        assert len(os.listdir("/proc/self/fd")) <= before + 20
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_damaged_file_in_the_store_is_said_and_not_overwritten(originals: Originals) -> None:
    path = Path(os.fsdecode(store(originals).path))
    path.write_bytes(b"cut short")
    with pytest.raises(HomeError, match="damaged"):
        store(originals)
    assert path.read_bytes() == b"cut short"
    path.unlink()
    path.symlink_to("/etc/passwd")
    with pytest.raises(HomeError, match="damaged"):
        store(originals)
    assert path.is_symlink()


def test_a_store_that_cant_be_written_is_an_error_for_people(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with (
        pytest.raises(CannotWork, match="can't be used"),
        Originals(tmp_path / "file").incoming(),
    ):
        pass


@pytest.mark.parametrize("sha256", ["", "..", SHA[:-1], SHA.upper(), SHA + "\n", "../" + SHA[3:]])
def test_what_is_no_hash_names_no_file(originals: Originals, sha256: str) -> None:
    store(originals)
    with pytest.raises(ValueError, match="64 hex digits"):
        originals.path_of(sha256)
    with pytest.raises(ValueError, match="64 hex digits"):
        originals.discard(sha256)


def test_only_exact_places_are_in_the_store(originals: Originals, tmp_path: Path) -> None:
    path = originals.path_of(SHA)
    folder = os.fsencode(tmp_path / "home" / "originals")
    assert originals.holds(path)
    wrong = [
        os.path.join(folder, SHA.encode()),
        os.path.join(folder, b"incoming", SHA.encode()),
        os.path.join(folder, b"00", b"..", SHA[:2].encode(), SHA[2:4].encode(), SHA.encode()),
        path + b"/",
        path + b".jpg",
        path.upper(),
        b"/elsewhere" + path,
        os.path.relpath(path),
        SHA.encode(),
        b"\xff" * 64,
        b"",
    ]
    assert not any(originals.holds(other) for other in wrong)


def test_discarding_deletes_one_file(originals: Originals, tmp_path: Path) -> None:
    store(originals)
    other = store(originals, b"another")
    assert originals.discard(SHA)
    assert not originals.discard(SHA)
    assert not originals.discard("0" * 64)
    assert [path[-64:] for path in files(tmp_path)] == [other.sha256]
    assert not store(originals).was_there


def test_discarding_never_leaves_the_store(originals: Originals, tmp_path: Path) -> None:
    path = Path(os.fsdecode(store(originals).path))
    elsewhere = tmp_path / "elsewhere"
    path.parent.parent.rename(elsewhere)
    path.parent.parent.symlink_to(elsewhere)
    with pytest.raises(CannotWork):
        originals.discard(SHA)
    with pytest.raises(CannotWork):
        store(originals)
    assert (elsewhere / SHA[2:4] / SHA).read_bytes() == DATA


def test_what_is_being_added_is_not_discarded(originals: Originals) -> None:
    store(originals)
    rows: list[str] = []
    asked: list[list[str]] = []

    def needed() -> bool:
        asked.append(list(rows))
        return bool(rows)

    with ThreadPoolExecutor(1) as threads:
        with originals.incoming() as incoming:
            incoming.write(DATA)
            assert incoming.keep().was_there
            discarding = threads.submit(originals.discard, SHA, unless=needed)
            # Time in which it would end if it did not wait; waiting has no event.
            time.sleep(0.1)
            assert not discarding.done()
            rows.append(SHA)
        assert discarding.result(60) is False
    assert asked == [[SHA]]
    rows.clear()
    assert originals.discard(SHA, unless=needed)


def test_an_upload_waits_for_a_discard_and_stores_its_own_bytes(originals: Originals) -> None:
    store(originals)
    asked, go_on = threading.Event(), threading.Event()

    def needed() -> bool:
        asked.set()
        assert go_on.wait(60)
        return False

    with ThreadPoolExecutor(2) as threads:
        discarding = threads.submit(originals.discard, SHA, unless=needed)
        assert asked.wait(60)
        storing = threads.submit(store, originals)
        # Time in which it would end if it did not wait; waiting has no event.
        time.sleep(0.1)
        assert not storing.done()
        go_on.set()
        assert discarding.result(60)
        assert not storing.result(60).was_there
    assert Path(os.fsdecode(originals.path_of(SHA))).read_bytes() == DATA


_STORE = """
import sys
from pathlib import Path
from regard.storage.files.originals import Originals
originals = Originals(Path(sys.argv[1]))
new = 0
for turn in range(40):
    with originals.incoming() as incoming:
        incoming.write(b"%d" % turn * 5000)
        new += not incoming.keep().was_there
print(new)
"""


def test_processes_at_once_store_each_file_once(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _STORE, str(tmp_path)]
    running = [Forked(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert sum(int(process.communicate(timeout=200)[0]) for process in running) == 40
    stored = files(tmp_path)
    assert len(stored) == 40
    for path in stored:
        assert hashlib.sha256((tmp_path / path).read_bytes()).hexdigest() == path[-64:]


# Stores files of 300 kB without end. The parent kills it.
_STORE_WITHOUT_END = """
import itertools, sys
from pathlib import Path
from regard.storage.files.originals import Originals
originals = Originals(Path(sys.argv[1]))
for turn in itertools.count(int(sys.argv[2])):
    with originals.incoming() as incoming:
        for part in range(30):
            incoming.write(b"%08d,%02d" % (turn, part) * 909)
        stored = incoming.keep()
    print(stored.sha256, flush=True)
"""


def test_kills_leave_no_half_file_under_a_final_name(tmp_path: Path) -> None:
    luck = random.Random(1)
    promised: set[str] = set()
    for first in range(0, 5000, 1000):
        process = Forked(
            [sys.executable, "-c", _STORE_WITHOUT_END, str(tmp_path), str(first)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        promised.add(process.stdout.readline().strip())
        time.sleep(luck.uniform(0, 0.05))
        os.kill(process.pid, signal.SIGKILL)
        # What comes after the kill may be a part of a line.
        promised |= {line.strip() for line in process.communicate()[0].splitlines(True)[:-1]}
    stored = {path for path in files(tmp_path) if not path.startswith("incoming/")}
    assert {path[-64:] for path in stored} >= promised
    assert len(stored) >= 5
    for path in stored:
        assert hashlib.sha256((tmp_path / path).read_bytes()).hexdigest() == path[-64:]
    left = len(files(tmp_path)) - len(stored)
    assert Originals(tmp_path).sweep() == 0
    assert Originals(tmp_path).sweep(older_than=0) == left
    assert set(files(tmp_path)) == stored


# Stores a file in a child that dies at the first line of the store's code, one at the second, and
# so on.
_DIE_AT_EACH_LINE = """
import hashlib, itertools, os, signal, sys
from pathlib import Path
from regard.storage.files.originals import Originals

def die_at(line):
    left = line
    def trace(frame, event, argument):
        nonlocal left
        if not frame.f_code.co_filename.endswith(("originals.py", "files.py", "shutil.py")):
            return None
        left -= event == "line"
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return trace
    return trace

folder = Path(sys.argv[1])
stored = 0
for line in itertools.count(1):
    data = b"%05d" % line * 3000
    child = os.fork()
    if not child:
        sys.settrace(die_at(line))
        with Originals(folder).incoming() as incoming:
            incoming.write(data)
            incoming.keep()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    there = Path(os.fsdecode(Originals(folder).path_of(hashlib.sha256(data).hexdigest())))
    if there.exists():
        assert there.read_bytes() == data, f"half a file after {line} lines"
        stored += 1
    if status == 0:
        break
    assert os.WTERMSIG(status) == signal.SIGKILL
print(line, stored)
"""


def test_dying_at_any_line_leaves_a_whole_file_or_none(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _DIE_AT_EACH_LINE, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    lines, stored = map(int, done.stdout.split())
    assert lines > 50
    assert 2 <= stored < lines
    kept = Originals(tmp_path)
    left = {path.name[-64:] for path in tmp_path.rglob("incoming/*.*")}
    placed = [sha256 for sha256 in left if Path(os.fsdecode(kept.path_of(sha256))).exists()]
    assert len(placed) > 2
    # An upload whose row is there, and those that have none.
    needed = placed[0]
    kept.sweep(discard_placed=lambda sha256: kept.discard(sha256, unless=lambda: sha256 == needed))
    assert not list(tmp_path.rglob("incoming/*.*"))
    kept.sweep(older_than=0)
    assert len(files(tmp_path)) == stored - len(placed) + 1
    assert Path(os.fsdecode(kept.path_of(needed))).is_file()


def test_sweeping_spares_uploads_that_go_on(originals: Originals, tmp_path: Path) -> None:
    assert originals.sweep() == 0
    with originals.incoming() as incoming:
        incoming.write(DATA)
        (going_on,) = (tmp_path / "home" / "originals" / "incoming").iterdir()
        os.utime(going_on, (1e9, 1e9))
        killed = going_on.with_name("killed")
        killed.write_bytes(b"half")
        assert originals.sweep() == 0
        os.utime(killed, (1e9, 1e9))
        assert originals.sweep() == 1
        assert incoming.keep().sha256 == SHA
    assert not killed.exists()


def opened(path: Path, *, of: Path | None = None, within: list[Path] | None = None) -> bytes:
    """Open with the stamp of the file `of`, by default of `path` itself."""
    status = (of or path).stat()
    folders = None if within is None else [os.fsencode(folder) for folder in within]
    with open_original(
        os.fsencode(path), size=status.st_size, mtime_ns=status.st_mtime_ns, within=folders
    ) as file:
        return file.read()


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    (tmp_path / "root" / "album").mkdir(parents=True)
    path = tmp_path / "root" / "album" / "photo.jpg"
    path.write_bytes(DATA)
    return path


def test_an_unchanged_original_is_read(photo: Path, tmp_path: Path) -> None:
    assert opened(photo) == DATA
    for folder in (tmp_path / "root", photo.parent, Path("/"), tmp_path / "root" / "x" / ".."):
        (tmp_path / "root" / "x").mkdir(exist_ok=True)
        assert opened(photo, within=[tmp_path / "nowhere", folder]) == DATA


def test_an_original_with_a_time_beyond_64_bits_is_read(photo: Path) -> None:
    os.utime(photo, ns=(0, 2**64))
    stamp = FileStamp(os.fsencode(photo), len(DATA), photo.stat().st_mtime_ns)
    with open_original(stamp.path, size=len(DATA), mtime_ns=stamp.mtime_ns, within=None) as file:
        assert file.read() == DATA


def test_a_stored_original_is_read(originals: Originals, tmp_path: Path) -> None:
    stored = store(originals)
    folder = os.fsencode(tmp_path / "home" / "originals")
    with open_original(
        stored.path, size=stored.size, mtime_ns=stored.mtime_ns, within=[folder]
    ) as file:
        assert file.read() == DATA


def test_another_size_or_time_is_a_changed_original(photo: Path) -> None:
    status = photo.stat()
    for size, mtime_ns in (
        (status.st_size + 1, status.st_mtime_ns),
        (status.st_size, status.st_mtime_ns + 1),
    ):
        with pytest.raises(OriginalChanged):
            open_original(os.fsencode(photo), size=size, mtime_ns=mtime_ns, within=None)


def test_a_missing_original_is_gone(photo: Path, tmp_path: Path) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    for path in (tmp_path / "absent", photo / "below", loop, Path("with\0nul"), Path("x" * 999)):
        with pytest.raises(OriginalGone):
            opened(path, of=photo)


def test_a_pipe_or_folder_is_a_changed_original_and_nothing_waits(
    photo: Path, tmp_path: Path
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (pipe, tmp_path, Path("/dev/zero")):
        with pytest.raises(OriginalChanged):
            opened(path, of=photo)


@pytest.mark.parametrize("without_proc", [False, True])
def test_nothing_outside_the_folders_is_read(
    photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, without_proc: bool
) -> None:
    if without_proc:
        readlink = os.readlink

        def no_proc(path: bytes | str, **options: object) -> bytes | str:
            if os.fsencode(path).startswith(b"/proc/"):
                raise FileNotFoundError(path)
            return readlink(path, **options)  # type: ignore[arg-type]

        monkeypatch.setattr(os, "readlink", no_proc)
    secret = tmp_path / "root-secrets" / "secret.jpg"
    secret.parent.mkdir()
    secret.write_bytes(DATA)
    root = tmp_path / "root"
    (root / "link.jpg").symlink_to(secret)
    (root / "folder").symlink_to(secret.parent)
    (root / "inner.jpg").symlink_to(photo)
    ways_out = [
        secret,
        root / "link.jpg",
        root / "folder" / "secret.jpg",
        root / ".." / "root-secrets" / "secret.jpg",
    ]
    for path in ways_out:
        assert opened(path) == DATA
        with pytest.raises(OutsideRoots):
            opened(path, within=[root])
        with pytest.raises(OutsideRoots):
            open_original(os.fsencode(path), size=0, mtime_ns=0, within=[os.fsencode(root)])
    with pytest.raises(OutsideRoots):
        opened(photo, within=[])
    with pytest.raises(OutsideRoots):
        opened(photo, within=[photo])
    assert opened(photo, within=[root]) == DATA
    assert opened(root / "inner.jpg", within=[root]) == DATA
    by_symlink = tmp_path / "alias"
    by_symlink.symlink_to(root)
    assert opened(by_symlink / "album" / "photo.jpg", within=[root]) == DATA
    assert opened(photo, within=[by_symlink]) == DATA


def test_refusals_leave_no_file_open(photo: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        with pytest.raises(OriginalChanged):
            open_original(os.fsencode(photo), size=1, mtime_ns=1, within=None)
    assert len(os.listdir("/proc/self/fd")) == before
