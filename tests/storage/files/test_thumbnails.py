from __future__ import annotations

import hashlib
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from made_processes import Forked

from regard.storage.files.thumbnails import Thumbnails

SHA = hashlib.sha256(b"a photograph").hexdigest()
OTHER = hashlib.sha256(b"another").hexdigest()


class Maker:
    """Makes pictures of given bytes, counts them, and knows how many were in the making at
    once."""

    def __init__(self, data: bytes = b"a picture", seconds: float = 0.0) -> None:
        self.data, self.seconds = data, seconds
        self.calls = self.now = self.most = 0
        self._lock = threading.Lock()

    def __call__(self) -> bytes:
        with self._lock:
            self.calls += 1
            self.now += 1
            self.most = max(self.most, self.now)
        time.sleep(self.seconds)
        with self._lock:
            self.now -= 1
        return self.data


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_a_picture_is_made_once_and_then_found(tmp_path: Path) -> None:
    folder = tmp_path / "home" / "thumbnails"
    cache, make = Thumbnails(folder), Maker()
    assert cache.find(SHA, "256") is None
    assert [cache.get(SHA, "256", make) for _ in range(3)] == [b"a picture"] * 3
    assert make.calls == 1
    assert cache.find(SHA, "256") == b"a picture"
    assert Thumbnails(folder).find(SHA, "256") == b"a picture"
    assert cache.find(SHA, "512") is None
    assert cache.find(OTHER, "256") is None
    (file,) = files(folder)
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700


def test_variants_do_not_meet(tmp_path: Path) -> None:
    cache = Thumbnails(tmp_path)
    variants = ["256", "512", "1024", "4096", "crop-0,0,10,20-512", "crop-1,0,10,20-512"]
    for variant in variants:
        assert cache.get(SHA, variant, variant.encode) == variant.encode()
    assert [cache.find(SHA, variant) for variant in variants] == [v.encode() for v in variants]


@pytest.mark.parametrize(
    "variant",
    [
        *("", ".", "..", "../256", "256/..", "257", "256\n", " 256", "٢٥٦", "256.webp", "lock"),
        *("crop-1,2,3-512", "crop-01,2,3,4-512", "crop--1,2,3,4-512", "crop-1,2,3,4-513"),
        *("crop-1,2,3,4567890123-512", "crop-1,2,3,4", "crop-1,2,3,/-512", "256\0"),
    ],
)
def test_nothing_else_is_a_variant(tmp_path: Path, variant: str) -> None:
    cache = Thumbnails(tmp_path / "cache")
    with pytest.raises(ValueError, match="no variant"):
        cache.get(SHA, variant, Maker())
    with pytest.raises(ValueError, match="no variant"):
        cache.find(SHA, variant)
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("sha256", ["", "../x", SHA.upper(), SHA[:-1], SHA + "0", SHA[:-1] + "/"])
def test_nothing_else_is_a_content(tmp_path: Path, sha256: str) -> None:
    cache = Thumbnails(tmp_path / "cache")
    with pytest.raises(ValueError, match="64 hex digits"):
        cache.get(sha256, "256", Maker())
    with pytest.raises(ValueError, match="64 hex digits"):
        cache.discard(sha256)
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("damage", ["empty", "short", "checksum only", "zeros", "a bit", "folder"])
def test_a_damaged_file_is_made_again(tmp_path: Path, damage: str) -> None:
    cache, make = Thumbnails(tmp_path), Maker(bytes(range(256)))
    cache.get(SHA, "256", make)
    (file,) = files(tmp_path)
    stored = file.read_bytes()
    damaged = {
        "empty": b"",
        "short": stored[:-1],
        "checksum only": bytes(4),
        "zeros": bytes(len(stored)),
        "a bit": stored[:100] + bytes([stored[100] ^ 1]) + stored[101:],
    }
    if damage == "folder":
        file.unlink()
        file.mkdir()
    else:
        file.write_bytes(damaged[damage])
    assert cache.find(SHA, "256") is None
    assert cache.get(SHA, "256", make) == bytes(range(256))
    assert make.calls == 2
    if damage != "folder":
        assert cache.find(SHA, "256") == bytes(range(256))


def test_threads_that_ask_at_once_have_it_made_once(tmp_path: Path) -> None:
    cache, make = Thumbnails(tmp_path), Maker(seconds=0.1)
    with ThreadPoolExecutor(16) as threads:
        asked = [threads.submit(cache.get, SHA, "256", make) for _ in range(64)]
        assert {future.result() for future in asked} == {b"a picture"}
    assert make.calls == 1


def test_only_so_many_are_made_at_once(tmp_path: Path) -> None:
    cache, make = Thumbnails(tmp_path, renderings=2), Maker(seconds=0.02)
    shas = [hashlib.sha256(bytes([n])).hexdigest() for n in range(12)]
    with ThreadPoolExecutor(12) as threads:
        list(threads.map(lambda sha256: cache.get(sha256, "256", make), shas))
    assert (make.calls, make.most) == (12, 2)


