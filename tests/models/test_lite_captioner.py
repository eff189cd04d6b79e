"""Captions: the most specific name that is sure enough, else colours; one look serves all."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from hypothesis import given
from hypothesis import strategies as st

from regard.core.geometry import Box
from regard.core.records import Image, Kind, Region
from regard.models.lite import kinds
from regard.models.lite.analyzer import LiteAnalyzer
from regard.models.lite.captioner import (
    ClassCaptioner,
    Naming,
    describe,
    describe_regions,
    name_things,
    names_thing,
    sentence,
    without_hedge,
)
from regard.models.lite.classifier import Classifier
from regard.models.lite.colours import NAMES, colour_shares, name_pixels, named_pixels, to_lab
from regard.models.lite.encoder import JOINT, VISUAL, JointEncoder, VisualEncoder
from regard.models.lite.kinds import names
from regard.models.lite.sentences import SentenceEncoder
from regard.models.lite.views import Views, look
from regard.models.lite.vocabulary import class_texts
from regard.photos.masks import mask_area, mask_from_box

_WORDNET = Path("/usr/share/wordnet")


class OneRegion:
    """A segmenter that finds the middle of every image, and nothing in one of a single colour."""

    def segment(self, images: list[Image]) -> list[list[Region]]:
        found = []
        for image in images:
            box = Box(image.width // 4, image.height // 4, image.width // 2, image.height // 2)
            mask = mask_from_box(image.height, image.width, box)
            found.append([Region(box, mask, mask_area(mask), 0.5)] if np.ptp(image.pixels) else [])
        return found


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return Classifier()


@pytest.fixture(scope="module")
def analyzer(classifier: Classifier) -> LiteAnalyzer:
    joint, visual = JointEncoder(classifier, SentenceEncoder()), VisualEncoder(classifier)
    return LiteAnalyzer(OneRegion(), classifier, joint, visual)


def seen(probabilities: dict[str, float], colours: dict[str, float]) -> Views:
    classes = np.full(1000, 1e-5, dtype=np.float32)
    for name, probability in probabilities.items():
        classes[class_texts().names.index(name)] = probability
    shares = np.asarray([colours.get(name, 0.0) for name in NAMES], dtype=np.float32)
    none = np.zeros((0, 1), dtype=np.float32)
    return Views(none, classes, classes, classes, shares, none, none, none)


@pytest.mark.parametrize(
    ("probabilities", "colours", "expected"),
    [
        ({"great egret": 0.99}, {"white": 1.0}, "A great egret."),
        ({"great egret": 0.7}, {"white": 1.0}, "A bird, perhaps a great egret."),
        ({"sunglasses": 0.99}, {}, "Sunglasses."),
        ({"T-shirt": 0.7}, {}, "Clothing, perhaps a T-shirt."),
        ({"motor scooter": 0.4, "moped": 0.4}, {}, "A vehicle."),
        (
            {"Siberian Husky": 0.25, "Malinois": 0.25, "toucan": 0.3},
            {},
            "An animal, perhaps a dog.",
        ),
        ({"nematode": 0.9}, {"grey": 0.8}, "A mostly grey photograph."),
        ({"traffic or street sign": 0.8}, {"red": 0.8}, "Perhaps a traffic or street sign."),
        ({"teapot": 0.1}, {"green": 0.8}, "A mostly green photograph."),
        ({"teapot": 0.1}, {"green": 0.3, "blue": 0.3}, "A photograph in green and blue."),
    ],
)
def test_sentences(
    probabilities: dict[str, float], colours: dict[str, float], expected: str
) -> None:
    assert describe(seen(probabilities, colours)) == expected
    assert names_thing(expected) == ("photograph" not in expected)


def test_regions_are_named_without_article_or_guess() -> None:
    views = seen({"great egret": 0.7}, {})
    nothing = np.full((1, 1000), 1e-3, dtype=np.float32)
    rows = np.vstack([views.salient[None], nothing])
    assert describe_regions(replace(views, region_probabilities=rows)) == ["bird", None]


_CLASSES = st.lists(st.tuples(st.integers(0, 999), st.floats(0.01, 1.0)), min_size=1, max_size=8)


@given(_CLASSES)
def test_a_guess_lies_inside_its_kind_and_has_most_of_its_probability(
    chosen: list[tuple[int, float]],
) -> None:
    probabilities = np.full(1000, 1e-5, dtype=np.float32)
    for number, probability in chosen:
        probabilities[number] = probability
    probabilities /= probabilities.sum()
    before = probabilities.copy()
    (naming,) = name_things(probabilities[None])
    assert np.array_equal(probabilities, before)
    known = names()
    probabilities[class_texts().names.index("nematode")] = 0  # never evidence
    if naming is None or naming.name is None:
        is_likely = (known.members @ probabilities).max() >= 0.5
        assert is_likely == (naming is not None)
        return
    covered = {
        text: [row for row, own in zip(known.members, known.texts, strict=True) if own == text]
        for text in (naming.name, naming.guess)
    }
    # Some names stand for a class and for the kind above it, as "mask".
    assert max(row @ probabilities for row in covered[naming.name]) > 0.1
    if naming.guess is not None:
        assert any(
            (guess <= kind).all() and guess @ probabilities >= 0.5 * (kind @ probabilities) - 1e-6
            for guess in covered[naming.guess]
            for kind in covered[naming.name]
        )


def test_more_specific_names_need_more_probability() -> None:
    """The first name on the way from no evidence to certainty is general, the last the class."""
    number = class_texts().names.index("king penguin")
    steps = np.full((200, 1000), 1e-6, dtype=np.float32)
    steps[:, number] = np.linspace(0.01, 0.999, 200)
    namings = name_things(steps)
    said = list(dict.fromkeys(naming.name for naming in namings if naming and naming.name))
    assert said[-1] == "king penguin"
    assert said[:-1] == sorted(said[:-1], key=lambda name: names().specificity[at(name)])
    assert "bird" in said
    assert namings[0] is None


def test_every_class_and_kind_makes_a_plain_sentence() -> None:
    for name in names().texts:
        words = sentence(Naming(name, None))
        assert words[0].isupper()
        assert words.endswith(".")
        assert not set("()/") & set(words)
        assert names_thing(words)


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("tench", {"fish", "animal"}),
        ("king penguin", {"penguin", "bird", "animal"}),
        ("Persian cat", {"cat", "mammal", "animal"}),
        ("sports car", {"car", "vehicle"}),
        ("sombrero", {"hat", "headgear", "clothing"}),
        ("lemon", {"fruit", "food"}),
        ("broccoli", {"vegetable", "food"}),
        ("electric guitar", {"guitar", "stringed instrument", "musical instrument", "device"}),
    ],
)
def test_kinds_of_classes(name: str, kinds: set[str]) -> None:
    number = class_texts().names.index(name)
    known = names()
    above = known.members[: len(known.texts) - 1000, number] > 0
    assert {text for text, is_above in zip(known.texts, above, strict=False) if is_above} == kinds


@pytest.mark.skipif(not _WORDNET.is_dir(), reason="WordNet is Debian's package wordnet-base")
def test_the_shipped_kinds_are_those_of_wordnet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kinds, "__file__", str(tmp_path / "kinds.py"))
    kinds.main(_WORDNET)
    shipped = resources.files("regard.models.lite").joinpath(kinds.FILE)
    assert (tmp_path / kinds.FILE).read_bytes() == shipped.read_bytes()
    assert "Princeton University" in json.loads(shipped.read_bytes())["licence"]


def at(name: str) -> int:
    return names().texts.index(name)


def test_lab_of_known_colours() -> None:
    known = np.asarray([[255, 255, 255], [0, 0, 0], [255, 0, 0], [0, 0, 255]], dtype=np.uint8)
    expected = [[100, 0, 0], [0, 0, 0], [53.24, 80.09, 67.20], [32.30, 79.19, -107.86]]
    np.testing.assert_allclose(to_lab(known), expected, atol=0.05)


@pytest.mark.parametrize(
    ("pixel", "name"),
    [((250, 250, 250), "white"), ((10, 10, 10), "black"), ((128, 128, 128), "grey"),
     ((200, 10, 20), "red"), ((250, 220, 20), "yellow"), ((30, 140, 40), "green"),
     ((40, 80, 210), "blue"), ((110, 65, 30), "brown"), ((245, 130, 20), "orange")],
)  # fmt: skip
def test_colour_names(pixel: tuple[int, int, int], name: str) -> None:
    assert NAMES[int(name_pixels(np.asarray(pixel, dtype=np.uint8)))] == name


def test_colour_shares_follow_their_weights() -> None:
    pixels = np.zeros((40, 40, 3), dtype=np.uint8)
    pixels[:, 20:] = 255
    named = named_pixels(Image(pixels))
    right = np.zeros(named.shape, dtype=np.float32)
    right[:, 20:] = 1
    shares = colour_shares(named, np.stack([np.ones(1600, dtype=np.float32), right.ravel()]))
    assert shares[:, NAMES.index("white")].tolist() == [0.5, 1.0]


# `tests/api/test_lite_main_path.py` measures captions in quick tests.
@pytest.mark.campaign
def test_captions_real_photographs(classifier: Classifier) -> None:
    captioner = ClassCaptioner(classifier, OneRegion())
    images = [
        Image(np.ascontiguousarray(load())) for load in (skimage.data.cat, skimage.data.coffee)
    ]
    captions = captioner.caption(images)
    assert [captioner.caption([image])[0] for image in images] == captions
    assert all(caption.endswith(".") for caption in captions)
    assert captioner.caption([]) == []


def test_one_colour_is_named_as_such(classifier: Classifier) -> None:
    green = Image(np.full((60, 80, 3), (20, 130, 30), dtype=np.uint8))
    (caption,) = ClassCaptioner(classifier, OneRegion()).caption([green])
    assert names_thing(caption) or "green" in caption


def test_analysis_is_what_the_encoders_say(analyzer: LiteAnalyzer, classifier: Classifier) -> None:
    # A cat amid another picture, where the one region is.
    pixels = skimage.data.coffee().copy()
    pixels[100:300, 150:450] = skimage.data.cat()[50:250, 60:360]
    image = Image(pixels)
    blank = Image(np.full((50, 70, 3), 200, dtype=np.uint8))
    analysis, plain = analyzer.analyze([image, blank])
    assert analyzer.analyze([]) == []
    kinds = [(e.space, e.kind) for e in analysis.embeddings]
    assert sorted(kinds) == sorted(
        [
            (JOINT.name, Kind.IMAGE),
            (JOINT.name, Kind.REGION),
            (JOINT.name, Kind.CAPTION),
            (VISUAL.name, Kind.IMAGE),
            (VISUAL.name, Kind.REGION),
        ]
    )
    assert not plain.regions
    rows = {(e.space, e.kind): e.vector for e in analysis.embeddings}
    for row in rows.values():
        assert np.linalg.norm(row) == pytest.approx(1.0, abs=1e-5)
    joint, visual = JointEncoder(classifier, SentenceEncoder()), VisualEncoder(classifier)
    assert np.array_equal(rows[VISUAL.name, Kind.IMAGE], visual.encode_images([image])[0])
    boxes, masks = [[r.box for r in analysis.regions]], [[r.mask for r in analysis.regions]]
    # What texts meet knows the region, and a crop of it, which the encoder alone has no region
    # for.
    closer = joint.image_row(look(classifier, image, boxes[0], masks[0], [0.5]))
    assert np.array_equal(rows[JOINT.name, Kind.IMAGE], closer)
    assert not np.array_equal(closer, joint.encode_images([image])[0])
    (regions,) = joint.encode_regions([image], boxes, masks)
    # Objectness shortens the row within the space: every text scores lower by one factor.
    np.testing.assert_allclose(
        rows[JOINT.name, Kind.REGION][:-1], 0.5**0.6 * regions[0][:-1], atol=1e-5
    )
    # Regions are named, but their names have no vectors.
    assert {caption.region for caption in analysis.captions[1:]} <= {0}
    caption_row = joint.encode_texts([without_hedge(analysis.captions[0].text)])[0]
    np.testing.assert_allclose(rows[JOINT.name, Kind.CAPTION], caption_row, atol=1e-5)
