"""Thousands of mutated files of every format: no crash, no hang, bounded memory.

Workers decode them in processes of their own, with 2 GiB of address space and 10 seconds a file.
Each file decodes, or fails with a DecodeError.
"""

from __future__ import annotations

import io
import itertools
import os
import random
import resource
import signal
import struct
import subprocess
import sys
import zlib
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import IO

import numpy as np
import pytest

TESTS = Path(__file__).resolve().parents[1]
COUNT = 10_000
WORKERS = 2
SECONDS = 10
MEMORY = 2 << 30
# Sizes and counts to write: small, at limits, and just within them.
NUMBERS = (0, 1, 2, 7, 255, 4_000, 10_900, 65_535, 1 << 20, (1 << 31) - 1, (1 << 32) - 1)
TIFF_COMPRESSIONS = ("jpeg", "tiff_lzw", "tiff_adobe_deflate", "packbits")


@pytest.mark.campaign
@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
def test_mutated_files_decode_or_fail_with_a_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with capsys.disabled():
        print(assert_survives(tmp_path, random.randrange(1 << 32), COUNT))


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
def test_a_few_mutated_files_decode_or_fail_with_a_reason(tmp_path: Path) -> None:
    assert_survives(tmp_path, 11, 200)


def assert_survives(folder: Path, seed: int, count: int) -> str:
    """Decode mutated files in worker processes, and report figures."""
    outcomes: Counter[str] = Counter()
    peak, slowest = 0, 0.0
    workers = [Worker(folder, seed, range(n, count, WORKERS)) for n in range(WORKERS)]
    with ThreadPoolExecutor(WORKERS) as pool:
        lists = list(pool.map(lambda worker: list(worker.results()), workers))
    for outcome, seconds, kib in itertools.chain(*lists):
        outcomes[outcome] += 1
        peak, slowest = max(peak, kib), max(slowest, seconds)
    faults = [fault for worker in workers for fault in worker.faults]
    assert not faults, "\n".join(faults)
    assert sum(outcomes.values()) == count
    assert peak < MEMORY >> 10
    kinds = dict(outcomes)
    return f"\nseed {seed}: {kinds}, slowest {slowest:.1f} s, peak {peak >> 10} MiB"


class Worker:
    """A process that decodes mutated files, started again after each that kills it."""

    def __init__(self, folder: Path, seed: int, numbers: range) -> None:
        self.faults: list[str] = []
        self._folder, self._seed, self._numbers = folder, seed, numbers
        self._errors = folder / f"{numbers.start}.errors"

    def results(self) -> Iterator[tuple[str, float, int]]:
        """Outcome, seconds and peak memory in KiB of each file."""
        numbers = self._numbers
        while numbers:
            done = 0
            with self._errors.open("w") as errors, self._started(numbers, errors) as process:
                assert process.stdout is not None
                for line in process.stdout:
                    outcome, seconds, kib, detail = line.rstrip("\n").split("\t")
                    done += 1
                    if outcome == "fault":
                        self.faults.append(f"seed {self._seed}: {detail}")
                    yield outcome, float(seconds), int(kib)
            if process.returncode == 0:
                return
            reason = self._errors.read_text(errors="replace")[-2000:]
            assert numbers[done:], reason
            number = numbers[done]
            self.faults.append(f"seed {self._seed}, file {number}: {process.returncode}, {reason}")
            yield "killed", 0.0, 0
            numbers = numbers[done + 1 :]

    def _started(self, numbers: range, errors: IO[str]) -> subprocess.Popen[str]:
        arguments = [self._folder, self._seed, numbers.start, numbers.stop, numbers.step]
        return subprocess.Popen(
            [sys.executable, "-X", "faulthandler", __file__, *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, "PYTHONPATH": str(TESTS)},
        )


