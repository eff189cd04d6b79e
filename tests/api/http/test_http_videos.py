"""Videos that are uploaded: streamed, analysed by the worker, found by their moments, played."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import psutil
import pytest
from made_library import painted
from made_local_server import LocalServer
from made_service import Served, Shelf, png, refused
from made_videos import CODECS, write_audio, write_video

import regard
from regard.api.client import Client
from regard.api.http import service
from regard.indexer import walk
from regard.photos import video

_SCENES = (("red", 3.0), ("green", 4.0), ("blue", 3.0))


def write_clip(path: Path, seed: int = 1) -> Path:
    return write_video(
        path, [(painted((name,), seed, (96, 64)), seconds) for name, seconds in _SCENES]
    )


@pytest.mark.parametrize("suffix", CODECS)
def test_an_uploaded_video_is_found_at_its_moment_and_played(
    served: Served, shelf: Shelf, tmp_path: Path, suffix: str
) -> None:
    path = write_clip(tmp_path / f"clip{suffix}")
    answer = shelf.client.assets.upload(path, collection=shelf.name, tags=["film"])
    [item] = answer.items
    assert item.asset is not None
    assert (item.status, item.file_name) == ("created", path.name)
    assert (item.asset.width, item.asset.height) == (96, 64)
    served.wait(answer.job)
    asset = shelf.client.assets.get(item.asset.id)
    assert (asset.state, asset.tags) == ("indexed", ["film"])
    assert asset.duration_ms is not None
    assert abs(asset.duration_ms - 10_000) < 300
    assert 3 <= len(asset.regions) <= 4
    hit = shelf.client.search("blue", filters=shelf.within, target="region").hits[0]
    assert hit.region is not None
    assert hit.region.time_ms is not None
    assert 7000 <= hit.region.time_ms <= 8000
    # Its poster is its longest scene, which its URL names.
    assert asset.caption == "A mostly green photograph."
    raw = served.raw()
    thumbnail = raw.get(asset.urls.thumbnail)
    assert "immutable" in thumbnail.headers["cache-control"]
    plain = raw.get(asset.urls.thumbnail.replace("?v=", "?v=1"))
    assert (plain.content, plain.headers["cache-control"]) == (
        thumbnail.content, "private, no-cache",
    )  # fmt: skip
    part = raw.get(asset.urls.original, headers={"Range": "bytes=100-199"})
    assert (part.status_code, part.content) == (206, path.read_bytes()[100:200])
    assert part.headers["content-type"].startswith("video/")
    again = shelf.client.assets.upload(path, collection=shelf.name)
    assert (again.items[0].status, again.job) == ("existing", None)


def test_the_name_of_an_upload_tells_its_time_zone(
    served: Served, shelf: Shelf, tmp_path: Path
) -> None:
    picture = painted(("red",), 5, (96, 64))
    tags = {"creation_time": "2024-04-30T22:30:15Z"}
    path = write_video(tmp_path / "VID_20240501_003015.mp4", [(picture, 1.0)], tags=tags)
    answer = shelf.client.assets.upload(path, collection=shelf.name)
    served.wait(answer.job)
    [item] = shelf.ids()

    def local_time() -> tuple[str, int | None]:
        asset = shelf.client.assets.get(item)
        return str(asset.taken_at), asset.facts.utc_offset_minutes

    assert local_time() == ("2024-05-01 00:30:15", 120)
    # It is stored under another name.
    served.wait(shelf.client.jobs.reindex(shelf.name, reread=True))
    assert local_time() == ("2024-05-01 00:30:15", 120)


def test_a_large_video_is_not_held_in_memory(served: Served, shelf: Shelf, tmp_path: Path) -> None:
    path = write_clip(tmp_path / "large.mp4", 2)
    size, before = 150 << 20, path.stat().st_size
    with path.open("ab") as file:
        # A box of free space (ISO/IEC 14496-12).
        file.write(struct.pack(">I4s", size, b"free"))
    os.truncate(path, before + size)
    processes = [psutil.Process(server.pid) for server in served.servers]
    held = [process.memory_info().rss for process in processes]
    answer = shelf.client.assets.upload(path, collection=shelf.name)
    for process, bytes_before in zip(processes, held, strict=True):
        assert process.memory_info().rss - bytes_before < size // 2
    assert served.wait(answer.job).failed == 0


def test_what_is_no_usable_video_is_refused(shelf: Shelf, tmp_path: Path) -> None:
    sound = write_audio(tmp_path / "sound.mp4").read_bytes()
    whole = write_clip(tmp_path / "clip.mp4", 3).read_bytes()
    answer = shelf.send(sound, whole[: len(whole) // 2], png())
    problems = [item.problem and item.problem["detail"] for item in answer.items]
    assert problems[0] == "it has no video"
    assert "cut short" in (problems[1] or "")
    assert problems[2] is None


def test_where_the_package_is_missing_videos_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_clip(tmp_path / "photos" / "clip.mp4", 4)
    (tmp_path / "photos" / "photo.png").write_bytes(png())
    roots = {"photos": os.fsencode(tmp_path / "photos")}
    with LocalServer(tmp_path / "home", roots=roots) as server, Client(server.url) as client:
        limits = client.info().limits
        assert limits.video_bytes == 10 << 30
        for module in (video, walk, service):
            monkeypatch.setattr(module, "has_decoder", lambda: False)
        assert client.info().limits.video_bytes is None
        with refused("unsupported-media") as told:
            client.assets.upload(path)
        assert "regard[video]" in told.value.detail
        with regard.open(server.url) as library:
            report = library.index(tmp_path / "photos")
        assert (report.indexed, report.skipped_videos, report.failures) == (1, 1, [])
        job = client.jobs.wait(client.jobs.start_import("photos").id)
        assert job.message == (
            "skipped: 1 video, as `pip install 'regard[video]'` is missing on the server"
        )
        assert job.report is not None
        assert (job.state, job.report["skipped_videos"]) == ("done", 1)


def test_a_server_has_a_limit_for_videos(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "photos" / "clip.mp4", 5)
    size = path.stat().st_size
    options = {"upload_bytes": size // 2, "video_bytes": size}
    with LocalServer(tmp_path / "home", **options) as server, regard.open(server.url) as library:
        assert library.index(tmp_path / "photos").indexed == 1
        with path.open("ab") as file:
            file.write(struct.pack(">I4s", 8, b"free"))
        (failure,) = library.index(tmp_path / "photos").failures
        assert f"{size:,} bytes" in failure.reason
        with Client(server.url) as client, refused("too-large"):
            client.assets.upload(path)
