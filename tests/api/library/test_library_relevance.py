"""A profile without a calibration gets one that is made on the library itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from made_library import COLOURS, Library, regard
from made_local_server import LocalServer

from regard.api.library import relevance
from regard.api.library.home import open_home
from regard.api.library.settings import Settings
from regard.core.errors import EngineUnavailable
from regard.core.filters import EVERYTHING
from regard.core.records import Target
from regard.core.relevance import Form
from regard.indexer.report import Stoppable
from regard.search import library_relevance
from regard.search.library_relevance import LEAST_PHOTOGRAPHS, everyday_texts

pytestmark = pytest.mark.slow

# Words that name no colour: to the models of `fake` they mean nothing.
NONSENSE = [
    f"{word} {number}" for word in ("flurb", "wexit", "odrun", "pilmo") for number in range(10)
]
TEXTS = {(Form.TEXT, target) for target in Target}


def stored(library: Library) -> list[tuple[Any, ...]]:
    """Which number of photographs each pipeline was calibrated on, and the calibration."""
    return library.sql("SELECT pipeline_id, contents, document FROM calibration ORDER BY 1")


def index(library: Library) -> None:
    """Index with the models of `fake`, which itself wants no calibration."""
    outcome = library.run("index", library.photos, "--profile", "colours")
    assert outcome.code == 0, outcome


def add(library: Library, first: int, end: int) -> None:
    for number in range(first, end):
        library.photo(f"{number}.png", number)


@pytest.fixture(scope="module", autouse=True)
def profiles(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Profiles without a calibration, the models of `fake` in two spaces; and fewer texts, which
    take less time.
    """
    folder = tmp_path_factory.mktemp("profiles")
    for name, turn in (("colours", 2), ("turned", 1)):
        encoder = f'[encoder]\nkind = "fake"\nparameters = {{ turn = {turn} }}\n'
        segmenter = '[segmenter]\nkind = "fake"\n'
        (folder / f"{name}.toml").write_text(f'description = "made"\n{encoder}{segmenter}')
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("REGARD_PROFILES", str(folder))
        patched.setattr(library_relevance, "everyday_texts", lambda: everyday_texts()[::4])
        yield


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    library = Library(tmp_path_factory.mktemp("calibrated"))
    add(library, 0, LEAST_PHOTOGRAPHS)
    index(library)
    return library


def test_nonsense_finds_nothing_and_what_is_there_is_found(calibrated: Library) -> None:
    for colour in COLOURS:
        found = calibrated.run("search", colour, "--json").document
        assert (found["matched"], found["relevance_source"]) == (True, "library")
        assert found["hits"][0]["relevance"] > 0.9
    queries = calibrated.home.parent / "queries.txt"
    queries.write_text("\n".join(NONSENSE))
    answers = calibrated.run("search", "--queries", queries, "--json").lines
    rejected = sum(not answer["matched"] for answer in answers)
    # As many as of the texts that it was calibrated on: `fake` knows none of them better.
    assert rejected / len(NONSENSE) == pytest.approx(0.42, abs=0.2)
    relevances = [answer["hits"][0]["relevance"] for answer in answers]
    assert sum(relevances) / len(relevances) < 0.3


def test_pictures_and_several_texts_stay_without_relevance(calibrated: Library) -> None:
    for query in (("--like", "a1"), ('"red" "blue"',)):
        found = calibrated.run("search", *query, "--json").document
        assert (found["matched"], found["relevance_source"]) == (True, None)
        assert found["hits"][0]["relevance"] is None


def test_a_server_and_the_command_line_say_the_same(calibrated: Library) -> None:
    with LocalServer(calibrated.home, profile=None) as server:
        for text in ("red", *NONSENSE[:3]):
            here = calibrated.run("search", text, "--json").document
            there = regard("--server", server.url, "search", text, "--json").document
            assert there["relevance_source"] == here["relevance_source"] == "library"
            assert there["matched"] is here["matched"]
            assert [hit["relevance"] for hit in there["hits"]] == [
                hit["relevance"] for hit in here["hits"]
            ]


def test_the_same_library_gives_the_same_calibration(calibrated: Library) -> None:
    with open_home(Settings(calibrated.home)) as home:
        again = relevance.calibrate(home, EVERYTHING)
        assert again is not None
        assert set(again) == TEXTS
        assert json.loads(relevance.to_json(again)) == json.loads(stored(calibrated)[0][2])