@cache
def corpus() -> list[tuple[str, bytes]]:
    """Small files of every format, and sidecars."""
    import imagecodecs
    import pillow_heif
    import tifffile
    from made_jpegxl import jpegxl
    from made_photos import ADOBE_RGB, dng, encoded, png_chunk
    from PIL import Image as Pillow

    pillow_heif.register_heif_opener()
    noise = np.random.default_rng(1).integers(0, 256, (40, 56, 3), dtype=np.uint8)
    photo = Pillow.fromarray(noise)
    rgba = photo.convert("RGBA")
    exif = Pillow.Exif()
    exif[271], exif[274] = "Acme", 6
    meta = {"exif": exif.tobytes(), "icc_profile": ADOBE_RGB}
    xmp = (
        b"<x:xmpmeta xmlns:x='adobe:ns:meta/'><rdf:RDF xmlns:rdf='http://www.w3.org/1999/02/22-"
        b"rdf-syntax-ns#'><rdf:Description xmlns:dc='http://purl.org/dc/elements/1.1/'><dc:subject>"
        b"<rdf:Bag><rdf:li>a</rdf:li></rdf:Bag></dc:subject></rdf:Description></rdf:RDF></x:xmpmeta>"
    )
    others = [photo.rotate(180)]
    files = [
        # First, because saving as JPEG leaves options in the picture.
        ("tif", encoded(photo, "TIFF", save_all=True, append_images=others)),
        *(("tif", encoded(photo, "TIFF", compression=name)) for name in TIFF_COMPRESSIONS),
        ("jpg", encoded(photo, "JPEG", xmp=xmp, **meta)),
        ("jpg", encoded(photo, "JPEG", progressive=True)),
        ("jpg", encoded(photo.convert("CMYK"), "JPEG", restart_marker_blocks=2)),
        ("jpg", encoded(photo, "MPO", save_all=True, append_images=others)),
        ("png", encoded(photo, "PNG", **meta)),
        ("png", encoded(rgba, "PNG", save_all=True, append_images=others)),
        ("png", encoded(photo.quantize(9), "PNG", transparency=3)),
        ("webp", encoded(photo, "WEBP", xmp=xmp, **meta)),
        ("webp", encoded(rgba, "WEBP", lossless=True)),
        ("webp", encoded(photo, "WEBP", save_all=True, append_images=others)),
        ("gif", encoded(photo, "GIF", save_all=True, append_images=others, comment=b"hello")),
        ("bmp", encoded(photo, "BMP")),
        ("bmp", encoded(photo.quantize(16), "BMP")),
        ("heic", encoded(photo, "HEIF", xmp=xmp, **meta)),
        ("heic", encoded(rgba, "HEIF", save_all=True, append_images=others)),
        ("avif", encoded(photo, "AVIF", xmp=xmp, **meta)),
        ("avif", encoded(rgba, "AVIF")),
        ("jxl", jpegxl(noise, icc=ADOBE_RGB)),
        ("jxl", jpegxl(noise, distance=1.0, boxes=[(b"xml ", xmp)], is_compressed=True)),
        ("jxl", jpegxl(np.stack([noise, 255 - noise]), frames=2, orientation=6)),
        ("jxl", jpegxl(np.dstack([noise, noise[..., 0]]).astype(np.uint16) * 257)),
        ("jxl", bytes(imagecodecs.jpegxl_encode_jpeg(encoded(photo, "JPEG")))),
        ("dng", dng(photo.resize((640, 480)), width=64, height=48)),
        ("xmp", xmp),
    ]
    sixteen = encoded(photo.convert("I;16"), "PNG")
    place = sixteen.index(b"IDAT") - 4
    files.append(("png", sixteen[:place] + png_chunk(b"tRNS", b"\0\1") + sixteen[place:]))
    masks = struct.pack("<4I", 0xF000, 0x0F00, 0x00F0, 0x000F)
    header = struct.pack("<IiiHHI", 124, 56, 40, 1, 16, 3).ljust(40, b"\0") + masks
    rows = noise[..., 0].repeat(2, 1).tobytes()
    files.append(
        ("bmp", b"BM" + struct.pack("<IHHI", 0, 0, 0, 138) + header.ljust(124, b"\0") + rows)
    )
    rle = b"".join(b"\0\x38" + noise[y, :, 0].tobytes() + b"\0\0" for y in range(40)) + b"\0\1"
    start = struct.pack("<IHHI", 0, 0, 0, 54 + 1024) + struct.pack("<IiiHHI", 40, 56, 40, 1, 8, 1)
    files.append(("bmp", b"BM" + start.ljust(52, b"\0") + bytes(range(256)) * 4 + rle))
    files.append(("tif", encoded(photo.convert("1"), "TIFF", compression="group4")))
    files.append(("tif", encoded(photo.convert("LAB"), "TIFF")))
    files.append(("tif", encoded(photo.convert("YCbCr"), "TIFF")))
    files.append(("tif", encoded(photo.quantize(9), "TIFF")))
    for kind in ("uint16", "float32", "int16", "float16", "uint32"):
        for options in ({"planarconfig": "separate"}, {"compression": "zlib", "predictor": True}):
            file = io.BytesIO()
            samples = noise.astype(kind)
            if "planarconfig" in options:
                samples = np.ascontiguousarray(samples.transpose(2, 0, 1))
            tifffile.imwrite(file, samples, photometric="rgb", metadata=None, **options)
            files.append(("tif", file.getvalue()))
    for compression in ("zstd", "lzma", "lerc", "webp"):
        file = io.BytesIO()
        tifffile.imwrite(file, noise, photometric="rgb", compression=compression, tile=(16, 16))
        files.append(("tif", file.getvalue()))
    return files


