"""Videos: their times, moments, sizes and facts, and what damaged ones do."""

from __future__ import annotations

import io
import itertools
import random
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_library import painted
from made_photos import quadrants
from made_videos import CODECS, turned, write_audio, write_video
from PIL import Image

from regard.core.errors import DecodeError
from regard.core.facts import Capture, PhotoFacts
from regard.photos.decoding import DecodeLimits
from regard.photos.media import decode_picture, open_media
from regard.photos.metadata.video import container_facts
from regard.photos.moments import SIDE, MomentChooser, Moments
from regard.photos.video import VideoFile

# Frames are compared twice a second.
_LATE_MS = 600
_SCENES = ("red", "blue", "green", "yellow", "white")


def _moments(path: Path, chooser: MomentChooser | None = None) -> tuple[Moments, int]:
    with open_media(path) as video:
        assert isinstance(video, VideoFile)
        return video.moments(chooser or MomentChooser())


def _scenes(*seconds: float) -> list[tuple[Image.Image, float]]:
    return [
        (painted((name, "purple"), seed, (96, 64)), length)
        for seed, (name, length) in enumerate(zip(_SCENES, seconds, strict=False))
    ]


@pytest.mark.parametrize("suffix", CODECS)
def test_each_cut_begins_a_moment_within_a_second(tmp_path: Path, suffix: str) -> None:
    path = write_video(tmp_path / f"cuts{suffix}", _scenes(2, 3, 1.5, 4))
    moments, duration = _moments(path)
    cuts = [0, 2000, 5000, 6500]
    late = [at - cut for at, cut in zip(moments.times, cuts, strict=True)]
    assert all(0 <= one <= _LATE_MS for one in late), moments
    # The longest scene stands for the video.
    assert moments.poster_ms == moments.times[3]
    assert abs(duration - 10_500) < 300
    with open_media(path) as video:
        assert isinstance(video, VideoFile)
        assert (video.header.width, video.header.height) == (96, 64)
        found = list(video.frames(moments.times))
        assert [at for at, _ in found] == list(moments.times)
        for (_, image), (picture, _) in zip(found, _scenes(2, 3, 1.5, 4), strict=True):
            shown = image.pixels.astype(int)[:, :40].mean(axis=(0, 1))
            wanted = np.asarray(picture).astype(int)[:, :40].mean(axis=(0, 1))
            assert np.abs(shown - wanted).max() < 30
        assert video.content().format == suffix[1:].upper()


@pytest.mark.parametrize("key_frames", [5, 12, 600])
def test_moments_are_found_however_rare_key_frames_are(tmp_path: Path, key_frames: int) -> None:
    path = write_video(tmp_path / "keys.mp4", _scenes(3, 3, 3), key_frames=key_frames)
    times = _moments(path)[0].times
    assert all(0 <= at - cut <= 1000 for at, cut in zip(times, (0, 3000, 6000), strict=True))


def test_frames_far_apart_are_found_in_one_pass_where_key_frames_are_rare(tmp_path: Path) -> None:
    path = write_video(tmp_path / "rare.mp4", _scenes(120), key_frames=5000)
    packets = 0

    def count() -> None:
        nonlocal packets
        packets += 1

    times = list(range(0, 120_000, 3000))
    with open_media(path) as video:
        assert isinstance(video, VideoFile)
        assert [at for at, _ in video.frames(times, checkpoint=count)] == times
    # It has 1,200, some of which are read twice before seeking is given up.
    assert packets < 1500


def test_frames_far_apart_are_sought_where_there_are_key_frames(tmp_path: Path) -> None:
    path = write_video(tmp_path / "often.mp4", _scenes(120), key_frames=10)
    packets = 0

    def count() -> None:
        nonlocal packets
        packets += 1

    with open_media(path) as video:
        assert isinstance(video, VideoFile)
        assert len(list(video.frames(range(0, 120_000, 12_000), checkpoint=count))) == 10
    assert packets < 400


