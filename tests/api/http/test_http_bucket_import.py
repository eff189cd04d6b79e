"""Photographs that a server imports from a bucket and serves from there."""

from __future__ import annotations

import io
from collections.abc import Iterator

import httpx
import pytest
from made_bucket import BUCKET, Bucket, used_here
from made_library import regard
from made_local_server import LocalServer
from made_service import Served, Shelf, jpeg, png, refused

from regard.api.client import Client, Filters
from regard.core.keys import AccessScope
from regard.storage.database.catalog import open_catalog
from regard.storage.service.keys import SqlKeys

pytestmark = pytest.mark.slow

ROOT = f"s3://{BUCKET}/all"


@pytest.fixture(scope="module")
def bucket() -> Iterator[Bucket]:
    with Bucket() as bucket, used_here(bucket):
        yield bucket


@pytest.fixture(scope="module")
def served(bucket: Bucket, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    bucket.put("first/a.png", png())
    folder = tmp_path_factory.mktemp("served")
    arguments = ("--root", f"bucket={ROOT}/", "--import", f"s3://{BUCKET}/first")
    with Served(folder, None, *arguments) as served:
        yield served


@pytest.fixture
def shelf(served: Served, bucket: Bucket) -> Iterator[Shelf]:
    yield served.shelf()
    bucket.failing, bucket.is_away = 0.0, False
    bucket.delete(*bucket.object_keys("all/"))


def bring(shelf: Shelf, path: str = "") -> None:
    shelf.served.wait(shelf.client.jobs.start_import("bucket", path, collection=shelf.name))


def test_a_server_imports_the_bucket_that_it_is_started_with(served: Served) -> None:
    [job] = served.client.jobs.list(collection=["default"]).items
    served.wait(job)
    assert (job.root, job.path) == ("first", "")
    [asset] = served.client.assets.iterate(Filters(collection=["default"]))
    assert (asset.path, asset.uri) == ("first/a.png", f"s3://{BUCKET}/first/a.png")
    assert served.client.info().roots == ["bucket", "first", "photos"]


def test_originals_are_served_from_the_bucket_as_they_were_indexed(
    served: Served, shelf: Shelf, bucket: Bucket
) -> None:
    picture = jpeg("green", size=(300, 200))
    bucket.put("all/a b/é.jpg", picture)
    bring(shelf, "a b")
    [asset] = shelf.client.assets.iterate(shelf.within)
    assert asset.path == "bucket/a b/é.jpg"
    for prefix, count in (("bucket/a b", 1), ("bucket", 1), ("bucket/a", 0)):
        within = Filters(collection=[shelf.name], path_prefix=prefix)
        assert len(list(shelf.client.assets.iterate(within))) == count
    for query, ids in (("path:bucket/a", []), ('path:"bucket/a b"', [asset.id])):
        hits = shelf.client.search(query=f"green {query}", filters=shelf.within).hits
        assert [hit.asset.id for hit in hits] == ids
    url, raw = asset.urls.original, served.raw()
    assert raw.get(url).content == picture
    part = raw.get(url, headers={"Range": "bytes=100-299"})
    assert (part.status_code, part.content) == (206, picture[100:300])
    away = raw.get(url, params={"redirect": True})
    assert away.status_code == 307
    assert httpx.get(away.headers["location"], trust_env=False).content == picture
    # Another photograph of the same size takes its place.
    bucket.put("all/a b/é.jpg", bytes(reversed(picture)))
    thumbnail = asset.urls.thumbnail
    for target, query in ((url, None), (url, {"redirect": True}), (thumbnail, None)):
        answer = raw.get(target, params=query)
        assert (answer.status_code, answer.json()["type"]) == (409, "/v1/problems/original-changed")
    bucket.delete("all/a b/é.jpg")
    for target, query in ((url, None), (url, {"redirect": True}), (thumbnail, None)):
        answer = raw.get(target, params=query)
        assert answer.json()["type"] == "/v1/problems/original-gone"
    bucket.put("all/a b/é.jpg", picture)
    assert raw.get(thumbnail).status_code == 200


def test_an_import_waits_while_its_bucket_is_away(
    served: Served, shelf: Shelf, bucket: Bucket
) -> None:
    pictures = {f"all/{number}.png": png("red") for number in range(6)}
    for key, data in pictures.items():
        bucket.put(key, data)
    bring(shelf)
    bucket.put("all/more.png", png("red"))
    bucket.delete("all/0.png")
    bucket.is_away = True
    with refused("unavailable"):
        shelf.client.jobs.start_import("bucket", "", collection=shelf.name)
    bucket.is_away = False
    served.gate.let(0)
    job = shelf.client.jobs.start_import("bucket", "", collection=shelf.name)
    bucket.is_away = True
    served.gate.open()
    assert len(shelf.found("red")) == 6
    bucket.is_away = False
    assert served.wait(job).state == "done"
    assert len(shelf.found("red")) == 6
    assert {asset.file_name for asset in shelf.client.assets.iterate(shelf.within)} == {
        *(f"{number}.png" for number in range(1, 6)),
        "more.png",
    }


def test_only_what_is_below_the_root_can_be_imported(shelf: Shelf, bucket: Bucket) -> None:
    bucket.put("all/a.png", png())
    for path in ("../first", "a/../../first", ".."):
        with refused("outside-roots"):
            shelf.client.jobs.start_import("bucket", path, collection=shelf.name)
    with refused("not-found"):
        shelf.client.jobs.start_import("bucket", "nowhere", collection=shelf.name)
    with refused("not-found"):
        shelf.client.jobs.start_import("s3://photos/first", collection=shelf.name)


def test_with_keys_only_what_is_below_a_root_is_served(
    bucket: Bucket, tmp_path_factory: pytest.TempPathFactory
) -> None:
    home = tmp_path_factory.mktemp("home")
    picture = png()
    bucket.put("all/inside.png", picture)
    bucket.put("all-else/outside.png", png())
    for path in (ROOT, f"s3://{BUCKET}/all-else"):
        assert regard("index", path, "--home", home, "--profile", "fake").code == 0
    with LocalServer(home, roots={"bucket": ROOT.encode()}, keys_required=True) as server:
        catalog = open_catalog(home / "catalog.sqlite3")
        key = SqlKeys(catalog).create("test", AccessScope.READ, None)[1]
        catalog.close()
        with Client(server.url, key) as client:
            assets = {asset.file_name: asset for asset in client.assets.iterate(Filters())}
            with io.BytesIO() as out:
                client.assets.original(assets["inside.png"].id, out)
                assert out.getvalue() == picture
            assert assets["inside.png"].path == "bucket/inside.png"
            assert assets["outside.png"].path is None
            assert "s3://" not in assets["outside.png"].uri
            with refused("outside-roots"), io.BytesIO() as out:
                client.assets.original(assets["outside.png"].id, out)
            with refused("validation"):
                client.assets.list(Filters(path_prefix="s3://photos/all"))
