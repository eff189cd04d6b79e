"""Pictures over HTTP: originals, thumbnails, crops and masks, and what may be read at all."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_service import Served, Shelf, cut_off, jpeg, noisy, png, refused
from made_videos import write_video
from PIL import Image

from regard.api.schemas import AssetDocument
from regard.core.geometry import Mask
from regard.photos.masks import decode_mask

YEAR = "private, max-age=31536000, immutable"


def opened(data: bytes) -> Image.Image:
    picture = Image.open(io.BytesIO(data))
    picture.load()
    return picture


def imported(shelf: Shelf, data: bytes) -> tuple[Path, AssetDocument]:
    """A photograph in the root, and its asset."""
    folder = shelf.folder(a=data)
    shelf.bring(folder)
    return folder / "a.png", next(iter(shelf.client.assets.iterate(shelf.within)))


def problem(answer: Any) -> str:
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    name: str = answer.json()["type"]
    return name.removeprefix("/v1/problems/")


def test_originals_are_served_byte_for_byte(served: Served, shelf: Shelf) -> None:
    data = noisy()
    for asset in (shelf.add(data)[0], imported(served.shelf(), data)[1]):
        out = io.BytesIO()
        assert shelf.client.assets.original(asset.id, out) == len(data)
        assert out.getvalue() == data
    answer = served.raw().get(asset.urls.original)
    assert answer.headers["content-type"] == "image/jpeg"
    assert answer.headers["content-length"] == str(len(data))
    assert answer.headers["content-disposition"].startswith("inline")
    assert "sandbox" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_ranges_of_originals_are_served(served: Served, shelf: Shelf) -> None:
    data = png()
    [asset] = shelf.add(data)
    size, raw = len(data), served.raw()

    def part(value: str, **headers: str) -> tuple[int, bytes, str | None]:
        answer = raw.get(asset.urls.original, headers={"Range": value, **headers})
        return answer.status_code, answer.content, answer.headers.get("content-range")

    assert part("bytes=0-3") == (206, data[:4], f"bytes 0-3/{size}")
    assert part("bytes=4-") == (206, data[4:], f"bytes 4-{size - 1}/{size}")
    assert part("bytes=-5") == (206, data[-5:], f"bytes {size - 5}-{size - 1}/{size}")
    assert part("bytes=-99999999") == (206, data, f"bytes 0-{size - 1}/{size}")
    assert part("bytes=2-99999999") == (206, data[2:], f"bytes 2-{size - 1}/{size}")
    assert part(f"bytes={size}-")[::2] == (416, f"bytes */{size}")
    beyond = raw.get(asset.urls.original, headers={"Range": f"bytes={size}-"})
    assert problem(beyond) == "range-not-satisfiable"
    for other in ("lines=0-3", "bytes=0-1,3-4", "bytes=x", "bytes=-", "bytes=3-1"):
        assert part(other)[:2] == (200, data), other
    # Of a file that is another by now a part is of no use.
    tag = raw.get(asset.urls.original).headers["etag"]
    assert part("bytes=0-3", **{"If-Range": tag})[0] == 206
    assert part("bytes=0-3", **{"If-Range": '"other"'})[:2] == (200, data)


def test_the_video_in_a_motion_photo_is_served_in_ranges(
    served: Served, shelf: Shelf, tmp_path: Path
) -> None:
    picture = jpeg("green")
    scenes = [(Image.new("RGB", (96, 64), "red"), 0.5)]
    video = write_video(tmp_path / "clip.mp4", scenes).read_bytes()
    [asset] = shelf.add(picture + video)
    url, raw = f"{asset.urls.self}/motion", served.raw()
    whole = raw.get(url)
    assert (whole.status_code, whole.content) == (200, video)
    assert whole.headers["content-type"] == "video/mp4"
    assert whole.headers["content-length"] == str(len(video))
    assert "sandbox" in whole.headers["content-security-policy"]
    for wanted, part in (("0-3", video[:4]), ("100-299", video[100:300]), ("-7", video[-7:])):
        answer = raw.get(url, headers={"Range": f"bytes={wanted}"})
        assert (answer.status_code, answer.content) == (206, part)
        start = video.index(part)
        named = f"bytes {start}-{start + len(part) - 1}/{len(video)}"
        assert answer.headers["content-range"] == named
    # No range reaches the picture before it, or beyond the end.
    assert raw.get(url, headers={"Range": "bytes=-99999999"}).content == video
    beyond = raw.get(url, headers={"Range": f"bytes={len(video)}-"})
    assert (problem(beyond), beyond.headers["content-range"]) == (
        "range-not-satisfiable",
        f"bytes */{len(video)}",
    )
    tag = whole.headers["etag"]
    assert raw.get(url, headers={"If-None-Match": tag}).status_code == 304
    other = raw.get(url, headers={"Range": "bytes=0-3", "If-Range": '"other"'})
    assert (other.status_code, other.content) == (200, video)
    [plain] = shelf.add(jpeg("blue"))
    assert problem(raw.get(f"{plain.urls.self}/motion")) == "not-found"


def test_known_originals_get_304(served: Served, shelf: Shelf) -> None:
    [asset] = shelf.add(png())
    raw = served.raw()
    first = raw.get(asset.urls.original)
    tag = first.headers["etag"]
    for known in (tag, f'"x", {tag}', f"W/{tag}", "*"):
        again = raw.get(asset.urls.original, headers={"If-None-Match": known})
        assert (again.status_code, again.content) == (304, b"")
        # What a cache has of it, it may keep.
        for name in ("etag", "cache-control"):
            assert again.headers[name] == first.headers[name]
    for other in ('"x"', f'"x{tag[1:]}'):
        answer = raw.get(asset.urls.original, headers={"If-None-Match": other})
        assert answer.status_code == 200


def test_conditions_on_the_version_of_a_file(served: Served, shelf: Shelf) -> None:
    folder = shelf.folder(a=png())
    os.utime(folder / "a.png", (1_000_000_000, 1_000_000_000))
    shelf.bring(folder)
    [asset] = shelf.client.assets.iterate(shelf.within)
    region = shelf.client.assets.get(asset.id).regions[0].urls
    raw, date = served.raw(), "Sun, 09 Sep 2001 01:46:40 GMT"
    before, after = "Sunday, 09-Sep-01 01:46:39 GMT", "Sun Sep  9 01:46:41 2001"
    urls = asset.urls
    assert raw.get(urls.original).headers["last-modified"] == date

    def status(path: str, *headers: tuple[str, str]) -> int:
        codes = {
            raw.request(method, path, headers=list(headers)).status_code
            for method in ("GET", "HEAD")
        }
        [code] = codes
        return code

    for path in (urls.original, urls.thumbnail, region.crop, region.mask):
        tag = raw.get(path).headers["etag"]
        for kept in (tag, f'"x", {tag}', f'"a,b",{tag}', "*", f"{tag},"):
            assert status(path, ("If-Match", kept)) == 200, kept
        assert status(path, ("If-Match", '"x"'), ("If-Match", tag)) == 200
        for other in ('"x"', f"W/{tag}", tag.strip('"'), '"*"', f'"x{tag[1:]}', ""):
            assert status(path, ("If-Match", other)) == 412, other
        assert problem(raw.get(path, headers={"If-Match": '"x"'})) == "precondition-failed"
        assert status(path, ("If-Match", tag), ("If-None-Match", tag)) == 304
        assert status(path, ("If-Match", '"x"'), ("If-None-Match", tag)) == 412
        assert status(path, ("If-None-Match", '"x"'), ("If-None-Match", tag)) == 304
    tag = raw.get(urls.original).headers["etag"]
    since = "If-Unmodified-Since"
    assert [status(urls.original, (since, one)) for one in (before, date, after)] == [412, 200, 200]
    assert status(urls.original, (since, before), ("If-Match", tag)) == 200
    assert status(urls.thumbnail, (since, before)) == 200
    since = "If-Modified-Since"
    assert [status(urls.original, (since, one)) for one in (before, date, after)] == [200, 304, 304]
    assert status(urls.original, (since, after), ("If-None-Match", '"x"')) == 200
    for odd in ("yesterday", "Sun, 99 Sep 2001 01:46:40 GMT", "", "0"):
        assert status(urls.original, (since, odd), ("If-Unmodified-Since", odd)) == 200
    part = ("Range", "bytes=0-1")
    assert status(urls.original, part, ("If-Match", '"x"')) == 412
    assert status(urls.original, part, ("If-Match", tag)) == 206
    ranges = {date: 206, before: 200, tag: 206, f"W/{tag}": 200}
    assert {one: status(urls.original, part, ("If-Range", one)) for one in ranges} == ranges


@pytest.mark.parametrize("seconds", [13_569_465_600, -1_577_923_200])
def test_originals_with_odd_file_times_are_served(
    served: Served, shelf: Shelf, seconds: int
) -> None:
    folder = shelf.folder(a=png())
    os.utime(folder / "a.png", (seconds, seconds))
    shelf.bring(folder)
    [asset] = shelf.client.assets.iterate(shelf.within, state="indexed")
    answer = served.raw().get(asset.urls.original)
    assert answer.content == (folder / "a.png").read_bytes()
    # An answer never claims a time in the future.
    assert ("last-modified" in answer.headers) == (seconds < 0)


def test_head_has_the_headers_of_get(served: Served, shelf: Shelf) -> None:
    asset = shelf.client.assets.get(shelf.add(noisy())[0].id)
    raw = served.raw()
    [job] = shelf.client.jobs.iterate(collection=[shelf.name])
    for path in (asset.urls.original, asset.urls.thumbnail, asset.regions[0].urls.mask, "/",
                 asset.urls.self, "/healthz", "/web/js/main.js"):  # fmt: skip
        got, told = raw.get(path), raw.head(path)
        assert (told.status_code, told.content) == (got.status_code, b""), path
        differing = {name for name in got.headers if got.headers[name] != told.headers.get(name)}
        assert differing <= {"date"}, path
    # It does not wait until the job ends, and the connection goes on.
    assert raw.head(f"/v1/jobs/{job.id}/events").status_code == 200
    assert raw.head("/v1/assets/a999999").status_code == 404
    assert raw.head("/v1/session").status_code == 405
    assert raw.get("/healthz").status_code == 200


def test_attachments_keep_their_file_name(served: Served, shelf: Shelf) -> None:
    name = "naïve '; \\ 🌊.png"
    answer = shelf.client.assets.upload((name, png()), collection=shelf.name)
    [item] = answer.items
    assert item.asset is not None
    shown = served.raw().get(item.asset.urls.original, params={"download": True})
    assert shown.headers["content-disposition"] == (
        "attachment; filename*=UTF-8''na%C3%AFve%20%27%3B%20%5C%20%F0%9F%8C%8A.png"
    )


def test_undisplayable_files_are_attachments(served: Served, shelf: Shelf) -> None:
    [item] = shelf.send(cut_off(noisy())).items
    for job in shelf.client.jobs.iterate(collection=[shelf.name]):
        served.wait(job)
    assert item.asset is not None
    answer = served.raw().get(item.asset.urls.original)
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"].startswith("attachment")


def replaced(path: Path, outside: Path) -> None:
    status = path.stat()
    path.write_bytes(png("blue", size=(8, 8)))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 10**9))


def removed(path: Path, outside: Path) -> None:
    path.unlink()


def turned_into_folder(path: Path, outside: Path) -> None:
    path.unlink()
    path.mkdir()


def turned_into_pipe(path: Path, outside: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def swapped_for_link(path: Path, outside: Path) -> None:
    """A link to a file elsewhere that has the very stamp of the one that was indexed."""
    status = path.stat()
    secret = outside / f"secret-{path.parent.name}"
    secret.write_bytes(b"s" * status.st_size)
    os.utime(secret, ns=(status.st_atime_ns, status.st_mtime_ns))
    path.unlink()
    path.symlink_to(secret)


def folder_swapped_for_link(path: Path, outside: Path) -> None:
    moved = outside / path.parent.name
    path.parent.rename(moved)
    path.parent.symlink_to(moved)


@pytest.mark.parametrize(
    ("happens", "name", "status"),
    [
        (replaced, "original-changed", 409),
        (removed, "original-gone", 410),
        (turned_into_folder, "original-changed", 409),
        (turned_into_pipe, "original-changed", 409),
        (swapped_for_link, "outside-roots", 403),
        (folder_swapped_for_link, "outside-roots", 403),
    ],
)
def test_replaced_files_are_not_served(
    served: Served,
    shelf: Shelf,
    happens: Callable[[Path, Path], None],
    name: str,
    status: int,
) -> None:
    """The guard is `open_original`: without its stamp and its folders whatever lies there is
    served."""
    path, asset = imported(shelf, noisy())
    region = shelf.client.assets.get(asset.id).regions[0]
    happens(path, served.outside)
    raw = served.raw()
    for address in (asset.urls.original, asset.urls.thumbnail, region.urls.crop):
        answer = raw.get(address)
        assert (answer.status_code, problem(answer)) == (status, name), address
    reader = served.raw(served.key("read"))
    assert problem(reader.get(asset.urls.original)) == name
    assert str(served.folder) not in reader.get(asset.urls.original).text


def test_managed_files_replaced_by_links_are_refused(
    served: Served, home: Path, shelf: Shelf
) -> None:
    [asset] = shelf.add(noisy())
    [path] = (home / "originals").rglob(asset.sha256 or "-")  # type: ignore[attr-defined]
    swapped_for_link(path, served.outside)
    with refused("outside-roots"):
        shelf.client.assets.original(asset.id, io.BytesIO())


# Thumbnails


@pytest.mark.parametrize("size", [256, 512, 1024])
def test_thumbnails_are_webp_of_the_given_size(served: Served, shelf: Shelf, size: int) -> None:
    [asset] = shelf.add(jpeg("red", "blue", size=(1200, 900)))
    picture = opened(shelf.client.assets.thumbnail(asset.id, size))  # type: ignore[arg-type]
    assert picture.format == "WEBP"
    assert picture.size == (size, size * 3 // 4)
    red = np.asarray(picture.convert("RGB"))[:, : size // 4].mean(axis=(0, 1))
    assert np.abs(red - (220, 30, 30)).max() < 25
    assert "exif" not in picture.info


def test_small_photographs_are_not_enlarged(shelf: Shelf) -> None:
    [asset] = shelf.add(png(size=(40, 30)))
    assert opened(shelf.client.assets.thumbnail(asset.id, 1024)).size == (40, 30)
    assert opened(shelf.client.assets.thumbnail(asset.id, 4096)).size == (40, 30)


def test_thumbnails_are_cacheable_only_with_their_version(served: Served, shelf: Shelf) -> None:
    asset, other = shelf.add(png(), png())
    raw = served.raw()
    itself = f"/v1/assets/{asset.id}/thumbnail"
    assert f"{itself}?v=" in asset.urls.thumbnail
    for address, caching in (
        (asset.urls.thumbnail, YEAR),
        (asset.urls.thumbnail_512, YEAR),
        (itself, "private, no-cache"),
        (f"{itself}?v=", "private, no-cache"),
        (f"{itself}?v=0", "private, no-cache"),
        (f"{itself}?v={shelf.client.assets.get(other.id).sha256}", "private, no-cache"),
    ):
        answer = raw.get(address)
        assert answer.status_code == 200
        assert answer.headers["cache-control"] == caching, address
        tag = answer.headers["etag"]
        again = raw.get(address, headers={"If-None-Match": tag})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["cache-control"] == caching
    tags = {
        raw.get(address).headers["etag"]
        for address in (asset.urls.thumbnail, asset.urls.thumbnail_512, other.urls.thumbnail)
    }
    assert len(tags) == 3
    for size in ("0", "257", "2048", "x"):
        assert raw.get(itself, params={"size": size}).status_code == 422


def test_new_content_gets_new_thumbnail_urls(served: Served, shelf: Shelf) -> None:
    path, asset = imported(shelf, png("red", size=(30, 30)))
    before = served.raw().get(asset.urls.thumbnail)
    path.write_bytes(png("blue", size=(32, 30)))
    shelf.bring(path.parent)
    now = shelf.client.assets.get(asset.id)
    assert now.urls.thumbnail != asset.urls.thumbnail
    after = served.raw().get(now.urls.thumbnail)
    assert after.headers["etag"] != before.headers["etag"]
    assert opened(after.content).size == (32, 30)


def test_thumbnails_apply_exif_orientation(shelf: Shelf) -> None:
    """Orientation 6: the picture lies on its side in the file."""
    with io.BytesIO() as file:
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.new("RGB", (60, 40), (200, 30, 30)).save(file, "JPEG", exif=exif)
        data = file.getvalue()
    [asset] = shelf.add(data)
    assert (asset.width, asset.height) == (40, 60)
    assert opened(shelf.client.assets.thumbnail(asset.id)).size == (40, 60)


# Regions


def test_regions_have_crops_and_masks(served: Served, shelf: Shelf) -> None:
    [asset] = shelf.add(png("red", "blue", size=(64, 32)))
    regions = shelf.client.assets.get(asset.id).regions
    assert [region.bbox for region in regions] == [
        [0, 0, 32, 16], [32, 0, 32, 16], [0, 16, 32, 16], [32, 16, 32, 16],
    ]  # fmt: skip
    for region, colour in zip(regions, ("red", "blue", "red", "blue"), strict=True):
        got = shelf.client.regions.get(region.id)
        assert got.asset.id == asset.id
        assert got.model_dump(exclude={"asset"}) == region.model_dump()
        crop = opened(shelf.client.regions.crop(region.id))
        assert (crop.format, crop.size) == ("WEBP", (32, 16))
        mean = np.asarray(crop.convert("RGB")).mean(axis=(0, 1))
        assert mean.argmax() == (0 if colour == "red" else 2)
        mask = opened(shelf.client.regions.mask(region.id))
        assert (mask.format, mask.size) == ("PNG", (64, 32))
        pixels = np.asarray(mask)
        assert set(np.unique(pixels)) == {0, 255}
        x, y, width, height = region.bbox
        assert (pixels[y : y + height, x : x + width] == 255).all()
        assert (pixels == 255).sum() == region.area == width * height
        runs = shelf.client.regions.mask_run_lengths(region.id)
        decoded = decode_mask(Mask(*runs.size, runs.counts.encode()))
        assert (decoded == (pixels == 255)).all()
        svg = served.raw().get(f"{region.urls.mask}&format=svg")
        assert svg.headers["content-type"] == "image/svg+xml"
        assert 'viewBox="0 0 128 64"' in svg.text
        for address in (region.urls.crop, region.urls.mask):
            assert served.raw().get(address).headers["cache-control"] == YEAR


def test_similar_finds_other_regions_and_photographs(served: Served, shelf: Shelf) -> None:
    red, mixed, blue = shelf.add(png("red"), png("red", "blue"), png("blue"))
    region = shelf.client.assets.get(mixed.id).regions[1]
    hits = shelf.client.regions.similar(region.id, shelf.within, limit=20).hits
    assert len(hits) == 11
    assert region.id not in {hit.region.id for hit in hits if hit.region}
    # The blue ones first: one more of its own photograph, four of the blue.
    assert {hit.asset.id for hit in hits[:5]} == {mixed.id, blue.id}
    of_images = shelf.client.regions.similar(region.id, shelf.within, target="image").hits
    assert of_images[0].asset.id == blue.id
    alike = shelf.client.assets.similar(red.id, shelf.within).hits
    assert [hit.asset.id for hit in alike] == [mixed.id, blue.id]
    first = shelf.client.assets.similar(red.id, shelf.within, limit=1)
    assert first.next is not None
    rest = shelf.client.assets.similar(red.id, shelf.within, limit=1, cursor=first.next)
    assert [hit.asset.id for hit in (*first.hits, *rest.hits)] == [mixed.id, blue.id]
    assert rest.next is None


@pytest.mark.parametrize("id", ["r0", "r999999999", "a1", "x"])
def test_unknown_region_ids_are_not_found(served: Served, id: str) -> None:
    regions = served.client.regions
    for call in (regions.get, regions.crop, regions.mask, regions.mask_run_lengths,
                 regions.similar):  # fmt: skip
        with refused("not-found"):
            call(id)


def test_regions_are_deleted_with_their_asset(served: Served, shelf: Shelf) -> None:
    [asset] = shelf.add(png())
    region = shelf.client.assets.get(asset.id).regions[0].id
    shelf.client.assets.delete(asset.id)
    served.client.trash.empty(shelf.name)
    with refused("not-found"):
        shelf.client.regions.get(region)
