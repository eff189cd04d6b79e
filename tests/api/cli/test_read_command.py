"""Text in pictures as people meet it: `regard index` and `read`, searches, a server, the figures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from made_library import Library, regard
from made_server import Server
from PIL import Image, ImageDraw, ImageFont

from regard.api.client import Client
from regard.core.catalog import WordField
from regard.evaluation.texts import evaluate_texts, read_texts

READS = """
description = "sees colours, reads text"
[encoder]
kind = "fake"
[segmenter]
kind = "fake"
[reader]
kind = "rapidocr"
"""


def sign(path: Path, text: str, colour: tuple[int, int, int]) -> None:
    """A photograph of a sign."""
    sheet = Image.new("RGB", (320, 160), colour)
    font = ImageFont.load_default(40)
    ImageDraw.Draw(sheet).text((30, 50), text, fill=(255, 255, 255), font=font)
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Library:
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "reads.toml").write_text(READS)
    monkeypatch.setenv("REGARD_PROFILES", str(tmp_path / "profiles"))
    made = Library(tmp_path)
    sign(made.photos / "bakery.png", "Fresh Coffee", (40, 70, 200))
    sign(made.photos / "exit.png", "Exit 24", (40, 160, 60))
    made.photo("plain.png", 3)
    return made


def test_text_is_read_after_indexing_or_later(library: Library) -> None:
    outcome = library.run("index", library.photos, "--profile", "reads", "--no-read", "--json")
    assert (outcome.code, outcome.document["indexed"], outcome.document["read"]) == (0, 3, 0)
    assert (
        library.search("coffee", "--target", "region", "--limit", "1")[0]["region"].get("text")
        is None
    )
    analysed = library.everything()
    outcome = library.run("read", "--json")
    report = outcome.document
    assert (outcome.code, report["read"], report["lines"], report["failures"]) == (0, 3, 2, [])
    assert library.run("read", "--json").document["read"] == 0
    assert library.everything() == analysed
    sign(library.photos / "later.png", "Fresh Fish", (200, 40, 60))
    outcome = library.run("index", library.photos, "--json")
    assert (outcome.document["indexed"], outcome.document["read"], outcome.document["lines"]) == (
        1,
        1,
        1,
    )
    status = library.run("status", "--json").document
    assert (status["read"], status["lines"]) == (4, 3)
    library.verify()
    hits = library.search("fresh", "--target", "region", "--limit", "100")
    texts = {hit["region"].get("text") for hit in hits}
    assert texts == {"Fresh Coffee", "Fresh Fish", None}
    (first,) = (
        hit for hit in library.search("coffae") if hit["asset"]["uri"].endswith("bakery.png")
    )
    (read,) = [channel for channel in first["channels"] if "words" in channel]
    assert (read["kind"], read["rank"]) == ("text", 1)
    assert read["words"] == [{"text": "coffae", "field": "similar_text"}]
    assert first["region"]["text"] == "Fresh Coffee"
    # What it is called, and what is written in it, are channels that share the score.
    first = library.search("bakery fresh")[0]
    by_words = {one["kind"]: one for one in first["channels"] if "words" in one}
    assert {kind: one["words"] for kind, one in by_words.items()} == {
        "keyword": [{"text": "bakery", "field": "file_name"}],
        "text": [{"text": "fresh", "field": "text"}],
    }
    assert all(one["contribution"] > 0 and one["score"] > 0 for one in by_words.values())
    parts = sum(channel["contribution"] for channel in first["channels"])
    assert parts == pytest.approx(first["score"], abs=1e-5)
    assert "text #1" in library.run("search", "fresh").out.decode()
    outcome = library.run("search", '"exit 24"', "--explain", "--limit", "1")
    line = library.search('"exit 24"')[0]["region"]
    place = f"line {line['id']} at {','.join(map(str, line['bbox']))}"
    assert f"“exit 24” in text in the picture; {place}" in outcome.out.decode()
    assert "Text: “Exit 24”." in library.run("search", '"exit 24"').out.decode()


def test_a_home_without_a_reader_says_how_to_get_one(library: Library) -> None:
    library.index()
    library.run("read").expect_sentence(3, "fake", "no reader", "[reader]")


def test_a_server_reads_new_photographs_and_earlier_ones(library: Library) -> None:
    outcome = library.run("index", library.photos, "--profile", "reads", "--no-read")
    assert outcome.code == 0
    with Server(library.home, profile=None) as server, Client(server.url) as client:
        job = client.jobs.wait(client.jobs.read().id, timeout=120)
        assert (job.kind, job.state, job.total, job.done) == ("read", "done", 3, 3)
        assert (job.report or {})["lines"] == 2
        (hit, *_) = client.search("coffee").hits
        detail = client.assets.get(hit.asset.id)
        (line,) = detail.texts
        assert line.text == "Fresh Coffee"
        assert line.corners is not None
        x, y, width, height = line.bbox
        assert all(x <= px <= x + width and y <= py <= y + height for px, py in line.corners)
        assert client.regions.get(line.id).text == "Fresh Coffee"
        assert sum(client.regions.mask_run_lengths(line.id).size) == 160 + 320
        outcome = regard("--server", server.url, "read", "--json")
        assert (outcome.code, outcome.document["read"]) == (0, 0)


def test_figures_count_what_is_found_missed_and_wrong(tmp_path: Path) -> None:
    labels = tmp_path / "texts.json"
    labels.write_text(
        json.dumps({"a.jpg": [{"text": "Fresh Bread"}], "b.jpg": [{"text": "Breed"}], "c": []})
    )
    found = {
        "fresh": {"a.jpg": WordField.TEXT},
        "bread": {"a.jpg": WordField.SIMILAR_TEXT, "b.jpg": WordField.SIMILAR_TEXT},
        "breed": {},
    }
    report = evaluate_texts(read_texts(labels), lambda words: [found[word] for word in words], {})
    assert (report.words.hits, report.as_read.hits, report.words.total) == (2, 1, 3)
    assert (report.precision.hits, report.precision.total) == (2, 3)
    assert report.missed == (("breed", "b.jpg"),)
    assert report.wrong == (("bread", "b.jpg"),)


def test_the_measurement_runs_over_composed_photographs(library: Library, tmp_path: Path) -> None:
    labels = tmp_path / "texts.json"
    labels.write_text(
        json.dumps(
            {
                "bakery.png": [{"text": "Fresh Coffee"}],
                "exit.png": [{"text": "Exit 24"}],
                "plain.png": [],
            }
        )
    )
    outcome = regard(
        "evaluate",
        "text",
        "--images",
        library.photos,
        "--texts",
        labels,
        "--profile",
        "reads",
        "--json",
    )
    assert outcome.code == 0, outcome
    report = outcome.document
    assert (report["words"]["value"], report["precision"]["value"]) == (1.0, 1.0)
    assert report["cost"]["without"] > 0
    labels.write_text("[]")
    regard("evaluate", "text", "--images", library.photos, "--texts", labels).expect_sentence(
        2, "does not hold the texts"
    )