def test_who_waits_gets_the_makers_exception_and_the_next_may_try(tmp_path: Path) -> None:
    cache = Thumbnails(tmp_path)
    begun, go_on = threading.Event(), threading.Event()

    def fail() -> bytes:
        begun.set()
        assert go_on.wait(60)
        raise RuntimeError("damaged photograph")

    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(cache.get, SHA, "256", fail)
        assert begun.wait(60)
        asks = threading.Event()

        def ask() -> bytes:
            asks.set()
            return cache.get(SHA, "256", Maker())

        second = threads.submit(ask)
        assert asks.wait(60)
        time.sleep(0.2)
        go_on.set()
        for future in (first, second):
            with pytest.raises(RuntimeError, match="damaged photograph"):
                future.result()
    assert cache.get(SHA, "256", Maker()) == b"a picture"
    assert len(files(tmp_path)) == 1


def test_discarding_forgets_one_content(tmp_path: Path) -> None:
    cache = Thumbnails(tmp_path)
    for sha256 in (SHA, OTHER):
        for variant in ("256", "crop-0,0,1,1-512"):
            cache.get(sha256, variant, Maker())
    cache.discard(SHA)
    cache.discard(SHA)
    assert cache.find(SHA, "256") is cache.find(SHA, "crop-0,0,1,1-512") is None
    assert cache.find(OTHER, "256") == b"a picture"
    assert not (tmp_path / SHA[:2] / SHA).exists()
    assert cache.get(SHA, "256", Maker()) == b"a picture"


def test_only_those_of_known_contents_are_kept(tmp_path: Path) -> None:
    cache = Thumbnails(tmp_path)
    for sha256 in (SHA, OTHER):
        for variant in ("256", "crop-0,0,1,1-512"):
            cache.get(sha256, variant, Maker())
    asked: list[str] = []

    def known(hashes: Sequence[str]) -> list[str]:
        asked.extend(hashes)
        return [one for one in hashes if one == OTHER]

    cache.keep_only(known)
    assert sorted(asked) == sorted((SHA, OTHER))
    assert {file.parent.name for file in files(tmp_path)} == {OTHER}
    assert len(files(tmp_path)) == 2
    Thumbnails(tmp_path / "none").keep_only(known)


def test_the_oldest_go_when_it_grows(tmp_path: Path) -> None:
    cache = Thumbnails(tmp_path, max_bytes=100_000)
    shas = [hashlib.sha256(b"%d" % n).hexdigest() for n in range(60)]
    for age, sha256 in enumerate(shas):
        cache.get(sha256, "256", Maker(bytes(5000)))
        # Files written within one tick of the clock would have no order.
        os.utime(tmp_path / sha256[:2] / sha256 / "256", (1e9 + age, 1e9 + age))
        assert sum(file.stat().st_size for file in files(tmp_path)) <= 1.2 * 100_000
    left = [sha256 for sha256 in shas if cache.find(sha256, "256")]
    assert len(left) >= 15
    assert left == shas[-len(left) :]
    assert len(list(tmp_path.glob("*/*"))) == len(left)


def test_the_first_write_evicts_what_earlier_processes_left(tmp_path: Path) -> None:
    before = Thumbnails(tmp_path)
    for n in range(10):
        before.get(hashlib.sha256(b"%d" % n).hexdigest(), "256", Maker(bytes(5000)))
    killed = tmp_path / SHA[:2] / SHA / "0.aside"
    killed.parent.mkdir(parents=True, exist_ok=True)
    killed.write_bytes(b"half")
    os.utime(killed, (1e9, 1e9))
    Thumbnails(tmp_path, max_bytes=20_000).get(OTHER, "256", Maker())
    assert 1 <= len(files(tmp_path)) <= 4
    assert not killed.exists()


def test_a_cache_that_cant_be_written_fails_no_request(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    cache, make = Thumbnails(tmp_path / "cache"), Maker()
    with caplog.at_level(logging.WARNING):
        assert [cache.get(SHA, "256", make) for _ in range(2)] == [b"a picture"] * 2
    assert make.calls == 2
    assert "can't be written" in caplog.text
    cache.discard(SHA)


_PROCESS = """
import sys, time
from pathlib import Path
from regard.storage.files.thumbnails import Thumbnails
cache = Thumbnails(Path(sys.argv[1]), max_bytes=60_000)
shas = sys.argv[2].split()
for turn in range(20):
    for sha in shas:
        data = (sha.encode() * 100)[: 5000 + turn]
        found = cache.get(sha, "256", lambda: data)
        assert found.startswith(sha.encode() * 70), "another picture"
        if turn % 7 == 3:
            cache.discard(sha)
"""


def test_processes_share_it_while_it_overflows(tmp_path: Path) -> None:
    shas = " ".join(hashlib.sha256(b"%d" % n).hexdigest() for n in range(20))
    command = [sys.executable, "-W", "error", "-c", _PROCESS, str(tmp_path), shas]
    running = [Forked(command, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    for process in running:
        _, errors = process.communicate(timeout=200)
        assert process.returncode == 0, errors
    assert not [file for file in files(tmp_path) if file.name.endswith(".aside")]
