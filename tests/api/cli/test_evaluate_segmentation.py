"""`regard evaluate segmentation` from the photographs to the figures, with models that see
colours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made_library import Library, Outcome, painted, regard
from made_semantic_set import write_semantic_set
from PIL import Image

NAMES = ("red", "green", "blue")


@pytest.fixture
def library(tmp_path: Path) -> Library:
    """Photographs of two stripes each, and masks that say so; the first columns are not
    measured."""
    library = Library(tmp_path)
    for number, (left, right) in enumerate(((0, 1), (1, 2), (2, 0))):
        path = library.photos / "deep" / f"{number}.jpg"
        path.parent.mkdir(exist_ok=True)
        painted((NAMES[left], NAMES[right]), number).save(path, "PNG")
        values = np.full((16, 24), left + 1, np.uint8)
        values[:, 12:] = right + 1
        values[:, :4] = 0
        mask = tmp_path / "masks" / "deep" / f"{number}.png"
        mask.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(values).save(mask)
    (tmp_path / "classes.txt").write_text("red, crimson\ngreen\nblue\nyellow\n")
    return library


def measure(library: Library, *more: str) -> Outcome:
    folder = library.home.parent
    return regard(
        *("evaluate", "segmentation", "--images", library.photos, "--masks", folder / "masks"),
        *("--classes", folder / "classes.txt", *more),
    )


def test_regions_are_labelled_by_their_colours(library: Library) -> None:
    outcome = measure(library, "--profile", "fake", "--json")
    assert outcome.code == 0, outcome
    report = outcome.document
    assert (report["images"], report["classes"], report["classes_shown"]) == (3, 4, 3)
    assert report["pixels"] == 3 * 16 * 20
    assert report["ceiling"]["pixel_accuracy"]["value"] > 0.9
    assert report["pixel_accuracy"]["value"] > 0.9
    assert report["miou"]["low"] <= report["miou"]["value"] <= report["miou"]["high"]
    assert [one["class"] for one in report["per_class"]] == ["red", "green", "blue", "yellow"]
    # Other words for the same pixels: now what was right is wrong.
    (library.home.parent / "classes.txt").write_text("green\nblue\nred\nyellow\n")
    wrong = measure(library, "--profile", "fake", "--json").document
    assert wrong["pixel_accuracy"]["value"] < 0.1
    assert wrong["ceiling"]["pixel_accuracy"] == report["ceiling"]["pixel_accuracy"]
    assert wrong["coverage"] == report["coverage"]


def test_photographs_that_a_home_has_cost_no_models(library: Library) -> None:
    library.index()
    before = library.sql("SELECT count(*) FROM embedding")
    first = measure(library, "--home", str(library.home), "--json")
    assert first.code == 0, first
    assert library.sql("SELECT count(*) FROM embedding") == before
    assert first.document == measure(library, "--profile", "fake", "--json").document
    outcome = measure(library, "--home", str(library.home), "--only", "deep/[01].jpg")
    assert outcome.out.decode().startswith("2 images, "), outcome
    library.verify()


def test_wrong_use_is_one_sentence(library: Library) -> None:
    measure(library, "--prompt", "a photo").expect_sentence(2, "no place for the name")
    measure(library, "--only", "nothing").expect_sentence(3, "no photograph's file name matches")
    Image.new("L", (24, 16), 9).save(library.home.parent / "masks" / "deep" / "0.png")
    measure(library, "--profile", "fake").expect_sentence(3, "holds the value 9", "4 classes")


def test_photographs_with_real_things(photos_dir: Path, tmp_path: Path) -> None:
    """The set of docs/quality.md, three photographs of it, with the models that users have."""
    masks, classes = write_semantic_set(photos_dir, tmp_path, "singles/000")
    outcome = regard(
        *("evaluate", "segmentation", "--images", photos_dir, "--masks", masks),
        *("--classes", classes, "--only", "singles/000[0-2].jpg", "--json"),
    )
    assert outcome.code == 0, outcome
    report = outcome.document
    assert (report["images"], report["classes_shown"]) == (3, 3)
    assert report["classes"] > 200
    # On all singles 0.993 are covered and the ceiling is 0.992.
    assert report["coverage"] > 0.95
    assert report["ceiling"]["miou"]["value"] > 0.9
    # By chance it would be a two hundredth.
    assert report["pixel_accuracy"]["value"] > 0.1
