"""Makes a library of any size through the catalog's own writer, with `lite` as its pipeline.

Photographs come in trips of about 25 with a folder, camera, place and tags each; some are bursts,
some edited copies, some lie at two paths. Their files are single bytes, with the sizes and times
that the catalog knows, so an unchanged tree can be indexed again. Tags `any-S`, `near-S` and
`far-S` pass S % of the photographs: at random, or those most or least like the text `PROBE`.
"""

from __future__ import annotations

import datetime
import hashlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image as Pillow
from synthetic_vectors import Pictures

from regard.api.library.home import Home
from regard.core.catalog import AnalysedFile, ContentHeader, FileStamp
from regard.core.facts import Capture, PhotoFacts
from regard.core.geometry import Box
from regard.core.records import (
    VECTOR_KINDS,
    Analysis,
    Caption,
    Channel,
    Embedding,
    Float32Array,
    Kind,
    Region,
    Signature,
    signature_shape,
)
from regard.photos.masks import encode_mask
from regard.storage.assets.indexing import SqlIndexingCatalog

PROBE = "a red flower"
SHARES = (50, 10, 1, 0.1, 0.01)  # percent
COLLECTIONS = {"default": 0.8, "family": 0.15, "scans": 0.05}
CAPTION_MODEL = "synthetic"
_SIZES = ((1600, 1200), (1200, 1600), (1800, 1200), (1024, 768))
_CAMERAS = (("Canon", "EOS R5"), ("Apple", "iPhone 13"), ("NIKON", "D750"), ("SONY", "ILCE-7M3"))
_PLACES, _TAGS, _TRIP = 60, 200, 25
_AT_ONCE = 500
_COMMITTED = 64  # contents a transaction
_START = datetime.datetime(2006, 1, 1)
_DAYS = 7000


@dataclass(frozen=True)
class Written:
    """What writing took: photographs, and seconds without those for making them."""

    photographs: int
    seconds: float


