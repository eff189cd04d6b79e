"""Damage of an index on disk is told, and never gives a wrong score."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from vector_oracle import (
    APPROXIMATE,
    Implementation,
    Truth,
    add,
    contents,
    step,
    unit_rows,
)

from regard.core.errors import IndexMismatch
from regard.storage.vectors.segments.index import SegmentedIndex
from regard.storage.vectors.segments.manifest import Manifest

D = 16


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
    """Check whole answers of an index that may leave out some rows."""
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
                saved.damage()
        else:
            assert saved.damage() == [f"the file {path.name} is damaged"]
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