def test_the_search_for_frames_ends_after_its_own_time_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_video(tmp_path / "rare.mp4", _scenes(12), key_frames=5000)
    now = 0.0
    monkeypatch.setattr("regard.photos.video.time.monotonic", lambda: now)

    def a_second_passes() -> None:
        nonlocal now
        now += 1

    with open_media(path) as video:
        assert isinstance(video, VideoFile)
        for _ in video.frames([0, 1000, 2000], checkpoint=a_second_passes, most_seconds=100):
            now += 1000
        with pytest.raises(DecodeError, match="too long"):
            list(video.frames([11_000], checkpoint=a_second_passes, most_seconds=100))


def test_a_single_picture_of_a_video_is_not_sought_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_video(tmp_path / "rare.mp4", _scenes(12), key_frames=5000)
    seconds = itertools.count()
    monkeypatch.setattr("regard.photos.video.time.monotonic", lambda: next(seconds))
    with path.open("rb") as file:
        assert decode_picture(file).pixels.shape == (64, 96, 3)
    with path.open("rb") as file, pytest.raises(DecodeError, match="too long"):
        decode_picture(file, time_ms=11_000)


def test_the_first_frame_is_not_sought_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_video(tmp_path / "clip.mp4", _scenes(2))
    seconds = itertools.count(step=30)
    monkeypatch.setattr("regard.photos.video.time.monotonic", lambda: next(seconds))
    with open_media(path) as video, pytest.raises(DecodeError, match="first frame"):
        assert video.header


def test_a_minute_keeps_its_greatest_changes_and_no_more(tmp_path: Path) -> None:
    path = write_video(tmp_path / "many.mp4", _scenes(2, 2, 2, 2, 2) * 2)
    assert len(_moments(path)[0].times) == 10
    few, _ = _moments(path, MomentChooser(moments_a_minute=3))
    assert len(few.times) == 3
    assert few.poster_ms in few.times


def test_a_picture_alone_has_one_moment_and_a_black_start_is_no_poster(tmp_path: Path) -> None:
    black = Image.new("RGB", (96, 64))
    path = write_video(tmp_path / "dark.mp4", [(black, 5), *_scenes(2)])
    moments, _ = _moments(path)
    assert len(moments.times) == 2
    assert moments.poster_ms == moments.times[1]
    assert _moments(write_video(tmp_path / "still.mp4", _scenes(4)))[0].times == (0,)


@pytest.mark.parametrize("quarters", range(4))
def test_frames_are_turned_as_the_container_says(tmp_path: Path, quarters: int) -> None:
    upright = quadrants(96, 64)
    path = write_video(tmp_path / "turned.mp4", [(upright, 1)])
    path.write_bytes(turned(path.read_bytes(), quarters))
    with path.open("rb") as file:
        image = decode_picture(file)
    expected = np.rot90(np.asarray(upright), -quarters).astype(int)
    assert image.pixels.shape == expected.shape
    assert np.abs(image.pixels.astype(int) - expected).mean() < 12


def test_facts_come_from_the_tags_of_the_container(tmp_path: Path) -> None:
    tags = {
        "com.apple.quicktime.creationdate": "2024-05-01T12:30:15+0200",
        "com.apple.quicktime.location.ISO6709": "+48.8577+002.2950+035.0/",
        "com.apple.quicktime.make": "Apple",
        "com.apple.quicktime.model": "iPhone 15",
        "com.apple.quicktime.content.identifier": "A-1",
        "title": "By the tower",
    }
    path = write_video(tmp_path / "facts.mov", _scenes(1), tags=tags)
    with open_media(path) as video:
        facts = video.facts()
    assert facts == PhotoFacts(
        taken_at=datetime(2024, 5, 1, 12, 30, 15),
        utc_offset_minutes=120,
        latitude=48.8577,
        longitude=2.295,
        camera_make="Apple",
        camera_model="iPhone 15",
        title="By the tower",
        capture=Capture(altitude_m=35.0, live_photo_id="A-1"),
    )


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("+48.8577+002.2950/", (48.8577, 2.295)),
        ("-3351.5+15112.5/", (-33.858333, 151.208333)),
        ("+404243.5-0740021.25+10.5/", (40.712083, -74.005903)),
        ("+00.0000+000.0000/", None),
        ("+95.0000+002.2950/", None),
        ("nowhere", None),
    ],
)
def test_places_by_iso_6709(text: str, place: tuple[float, float] | None) -> None:
    facts = container_facts({"location": text}, PhotoFacts())
    if place is None:
        assert facts.latitude is None
    else:
        assert (facts.latitude, facts.longitude) == pytest.approx(place, abs=1e-6)


