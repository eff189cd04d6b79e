"""Caption metrics against hand-computed values, errors without their tools, and the report."""

from __future__ import annotations

import json
import math
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from made_labels import make_labels

from regard.core.errors import CannotWork, MissingDependency
from regard.core.records import Float32Array
from regard.evaluation import captions
from regard.evaluation.captions import (
    EmbedTexts,
    WrittenCaption,
    evaluate_captions,
    score_captions,
    tokenize,
)
from regard.evaluation.statistics import Share

needs_java = pytest.mark.skipif(
    shutil.which("java") is None, reason="the caption metrics' tokenizer needs Java"
)


@needs_java
def test_sentences_stay_apart_whatever_they_hold() -> None:
    sentences = ['A "frog" on a log.\nYes!', "", "Ein Äffchen,\u2028猫\r\n x", "it's red", "!"]
    assert tokenize(sentences) == [
        "a frog on a log yes",
        "",
        "ein äffchen 猫 x",
        "it 's red",
        "",
    ]


@needs_java
def test_tokens_are_those_of_pycocoevalcap(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from pycocoevalcap.tokenizer import ptbtokenizer

    sentences = ["A man's hat, two-tone; $5.", "The U.S. flag -- torn...", "“Dead end!” (old)"]
    own = tokenize(sentences)
    assert capfd.readouterr() == ("", "")
    try:
        theirs = ptbtokenizer.PTBTokenizer().tokenize({0: [{"caption": s} for s in sentences]})
    except PermissionError:
        pytest.skip("pycocoevalcap's own wrapper writes into its folder, which is read-only here")
    assert own == theirs[0]


@needs_java
def test_scores_against_values_worked_out_by_hand(capfd: pytest.CaptureFixture[str]) -> None:
    scores = score_captions(
        ["A red bus stands here.", ""], [["a red bus stands here"], ["one green frog sits there"]]
    )
    # CIDEr-D of an exact match with n-grams no other image has is 10, of silence 0.
    assert scores.cider.value == pytest.approx(5.0)
    assert scores.cider.total == 2
    # All n-grams match; 5 of 10 reference words: brevity penalty exp(1 - 10 / 5).
    assert scores.bleu4 == pytest.approx(math.exp(-1), rel=1e-6)
    assert capfd.readouterr() == ("", "")


@needs_java
def test_cider_weighs_words_by_how_rare_they_are_in_the_references() -> None:
    # "a" is in both images' references: log(2/2) = 0, so only the noun counts, for 1-grams;
    # the 2-gram is wrong in neither. One image right, one with the other's noun.
    scores = score_captions(["a frog", "a frog"], [["a frog"], ["a bus"]])
    # Right image: 1-gram and 2-gram similarity 1, none of 3 and 4: 10 * (1 + 1) / 4 = 5.
    assert scores.cider.value == pytest.approx(2.5)


@needs_java
def test_silence_alone_scores_nothing() -> None:
    scores = score_captions(["", " "], [["a frog"], ["a bus"]])
    assert scores.cider.value == 0.0
    assert scores.bleu4 == pytest.approx(0.0)


@needs_java
def test_references_without_words_are_refused() -> None:
    with pytest.raises(CannotWork, match="hold no words"):
        score_captions(["a frog"], [["..."]])


def test_missing_java_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingDependency, match="needs Java; install"):
        score_captions(["a"], [["a"]])


def test_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pycocoevalcap.bleu.bleu", None)
    with pytest.raises(MissingDependency, match=r"pip install 'regard\[evaluate\]'"):
        score_captions(["a"], [["a"]])


def stand_in_java(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts a program named `java` first on the PATH."""
    program = folder / "java"
    program.write_text(f"#!{sys.executable}\n{script}")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)


posix_only = pytest.mark.skipif(os.name != "posix", reason="the stand-in for Java is a script")


@posix_only
@pytest.mark.parametrize(
    ("script", "message"),
    [
        (
            "import sys\nsys.exit('first\\nUnsupported class file')",
            "Java failed on a caption metric: Unsupported class file",
        ),
        ("print('one')", "another number of sentences"),
    ],
)
def test_a_tokenizer_that_fails_or_loses_a_line_is_refused(
    script: str, message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stand_in_java(tmp_path, script, monkeypatch)
    with pytest.raises(CannotWork, match=message):
        tokenize(["one", "two"])


# Tokenizes without Java, and as SPICE gives each image the F1 0.25.
SPICE = """
import json, sys
if "-jar" in sys.argv:
    entries = json.load(open(sys.argv[sys.argv.index("-jar") + 2]))
    scored = [{"image_id": e["image_id"], "scores": {"All": {"f": 0.25}}} for e in entries]
    print("SPICE talks")
    with open(sys.argv[sys.argv.index("-out") + 1], "w") as out:
        json.dump(scored, out)
else:
    sys.stdout.write(sys.stdin.read())
"""


def with_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installation of SPICE whose parser's models are there."""
    for name in ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar"):
        path = tmp_path / "spice" / "lib" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    monkeypatch.setattr(captions, "_folder", lambda module: tmp_path / "tokenizer")


@posix_only
def test_spice_runs_where_its_models_are(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with_models(tmp_path, monkeypatch)
    stand_in_java(tmp_path, SPICE, monkeypatch)
    scores = score_captions(["a frog", "a bus"], [["a frog"], ["a tram"]])
    assert scores.spice is not None
    assert (scores.spice.value, scores.spice.total) == (0.25, 2)
    assert scores.notes == ()
    assert capfd.readouterr() == ("", "")


@posix_only
def test_spice_without_scores_is_a_note(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with_models(tmp_path, monkeypatch)
    stand_in_java(tmp_path, "import sys\nsys.stdout.write(sys.stdin.read())", monkeypatch)
    scores = score_captions(["a frog"], [["a frog"]])
    assert scores.spice is None
    assert scores.notes == ("SPICE is left out, it wrote no scores",)


@posix_only
def test_absent_models_are_a_note_and_never_a_download(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(captions, "_folder", lambda module: tmp_path / "tokenizer")
    stand_in_java(tmp_path, "import sys\nsys.stdout.write(sys.stdin.read())", monkeypatch)
    monkeypatch.setattr("urllib.request.urlretrieve", lambda *_: pytest.fail("a download"))
    scores = score_captions(["a frog"], [["a frog"]])
    assert scores.spice is None
    (note,) = scores.notes
    assert "python -m pycocoevalcap.spice.get_stanford_models" in note


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


@needs_java
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
