"""Videos in a library: indexed by their moments, found by them, and never in the way of others."""

from __future__ import annotations

import hashlib
import itertools
import os
import random
import time
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import pytest
from made_library import Library, painted
from made_pictures import scene, write
from made_videos import CODECS, write_audio, write_video
from PIL import ImageEnhance

from regard.indexer import folder_walk, walk
from regard.indexer.videos import VideoSource, analyse_video
from regard.photos import video
from regard.photos.decoding import DEFAULT_LIMITS

pytestmark = pytest.mark.slow

_SECONDS = 3.0
_COLOURS = ("red", "green", "blue")
_UTC = "2024-04-30T22:30:15Z"


def _clip(library: Library, name: str, *colours: str, **options: Any) -> Path:
    scenes = [(painted((one,), seed, (96, 64)), _SECONDS) for seed, one in enumerate(colours)]
    return write_video(library.photos / name, scenes, **options)


def _reindex(library: Library, profile: Path) -> None:
    """Analyse everything with another profile, which is written to a file."""
    profile.write_text(
        'description = "turned"\nbatch_size = 2\nthreads = 1\n'
        '[encoder]\nkind = "fake"\nparameters = { turn = 3 }\n'
        '[captioner]\nkind = "fake"\n[segmenter]\nkind = "fake"\n'
        "[weights]\nimage = 1.0\nregion = 1.0\ncaption = 1.0\n"
    )
    outcome = library.run("reindex", "--profile", profile, "--json")
    assert outcome.code == 0, outcome


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return Library(tmp_path)


@pytest.mark.parametrize("suffix", CODECS)
def test_a_scene_is_found_at_its_time_by_text_and_by_picture(
    library: Library, tmp_path: Path, suffix: str
) -> None:
    _clip(library, f"clip{suffix}", *_COLOURS)
    library.photo("photo.png", 7, "yellow")
    report = library.index()
    assert (report["indexed"], report["failed"]) == (2, 0)
    for place, colour in enumerate(_COLOURS):
        picture = tmp_path / f"{colour}.png"
        painted((colour,), 40, (96, 64)).save(picture)
        for query in ([colour], ["--image", str(picture)]):
            for target in ("image", "region"):
                hit = library.search(*query, "--target", target, "--limit", "1")[0]
                assert Path(hit["asset"]["uri"]).name == f"clip{suffix}"
                assert abs(hit["asset"]["duration_ms"] - 9000) < 300
                assert hit["region"]["bbox"] == [0, 0, 96, 64]
                late = hit["region"]["time_ms"] - 1000 * _SECONDS * place
                assert 0 <= late <= 1000
    library.verify()


def test_a_video_of_just_after_midnight_is_listed_on_its_own_day(library: Library) -> None:
    made = _clip(library, "VID_20240501_003015.mp4", "red", tags={"creation_time": _UTC})

    def listed(query: str) -> list[str]:
        return [Path(hit["asset"]["uri"]).name for hit in library.search(query)]

    library.index()
    assert listed("taken:2024-05-01") == [made.name]
    assert listed("taken:2024-04-30") == []
    library.index(library.photos, "--reread")
    assert listed("taken:2024-05-01T00:30") == [made.name]
    # The name was all that told the time zone.
    made.rename(made.with_name("party.mp4"))
    assert library.index()["moved"] == 1
    assert listed("taken:2024-04-30T22:30") == ["party.mp4"]


def test_a_video_is_one_hit_unless_all_its_moments_are_asked_for(library: Library) -> None:
    _clip(library, "clip.mp4", "red", "green", "red", "blue", "red")
    library.photo("photo.png", 1, "red")
    library.index()
    names = [Path(hit["asset"]["uri"]).name for hit in library.search("red")]
    assert sorted(names) == ["clip.mp4", "photo.png"]

    def moments(*options: str) -> list[dict[str, Any]]:
        hits = library.search(*options, "--target", "region")
        return [hit for hit in hits if "time_ms" in hit["region"]]

    all_moments = moments("red", "--no-fold-stacks")
    assert len(all_moments) == 5
    assert moments("red") == moments("(red OR green)") == all_moments[:1]
    assert len({hit["region"]["time_ms"] for hit in all_moments}) == 5
    # Its own caption is that of its poster, and each moment has one.
    assert all(hit["region"]["caption"] for hit in all_moments)
    assert all_moments[0]["asset"]["caption"] == "A mostly red photograph."


