"""Two searches side by side: counted by hand, paired, and through the command line."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_labels import make_labels
from made_library import regard, write_photo

from regard.api.cli.commands.evaluate import labelled_library
from regard.core.records import Target
from regard.evaluation.comparison import BetterRanks, Difference, compare_retrieval
from regard.evaluation.labels import LabelledSet
from regard.evaluation.retrieval import Answer, RetrievalReport, evaluate_retrieval

LABELS = make_labels({"a": ["frog"], "b": ["frog"], "c": ["bus"], "d": ["tree"]})


def measured(answers: Mapping[str, Sequence[str]], labels: LabelledSet = LABELS) -> RetrievalReport:
    def search(texts: Sequence[str], target: Target, limit: int) -> list[list[Answer]]:
        found = answers if target is Target.IMAGE else {}
        return [[Answer(name) for name in found.get(text, ())] for text in texts]

    return evaluate_retrieval(labels, search)


def test_differences_are_taken_a_query_with_the_weight_of_its_labels() -> None:
    one = measured({"frog": ["c", "a"], "bus": ["c"], "tree": []})
    other = measured({"frog": ["a"], "bus": ["a", "b", "d", "c"], "tree": ["d"]})
    report = compare_retrieval(("old", "new"), one, other)
    first = report.differences["text_to_image"]["recall_at_1"]
    assert (first.first, first.second, first.difference) == (0.25, 0.75, 0.5)
    assert report.differences["text_to_image"]["recall_at_5"].difference == 0.25
    reciprocal = report.differences["text_to_image"]["mean_reciprocal_rank"]
    assert reciprocal.first == pytest.approx((2 * 0.5 + 1 + 0) / 4)
    assert reciprocal.second == pytest.approx((2 * 1 + 0.25 + 1) / 4)
    # What was not found is furthest away, then from 1 to 4, then from 2 to 1.
    ahead, behind = (
        [(query.text, query.first_rank, query.second_rank) for query in queries]
        for queries in report.queries
    )
    assert ahead == [("bus", 1, 4)]
    assert behind == [("tree", None, 1), ("frog", 2, 1)]
    assert report.better_ranks == {"text_to_image": BetterRanks(1, 2, 0)}
    assert report.differences["text_to_region"]["hit_at_1"].difference is None
    document = json.loads(json.dumps(report.to_json()))
    assert document["first"]["name"] == "old"
    assert document["queries"][0] == {
        "text": "bus",
        "target": "image",
        "first_rank": 1,
        "second_rank": 4,
    }
    text = report.to_text()
    assert text.startswith("In short: neither is clearly better at anything measured here.\n")
    assert "frog (image)" in text
    assert "seconds" not in text


def test_the_verdict_names_what_differs_clearly() -> None:
    names = {f"{number:02}": [f"thing {number}"] for number in range(40)}
    labels = make_labels(names)
    found = {things[0]: [name] for name, things in names.items()}
    all_found, none_found = measured(found, labels), measured({}, labels)
    report = compare_retrieval(("good", "bad"), all_found, none_found, (3.0, 40.4))
    assert report.verdict == (
        "good is clearly better at text → image recall@1, text → image recall@5, "
        "text → image recall@10, text → image mean reciprocal rank"
    )
    assert [len(queries) for queries in report.queries] == [5, 0]
    assert report.better_ranks["text_to_image"] == BetterRanks(40, 0, 0)
    lines = report.to_text().splitlines()
    assert any(line.split() == ["seconds", "of", "indexing", "3", "40"] for line in lines)
    assert "furthest ahead with bad" not in lines
    same = compare_retrieval(("one", "other"), all_found, all_found)
    assert same.verdict.startswith("neither")
    assert "the same" in same.to_text()
    assert "not clear" not in same.to_text()


def test_other_questions_do_not_compare() -> None:
    other = measured({}, make_labels({"a": ["frog"], "b": ["cow"]}))
    with pytest.raises(ValueError, match="different queries"):
        compare_retrieval(("old", "new"), measured({}), other)


def test_a_clear_difference_is_told_from_noise() -> None:
    better = Difference.of([0.0] * 50, [1.0] * 40 + [0.0] * 10, [1] * 50)
    assert better.is_clear
    noise = Difference.of([1.0, 0.0] * 25, [0.0, 1.0] * 25, [1] * 50)
    assert not noise.is_clear
    assert noise.difference == 0
    # Pairing: the same spread without a difference has an interval without width.
    same = Difference.of([1.0, 0.0] * 25, [1.0, 0.0] * 25, [1] * 50)
    assert (same.low, same.high) == (0, 0)


_VALUES = st.lists(
    st.tuples(st.floats(0, 1), st.floats(0, 1), st.integers(1, 5)), min_size=1, max_size=30
)


@settings(deadline=None, max_examples=40)
@given(_VALUES)
def test_the_other_way_round_is_the_negative(values: list[tuple[float, float, int]]) -> None:
    first, second, weights = (list(column) for column in zip(*values, strict=True))
    there = Difference.of(first, second, weights)
    back = Difference.of(second, first, weights)
    assert there.difference is not None
    assert there.low is not None
    assert there.high is not None
    assert back.difference == pytest.approx(-there.difference, abs=1e-12)
    assert back.low == pytest.approx(-there.high, abs=1e-12)
    assert there.low - 1e-12 <= there.high


@pytest.fixture
def labelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Photographs of one colour each, and a profile `blind` whose words mean other colours."""
    names = ["red", "green", "blue", "yellow"]
    images = [
        {"id": number, "file_name": f"{name}.png", "width": 24, "height": 16}
        for number, name in enumerate(names, start=1)
    ]
    for number, name in enumerate(names):
        write_photo(tmp_path / "photos" / f"{name}.png", number, name)
    captions = [
        {"id": number, "image_id": number, "caption": f"{name} ground"}
        for number, name in enumerate(names, start=1)
    ]
    document = {"images": images, "annotations": captions}
    (tmp_path / "captions.json").write_text(json.dumps(document))
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "blind.toml").write_text(
        'description = "sees no captions"\n[encoder]\nkind = "fake"\n'
        "[encoder.parameters]\nturn = 3\n[weights]\nkeyword = 0\n"
    )
    # As `fake`, except for the channels of a text.
    shipped = regard("profiles", "--show", "fake").out.decode()
    parts = shipped.partition("[weights]")[0]
    (tmp_path / "profiles" / "deaf.toml").write_text(
        f"{parts}[weights]\nimage = 1\ncaption = 0\nregion = 0\nkeyword = 0\n"
    )
    monkeypatch.setenv("REGARD_PROFILES", str(tmp_path / "profiles"))
    return tmp_path