def test_a_sidecar_says_more_than_the_container_and_no_clock_says_nothing() -> None:
    known = PhotoFacts(title="Mine", taken_at=datetime(2020, 1, 2))
    tags = {"title": "Its own", "creation_time": "2024-05-01T10:00:00.000000Z"}
    assert container_facts(tags, known).title == "Mine"
    assert container_facts(tags, known).taken_at == datetime(2020, 1, 2)
    assert container_facts({"creation_time": "1904-01-01T00:00:00Z"}, PhotoFacts()).taken_at is None


@pytest.mark.parametrize(
    ("name", "created", "taken_at", "offset"),
    [
        ("VID_20240501_003015.mp4", "2024-04-30T22:30:15Z", "2024-05-01T00:30:15", 120),
        # Dated at its end, a minute and a second later.
        ("20240430_233015.mp4", "2024-05-01T05:01:16Z", "2024-04-30T23:30:15", -330),
        ("2024-05-01 09.30.15.mp4", "2024-05-01T00:00:16Z", "2024-05-01T09:30:15", 570),
        ("VID_20240501_003015.mp4", "2024-05-01T00:30:15Z", "2024-05-01T00:30:15", 0),
        # Of another time, beyond all zones, without a clock time, in UTC, and no time at all.
        ("VID_20240501_003015.mp4", "2024-04-30T22:37:15Z", "2024-04-30T22:37:15", 0),
        ("VID_20240501_003015.mp4", "2024-04-30T09:30:15Z", "2024-04-30T09:30:15", 0),
        ("VID-20240501-WA0003.mp4", "2024-04-30T22:30:15Z", "2024-04-30T22:30:15", 0),
        ("PXL_20240430_223015123.mp4", "2024-04-30T22:30:15Z", "2024-04-30T22:30:15", 0),
        ("VID_20249901_003015.mp4", "2024-04-30T22:30:15Z", "2024-04-30T22:30:15", 0),
        # The container tells the zone already, or no time.
        ("VID_20240501_003015.mp4", "2024-05-01T03:30:15+0500", "2024-05-01T03:30:15", 300),
        ("VID_20240501_003015.mp4", "2024-05-01", "2024-05-01T00:00:00", None),
    ],
)
def test_a_date_in_utc_becomes_the_local_time_of_the_name(
    name: str, created: str, taken_at: str, offset: int | None
) -> None:
    facts = container_facts({"creation_time": created}, PhotoFacts(), name, 61_000)
    assert facts.taken_at == datetime.fromisoformat(taken_at)
    assert facts.utc_offset_minutes == offset


@pytest.mark.parametrize("suffix", CODECS)
def test_a_video_that_is_cut_short_is_refused(tmp_path: Path, suffix: str) -> None:
    path = write_video(tmp_path / f"whole{suffix}", _scenes(2))
    whole = path.read_bytes()
    for share in (0.2, 0.6, 0.95):
        path.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(DecodeError, match="cut short"):
            _moments(path)


@pytest.mark.parametrize("trailer", [b"TAG" + b"song".ljust(125), bytes(range(255, 0, -1)), b"TAG"])
@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_bytes_after_the_last_box_do_not_matter(
    tmp_path: Path, suffix: str, trailer: bytes
) -> None:
    path = write_video(tmp_path / f"whole{suffix}", _scenes(2))
    with path.open("ab") as file:
        file.write(trailer)
    assert _moments(path)[0].times == (0,)


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF])
def test_an_avi_that_does_not_tell_its_size_is_read(tmp_path: Path, size: int) -> None:
    path = write_video(tmp_path / "streamed.avi", _scenes(2))
    whole = path.read_bytes()
    path.write_bytes(whole[:4] + size.to_bytes(4, "little") + whole[8:])
    assert _moments(path)[0].times == (0,)


def test_a_file_without_a_video_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DecodeError, match="no video"):
        _moments(write_audio(tmp_path / "sound.mp4"))


