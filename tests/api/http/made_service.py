"""A server with what its tests need at hand: a client, keys, photographs, a root and the
catalog."""

from __future__ import annotations

import datetime
import io
import itertools
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import piexif
import pytest
from made_gate import Gate
from made_library import painted
from made_server import Server

from regard.api.client import Client, Filters, ServerProblem
from regard.api.schemas import AssetDocument, JobDocument, UploadAnswer
from regard.core.keys import AccessScope
from regard.storage.database.catalog import open_catalog
from regard.storage.service.keys import SqlKeys

# As long as a worker, which leaves the processor to others, may take on a machine that has much
# else to do.
WAIT = 200.0
_numbers = itertools.count(1)


def png(*colours: str, size: tuple[int, int] = (24, 16), seed: int | None = None) -> bytes:
    """A small photograph that no other call gives, unless the seed is given."""
    with io.BytesIO() as file:
        painted(colours or ("red",), next(_numbers) if seed is None else seed, size).save(
            file, "PNG"
        )
        return file.getvalue()


def jpeg(
    *colours: str,
    taken: datetime.datetime | None = None,
    make: str | None = None,
    model: str | None = None,
    place: tuple[float, float] | None = None,
    size: tuple[int, int] = (24, 16),
    seed: int | None = None,
) -> bytes:
    """A photograph as a camera writes it; `place` in degrees."""
    main: dict[int, Any] = {}
    exif: dict[int, Any] = {piexif.ExifIFD.FNumber: (28, 10), piexif.ExifIFD.ISOSpeedRatings: 200}
    gps: dict[int, Any] = {}
    if make is not None:
        main[piexif.ImageIFD.Make] = make
    if model is not None:
        main[piexif.ImageIFD.Model] = model
    if taken is not None:
        exif[piexif.ExifIFD.DateTimeOriginal] = f"{taken:%Y:%m:%d %H:%M:%S}"
    if place is not None:
        latitude, longitude = place
        gps = {
            piexif.GPSIFD.GPSLatitudeRef: "N" if latitude >= 0 else "S",
            piexif.GPSIFD.GPSLatitude: _degrees(latitude),
            piexif.GPSIFD.GPSLongitudeRef: "E" if longitude >= 0 else "W",
            piexif.GPSIFD.GPSLongitude: _degrees(longitude),
        }
    data = piexif.dump({"0th": main, "Exif": exif, "GPS": gps})
    with io.BytesIO() as file:
        picture = painted(colours or ("red",), next(_numbers) if seed is None else seed, size)
        picture.save(file, "JPEG", quality=95, exif=data)
        return file.getvalue()


def _degrees(value: float) -> list[tuple[int, int]]:
    return [(round(abs(value) * 1_000_000), 1_000_000), (0, 1), (0, 1)]


