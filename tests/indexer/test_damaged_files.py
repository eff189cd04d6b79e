"""Two hundred damaged files among good ones: the run ends, lists each of them, and stays small."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_library import Library, command, painted, regard_process, without_root_rights
from made_photos import encoded, png, png_chunk

from regard.core.errors import DecodeError
from regard.photos.files import uri_of_path
from regard.photos.photo_file import PhotoFile

pytestmark = pytest.mark.slow

_KINDS = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp", "TIFF": "tif", "GIF": "gif", "BMP": "bmp"}
_GIBIBYTE = 1 << 30


def _encoded(seed: int, kind: str) -> bytes:
    return encoded(painted(("red", "green", "blue"), seed, (64, 48)), kind)


def _deflated_zeros(count: int) -> bytes:
    packer = zlib.compressobj(9)
    block = bytes(1 << 20)
    parts = [packer.compress(block) for _ in range(count >> 20)]
    return b"".join([*parts, packer.compress(bytes(count & 0xFFFFF)), packer.flush()])


def _with_pixels(width: int, height: int, deflated: bytes) -> bytes:
    """A PNG whose pixel data is already compressed."""
    empty = png_chunk(b"IDAT", zlib.compress(b""))
    return png(width, height, 8, 2, b"").replace(empty, png_chunk(b"IDAT", deflated))


def _is_photo(data: bytes) -> bool:
    try:
        PhotoFile(data).decode()
    except DecodeError:
        return False
    return True


def _damage(library: Library) -> tuple[set[bytes], set[bytes]]:
    """Write two hundred damaged files and some good ones; returns the bad and the good paths."""
    chance = random.Random(7)
    good: set[bytes] = set()
    bad: set[bytes] = set()

    def put(name: str | bytes, data: bytes, is_good: bool | None) -> None:
        path = os.path.join(os.fsencode(library.photos), os.fsencode(name))
        with open(path, "wb") as file:
            file.write(data)
        if is_good is None:
            is_good = _is_photo(data)
        (good if is_good else bad).add(path)

    for number, (kind, suffix) in enumerate(_KINDS.items()):
        whole = _encoded(number, kind)
        put(f"good-{number}.{suffix}", whole, True)
        for cut in range(24):
            length = chance.randrange(1, len(whole) * 3 // 4)
            put(f"cut-{number}-{cut}.{suffix}", whole[:length], None)
        for flip in range(12):
            damaged = bytearray(whole)
            for _ in range(chance.randrange(1, 20)):
                damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
            put(f"flip-{number}-{flip}.{suffix}", bytes(damaged), None)
    for number, (kind, suffix) in enumerate(_KINDS.items()):
        others = [other for other in _KINDS.values() if other != suffix]
        put(f"photo-as-other-{number}.{others[0]}", _encoded(100 + number, kind), True)
        put(f"photo-as-text-{number}.txt", _encoded(200 + number, kind), True)
        put(f"text-as-photo-{number}.{suffix}", b"Dear diary, today I took no photograph.\n", False)
        put(f"empty-{number}.{suffix}", b"", False)
    for number in range(10):
        put(f"noise-{number}.jpg", chance.randbytes(4000), False)
    # tests/photos has more bombs and a tighter bound.
    put("bomb.png", _with_pixels(16, 16, _deflated_zeros(128 << 20)), None)
    put("header-60000.png", png(60_000, 60_000, 8, 2, b""), False)
    put(b"latin-\xe9.png", _encoded(300, "PNG"), True)
    put("new\nline.png", _encoded(301, "PNG"), True)
    photos = os.fsencode(library.photos)
    for name, target in ((b"loop.jpg", b"loop.jpg"), (b"dangling.jpg", b"nowhere.jpg")):
        os.symlink(target, os.path.join(photos, name))
        bad.add(os.path.join(photos, name))
    os.mkfifo(os.path.join(photos, b"pipe.jpg"))
    bad.add(os.path.join(photos, b"pipe.jpg"))
    put("notes.txt", b"not meant to be a photograph\n", True)
    good.remove(os.path.join(photos, b"notes.txt"))
    # A folder's name may have a photograph's suffix.
    os.mkdir(os.path.join(photos, b"folder.jpg"))
    put("folder.jpg/inside.png", _encoded(302, "PNG"), True)
    return bad, good


# A process inherits the peak of the one it is forked from, so a small one stands between.
_MEASURED = """
import pathlib, resource, subprocess, sys
code = subprocess.call(sys.argv[2:])
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
pathlib.Path(sys.argv[1]).write_text(str(peak))
sys.exit(code)
"""


def _index_process(library: Library) -> tuple[int, int, bytes, bytes]:
    """Exit code, peak bytes of the process, stdout and stderr."""
    peak = library.home.parent / "peak"
    arguments = ("index", library.photos, "--home", library.home, "--profile", "fake", "--json")
    done = subprocess.run(
        [sys.executable, "-c", _MEASURED, peak, *command(*arguments)],
        capture_output=True,
        check=False,
    )
    return done.returncode, int(peak.read_text()), done.stdout, done.stderr


def test_damaged_files_fail_and_good_ones_are_indexed_in_bounded_memory(tmp_path: Path) -> None:
    library = Library(tmp_path)
    bad, good = _damage(library)
    assert len(bad) + sum(b"flip" in path or b"cut" in path for path in good) >= 200
    assert len(bad) > 180

    code, peak, out, err = _index_process(library)

    assert code == 1
    assert b"Traceback" not in err, err.decode()
    assert peak < 2 * _GIBIBYTE
    report = json.loads(out)
    assert {failure["uri"] for failure in report["failures"]} == set(map(uri_of_path, bad))
    assert all(failure["reason"].strip() for failure in report["failures"])
    assert not any("\n" in failure["reason"] for failure in report["failures"])
    indexed = {path for (path,) in library.sql("SELECT path FROM asset WHERE failure IS NULL")}
    assert indexed == good
    library.verify()

    # Failures are listed again without being tried again.
    again = library.index(code=1)
    assert (again["indexed"], again["unchanged"]) == (0, len(good))
    assert again["failures"] == report["failures"]


@pytest.mark.campaign
def test_eight_giant_images_are_decoded_one_at_a_time(tmp_path: Path) -> None:
    library = Library(tmp_path)
    for number in range(8):
        side = 9000 + number
        rows = _deflated_zeros((3 * side + 1) * side)
        (library.photos / f"{number}.png").write_bytes(_with_pixels(side, side, rows))
    code, peak, _, err = _index_process(library)
    assert code == 0, err
    assert peak < 2 * _GIBIBYTE


def test_unreadable_files_keep_their_assets_and_are_listed(tmp_path: Path) -> None:
    library = Library(tmp_path)
    for name, seed in (("open.png", 1), ("closed.png", 2), ("shut/inside.png", 3), ("bare.x", 4)):
        library.photo(name, seed)

    environ = without_root_rights(tmp_path / "site")

    def index() -> dict[str, Any]:
        done = regard_process(
            *("index", library.photos, "--home", library.home, "--profile", "fake", "--json"),
            environ=environ,
        )
        assert done.code == 1, done
        assert "Traceback" not in done.err
        report: dict[str, Any] = done.document
        assert report["removed"] == 0
        return report

    def reasons(report: dict[str, Any]) -> dict[str, str]:
        return {Path(item["uri"]).name: item["reason"] for item in report["failures"]}

    assert library.index()["indexed"] == 4
    os.chmod(library.photos / "shut", 0)
    os.chmod(library.photos / "bare.x", 0)
    os.chmod(library.photos / "closed.png", 0)
    # An unchanged file is not read, so its permissions are not noticed.
    assert set(reasons(index())) == {"bare.x", "shut"}
    assert len(library.shown()) == 4
    os.utime(library.photos / "closed.png")
    # The folder can be listed but not entered.
    os.chmod(library.photos / "shut", 0o444)
    report = index()
    assert set(reasons(report)) == {"closed.png", "bare.x", "inside.png"}
    assert all("Permission denied" in reason for reason in reasons(report).values())
    assert library.shown() == {"open.png", "bare.x", "shut/inside.png"}
    for path in library.photos.rglob("*"):
        os.chmod(path, 0o755)
    assert library.index(code=1)["unchanged"] == 3
    again = library.index("--retry-failed", library.photos)
    assert (again["failed"], again["indexed"]) == (0, 1)
    assert len(library.shown()) == 4


def test_named_pipes_are_refused_without_waiting_for_a_writer(tmp_path: Path) -> None:
    """As the root, as a sidecar, and as a query image."""
    library = Library(tmp_path)
    photo = library.photo("photo.jpg", 1)
    os.mkfifo(tmp_path / "pipe")
    os.mkfifo(library.photos / "photo.xmp")

    def alarm(_number: int, _frame: object) -> None:
        raise AssertionError("it waits")

    former: Callable[..., object] | int | None = signal.signal(signal.SIGALRM, alarm)
    signal.alarm(30)
    try:
        assert library.index(photo)["indexed"] == 1
        report = library.index(tmp_path / "pipe", code=1)
        assert "regular" in report["failures"][0]["reason"]
        library.run("search", "--image", tmp_path / "pipe").expect_sentence(3, "regular")
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, former)


def test_escape_sequences_in_file_names_are_not_printed(tmp_path: Path) -> None:
    library = Library(tmp_path)
    (library.photos / "\x1b]0;title\x07.jpg").write_bytes(b"x")
    library.photo("\x1b[31mred.png", 1)
    done = regard_process("index", library.photos, "--home", library.home, "--profile", "fake")
    assert done.code == 1
    assert "\x1b" not in done.err
    assert "\x07" not in done.err
    assert b"\x1b" not in library.run("search", "red").out
