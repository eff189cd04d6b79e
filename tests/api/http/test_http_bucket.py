"""Uploads whose originals are in a bucket that fails now and then, is away, or loses objects."""

from __future__ import annotations

import contextlib
import hashlib
import io
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from made_bucket import BUCKET, Bucket, used_here
from made_library import painted, regard
from made_service import WAIT, Served, Shelf, cut_off, jpeg, noisy, png, refused
from made_videos import write_video
from PIL import Image
from sqlalchemy import select

from regard.api.client import Client, Filters
from regard.api.library.purging import Purging
from regard.core.errors import CannotWork
from regard.storage.assets.uploads import SqlUploads
from regard.storage.database import schema
from regard.storage.database.catalog import open_catalog
from regard.storage.files.bucket_originals import BucketOriginals
from regard.storage.files.thumbnails import Thumbnails

pytestmark = pytest.mark.slow

STORE = f"s3://{BUCKET}/library"


@pytest.fixture(scope="module")
def bucket() -> Iterator[Bucket]:
    with Bucket() as bucket, used_here(bucket), pytest.MonkeyPatch.context() as patch:
        patch.setenv("REGARD_STORE", STORE)
        yield bucket


@pytest.fixture(scope="module")
def served(bucket: Bucket, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with Served(tmp_path_factory.mktemp("served"), None) as served:
        yield served


@pytest.fixture
def shelf(served: Served, bucket: Bucket) -> Iterator[Shelf]:
    yield served.shelf()
    bucket.failing, bucket.hangs, bucket.slow, bucket.is_away = 0.0, 0.0, 0.0, False


def original(shelf: Shelf, id: str) -> bytes:
    with io.BytesIO() as out:
        shelf.client.assets.original(id, out)
        return out.getvalue()


def stored(bucket: Bucket, *pictures: bytes) -> int:
    """How many objects the bucket has of these pictures."""
    digests = {hashlib.sha256(picture).hexdigest() for picture in pictures}
    keys = bucket.object_keys("library/originals/")
    return sum(key.rpartition("/")[2][:64] in digests for key in keys)


def live_through_a_life(shelf: Shelf, bucket: Bucket, count: int, hangs: float = 0.0) -> None:
    """Upload, search, trash, restore and purge photographs while 5 % of all requests fail, a
    quarter of them without an answer for `hangs` seconds if it is above 0."""
    pictures = [png("red" if number % 2 else "blue") for number in range(count)]
    bucket.failing, bucket.failed = 0.05, 0
    bucket.hangs, bucket.hung = hangs, 0
    ids = []
    for start in range(0, count, 10):
        ids += [asset.id for asset in shelf.add(*pictures[start : start + 10])]
    assert sorted(shelf.found("red")) == sorted(ids)
    assert stored(bucket, *pictures) == count
    draw = random.Random(1)
    for number in draw.sample(range(count), min(count, 20)):
        assert original(shelf, ids[number]) == pictures[number]
        assert shelf.client.assets.thumbnail(ids[number])
    trashed = draw.sample(range(count), count // 2)
    for number in trashed:
        shelf.client.assets.delete(ids[number])
    restored = set(trashed[: count // 4])
    for number in restored:
        shelf.client.assets.restore(ids[number])
    assert stored(bucket, *pictures) == count
    shelf.client.trash.empty(shelf.name)
    kept = [number for number in range(count) if number not in set(trashed) - restored]
    deadline = time.monotonic() + WAIT
    while stored(bucket, *pictures) != len(kept):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert sorted(shelf.found("red")) == sorted(ids[number] for number in kept)
    for number in kept[:10]:
        assert original(shelf, ids[number]) == pictures[number]
    assert bucket.failed > count // 10
    assert bucket.hung or not hangs


def test_a_few_dozen_photographs_survive_failing_requests(shelf: Shelf, bucket: Bucket) -> None:
    live_through_a_life(shelf, bucket, 40)


@pytest.mark.campaign
@pytest.mark.timeout(1800)
def test_500_photographs_survive_requests_that_fail_or_time_out(
    shelf: Shelf, bucket: Bucket
) -> None:
    live_through_a_life(shelf, bucket, 500, hangs=20.0)


def test_a_purge_sends_several_requests_at_once(shelf: Shelf, bucket: Bucket) -> None:
    pictures = [png() for _ in range(20)]
    for asset in shelf.add(*pictures):
        shelf.client.assets.delete(asset.id)
    bucket.slow, bucket.most_at_once = 0.1, 0
    shelf.client.trash.empty(shelf.name)
    assert bucket.most_at_once > 2
    assert stored(bucket, *pictures) == 0


def test_a_video_in_the_bucket_is_found_shown_and_played(
    served: Served, shelf: Shelf, bucket: Bucket, tmp_path: Path
) -> None:
    scenes = [(painted((name,), 1, (96, 64)), 3.0) for name in ("red", "blue")]
    data = write_video(tmp_path / "clip.mp4", scenes).read_bytes()
    [asset] = shelf.add(data)
    assert asset.duration_ms is not None
    assert stored(bucket, data) == 1
    hit = shelf.client.search("blue", filters=shelf.within, target="region").hits[0]
    assert hit.region is not None
    assert hit.region.time_ms is not None
    assert 3000 <= hit.region.time_ms <= 4000
    for picture in (
        shelf.client.assets.thumbnail(asset.id), shelf.client.regions.crop(hit.region.id)
    ):  # fmt: skip
        assert Image.open(io.BytesIO(picture)).size == (96, 64)
    part = served.raw().get(asset.urls.original, headers={"Range": "bytes=4-7"})
    assert (part.status_code, part.content) == (206, b"ftyp")
    assert original(shelf, asset.id) == data


def test_a_repeated_upload_leaves_one_object_which_collections_share(
    served: Served, shelf: Shelf, bucket: Bucket
) -> None:
    picture, other = png(), served.shelf()
    [first] = shelf.add(picture)
    [again] = shelf.send(picture).items
    assert again.status == "existing"
    [elsewhere] = other.add(picture)
    assert stored(bucket, picture) == 1
    for one, kept in ((shelf, elsewhere), (other, None)):
        [id] = one.ids()
        one.client.assets.delete(id)
        one.client.trash.empty(one.name)
        if kept is not None:
            assert original(other, kept.id) == picture
    assert stored(bucket, picture) == 0
    with refused("not-found"):
        shelf.client.assets.get(first.id)


def test_an_upload_that_failed_and_is_repeated_is_the_same_asset(
    shelf: Shelf, bucket: Bucket
) -> None:
    cut = cut_off(noisy())
    ids = []
    for _ in range(2):
        answer = shelf.send(cut)
        assert answer.items[0].asset is not None
        ids.append(answer.items[0].asset.id)
        assert shelf.served.wait(answer.job).failed == 1
    assert ids[0] == ids[1]
    assert shelf.ids() == ids[:1]
    assert stored(bucket, cut) == 1


def test_an_object_that_was_lost_comes_back_with_the_next_upload(
    shelf: Shelf, bucket: Bucket
) -> None:
    picture = png()
    [asset] = shelf.add(picture)
    originals = BucketOriginals(STORE, lambda name: None)
    [name] = [
        key.rpartition("/")[2]
        for key in bucket.object_keys()
        if hashlib.sha256(picture).hexdigest() in key
    ]
    assert originals.discard(name)
    with refused("original-gone"):
        original(shelf, asset.id)
    [again] = shelf.send(picture).items
    assert again.asset is not None
    assert (again.status, again.asset.id) == ("existing", asset.id)
    assert original(shelf, asset.id) == picture


def test_uploads_in_a_bucket_are_exported_and_imported(
    served: Served, shelf: Shelf, tmp_path: Path
) -> None:
    [asset] = shelf.add(png())
    exported = regard(
        "export", tmp_path / "export", "--collection", shelf.name, "--home", served.home
    )
    assert exported.code == 0, exported
    imported = regard("import", tmp_path / "export", "--home", tmp_path / "home")
    assert imported.code == 0, imported
    found = regard("search", "red", "--json", "--home", tmp_path / "home")
    [hit] = found.document["hits"]
    assert (hit["asset"]["width"], hit["asset"]["height"]) == (asset.width, asset.height)


def test_ranges_conditions_and_redirects(served: Served, shelf: Shelf, tmp_path: Path) -> None:
    picture = jpeg("green", size=(300, 200))
    [asset] = shelf.add(picture)
    url, raw = asset.urls.original, served.raw()
    whole = raw.get(url)
    assert (whole.status_code, whole.content) == (200, picture)
    head = raw.head(url)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(picture))
    part = raw.get(url, headers={"Range": "bytes=100-299"})
    assert (part.status_code, part.content) == (206, picture[100:300])
    assert part.headers["content-range"] == f"bytes 100-299/{len(picture)}"
    tail = raw.get(url, headers={"Range": "bytes=-7"})
    assert (tail.status_code, tail.content) == (206, picture[-7:])
    assert raw.get(url, headers={"Range": f"bytes={len(picture)}-"}).status_code == 416
    video = write_video(tmp_path / "clip.mp4", [(painted(("red",), 1, (96, 64)), 0.5)]).read_bytes()
    [moving] = shelf.add(jpeg("blue") + video)
    motion = raw.get(f"{moving.urls.self}/motion", headers={"Range": "bytes=100-299"})
    assert (motion.status_code, motion.content) == (206, video[100:300])
    known = raw.get(url, headers={"If-None-Match": whole.headers["etag"]})
    assert (known.status_code, known.content) == (304, b"")
    away = raw.get(url, params={"redirect": True})
    assert (away.status_code, away.headers["cache-control"]) == (307, "no-store")
    there = httpx.get(away.headers["location"], trust_env=False)
    assert there.content == picture
    named = ("content-type", "content-disposition")
    assert [there.headers[name] for name in named] == [whole.headers[name] for name in named]


def test_while_the_bucket_is_away_uploads_get_503_and_searches_go_on(
    served: Served, shelf: Shelf, bucket: Bucket
) -> None:
    [asset] = shelf.add(png("red"))
    waiting = png("blue")
    served.gate.let(0)
    job = shelf.send(waiting).job
    bucket.is_away = True
    served.gate.open()
    lost = png("green")
    with refused("unavailable"):
        shelf.send(lost)
    with refused("unavailable"):
        original(shelf, asset.id)
    answer = served.raw().get(asset.urls.original)
    assert answer.status_code == 503
    assert "the bucket photos can't be used" in answer.json()["detail"]
    assert shelf.found("red") == [asset.id]
    assert len(shelf.ids()) == 2
    # A purge is not undone by a bucket that can't delete: that is caught up with later.
    shelf.client.assets.delete(asset.id)
    shelf.client.trash.empty(shelf.name)
    bucket.is_away = False
    served.wait(job)
    [pending] = shelf.ids()
    assert original(shelf, pending) == waiting
    assert shelf.client.assets.get(pending).state == "indexed"
    assert len(shelf.add(lost)) == 1


def test_servers_share_thumbnails_until_they_are_purged(
    two_servers: list[Served], bucket: Bucket
) -> None:
    one, two = two_servers
    shelf = one.shelf()
    picture = png("red")
    [asset] = shelf.add(picture)
    sha256 = hashlib.sha256(picture).hexdigest()
    first = one.client.assets.thumbnail(asset.id)
    assert [key.rpartition("/")[2] for key in thumbnails_of(bucket, sha256)] == ["256"]
    before = bucket.requests["GET"]
    assert two.client.assets.thumbnail(asset.id) == first
    assert bucket.requests["GET"] == before + 1
    assert two.client.assets.thumbnail(asset.id) == first
    assert bucket.requests["GET"] == before + 1
    # Neither is lost while the bucket is away, nor waited for.
    bucket.is_away = True
    assert one.client.assets.thumbnail(asset.id) == first
    with refused("unavailable"):
        one.client.assets.thumbnail(asset.id, 512)
    bucket.is_away = False
    assert one.client.assets.thumbnail(asset.id, 512)
    shelf.client.assets.delete(asset.id)
    shelf.client.trash.empty(shelf.name)
    assert thumbnails_of(bucket, sha256) == []


def test_a_server_deletes_its_thumbnails_of_what_another_one_purged(
    two_servers: list[Served],
) -> None:
    one, two = two_servers
    shelf = one.shelf()
    kept, purged = shelf.add(png("red"), png("blue"))
    for asset in (kept, purged):
        assert two.client.assets.thumbnail(asset.id)
    assert len(two.thumbnails()) >= 2
    shelf.client.assets.delete(purged.id)
    shelf.client.trash.empty(shelf.name)
    # Otherwise it would take ten minutes.
    two.restart(kill=False)
    deadline = time.monotonic() + WAIT
    while any(f"/{purged.sha256}/" in path for path in two.thumbnails()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert any(f"/{kept.sha256}/" in path for path in two.thumbnails())
    shelf.client.assets.delete(kept.id)
    shelf.client.trash.empty(shelf.name)


def thumbnails_of(bucket: Bucket, sha256: str) -> list[str]:
    return bucket.object_keys(f"library/thumbnails/{sha256[:2]}/{sha256}/")


def test_what_a_killed_server_left_is_deleted_at_the_next_start(
    tmp_path: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, young = png(), png()
    with Served(tmp_path, None) as served:
        [asset] = served.shelf().add(png("red"))
        catalog = open_catalog(served.home / "catalog.sqlite3")
        announce: Callable[[str], None] = SqlUploads(catalog).announce
        originals = BucketOriginals(STORE, announce)
        for data, seconds in ((young, 0), (old, 7200)):
            now = time.time_ns() - seconds * 10**9
            with monkeypatch.context() as patch:
                patch.setattr(time, "time_ns", lambda now=now: now)
                with originals.incoming() as incoming:
                    incoming.write(data)
                    incoming.keep()
        catalog.close()
        assert (stored(bucket, old), stored(bucket, young)) == (1, 1)
        served.restart(kill=True)
        # The other may still be committed by a server that works.
        assert (stored(bucket, old), stored(bucket, young)) == (0, 1)
        assert original(served.shelf(), asset.id)


def use_at_random(
    servers: Sequence[Served],
    collection: str,
    seed: int,
    until: threading.Event,
    done: threading.Semaphore,
) -> None:
    """Upload, trash and purge the same few photographs through any server; each time is one more
    of `done`."""
    draw = random.Random(seed)
    while not until.is_set():
        # A server that was killed comes back at another port. What it refuses is not checked here.
        with (
            contextlib.suppress(CannotWork),
            contextlib.closing(Client(draw.choice(servers).server.url)) as client,
        ):
            within = Filters(collection=[collection])
            if draw.random() < 0.5:
                picture = draw.choice(SHARED)
                client.assets.upload(("a.png", picture), collection=collection)
            elif ids := [asset.id for asset in client.assets.list(within).items]:
                client.assets.delete(draw.choice(ids))
                if draw.random() < 0.7:
                    client.trash.empty(collection)
            done.release()


SHARED = [png("red", seed=number, size=(40, 30)) for number in range(4)]


DIGESTS = {hashlib.sha256(picture).hexdigest() for picture in SHARED}


def check_all_is_there(servers: Sequence[Served], bucket: Bucket) -> None:
    """Every asset has its original, and after a start, no other object is left."""
    bucket.failing = 0.0
    with pytest.MonkeyPatch.context() as patch:
        # As an hour later.
        for module in ("regard.storage.assets.uploads", "regard.api.library.purging"):
            patch.setattr(f"{module}.LEFTOVER_SECONDS", -1.0)
        catalog = open_catalog(str(servers[0].environ["REGARD_DATABASE_URL"]))
        originals = BucketOriginals(STORE, SqlUploads(catalog).announce)
        purging = Purging(catalog, originals, Thumbnails(servers[0].home / "thumbnails"))
        purging.purge(None)
        purging.delete_left_files()
        with catalog.database.reading() as connection:
            needed = set(connection.execute(select(schema.asset.c.uri)).scalars())
        catalog.close()
    there = {f"s3://{BUCKET}/{key}" for key in bucket.object_keys("library/originals/")}
    assert {uri for uri in there if uri[-85:-21] in DIGESTS} == needed
    for served in servers:
        served.client = served.with_key(None)
        for asset in served.client.assets.iterate():
            assert original(Shelf(served, asset.collection), asset.id) in SHARED


@pytest.fixture(scope="module")
def two_servers(
    bucket: Bucket, postgres_url: Callable[[], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[Served]]:
    url = postgres_url()
    folders = [tmp_path_factory.mktemp("served") for _ in range(2)]
    with Served(folders[0], url) as one, Served(folders[1], url) as two:
        yield [one, two]


@contextlib.contextmanager
def used_together(servers: Sequence[Served], bucket: Bucket) -> Iterator[None]:
    """Four clients use all servers until the block ends and all have been used 60 times; then
    everything is checked."""
    bucket.failing = 0.05
    until, done = threading.Event(), threading.Semaphore(0)
    with ThreadPoolExecutor(4) as threads:
        using = [
            threads.submit(use_at_random, servers, f"shared {number % 2}", number, until, done)
            for number in range(4)
        ]
        try:
            yield
            for _ in range(60):
                assert done.acquire(timeout=WAIT)
        finally:
            until.set()
    for one in using:
        one.result()
    check_all_is_there(servers, bucket)


def test_servers_that_upload_and_purge_the_same_bytes_lose_none(
    two_servers: list[Served], bucket: Bucket
) -> None:
    with used_together(two_servers, bucket):
        pass


@pytest.mark.campaign
def test_servers_that_are_killed_lose_no_object_and_leave_none(
    two_servers: list[Served], bucket: Bucket
) -> None:
    draw = random.Random()
    with used_together(two_servers, bucket):
        for _ in range(20):
            time.sleep(draw.uniform(0.2, 2))
            server = draw.choice(two_servers).server
            server.kill()
            server.start()