def mutated(random_: random.Random) -> tuple[str, bytes]:
    """A file of the corpus with flips, cuts, splices, and edits of lengths and counts."""
    suffix, original = random_.choice(corpus())
    data = bytearray(original)
    for _ in range(random_.choice((1, 1, 1, 2, 4, 12))):
        size = len(data)
        if size < 8:
            break
        # Headers matter most.
        reach = random_.choice((64, 600, size))
        place = random_.randrange(min(reach, size))
        kind = random_.choice((0, 0, 0, 1, 1, 2, 2, 3, 4, 5))
        if kind == 0:
            data[place] ^= 1 << random_.randrange(8)
        elif kind == 1:
            data[place] = random_.choice((0, 1, 127, 128, 255, random_.randrange(256)))
        elif kind == 2:
            number = random_.choice(NUMBERS)
            form = random_.choice(("<I", ">I", "<H", ">H"))
            value = struct.pack(form, number & (0xFFFF if form[1] == "H" else 0xFFFFFFFF))
            data[place : place + len(value)] = value
        elif kind == 3:
            del data[random_.randrange(size) :]
        elif kind == 4:
            other = random_.choice(corpus())[1]
            start = random_.randrange(len(other))
            data[place:place] = other[start : start + random_.randrange(1, 400)]
        else:
            del data[place : place + random_.randrange(1, 60)]
    if suffix == "png" and random_.random() < 0.8:
        seal_png(data)
    return suffix, bytes(data)


def seal_png(data: bytearray) -> None:
    """Correct the checksums, so that the damage gets past them."""
    position = 8
    while position + 12 <= len(data):
        end = position + 8 + int.from_bytes(data[position : position + 4], "big")
        data[end : end + 4] = struct.pack(">I", zlib.crc32(data[position + 4 : end]))
        position = end + 4


def work(folder: Path, seed: int, numbers: range) -> None:
    """Decode the files of these numbers, and print a line for each."""
    import time

    from regard.core.errors import DecodeError
    from regard.photos.metadata.reading import read_sidecar
    from regard.photos.photo_file import PhotoFile

    corpus()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    sound = folder / f"sound-{numbers.start}.jpg"
    sound.write_bytes(corpus()[0][1])
    for number in numbers:
        suffix, data = mutated(random.Random(seed * COUNT + number))
        path = folder / f"{numbers.start}.{suffix}"
        path.write_bytes(data)
        signal.alarm(SECONDS)
        begun = time.monotonic()
        outcome, detail = "decoded", ""
        try:
            with PhotoFile.open(sound if suffix == "xmp" else path) as photo:
                photo.header  # noqa: B018
                photo.facts(read_sidecar(path) if suffix == "xmp" else None)
                photo.decode()
        except DecodeError as error:
            outcome = "refused"
            if not error.message or "\n" in error.message:
                outcome, detail = "fault", f"file {number}: reason {error.message!r}"
        except BaseException as error:  # noqa: BLE001
            outcome, detail = "fault", f"file {number}: {error!r}"
        signal.alarm(0)
        print(outcome, time.monotonic() - begun, peak_kib(), detail, sep="\t", flush=True)


def peak_kib() -> int:
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))


if __name__ == "__main__":
    work(Path(sys.argv[1]), int(sys.argv[2]), range(*map(int, sys.argv[3:6])))
