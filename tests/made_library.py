"""A folder of small photographs and a home, driven through the command line."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from made_processes import Forked
from PIL import Image

from regard.api.cli import main

Argument = str | bytes | Path

COLOURS = {
    "red": (220, 30, 30),
    "green": (40, 160, 60),
    "blue": (40, 70, 200),
    "yellow": (240, 220, 50),
    "purple": (130, 50, 160),
    "white": (245, 245, 245),
}


@dataclass(frozen=True)
class Outcome:
    """What a command did; `out` as bytes, since paths are."""

    code: int
    out: bytes
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        assert self.out.endswith(b"\n") or not self.out
        return [json.loads(line) for line in self.out.splitlines()]

    def expect_sentence(self, code: int, *words: str) -> None:
        """One line on stderr, nothing on stdout, no traceback."""
        assert self.code == code, self
        assert self.out == b"", self.out
        assert self.err.startswith("regard: "), self.err
        assert self.err.count("\n") == 1, self.err
        assert "Traceback" not in self.err
        for word in words:
            assert word in self.err, self.err


def regard(*arguments: Argument, encoding: str = "utf-8") -> Outcome:
    """Run a command in this process."""
    out = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    err = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([os.fsdecode(argument) for argument in arguments])
        out.flush()
    return Outcome(code, out.buffer.getvalue(), err.getvalue())  # type: ignore[attr-defined]


def command(*arguments: Argument) -> list[Argument]:
    """The command line of a process of its own, in which warnings are errors."""
    return [sys.executable, "-W", "error", "-m", "regard.api.cli", *arguments]


def regard_process(
    *arguments: Argument,
    stdin: bytes = b"",
    environ: dict[str, str] | None = None,
    popen: Callable[..., subprocess.Popen[bytes]] = Forked,
    **options: Any,
) -> Outcome:
    """Run a command in a process of its own."""
    with popen(
        command(*arguments),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **(environ or {})},
        **options,
    ) as process:
        try:
            out, err = process.communicate(stdin, timeout=240)
        finally:
            process.kill()
    return Outcome(process.returncode, out, err.decode())


# Rights of root that apply and that may: 2 is to read and write every file, 4 to enter every folder.
_GIVE_UP_RIGHTS = """
import ctypes
header, rights = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
libc = ctypes.CDLL(None)
assert libc.capget(header, rights) == 0
for kind in (0, 1):
    rights[kind] &= ~(2 | 4)
assert libc.capset(header, rights) == 0
"""


def without_root_rights(folder: Path) -> dict[str, str]:
    """The environment of processes to which permissions of files apply, run by root or not."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(_GIVE_UP_RIGHTS)
    return {"PYTHONPATH": str(folder)}


def painted(colours: Sequence[str], seed: int = 0, size: tuple[int, int] = (24, 16)) -> Image.Image:
    """Vertical stripes of named colours; the seed makes pictures of the same colours differ."""
    width, height = size
    pixels = np.zeros((height, width, 3), np.int16)
    for index, name in enumerate(colours):
        left, right = width * index // len(colours), width * (index + 1) // len(colours)
        pixels[:, left:right] = COLOURS[name]
    noise = np.random.default_rng(seed).integers(-8, 9, pixels.shape)
    return Image.fromarray(np.clip(pixels + noise, 0, 255).astype(np.uint8))


def write_photo(path: Path | bytes, seed: int, *colours: str, kind: str = "PNG") -> Path:
    """Write a small photograph; the same seed and colours give the same bytes."""
    where = Path(os.fsdecode(path))
    where.parent.mkdir(parents=True, exist_ok=True)
    if not colours:
        names = list(COLOURS)
        colours = (names[seed % len(names)], names[seed // len(names) % len(names)])
    with open(where, "wb") as file:
        painted(colours, seed).save(file, kind)
    return where


class Library:
    """`photos`, 0.png up to `count` of them, and a `home` below one folder."""

    def __init__(self, folder: Path, *, count: int = 0) -> None:
        self.photos = folder / "photos"
        self.home = folder / "home"
        self.photos.mkdir(parents=True, exist_ok=True)
        for number in range(count):
            self.photo(f"{number}.png", number)

    def photo(self, name: str, seed: int, *colours: str, kind: str = "PNG") -> Path:
        return write_photo(self.photos / name, seed, *colours, kind=kind)

    def run(self, name: str, *arguments: Argument) -> Outcome:
        return regard(name, *arguments, "--home", self.home)

    def index(self, *arguments: Argument, code: int = 0) -> dict[str, Any]:
        """Index, by default all photos; the report."""
        given = arguments or (self.photos,)
        outcome = self.run("index", *given, "--profile", "fake", "--json")
        assert outcome.code == code, outcome
        report: dict[str, Any] = outcome.document
        assert report["failed"] == len(report["failures"])
        return report

    def search(self, *arguments: Argument) -> list[dict[str, Any]]:
        outcome = self.run("search", *arguments, "--json")
        assert outcome.code == 0, outcome
        hits: list[dict[str, Any]] = outcome.document["hits"]
        return hits

    def shown(self, *arguments: Argument) -> set[str]:
        """Names of all photographs that a search can show."""
        hits = self.search("red", "--limit", "100000", *arguments)
        return {os.path.relpath(hit["asset"]["uri"], self.photos) for hit in hits}

    def verify(self) -> None:
        outcome = self.run("verify")
        assert outcome.code == 0, outcome

    def sql(self, statement: str, *values: object) -> list[Any]:
        uri = f"file:{self.home / 'catalog.sqlite3'}?mode=ro"
        with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=30)) as connection:
            return connection.execute(statement, values).fetchall()

    def asset_ids(self) -> dict[str, int]:
        """Asset ids by path below the photos."""
        rows = self.sql("SELECT id, path FROM asset")
        return {
            os.path.relpath(os.fsdecode(path), self.photos): int(number) for number, path in rows
        }

    def everything(self) -> dict[bytes, object]:
        """All that the catalog says of each asset, ids left out."""
        of_content: dict[int, list[object]] = {}
        for statement in (
            "SELECT id, sha256, format, width, height FROM content",
            "SELECT content_id, ordinal, x, y, width, height, area, mask FROM region "
            "ORDER BY content_id, ordinal",
            "SELECT content_id, text FROM caption",
            "SELECT content_id, kind, space, vectors FROM embedding "
            "JOIN channel ON channel.id = channel_id ORDER BY 1, 2, 3",
        ):
            for content, *values in self.sql(statement):
                of_content.setdefault(content, []).append(values)
        rows = self.sql("SELECT path, content_id, failure FROM asset")
        return {
            path: failure if content is None else of_content[content]
            for path, content, failure in rows
        }
