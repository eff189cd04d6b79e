"""Pages of failures on disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from made_labels import HEIGHT, WIDTH, grey_image, make_labels, make_object
from PIL import Image as Pillow

from regard.core.errors import CannotWork
from regard.core.geometry import Box
from regard.core.records import Region, Target
from regard.evaluation.captions import WrittenCaption, evaluate_captions
from regard.evaluation.failures import (
    draw_caption_failures,
    draw_region_failures,
    draw_retrieval_failures,
)
from regard.evaluation.labels import LabelledSet
from regard.evaluation.regions import RegionReport, evaluate_regions
from regard.evaluation.retrieval import Answer, RetrievalReport, evaluate_retrieval
from regard.photos.masks import mask_from_box

BOX = Box(5, 5, 10, 10)


def labels_of(count: int) -> LabelledSet:
    names = [f"{i:02}.jpg" for i in range(count)]
    return make_labels(
        {name: [f"thing {name}"] for name in names},
        {name: [make_object(f"thing {name}", BOX)] for name in names},
    )


def searched(labels: LabelledSet) -> RetrievalReport:
    """Every query meets its image second, after a wrong one."""
    names = [image.file_name for image in labels.images]

    def second(texts: Sequence[str], target: Target, limit: int) -> list[list[Answer]]:
        right = [text.removeprefix("thing ") for text in texts]
        mask = mask_from_box(HEIGHT, WIDTH, BOX)
        return [
            [Answer(next(n for n in names if n != name), BOX, mask), Answer(name, BOX)]
            for name in right
        ]

    return evaluate_retrieval(labels, second)


def missed(labels: LabelledSet) -> RegionReport:
    box = Box(12, 12, 10, 10)
    near = Region(box, mask_from_box(HEIGHT, WIDTH, box), box.area, 1.0)
    first, *_ = labels.images
    return evaluate_regions(labels, {first.file_name: [near]})


def check_pages(paths: Sequence[Path], expected: Sequence[str]) -> None:
    assert [path.name for path in paths] == list(expected)
    for path in paths:
        with Pillow.open(path) as page:
            pixels = np.asarray(page)
        assert pixels.ndim == 3
        assert pixels.std() > 1.0


def test_retrieval_pages_hold_twelve_queries(tmp_path: Path) -> None:
    labels = labels_of(13)
    folder = tmp_path / "new" / "pictures"
    pages = draw_retrieval_failures(searched(labels), labels, grey_image, folder)
    kinds = ("retrieval-images", "retrieval-regions")
    check_pages(pages, [f"{kind}-00{number}.jpg" for kind in kinds for number in (1, 2)])
    assert sorted(folder.iterdir()) == sorted(pages)


def test_region_pages_hold_twenty_four_objects(tmp_path: Path) -> None:
    labels = labels_of(25)
    pages = draw_region_failures(missed(labels), labels, grey_image, tmp_path)
    check_pages(pages, ["regions-001.jpg", "regions-002.jpg"])


def test_caption_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    labels = labels_of(3)
    written = {
        "00.jpg": WrittenCaption("猫の写真", names_thing=True),
        "01.jpg": WrittenCaption("", names_thing=False),
    }
    report = evaluate_captions(labels, written, lambda texts: np.eye(len(texts), dtype=np.float32))
    check_pages(draw_caption_failures(report, labels, grey_image, tmp_path), ["captions-001.jpg"])


def test_pages_of_an_earlier_run_go_and_other_files_stay(tmp_path: Path) -> None:
    for name in ("regions-001.jpg", "regions-007.jpg", "captions-001.jpg", "regions-mine.jpg"):
        (tmp_path / name).touch()
    labels = labels_of(2)
    draw_region_failures(missed(labels), labels, grey_image, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "captions-001.jpg",
        "regions-001.jpg",
        "regions-mine.jpg",
    ]
    assert (tmp_path / "regions-001.jpg").stat().st_size > 0


def test_no_failures_no_pages(tmp_path: Path) -> None:
    labels = make_labels({"a.jpg": ["a frog"]})
    report = evaluate_retrieval(
        labels, lambda texts, target, limit: [[Answer("a.jpg")] for _ in texts]
    )
    assert draw_retrieval_failures(report, labels, grey_image, tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    labels = labels_of(2)
    with pytest.raises(CannotWork, match="no pictures can be written to"):
        draw_region_failures(missed(labels), labels, grey_image, tmp_path / "file" / "pictures")
