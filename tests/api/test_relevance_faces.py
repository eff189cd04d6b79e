"""Relevance from a calibrated profile to the faces: the command line, a server, and what is
measured."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
from made_library import Library, regard
from made_local_server import LocalServer

from regard.core.errors import UsageError
from regard.core.records import Target
from regard.core.relevance import Form
from regard.models.profiles.calibration import read_calibrations, write_calibrations
from regard.models.profiles.registry import load_profile

PROFILE = """
description = "sees colours, and knows how sure it is"
[encoder]
kind = "fake"
"""
# A picture of one colour has a cosine near 1 with a text that names it.
CALIBRATION = {
    "space": "fake-colour",
    "image": {
        "hit": {"constant": -8.0, "weights": {"image.cosine": 12.0}},
        "presence": {"constant": -8.0, "weights": {"image.best": 12.0}},
        "cut_off": 0.5,
    },
}


@pytest.fixture
def calibrated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Library:
    """Red and blue photographs, indexed with a calibrated profile."""
    folder = tmp_path / "profiles"
    folder.mkdir()
    monkeypatch.setenv("REGARD_PROFILES", str(folder))
    (folder / "sure.toml").write_text(PROFILE)
    document = {**CALIBRATION, "space": load_profile("sure").spaces[0].name}
    (folder / "sure.relevance.json").write_text(json.dumps(document))
    library = Library(tmp_path)
    for number, colour in enumerate(("red", "red", "blue")):
        library.photo(f"{number}.png", number, colour)
    assert library.run("index", library.photos, "--profile", "sure").code == 0
    return library


def test_the_command_line_says_that_nothing_matches(calibrated: Library) -> None:
    found = calibrated.run("search", "red", "--json").document
    assert found["matched"] is True
    relevances = [hit["relevance"] for hit in found["hits"]]
    assert relevances[0] > 0.5 > relevances[-1]
    for hit in found["hits"]:
        cosine = hit["channels"][0]["score"]
        assert hit["relevance"] == pytest.approx(
            1 / (1 + 2.718281828 ** (8 - 12 * cosine)), abs=1e-3
        )
    shown = calibrated.run("search", "red").out.decode()
    assert "2.png" in shown
    assert "2.png" not in calibrated.run("search", "red", "--min-relevance", "0.5").out.decode()
    paths = calibrated.run("search", "red", "--min-relevance", "0.5", "--paths").out.splitlines()
    assert len(paths) == 2

    absent = calibrated.run("search", "yellow", "--json").document
    assert absent["matched"] is False
    assert len(absent["hits"]) == 3
    shown = calibrated.run("search", "yellow").out.decode()
    assert "nothing here matches" in shown
    assert ".png" not in shown
    nearest = calibrated.run("search", "yellow", "--min-relevance", "0").out.decode()
    assert nearest.count(".png") == 3
    calibrated.run("search", "red", "--min-relevance", "1.5").expect_sentence(2, "relevance")
    # What this file says nothing of was not calibrated, as in files of old: any hit may be right.
    like = calibrated.run("search", "--like", "a1", "--min-relevance", "0.9").out.decode()
    assert like.count(".png") == 2


def calibrate_forms(calibrated: Library) -> None:
    """Add to the calibration what else may be asked."""
    path = calibrated.photos.parent / "profiles" / "sure.relevance.json"
    document = json.loads(path.read_text())
    of_pictures = {
        "hit": {"constant": -8.0, "weights": {"image.cosine": 12.0}},
        "presence": {"constant": -8.0, "weights": {"image.best": 12.0}},
        "cut_off": 0.5,
    }
    of_texts = {
        "hit": {"constant": 0.0, "weights": {"image.least": 5.0, "image.spared": 5.0}},
        "presence": {"constant": -8.0, "weights": {"image.best": 12.0}},
        "cut_off": 0.5,
    }
    document["forms"] = {
        "image": {"spaces": [document["space"]], "image": of_pictures},
        "texts": {"spaces": [document["space"]], "image": of_texts},
    }
    path.write_text(json.dumps(document))


def test_stored_things_pictures_and_several_terms_have_relevance_too(calibrated: Library) -> None:
    calibrate_forms(calibrated)
    # The other red photograph is alike; of the blue one there is no like.
    red = calibrated.run("search", "--like", "a1", "--json").document
    assert red["matched"] is True
    assert [hit["relevance"] > 0.5 for hit in red["hits"]] == [True, False]
    blue = calibrated.run("search", "--like", "a3", "--json").document
    assert blue["matched"] is False
    assert len(blue["hits"]) == 2
    assert "nothing here matches" in calibrated.run("search", "--like", "a3").out.decode()
    sure = calibrated.run("search", "--like", "a3", "--min-relevance", "0").out.decode()
    assert sure.count(".png") == 2
    few = calibrated.run("search", "--like", "a1", "--min-relevance", "0.5", "--paths").out
    assert len(few.splitlines()) == 1
    # Uploaded, a picture of the library finds itself.
    picture = calibrated.photos / "2.png"
    assert calibrated.run("search", "--image", picture, "--json").document["matched"] is True
    several = calibrated.run("search", '"red" -"blue"', "--json").document
    assert several["matched"] is True
    assert all(hit["relevance"] is not None for hit in several["hits"])


def test_what_is_named_so_matches_whatever_it_looks_like(calibrated: Library) -> None:
    calibrated.photo("yellow.png", 9, "blue")
    assert calibrated.run("index", calibrated.photos).code == 0
    assert calibrated.run("search", "yellow", "--json").document["matched"] is True


def test_a_server_gives_the_relevance_of_its_home(calibrated: Library) -> None:
    calibrate_forms(calibrated)
    with LocalServer(calibrated.home, profile=None) as server:
        for arguments in (
            ("red",),
            ("yellow",),
            ("red", "--min-relevance", "0.999"),
            ("--like", "a1"),
            ("--like", "a3"),
            ('"red" -"blue"',),
        ):
            here = calibrated.run("search", *arguments, "--json").document
            there = regard("--server", server.url, "search", *arguments, "--json").document
            assert there["matched"] is here["matched"]
            assert [hit["relevance"] for hit in there["hits"]] == [
                hit["relevance"] for hit in here["hits"]
            ]


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("{", "the file"),
        ('{"space": 1}', "space"),
        ('{"space": "s", "image": {}}', "image.hit"),
        ('{"space": "s", "forms": {"smell": {"spaces": []}}}', "forms.smell"),
        ('{"space": "s", "forms": {"mixed": {"image": {}}}}', "forms.mixed"),
    ],
)
def test_what_is_wrong_in_a_calibration_is_named(
    calibrated: Library, text: str, place: str
) -> None:
    path = calibrated.photos.parent / "profiles" / "sure.relevance.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=place):
        _ = load_profile("sure").calibrations
    calibrated.run("search", "red").expect_sentence(2, "sure.relevance.json")


def test_a_calibration_is_fitted_and_drawn(calibrated: Library, tmp_path: Path) -> None:
    names = [f"{number}.png" for number in range(3)]
    labels = {
        "images": [
            {"id": number, "file_name": name, "width": 24, "height": 16}
            for number, name in enumerate(names)
        ],
        "annotations": [
            {"id": number, "image_id": number, "caption": caption}
            for number, caption in enumerate(("red", "red", "blue"))
        ],
    }
    (tmp_path / "captions.json").write_text(json.dumps(labels))
    boxes = [
        {"id": n, "image_id": n, "category_id": n // 2, "bbox": [0, 0, 24, 16]} for n in range(3)
    ]
    categories = [{"id": 0, "name": "red"}, {"id": 1, "name": "blue"}]
    (tmp_path / "instances.json").write_text(
        json.dumps({"images": labels["images"], "annotations": boxes, "categories": categories})
    )
    (tmp_path / "absent.txt").write_text("yellow\n\nwhite\n")
    fitted, picture = tmp_path / "fitted.json", tmp_path / "drawn.png"
    outcome = regard(
        "evaluate", "relevance", "--images", calibrated.photos, "--captions",
        tmp_path / "captions.json", "--instances", tmp_path / "instances.json",
        "--absent", tmp_path / "absent.txt", "--profile", "sure",
        "--fit", fitted, "--picture", picture, "--json",
    )  # fmt: skip
    assert outcome.code == 0, outcome
    report = outcome.document
    assert (report["images"], report["absent_texts"]) == (3, 2)
    told = report["text_to_image"]
    assert told["queries"] == 2
    assert told["first_right"]["value"] == 1
    assert told["profile"]["present_kept"]["value"] == 1
    assert told["profile"]["absent_rejected"]["value"] == 1
    # Two photographs show the same; of the third there is no like.
    assert report["image_to_image"]["queries"] == 2
    assert report["image_to_image"]["profile"] is None
    assert report["image_to_image"]["cross_validated"]["absent_rejected"]["total"] == 1
    # It finds no regions, and no photograph shows two things.
    assert not {"region_to_image", "texts_to_image", "text_to_region"} & set(report)
    assert picture.read_bytes().startswith(b"\x89PNG")
    fitted.replace(tmp_path / "profiles" / "sure.relevance.json")
    image = Target.IMAGE
    fitted_forms = {(Form.TEXT, image), (Form.IMAGE, image), (Form.MIXED, image)}
    assert set(load_profile("sure").calibrations) == fitted_forms
    assert calibrated.run("search", "red", "--json").document["hits"][0]["relevance"] is not None


def test_lite_ships_calibrated_for_all_that_may_be_asked_and_the_spaces_that_it_meets() -> None:
    profile = load_profile("lite")
    assert set(profile.calibrations) == set(itertools.product(Form, Target))
    text, looks = (space.name for space in profile.spaces)
    spaces = {
        Form.TEXT: {text},
        Form.TEXTS: {text},
        Form.IMAGE: {looks},
        Form.REGION: {looks},
        Form.MIXED: {text, looks},
    }
    for (form, _), calibration in profile.calibrations.items():
        assert calibration.spaces == spaces[form]
        assert 0.2 < calibration.cut_off < 0.5
        # A better match is never less relevant.
        for model in (calibration.hit, calibration.presence):
            for name, weight in model.weights.items():
                assert weight > 0 or name.endswith(("concentration", "unwanted"))


def test_a_calibration_is_read_as_it_was_written(tmp_path: Path) -> None:
    calibrations = load_profile("lite").calibrations
    path = tmp_path / "again.relevance.json"
    write_calibrations(path, calibrations)
    assert read_calibrations(path) == calibrations
    with pytest.raises(ValueError, match="space"):
        write_calibrations(path, {k: v for k, v in calibrations.items() if k[0] is Form.IMAGE})
