"""Scenes planted into videos are found by text and by picture, within a second of their time.

Labelled photographs become videos of twelve scenes, with a cut every two and a half seconds; `lite`
indexes them, and the same photographs beside them. `pytest -s` shows the figures.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection
from pathlib import Path

import pytest
from made_videos import write_video
from PIL import Image

import regard
from regard.evaluation.labels import read_labels

pytestmark = [pytest.mark.slow, pytest.mark.campaign]

_SCENES, _VIDEOS = 12, 8
_SECONDS = 2.5
_SUFFIXES = (".mp4", ".webm", ".mkv", ".mov")


def _copied(file_name: str) -> str:
    return file_name.replace("/", "-")


def _is_at(hit: regard.Hit, places: Collection[tuple[str, float]]) -> bool:
    """Whether a hit is at one of the places, within a second."""
    time_ms = None if hit.region is None else hit.region.time_ms
    return time_ms is not None and any(
        Path(hit.asset.uri).name == name and abs(time_ms - 1000 * begins) <= 1000
        for name, begins in places
    )


def test_scenes_are_found_by_text_and_by_picture(
    photos_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = read_labels(photos_dir, captions=photos_dir / "captions.json")
    chosen = labels.images[::3][: _SCENES * _VIDEOS]
    assert len(chosen) == _SCENES * _VIDEOS
    places: dict[str, tuple[str, float]] = {}
    of_caption: dict[str, list[str]] = {}
    (tmp_path / "videos").mkdir()
    (tmp_path / "photos").mkdir()
    for number in range(_VIDEOS):
        name = f"{number}{_SUFFIXES[number % len(_SUFFIXES)]}"
        scenes = []
        for place, image in enumerate(chosen[number::_VIDEOS]):
            places[image.file_name] = name, _SECONDS * place
            for caption in image.captions:
                of_caption.setdefault(caption, []).append(image.file_name)
            scenes.append((Image.open(labels.path(image.file_name)), _SECONDS))
            copy = tmp_path / "photos" / _copied(image.file_name)
            copy.write_bytes(labels.path(image.file_name).read_bytes())
        write_video(tmp_path / "videos" / name, scenes, size=(640, 480))
    # Each caption, a photograph with it, and all of them.
    texts = [
        (re.sub(r"[^\w ,]+", " ", caption), files[0], files)
        for caption, files in of_caption.items()
    ]

    figures: dict[str, list[bool]] = defaultdict(list)
    with regard.open(tmp_path / "home-videos") as library:
        assert library.index(tmp_path / "videos").failures == []
        for image in chosen:
            for target in ("image", "region"):
                hit = library.search(image=labels.path(image.file_name), target=target).hits[0]
                figures["scenes found first by their picture"].append(
                    _is_at(hit, [places[image.file_name]])
                )
        for caption, file, files in texts:
            right = [places[one] for one in files]
            moments = library.search(caption, target="region", limit=10, fold_stacks=False).hits
            figures["scenes among ten moments by text"].append(
                any(_is_at(hit, right) for hit in moments)
            )
            videos = library.search(caption).hits
            own = next(hit for hit in videos if Path(hit.asset.uri).name == places[file][0])
            figures["scenes shown of their video by text"].append(_is_at(own, right))
    with regard.open(tmp_path / "home-photos") as library:
        library.index(tmp_path / "photos", read=False)
        of_copy = {_copied(file): place[0] for file, place in places.items()}
        for caption, file, files in texts:
            found = [
                Path(hit.asset.uri).name for hit in library.search(caption, limit=len(chosen)).hits
            ]
            wanted = set(map(_copied, files))
            figures["photographs among ten by text"].append(bool(wanted & set(found[:10])))
            first = next(one for one in found if of_copy[one] == places[file][0])
            figures["photographs first of the same dozen by text"].append(first in wanted)
    shares = {name: sum(each) / len(each) for name, each in figures.items()}
    with capsys.disabled():
        for name, share in shares.items():
            print(f"\n{share:.3f} of {len(figures[name])} {name}", end="")
    assert shares["scenes found first by their picture"] >= 0.98
    # A moment is found as the photograph that it is.
    assert (
        shares["scenes among ten moments by text"] >= 0.9 * shares["photographs among ten by text"]
    )
    assert (
        shares["scenes shown of their video by text"]
        >= 0.9 * shares["photographs first of the same dozen by text"]
    )
