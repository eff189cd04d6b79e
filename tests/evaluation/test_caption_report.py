"""The judged shares of captions, and the report that stands when the metrics' tools are absent."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from made_labels import make_labels

from regard.core.errors import CannotWork
from regard.core.records import Float32Array
from regard.evaluation.captions import EmbedTexts, WrittenCaption, evaluate_captions
from regard.evaluation.statistics import Share


def embedder(vectors: Mapping[str, Sequence[float]]) -> EmbedTexts:
    """Looks texts up; what it does not know lies at right angles to all else."""

    def embed(texts: Sequence[str]) -> Float32Array:
        return np.array([vectors.get(text, (0.0, 0.0, 1.0)) for text in texts], np.float32)

    return embed


@pytest.fixture
def no_java(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The judge needs no Java; the metrics have tests of their own."""
    monkeypatch.setenv("PATH", str(tmp_path))


@pytest.mark.usefixtures("no_java")
def test_shares_of_named_and_of_right() -> None:
    labels = make_labels(
        {"a": ["a bird", "a frog"], "b": ["a bus"], "c": ["a tree"], "d": ["a cup"], "e": []}
    )
    written = {
        "a": WrittenCaption("toad", names_thing=True),  # right by its second reference
        "b": WrittenCaption("boat", names_thing=True),  # wrong
        "c": WrittenCaption("a tree", names_thing=False),  # names nothing, so not judged
        "d": WrittenCaption(" ", names_thing=True),  # empty: names nothing
    }
    vectors = {
        "toad": (1.0, 0.0, 0.0),
        "a frog": (0.6, 0.8, 0.0),  # cosine 0.6, just right
        "a bird": (0.0, 1.0, 0.0),
        "a bus": (1.0, 0.0, 0.0),
        "boat": (0.59, 0.807403, 0.0),  # cosine 0.59, just wrong
    }
    report = evaluate_captions(labels, written, embedder(vectors))
    assert report.named == Share(2, 4)
    assert report.right == Share(1, 2)
    assert report.judged[0].reference == "a frog"
    assert [caption.file_name for caption in report.failures()] == ["b", "c", "d"]


@pytest.mark.usefixtures("no_java")
def test_an_image_that_is_not_indexed_names_nothing_and_is_noted() -> None:
    labels = make_labels({"a": ["a frog"], "b": ["a bus"]})
    report = evaluate_captions(labels, {"a": WrittenCaption("a frog", True)}, embedder({}))
    assert report.named == Share(1, 2)
    assert report.unanalyzed == ("b",)
    assert any("not indexed: 1 of" in note for note in report.notes)


@pytest.mark.usefixtures("no_java")
def test_without_java_the_judged_shares_still_stand() -> None:
    labels = make_labels({"a": ["a frog"]})
    report = evaluate_captions(labels, {"a": WrittenCaption("a frog", True)}, embedder({}))
    written = report.to_json()
    assert json.loads(json.dumps(written)) == written
    assert (written["cider"], written["bleu4"], written["spice"]) == (None, None, None)
    assert written["named"]["value"] == written["right_of_named"]["value"] == 1.0
    assert any("needs Java" in note for note in written["notes"])
    assert "needs Java" in report.to_text()


@pytest.mark.skipif(shutil.which("java") is None, reason="the metrics' tokenizer needs Java")
def test_with_java_the_metrics_stand_in_the_report() -> None:
    labels = make_labels({"a": ["a red bus stands here"], "b": ["one green frog sits there"]})
    written = {
        "a": WrittenCaption("A red bus stands here.", True),
        "b": WrittenCaption("One green frog sits there.", True),
    }
    report = evaluate_captions(labels, written, embedder({}))
    assert report.to_json()["cider"]["value"] == pytest.approx(10.0)
    assert report.to_json()["bleu4"] == pytest.approx(1.0)
    assert "CIDEr" in report.to_text()
    assert "BLEU-4" in report.to_text()


@pytest.mark.usefixtures("no_java")
def test_a_captioner_that_names_nothing_has_no_share_of_right() -> None:
    labels = make_labels({"a": ["a frog"]})
    report = evaluate_captions(labels, {"a": WrittenCaption("", False)}, embedder({}))
    assert report.named.value == 0.0
    assert report.right.value is None


def test_no_references_at_all() -> None:
    with pytest.raises(CannotWork, match="reference caption"):
        evaluate_captions(make_labels({"a": []}), {}, embedder({}))


@pytest.mark.usefixtures("no_java")
def test_an_encoder_that_loses_rows_is_a_bug() -> None:
    with pytest.raises(ValueError, match="expected 2 embeddings, got 1"):
        evaluate_captions(
            make_labels({"a": ["a frog"]}), {}, lambda texts: np.ones((1, 3), np.float32)
        )