def test_an_unchanged_or_moved_video_costs_no_model_time(library: Library) -> None:
    path = _clip(library, "clip.mp4", *_COLOURS)
    assert library.index()["indexed"] == 1
    assert library.index()["unchanged"] == 1
    path.rename(library.photos / "moved.mp4")
    assert library.index()["moved"] == 1
    (library.photos / "copy.mp4").write_bytes((library.photos / "moved.mp4").read_bytes())
    assert library.index()["indexed"] == 1
    assert library.sql("SELECT count(*) FROM content") == [(1,)]
    (library.photos / "moved.mp4").unlink()
    assert library.index()["removed"] == 1


def test_another_profile_analyses_videos_anew(library: Library, tmp_path: Path) -> None:
    _clip(library, "clip.mp4", *_COLOURS)
    library.index()
    _reindex(library, tmp_path / "turned.toml")
    hit = library.search("blue", "--limit", "1")[0]
    assert 6000 <= hit["region"]["time_ms"] <= 7000
    library.verify()


def test_another_analysis_chooses_another_poster(
    library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenes = (("red", 1.0), ("green", 2.0), ("blue", 6.0), ("yellow", 1.0))
    write_video(
        library.photos / "clip.mp4",
        [(painted((name,), 0, (96, 64)), seconds) for name, seconds in scenes],
    )
    monkeypatch.setenv("REGARD_MOMENTS_A_MINUTE", "1")
    library.index()
    (few,) = library.sql("SELECT duration_ms, poster_ms FROM content")
    monkeypatch.delenv("REGARD_MOMENTS_A_MINUTE")
    _reindex(library, tmp_path / "turned.toml")
    (many,) = library.sql("SELECT duration_ms, poster_ms FROM content")
    assert few[0] == many[0]
    assert not 3000 <= few[1] <= 3500
    # Blue lasts longest.
    assert 3000 <= many[1] <= 3500


def test_an_export_carries_videos(library: Library, tmp_path: Path) -> None:
    _clip(library, "clip.mp4", *_COLOURS)
    library.photo("photo.png", 1, "red")
    library.index()
    assert library.run("export", tmp_path / "out").code == 0
    other = Library(tmp_path / "other")
    outcome = other.run("import", tmp_path / "out")
    assert outcome.code == 0, outcome
    assert other.search("blue", "--limit", "1") == library.search("blue", "--limit", "1")
    other.verify()


def test_videos_are_no_duplicates_of_their_frames(library: Library) -> None:
    frame = painted(("red",), 0, (96, 64))
    write_video(library.photos / "clip.mp4", [(frame, 2)])
    frame.save(library.photos / "frame.png")
    library.index()
    outcome = library.run("duplicates", "--json")
    assert outcome.code == 0, outcome
    assert outcome.document["groups"] == []


def test_moments_of_a_video_do_not_hide_the_copy_of_a_photograph(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame, other = scene(1), scene(2)
    clip = [(one, 0.5) for _ in range(20) for one in (frame, other)]
    write_video(library.photos / "clip.mp4", clip, size=frame.size)
    # Its vector is further from the frame's than those of the moments.
    copy = ImageEnhance.Brightness(frame).enhance(0.8)
    for name, picture in (("frame", frame), ("copy", copy)):
        write(library.photos / f"{name}.png", picture, "PNG")
    monkeypatch.setenv("REGARD_MOMENTS_A_MINUTE", "120")
    library.index()
    (group,) = library.run("duplicates", "--json").document["groups"]
    names = {Path(member["asset"]["uri"]).name for member in group["members"]}
    assert names == {"frame.png", "copy.png"}


def test_a_hundred_damaged_videos_are_listed_and_stop_nothing(library: Library) -> None:
    chance = random.Random(3)
    wholes = {suffix: _clip(library, f"good{suffix}", "red", "blue") for suffix in CODECS}
    cut, headers, flipped = [], [], []
    for number in range(33):
        suffix = [*CODECS][number % len(CODECS)]
        whole = wholes[suffix].read_bytes()
        cut.append(library.photos / f"cut-{number}{suffix}")
        cut[-1].write_bytes(whole[: chance.randrange(1, len(whole) * 9 // 10)])
        headers.append(library.photos / f"header-{number}{suffix}")
        headers[-1].write_bytes(chance.randbytes(64) + whole[64:])
        flipped.append(library.photos / f"flipped-{number}{suffix}")
        damaged = bytearray(whole)
        for _ in range(chance.choice((1, 10, 1000))):
            damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
        flipped[-1].write_bytes(damaged)
    silent = write_audio(library.photos / "sound.mp4")
    library.photo("photo.png", 1, "red")

    began = time.process_time()
    report = library.index(code=1)
    assert time.process_time() - began < 60

    reasons = {Path(one["uri"]): one["reason"] for one in report["failures"]}
    assert {*cut, *headers, silent} <= reasons.keys() <= {*cut, *headers, *flipped, silent}
    assert all(reason and "\n" not in reason for reason in reasons.values())
    # What only lost some frames is found by the others.
    assert report["indexed"] + report["failed"] == 33 * 3 + 2 + len(CODECS)
    indexed = {Path(path) for (path,) in library.sql("SELECT uri FROM asset WHERE failure IS NULL")}
    assert {*wholes.values(), library.photos / "photo.png"} <= indexed
    library.verify()
    again = library.index(code=1)
    assert (again["indexed"], again["failures"]) == (0, report["failures"])


def test_without_the_package_videos_are_skipped_and_counted(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _clip(library, "clip.mp4", "red")
    library.photo("photo.png", 1, "red")
    for module in (video, walk):
        monkeypatch.setattr(module, "has_decoder", lambda: False)
    assert folder_walk.is_skipped_video(b"clip.mp4")
    report = library.index()
    assert (report["indexed"], report["skipped_videos"]) == (1, 1)
    outcome = library.run("index", library.photos)
    assert "regard[video]" in outcome.err
    (failure,) = library.index(path, code=1)["failures"]
    assert "regard[video]" in failure["reason"]


def test_indexed_videos_stay_where_the_package_is_missing(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    _clip(library, "clip.mp4", "red")
    library.photo("photo.png", 1, "red")
    library.index()
    for module in (video, walk):
        monkeypatch.setattr(module, "has_decoder", lambda: False)
    report = library.index()
    assert (report["removed"], report["failed"], report["skipped_videos"]) == (0, 0, 1)
    assert "clip.mp4" in library.asset_ids()


def test_a_video_that_is_stopped_in_the_middle_has_not_failed(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mp4", [(painted(("red",), 0, (96, 64)), 3.0)])
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    source = VideoSource(os.fsencode(path), digest, DEFAULT_LIMITS)
    answers = itertools.chain([False] * 5, itertools.repeat(True))
    with pytest.raises(CancelledError):
        analyse_video(source, lambda _: [], 1, lambda: next(answers))


def test_how_many_moments_a_minute_is_a_setting(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    _clip(library, "clip.mp4", *_COLOURS)
    monkeypatch.setenv("REGARD_MOMENTS_A_MINUTE", "2")
    library.index()
    assert library.sql("SELECT count(*) FROM region") == [(2,)]
    monkeypatch.setenv("REGARD_MOMENTS_A_MINUTE", "many")
    library.run("status").expect_sentence(2, "REGARD_MOMENTS_A_MINUTE")


def test_the_own_vector_of_a_video_is_that_of_its_poster(library: Library) -> None:
    """`--like` a video looks for its poster, not for its first moment."""
    scenes = [(painted(("red",), 0, (96, 64)), 2.0), (painted(("blue",), 1, (96, 64)), 6.0)]
    write_video(library.photos / "clip.mp4", scenes)
    library.photo("red.png", 1, "red")
    library.photo("blue.png", 1, "blue")
    library.index()
    number = library.asset_ids()["clip.mp4"]
    hits = library.search("--like", f"a{number}")
    assert [Path(hit["asset"]["uri"]).name for hit in hits] == ["blue.png", "red.png"]


def test_text_is_not_read_in_videos(library: Library) -> None:
    _clip(library, "clip.mp4", "red")
    report = library.index()
    assert report["read"] == 0


def test_a_moment_that_the_models_refuse_fails_its_video(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    from regard.models.fake import FakeCaptioner

    def caption(self: FakeCaptioner, images: list[Any]) -> list[str]:
        raise ValueError("no words")

    _clip(library, "clip.mp4", "red", "blue")
    monkeypatch.setattr(FakeCaptioner, "caption", caption)
    (failure,) = library.index(code=1)["failures"]
    assert "no words" in failure["reason"]
