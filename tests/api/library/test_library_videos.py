"""Videos through the Library interface, over a home and over a server."""

from __future__ import annotations

import io
from pathlib import Path

import av
import numpy as np
import pytest
from made_library import Library as Photos
from made_library import painted, regard
from made_videos import write_video
from PIL import Image

from regard import Library
from regard.api.client import Client, Filters
from regard.api.library.results import Hit
from regard.core.errors import NotFound


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Photos:
    """A video whose scenes begin at 0, 3 and 8 s, one of 2 s, a photograph and a motion photo."""
    made = Photos(tmp_path_factory.mktemp("videos"))
    scenes = [("red", 3.0), ("green", 5.0), ("blue", 3.0)]
    parts = [(painted((name,), 1, (96, 64)), seconds) for name, seconds in scenes]
    write_video(made.photos / "long.mp4", parts)
    write_video(made.photos / "short.webm", [(painted(("yellow",), 2, (96, 64)), 2.0)])
    made.photo("photo.png", 3, "blue")
    clip = write_video(made.home.parent / "motion.mp4", [(painted(("red",), 1, (96, 64)), 0.5)])
    with made.photo("motion.jpg", 4, "purple", kind="JPEG").open("ab") as file:
        file.write(clip.read_bytes())
    made.index()
    return made


def _hit(library: Library, text: str) -> Hit:
    return next(
        hit for hit in library.search(text, target="region").hits if hit.region.time_ms is not None
    )


def _mean(picture: Image.Image) -> list[int]:
    return [round(value) for value in np.asarray(picture).reshape(-1, 3).mean(axis=0)]


def test_a_hit_has_its_time_and_the_picture_of_its_moment(library: Library) -> None:
    for text, begins, colour in (("red", 0, 0), ("green", 3000, 1), ("blue", 8000, 2)):
        hit = _hit(library, text)
        assert hit.region is not None
        assert hit.region.time_ms is not None
        assert begins <= hit.region.time_ms <= begins + 1000
        assert hit.asset.duration_ms is not None
        assert abs(hit.asset.duration_ms - 11_000) < 300
        mean = _mean(hit.picture(64))
        assert mean[colour] == max(mean)
        assert hit.to_json()["region"]["time_ms"] == hit.region.time_ms
    # That of the asset is its poster, the longest scene.
    mean = _mean(library.picture(_hit(library, "red").asset, 64))
    assert mean[1] == max(mean)


def test_filters_by_duration_and_by_kind(library: Library) -> None:
    def names(query: str) -> set[str]:
        return {Path(hit.asset.uri).name for hit in library.search(query).hits}

    # A server names originals by their ids.
    assert len(names("has:video")) == 2
    assert len(names("-has:video")) == 2
    assert len(names("duration:>5")) == 1
    assert len(names("duration:0:02")) == 1
    assert len(names("duration:<5 format:mp4")) == 0


def test_the_video_of_a_motion_photo_is_whole(library: Library) -> None:
    hits = {hit.asset.format: hit for hit in library.search("-has:video").hits}
    video = library.motion_video(hits["JPEG"])
    with av.open(io.BytesIO(video), format="mp4") as container:
        assert sum(1 for _ in container.decode(video=0)) == 5
    for other in (hits["PNG"].asset, _hit(library, "blue").asset.id):
        with pytest.raises(NotFound, match="no video in its file"):
            library.motion_video(other)


def test_the_regions_of_a_video_are_its_moments(library: Library) -> None:
    times = [region.time_ms for region in library.regions(_hit(library, "red").asset)]
    assert len(times) == 3
    assert times == sorted(times)  # type: ignore[type-var]


def test_the_service_gives_pictures_and_ranges_of_videos(photos: Photos, url: str) -> None:
    with Client(url) as client:
        assets = {asset.file_name: asset for asset in client.assets.iterate(Filters())}
        asset = assets["long.mp4"]
        assert assets["photo.png"].duration_ms is None
        long = client.assets.iterate(Filters(min_duration=5, max_duration=11))
        assert [one.file_name for one in long] == ["long.mp4"]
        detail = client.assets.get(asset.id)
        times = [region.time_ms for region in detail.regions]
        assert len({*times}) == 3
        crops = [Image.open(io.BytesIO(client.regions.crop(one.id))) for one in detail.regions]
        assert [int(np.argmax(_mean(crop.convert("RGB")))) for crop in crops] == [0, 1, 2]
        thumbnail = Image.open(io.BytesIO(client.assets.thumbnail(asset.id))).convert("RGB")
        assert int(np.argmax(_mean(thumbnail))) == 1
    import httpx

    answer = httpx.get(f"{url}{asset.urls.original}", headers={"Range": "bytes=4-7"})
    assert (answer.status_code, answer.content) == (206, b"ftyp")
    assert answer.headers["content-type"] == "video/mp4"
    assert answer.headers["content-disposition"].startswith("inline")


def test_the_command_line_shows_times(photos: Photos) -> None:
    outcome = regard("search", "blue", "--target", "region", "--home", photos.home)
    assert outcome.code == 0
    assert "at 0:08" in outcome.out.decode()


def test_a_text_is_looked_for_in_the_frame_of_the_hit(library: Library) -> None:
    answer = library.search("red", target="region", refine=True)
    hit = next(one for one in answer.hits if one.region and one.region.time_ms is not None)
    assert hit.refined is not None
    assert hit.refined.score > 0.9