def test_it_is_made_at_the_least_number_and_when_the_number_has_doubled(tmp_path: Path) -> None:
    library = Library(tmp_path)
    add(library, 0, LEAST_PHOTOGRAPHS - 1)
    index(library)
    assert stored(library) == []
    found = library.run("search", "red", "--json").document
    assert (found["matched"], found["relevance_source"]) == (True, None)
    assert f"fewer than {LEAST_PHOTOGRAPHS} photographs" in library.run("status").out.decode()
    add(library, LEAST_PHOTOGRAPHS - 1, LEAST_PHOTOGRAPHS)
    index(library)
    ((_, contents, first),) = stored(library)
    assert contents == LEAST_PHOTOGRAPHS
    assert f"on {LEAST_PHOTOGRAPHS} photographs" in library.run("status").out.decode()
    add(library, LEAST_PHOTOGRAPHS, 2 * LEAST_PHOTOGRAPHS - 1)
    index(library)
    assert stored(library)[0][1:] == (LEAST_PHOTOGRAPHS, first)
    add(library, 2 * LEAST_PHOTOGRAPHS - 1, 2 * LEAST_PHOTOGRAPHS)
    index(library)
    assert stored(library)[0][1] == 2 * LEAST_PHOTOGRAPHS
    assert stored(library)[0][2] != first


def test_a_calibration_that_fails_or_is_stopped_leaves_everything_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = Library(tmp_path)
    add(library, 0, LEAST_PHOTOGRAPHS)

    def away(*_: object) -> None:
        raise EngineUnavailable("the vector engine is away")

    with monkeypatch.context() as patched:
        patched.setattr(relevance, "calibrate", away)
        index(library)
    assert stored(library) == []
    assert "next indexing run" in library.run("status").out.decode()
    index(library)
    first = stored(library)
    assert len(first) == 1
    # A new one is due, but does not come to its end: the former one stays.
    add(library, LEAST_PHOTOGRAPHS, 2 * LEAST_PHOTOGRAPHS)
    with monkeypatch.context() as patched:
        patched.setattr(relevance, "calibrate", away)
        index(library)
    assert stored(library) == first
    with open_home(Settings(library.home)) as home:
        relevance.calibrate_if_due(home, Stoppable(lambda: True))
        assert stored(library) == first
        relevance.calibrate_if_due(home)
    assert stored(library) != first


def test_each_pipeline_keeps_its_own(tmp_path: Path) -> None:
    library = Library(tmp_path)
    add(library, 0, LEAST_PHOTOGRAPHS)
    index(library)
    first = stored(library)
    assert library.run("reindex", "--profile", "turned").code == 0
    assert stored(library)[:1] == first
    assert len(stored(library)) == 2
    assert library.run("search", "red", "--json").document["relevance_source"] == "library"
    assert library.run("rollback").code == 0
    assert library.run("search", "red", "--json").document["relevance_source"] == "library"
    assert library.run("prune", "--unfinished").code == 0
    library.run("prune")
    assert stored(library) == first


def test_the_everyday_texts_are_different_lines_of_a_few_words() -> None:
    texts = everyday_texts()
    assert len(set(texts)) == len(texts) > 300
    assert all(text == text.strip() and 1 <= len(text.split()) <= 6 for text in texts)


def test_a_server_calibrates_at_the_end_of_a_job(tmp_path: Path) -> None:
    library = Library(tmp_path)
    add(library, 0, LEAST_PHOTOGRAPHS)
    with LocalServer(library.home, profile="colours") as server:
        sent = regard("--server", server.url, "index", library.photos)
        assert sent.code == 0, sent
        assert [contents for _, contents, _ in stored(library)] == [LEAST_PHOTOGRAPHS]
        found = regard("--server", server.url, "search", "red", "--json").document
        assert (found["matched"], found["relevance_source"]) == (True, "library")


def test_it_is_measured_by_labels_that_it_has_not_seen(calibrated: Library, tmp_path: Path) -> None:
    names = list(COLOURS)
    labels: dict[str, list[dict[str, Any]]] = {"images": [], "annotations": []}
    for number in range(LEAST_PHOTOGRAPHS):
        shown = f"{names[number % len(names)]} {names[number // len(names) % len(names)]}"
        image = {"id": number, "file_name": f"{number}.png", "width": 24, "height": 16}
        labels["images"].append(image)
        labels["annotations"].append({"id": number, "image_id": number, "caption": shown})
    (tmp_path / "captions.json").write_text(json.dumps(labels))
    (tmp_path / "absent.txt").write_text("\n".join(NONSENSE))
    measured = regard(
        "evaluate", "relevance", "--images", calibrated.photos, "--home", calibrated.home,
        "--captions", tmp_path / "captions.json", "--absent", tmp_path / "absent.txt",
        "--profile", "colours", "--library", "--json",
    )  # fmt: skip
    assert measured.code == 0, measured
    report = measured.document["text_to_image"]
    assert "profile" not in report
    assert report["library"]["present_kept"]["value"] == 1
    assert report["library"]["absent_rejected"]["value"] == pytest.approx(0.42, abs=0.25)