class Maker:
    """Makes photographs' records, seeded, with vectors of `pictures`."""

    def __init__(self, home: Home, pictures: Pictures, seed: int = 0) -> None:
        self._home, self._pictures = home, pictures
        self._generator = np.random.default_rng((seed, 1))
        self._regions = {size: self._make_regions(size) for size in _SIZES}
        self._probe = Channel(home.profile.spaces[0].name, Kind.IMAGE)
        self._text = home.profile.encoder(self._probe.space).encode_texts([PROBE])[0]
        scores = pictures.sample(self._probe) @ self._text
        self._near = {share: np.quantile(scores, 1 - share / 100) for share in SHARES}
        self._far = {share: np.quantile(scores, share / 100) for share in SHARES}
        self._places = self._generator.uniform((-50, -180), (65, 180), (_PLACES, 2))
        self._grey = self._made_grey(_SIZES[0])

    def write(self, photographs: int, folder: Path) -> Written:
        """Write so many photographs, whose files lie in `folder`."""
        seconds = 0.0
        trips = self._trips()
        for collection, share in COLLECTIONS.items():
            left = round(photographs * share)
            catalog = SqlIndexingCatalog(self._home.catalog, self._home.pipeline, collection)
            with catalog.writer_lease():
                while left > 0:
                    batch = min(left, _AT_ONCE)
                    records = list(self._records(batch, folder / collection, trips))
                    started = time.perf_counter()
                    for start in range(0, batch, _COMMITTED):
                        catalog.save(records[start : start + _COMMITTED])
                    seconds += time.perf_counter() - started
                    left -= batch
                # As each run of indexing does, or the first one after this would do it for all.
                catalog.update_stacks()
        return Written(photographs, seconds)

    def _records(
        self, count: int, folder: Path, trips: Iterator[PhotoFacts]
    ) -> Iterator[AnalysedFile]:
        generator = self._generator
        _, drawn = self._pictures.draw(count)
        for place in range(count):
            rows = {channel: of[place] for channel, of in drawn.items()}
            facts = next(trips)
            tags = (*facts.keywords, *self._selected(rows[self._probe][0]))
            size = _SIZES[generator.choice(4, p=(0.5, 0.2, 0.2, 0.1))]
            # An edited copy of the photograph before is only lighter and noisier.
            is_copy = generator.random() < 0.02 and self._grey.shape == signature_shape(*size)
            if is_copy:
                noisy = self._grey * 1.05 + generator.normal(0, 2, self._grey.shape)
                self._grey = noisy.clip(0, 255).astype(np.uint8)
            else:
                self._grey = self._made_grey(size)
            stamp, digest = self._file(folder, facts, place)
            yield AnalysedFile(
                stamp,
                ContentHeader(digest, "JPEG", *size),
                replace(facts, keywords=tags),
                self._analysis(rows, size, facts),
                Signature(self._grey, *size),
            )

    def _analysis(
        self, rows: dict[Channel, Float32Array], size: tuple[int, int], facts: PhotoFacts
    ) -> Analysis:
        count = max(len(of) for channel, of in rows.items() if channel.kind is Kind.REGION)
        chosen = self._generator.integers(len(self._regions[size]), size=count)
        embeddings = [
            Embedding(
                channel.space,
                channel.kind,
                row,
                region=place if channel.kind is Kind.REGION else None,
                caption=place if channel.kind is Kind.CAPTION else None,
            )
            for channel, of in rows.items()
            if channel.kind in VECTOR_KINDS
            for place, row in enumerate(of)
        ]
        text = f"a photo of {' and '.join(facts.keywords[:2])}"
        return Analysis(
            tuple(self._regions[size][place] for place in chosen),
            (Caption(text, CAPTION_MODEL),),
            tuple(embeddings),
        )

    def _selected(self, row: Float32Array) -> list[str]:
        score = float(row @ self._text)
        random = 100 * self._generator.random()
        return [
            *(f"any-{share}" for share in SHARES if random < share),
            *(f"near-{share}" for share in SHARES if score >= self._near[share]),
            *(f"far-{share}" for share in SHARES if score <= self._far[share]),
        ]

    def _trips(self) -> Iterator[PhotoFacts]:
        """The facts of one photograph after another, without end."""
        generator = self._generator
        words = self._pictures.real.texts
        while True:
            moment = _START + datetime.timedelta(days=int(generator.integers(_DAYS)), hours=9)
            make, model = _CAMERAS[generator.choice(4, p=(0.4, 0.3, 0.2, 0.1))]
            place = self._places[generator.integers(_PLACES)]
            has_place = generator.random() < 0.4
            tags = {words[int(tag) % len(words)] for tag in generator.zipf(1.5, 3) % _TAGS}
            for _ in range(generator.geometric(1 / _TRIP)):
                in_burst = generator.random() < 0.1
                seconds = 1 if in_burst else int(generator.exponential(600)) + 5
                moment += datetime.timedelta(seconds=seconds)
                near = place + generator.normal(0, 0.02, 2)
                yield PhotoFacts(
                    taken_at=moment if generator.random() < 0.97 else None,
                    camera_make=make,
                    camera_model=model,
                    latitude=float(near[0]) if has_place else None,
                    longitude=float(near[1].clip(-180, 180)) if has_place else None,
                    title=sorted(tags)[0] if generator.random() < 0.1 else None,
                    keywords=tuple(sorted(tags)),
                    capture=Capture(0.005, 4.0, 200, 35.0),
                )

    def _file(self, folder: Path, facts: PhotoFacts, place: int) -> tuple[FileStamp, str]:
        """Make a file of one byte at a path with year, day and tag."""
        day = facts.taken_at or _START
        name = f"IMG_{place:03}_{self._generator.integers(1 << 40):010x}.jpg"
        path = folder / f"{day:%Y}" / f"{day:%Y-%m-%d} {facts.keywords[0][:40]}" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"\0")
        status = path.stat()
        digest = hashlib.sha256(os.fsencode(path)).hexdigest()
        return FileStamp(os.fsencode(path), status.st_size, status.st_mtime_ns), digest

    def _made_grey(self, size: tuple[int, int]) -> np.ndarray:
        rows, columns = signature_shape(*size)
        coarse = self._generator.integers(0, 256, (9, 12)).astype(np.uint8)
        return np.asarray(Pillow.fromarray(coarse).resize((columns, rows)))

    def _make_regions(self, size: tuple[int, int]) -> list[Region]:
        """Ellipses of all sizes."""
        made, (width, height) = [], size
        for _ in range(48):
            across, down = (self._generator.uniform(0.05, 0.6, 2) * size).astype(int)
            left = int(self._generator.integers(width - across))
            top = int(self._generator.integers(height - down))
            y, x = np.ogrid[-1 : 1 : down * 1j, -1 : 1 : across * 1j]
            pixels = np.zeros((height, width), np.bool_)
            pixels[top : top + down, left : left + across] = x**2 + y**2 <= 1
            score = float(self._generator.uniform(0.05, 1))
            box = Box(left, top, int(across), int(down))
            made.append(Region(box, encode_mask(pixels), int(pixels.sum()), score))
        return made