def test_frames_above_the_limit_of_pixels_are_not_decoded(tmp_path: Path) -> None:
    path = write_video(tmp_path / "large.mp4", _scenes(1))
    with (
        pytest.raises(DecodeError, match="pixels"),
        open_media(path, DecodeLimits(max_pixels=96 * 64 - 1)) as video,
    ):
        assert video.header


_PEAK_OF_OPENING = """
import sys
from pathlib import Path
from regard.core.errors import DecodeError
from regard.photos.media import open_media

def peak():
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0])

def read(path):
    try:
        with open_media(path) as video:
            return video.header
    except DecodeError as error:
        return error.message

# What loads once does not count.
read(sys.argv[1])
before = peak()
print(read(sys.argv[2]))
print((peak() - before) // 1024)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
def test_a_large_png_frame_is_refused_before_opening_decodes_it(tmp_path: Path) -> None:
    small, large = tmp_path / "small.mov", tmp_path / "large.mov"
    for path, side in ((small, 64), (large, 6500)):
        with av.open(str(path), "w") as container:
            stream = container.add_stream("png", rate=1)
            stream.width = stream.height = side
            stream.pix_fmt = "gray"
            frame = av.VideoFrame.from_ndarray(np.zeros((side, side), np.uint8), format="gray")
            container.mux([*stream.encode(frame), *stream.encode()])
    done = subprocess.run(
        [sys.executable, "-c", _PEAK_OF_OPENING, small, large],
        capture_output=True,
        text=True,
        check=True,
    )
    message, mebibytes = done.stdout.splitlines()
    assert "more than 37,748,736" in message
    # The frame takes 40 MiB.
    assert int(mebibytes) < 20


def test_damaged_bytes_never_raise_anything_else(tmp_path: Path) -> None:
    chance = random.Random(5)
    path = tmp_path / "damaged"
    outcomes = set()
    for number in range(30):
        suffix = [*CODECS][number % len(CODECS)]
        whole = bytearray(write_video(tmp_path / f"whole{suffix}", _scenes(1, 1)).read_bytes())
        for _ in range(chance.choice((3, 30, 300))):
            whole[chance.randrange(12, len(whole))] = chance.randrange(256)
        path.write_bytes(whole)
        try:
            with open_media(path) as video:
                assert isinstance(video, VideoFile)
                times = video.moments(MomentChooser())[0].times
                assert [at for at, _ in video.frames(times)] == list(times)
            outcomes.add("read")
        except DecodeError:
            outcomes.add("refused")
    assert outcomes == {"read", "refused"}


@given(
    st.lists(st.tuples(st.integers(0, 200_000), st.integers(0, 5)), min_size=1, max_size=60),
    st.integers(1, 5),
    st.integers(1, 8),
)
def test_chosen_moments_are_of_the_frames_in_order_and_within_bounds(
    frames: list[tuple[int, int]], a_minute: int, most: int
) -> None:
    chooser = MomentChooser(a_minute, most)
    times = sorted(at for at, _ in frames)
    for at, (_, shade) in zip(times, frames, strict=True):
        chooser.add(at, np.full((SIDE, SIDE, 3), shade / 5, np.float32))
    moments = chooser.choose(times[-1] + 1)
    assert set(moments.times) <= set(times)
    assert list(moments.times) == sorted(moments.times)
    assert moments.poster_ms in moments.times
    assert len(moments.times) <= most
    minutes = [at // 60_000 for at in moments.times]
    assert all(minutes.count(minute) <= a_minute for minute in minutes)


def test_a_video_under_a_photograph_s_name_is_a_video_and_the_other_way_round(
    tmp_path: Path,
) -> None:
    video = write_video(tmp_path / "video.mp4", _scenes(1)).rename(tmp_path / "a.jpg")
    photo = tmp_path / "a.mp4"
    buffer = io.BytesIO()
    painted(("red", "blue")).save(buffer, "PNG")
    photo.write_bytes(buffer.getvalue())
    with open_media(video) as file:
        assert isinstance(file, VideoFile)
    with open_media(photo) as file:
        assert file.format == "PNG"