def cut_off(picture: bytes) -> bytes:
    """A photograph whose head is sound and whose pixels are not all there."""
    return picture[: len(picture) * 2 // 3]


def noisy(size: tuple[int, int] = (300, 200)) -> bytes:
    """A larger photograph of noise, which does not compress."""
    return jpeg("red", "blue", size=size)


def refused(name: str) -> Any:
    """Expects the problem of this name."""
    return pytest.raises(ServerProblem, check=lambda error: error.name == name)


class Served:
    """`with Served(folder, url) as served:` a server, ready, and a client that needs no key.

    Its models can be held at its `gate`.
    """

    def __init__(
        self,
        folder: Path,
        database_url: str | None,
        *arguments: str,
        gate: Gate | None = None,
        vectors: str = "faiss",
        environ: Mapping[str, str] | None = None,
        **options: Any,
    ) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.photos = folder / "photos"
        self.outside = folder / "outside"
        for made in (self.photos, self.outside):
            made.mkdir(exist_ok=True)
        self.gate = gate or Gate(folder / "gate")
        self.environ = {**self.gate.environ, **(environ or {})}
        if database_url is not None:
            self.environ["REGARD_DATABASE_URL"] = database_url
        self.environ["REGARD_VECTORS"] = vectors
        self._database = database_url or self.home / "catalog.sqlite3"
        self.server = Server(
            self.home,
            *arguments,
            roots={"photos": self.photos},
            environ=self.environ,
            **options,
        )
        self._clients: list[Client | httpx.Client] = []

    @property
    def url(self) -> str:
        """Where requests are sent."""
        return self.server.url

    @property
    def servers(self) -> Sequence[Server]:
        """All that answer."""
        return [self.server]

    def __enter__(self) -> Served:
        self.server.start()
        self.client = self.with_key(None)
        return self

    def __exit__(self, *_: object) -> None:
        self.gate.open()
        self.close_clients()
        self.server.__exit__()

    def close_clients(self) -> None:
        for client in self._clients:
            client.close()
        self._clients.clear()

    def restart(self, *, kill: bool) -> None:
        """End the server, in order or not, and start it again."""
        self.close_clients()
        if kill:
            self.server.kill()
        else:
            self.server.stop()
        self.server.start()
        self.client = self.with_key(None)

    def with_key(self, key: str | None) -> Client:
        client = Client(self.url, key)
        self._clients.append(client)
        return client

    def raw(self, key: str | None = None) -> httpx.Client:
        """For what the client is too polite to send."""
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        client = httpx.Client(
            base_url=self.url, headers=headers, timeout=120, trust_env=False, verify=False
        )
        self._clients.append(client)
        return client

    def key(self, scope: str, *collections: str) -> str:
        """A new key, bound where collections are given, which are made where they are not
        there."""
        catalog = open_catalog(self._database)
        try:
            there = {item.name for item in self.client.collections.iterate()}
            for name in {*collections} - there:
                self.client.collections.create(name)
            return SqlKeys(catalog).create("test", AccessScope(scope), collections or None)[1]
        finally:
            catalog.close()

    def revoke(self, key: str) -> None:
        catalog = open_catalog(self._database)
        try:
            found = SqlKeys(catalog).find(key)
            assert found is not None
            SqlKeys(catalog).revoke(found.id)
        finally:
            catalog.close()

    def shelf(self, name: str | None = None) -> Shelf:
        return Shelf(self, name or f"shelf {next(_numbers)}")

    def until_done(self, job: JobDocument, count: int) -> None:
        """Until a job has done so many photographs."""
        deadline = time.monotonic() + WAIT
        while (now := self.client.jobs.get(job.id)).done < count:
            assert time.monotonic() < deadline, now
            time.sleep(0.02)

    def wait(self, job: JobDocument | None) -> JobDocument:
        """The job when it has ended, well."""
        assert job is not None
        deadline = time.monotonic() + WAIT
        while (now := self.client.jobs.get(job.id)).state in {"queued", "running"}:
            assert time.monotonic() < deadline, now
            time.sleep(0.02)
        assert now.state == "done", now
        return now

    def originals(self) -> dict[str, bytes]:
        """The files of the managed store, by their names."""
        return {
            path.name: path.read_bytes()
            for path in (self.home / "originals").rglob("*")
            if path.is_file()
        }

    def thumbnails(self) -> list[str]:
        """The paths of the thumbnails that purges delete at once."""
        return [str(path) for path in (self.home / "thumbnails").rglob("*") if path.is_file()]


class Shelf:
    """A collection, and short ways to fill and look at it."""

    def __init__(self, served: Served, name: str) -> None:
        self.served = served
        self.name = name
        self.within = Filters(collection=[name])

    @property
    def client(self) -> Client:
        return self.served.client

    def send(self, *pictures: bytes, **said: Any) -> UploadAnswer:
        """Upload pictures; do not wait."""
        files = [(f"{number}.png", data) for number, data in enumerate(pictures)]
        return self.client.assets.upload(*files, collection=self.name, **said)

    def add(self, *pictures: bytes, **said: Any) -> list[AssetDocument]:
        """Upload pictures and wait until they are indexed."""
        answer = self.send(*pictures, **said)
        if answer.job is not None:
            self.served.wait(answer.job)
        ids = [item.asset.id for item in answer.items if item.asset is not None]
        return [self.client.assets.get(id) for id in ids]

    def folder(self, **files: bytes) -> Path:
        """A folder below the root, with these photographs."""
        folder = self.served.photos / self.name.replace(" ", "-")
        folder.mkdir(exist_ok=True)
        for name, data in files.items():
            (folder / f"{name}.png").write_bytes(data)
        return folder

    def bring(self, folder: Path, *, wait: bool = True) -> JobDocument:
        """Import a folder."""
        path = os.path.relpath(folder, self.served.photos)
        job = self.client.jobs.start_import("photos", path, collection=self.name)
        return self.served.wait(job) if wait else job

    def ids(self, **options: Any) -> list[str]:
        return [asset.id for asset in self.client.assets.iterate(self.within, **options)]

    def found(self, text: str = "red", **terms: Any) -> list[str]:
        """Ids of all hits of a search here."""
        terms.setdefault("filters", self.within)
        return [hit.asset.id for hit in self.client.iterate_hits(text, page=50, **terms)]


def events_of(client: httpx.Client, job: str) -> Iterator[dict[str, Any]]:
    """The documents of a job's event stream, until it ends."""
    with client.stream("GET", f"/v1/jobs/{job}/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        for line in answer.iter_lines():
            if line.startswith("data: "):
                yield json.loads(line.removeprefix("data: "))


def names(items: Sequence[AssetDocument]) -> list[str]:
    return [item.file_name for item in items]
