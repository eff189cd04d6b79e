"""What texts name, and whether names agree, by a tiny WordNet; and by the real one, if it is there."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from made_labels import make_labels, make_object
from made_wordnet import make_wordnet

from regard.core.errors import NotFound
from regard.core.geometry import Box
from regard.evaluation.captions import NO_CAPTION, WrittenCaption, evaluate_captions
from regard.evaluation.naming import NamingReport
from regard.evaluation.statistics import Share
from regard.evaluation.wordnet import Naming, WordNet

_REAL = Path("/usr/share/wordnet")
# Twelve nouns above all others, as many as say nothing.
_GENERAL = {(f"general{i}",): (f"general{i - 1}",) if i else () for i in range(12)}


@pytest.fixture(scope="module")
def wordnet(tmp_path_factory: pytest.TempPathFactory) -> WordNet:
    nouns = {
        **_GENERAL,
        ("animal", "beast"): ("general11",),
        ("bird",): ("animal",),
        ("heron",): ("bird",),
        ("crane",): ("bird",),
        ("vehicle",): ("general11",),
        ("derrick", "crane"): ("vehicle",),
        ("fire_truck", "fire_engine"): ("vehicle",),
        ("fire",): ("general11",),
        ("fruit",): ("general11",),
        ("grape",): ("fruit",),
        ("lime",): ("fruit",),
        ("bunch",): ("general11",),
        ("mouse",): ("animal",),
        ("X-ray",): ("general11",),
        ("flower",): ("general11",),
    }
    folder = make_wordnet(
        tmp_path_factory.mktemp("wordnet"),
        nouns,
        plurals="mice mouse\n",
        other_words=["ahead", "green", "wait"],
    )
    return WordNet(folder)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("A heron.", ("heron",)),
        ("A fire truck on a road.", ("fire_truck",)),
        ("A very green, sliced lime!", ("lime",)),
        ("A red and white flower.", ("flower",)),
        ("A bunch of the grapes", ("bunch", "grape")),
        ("A photo of two mice", ("mouse",)),
        ("A bird, perhaps a heron.", ("bird",)),
        ("A “fire” truck", ("fire_truck",)),
        ("Wait! Fire ahead!", ("fire",)),
        ("An x-ray", ("x-ray",)),
        ("A heron quux.", ()),  # the last word may be the noun
        ("A mostly grey photograph.", ()),
        ("", ()),
    ],
)
def test_a_text_names_its_head_noun(wordnet: WordNet, text: str, names: tuple[str, ...]) -> None:
    assert wordnet.names(text) == names


@pytest.mark.parametrize(
    ("text", "references", "naming"),
    [
        ("A heron.", ["A grey heron."], Naming.SAME),
        ("A fire engine.", ["A fire truck."], Naming.SAME),
        ("A bird, perhaps a crane.", ["A heron."], Naming.KIND),
        ("A heron.", ["A bird."], Naming.OTHER),  # more than the reference says
        ("A vehicle.", ["A crane."], Naming.KIND),  # one of two meanings
        ("A vehicle.", ["A heron.", "A fire truck."], Naming.KIND),
        ("A general11.", ["A heron."], Naming.OTHER),
        ("Something.", ["A heron."], Naming.OTHER),
        ("A heron.", ["A quux."], None),
    ],
)
def test_names_agree_with_synonyms_and_kinds(
    wordnet: WordNet, text: str, references: list[str], naming: Naming | None
) -> None:
    assert wordnet.compare(text, references) == naming


def test_specificity_falls_with_the_number_of_hyponyms(wordnet: WordNet) -> None:
    assert wordnet.specificity("A heron.") == 1.0
    # Bird, heron, crane among 27 nouns.
    assert wordnet.specificity("A bird.") == pytest.approx(1 - math.log(3) / math.log(27))
    assert wordnet.specificity("A general0.") == pytest.approx(0.0)
    assert wordnet.specificity("Nothing known.") == 0.0


def test_a_folder_without_wordnet_names_the_missing_file(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"data\.noun does not exist; .*wordnet-base"):
        WordNet(tmp_path)


def test_shares_count_what_was_named_and_could_be_judged(wordnet: WordNet) -> None:
    report = NamingReport.of(
        [
            ("A heron.", True, ["A heron."]),
            ("A bird.", True, ["A crane."]),
            ("A bird.", True, ["A lime."]),
            ("A bird.", True, ["A quux."]),  # not judged
            ("A photograph in blue.", False, ["A heron."]),
        ],
        wordnet,
    )
    assert (report.named, report.right, report.same) == (Share(4, 5), Share(2, 3), Share(1, 3))
    assert report.specificity.total == 4
    written = report.to_json()
    halves = written.pop("halves")
    assert set(written) == {"named", "right_of_named", "same_of_named", "specificity"}
    # Cranes; herons, limes and quuxes.
    assert [half["named"]["total"] for half in halves] == [1, 4]
    assert [half["right_of_named"]["hits"] for half in halves] == [1, 1]


def test_captions_of_regions_are_judged_by_the_objects_they_meet(wordnet: WordNet) -> None:
    labels = make_labels(
        {"a": ["A heron on a vehicle."], "b": ["A lime."]},
        {
            "a": [
                make_object("A heron.", Box(0, 0, 10, 10)),
                make_object("A fire truck.", Box(20, 0, 10, 10)),
            ]
        },
    )
    regions = {
        "a": [
            (Box(0, 0, 10, 9), WrittenCaption("bird", names_thing=True)),
            (Box(20, 0, 10, 10), WrittenCaption("fruit", names_thing=True)),
            (Box(20, 0, 9, 10), NO_CAPTION),
            (Box(40, 0, 10, 10), WrittenCaption("bird", names_thing=True)),  # meets nothing
        ]
    }
    written = {"a": WrittenCaption("A bird.", names_thing=True)}
    report = evaluate_captions(
        labels,
        written,
        lambda texts: np.ones((len(texts), 1), np.float32),
        wordnet=wordnet,
        regions=regions,
    )
    assert report.naming is not None
    assert report.region_naming is not None
    assert (report.naming.named, report.naming.right) == (Share(1, 2), Share(1, 1))
    assert (report.region_naming.named, report.region_naming.right) == (Share(2, 3), Share(1, 2))
    assert report.to_json()["wordnet"]["regions"]["right_of_named"]["value"] == 0.5
    assert "captions of regions that meet an object" in report.to_text()


@pytest.mark.skipif(not _REAL.is_dir(), reason="WordNet is Debian's package wordnet-base")
def test_the_real_wordnet_is_read() -> None:
    wordnet = WordNet(_REAL)
    assert wordnet.compare("A vehicle, perhaps a moped.", ["A pickup truck."]) is Naming.KIND
    assert wordnet.compare("An organism.", ["A frog."]) is Naming.OTHER
    assert wordnet.compare("A motorcar.", ["A sedan car."]) is Naming.SAME
    assert 0.2 < wordnet.specificity("An animal.") < wordnet.specificity("A bird.") < 0.5