def test_profiles_and_kept_pipelines_compare_alike(
    labelled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ("--images", labelled / "photos", "--captions", labelled / "captions.json", "--json")
    profiles = regard("evaluate", "compare", "fake", "blind", *asked)
    assert profiles.code == 0, profiles
    home = ("--home", labelled / "home")
    assert regard("index", labelled / "photos", *home, "--profile", "fake").code == 0
    regard("evaluate", "compare", "fake", "blind", *asked, *home).expect_sentence(3, "no pipeline")
    assert regard("reindex", "--profile", "blind", *home).code == 0
    kept = regard("evaluate", "compare", "fake", "blind", *asked, *home)
    assert kept.code == 0, kept
    measured = profiles.document
    took = [measured[one].pop("indexing_seconds") for one in ("first", "second")]
    assert all(seconds > 0 for seconds in took)
    assert kept.document == measured
    assert kept.document["first"]["text_to_image"]["recall_at_1"]["value"] == 1.0
    # Of those that differ in weights alone, the photographs are indexed once.
    indexed: list[str | None] = []
    open_measured_home = labelled_library.open_measured_home

    def watched(paths: Sequence[Path], profile: str | None, home: Path | None) -> Any:
        indexed.append(profile)
        return open_measured_home(paths, profile, home)

    monkeypatch.setattr(labelled_library, "open_measured_home", watched)
    alike = regard("evaluate", "compare", "fake", "deaf", *asked).document
    assert indexed == ["fake"]
    assert alike["second"]["name"] == "deaf"
    assert alike["first"]["text_to_image"] == measured["first"]["text_to_image"]
    assert alike["differences"]["text_to_image"]["mean_reciprocal_rank"]["difference"] == 0
    # What one of them has not analysed can't be compared.
    write_photo(labelled / "photos" / "late.png", 9, "purple")
    document = json.loads((labelled / "captions.json").read_text())
    document["images"].append({"id": 9, "file_name": "late.png", "width": 24, "height": 16})
    (labelled / "captions.json").write_text(json.dumps(document))
    regard("evaluate", "compare", "fake", "blind", *asked, *home).expect_sentence(
        3, "has not analysed all", "regard reindex --profile fake"
    )
