"""Reindexing through the command line, with kills and with missing or changed files."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from made_gate import Gate
from made_library import Library, Outcome, command, write_photo
from made_processes import Forked

from regard.indexer import analysis as analysis_module
from regard.models.fake import FakeEncoder

PHOTOS = 16


@pytest.fixture(autouse=True)
def profiles(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's profiles: `turned` has other vectors for the same colours, and batches of one."""
    folder = tmp_path_factory.mktemp("profiles")
    monkeypatch.setenv("REGARD_PROFILES", str(folder))
    write_turned(folder, 5)
    return folder


def write_turned(folder: Path, turn: int) -> None:
    (folder / "turned.toml").write_text(
        'description = "another"\nbatch_size = 1\n[encoder]\nkind = "fake"\n'
        f'[encoder.parameters]\nturn = {turn}\n[segmenter]\nkind = "fake"\n'
    )


@pytest.fixture
def library(tmp_path: Path) -> Library:
    made = Library(tmp_path)
    for number in range(PHOTOS):
        made.photo(f"{number:02}.png", number)
    made.index()
    return made


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    made = Gate(tmp_path / "gate")
    yield made
    made.open()


def test_kills_in_the_middle_lose_nothing_and_leave_the_old_models_live(
    library: Library, gate: Gate
) -> None:
    before = library.search("red", "--limit", "50")
    for part in (3, PHOTOS // 2):
        gate.let(part)
        process = started(library, gate)
        until_analysed(library, part, process)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert part <= analysed(library, "turned") < PHOTOS
        assert library.search("red", "--limit", "50") == before
        library.verify()
    done = analysed(library, "turned")
    report = reindexed(library, "turned")
    assert report["indexed"] == PHOTOS - done
    assert report["live"]
    library.verify()
    # The result equals that of an uninterrupted run.
    straight = Library(library.home.parent / "straight")
    straight.photos = library.photos
    assert straight.run("index", library.photos, "--profile", "turned").code == 0
    found, wanted = library.search("red", "--limit", "50"), straight.search("red", "--limit", "50")
    assert [(hit["asset"]["uri"], hit["score"]) for hit in found] == [
        (hit["asset"]["uri"], hit["score"]) for hit in wanted
    ]


def test_missing_and_changed_files_are_reported_and_skipped(library: Library) -> None:
    library.photo("twin.png", 2)
    library.index()
    (library.photos / "00.png").unlink()
    write_photo(library.photos / "01.png", 1000)
    # This content has a second file.
    (library.photos / "02.png").unlink()
    (library.photos / "03.png").write_bytes(b"no photograph")
    outcome = library.run("reindex", "--profile", "turned", "--json")
    assert outcome.code == 1
    reasons = {Path(one["uri"]).name: one["reason"] for one in outcome.document["failures"]}
    assert reasons.keys() == {"00.png", "01.png", "03.png"}
    assert reasons["01.png"] == "the file has changed since it was indexed"
    assert outcome.document["indexed"] == PHOTOS - 3
    library.verify()
    kept = pipelines(library)
    assert [(one["profile"], one["analysed"], one["failed"]) for one in kept] == [
        ("turned", PHOTOS - 3, 3),
        ("fake", PHOTOS, 0),
    ]
    report = library.run("index", library.photos, "--json").document
    assert (report["indexed"], report["removed"]) == (1, 2)
    assert [failure["uri"] for failure in report["failures"]] == [str(library.photos / "03.png")]
    library.verify()


def test_a_pipeline_that_would_lose_most_photographs_does_not_go_live(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = library.search("red", "--limit", "50")

    def refused(*words: str) -> None:
        outcome = library.run("reindex", "--profile", "turned")
        outcome.expect_sentence(3, "turned can't go live", f"{PHOTOS} of {PHOTOS}", *words)
        assert library.search("red", "--limit", "50") == before
        assert [one["state"] for one in pipelines(library)] == ["live", "unfinished"]
        library.verify()

    # A missing disk, then a model that fails.
    away = library.photos.rename(library.photos.with_name("away"))
    refused("No such file")
    away.rename(library.photos)
    with monkeypatch.context() as broken:
        broken.setattr(FakeEncoder, "encode_images", _fail)
        refused("RuntimeError: out of memory")
    # Giant images are read one by one and analysed like others.
    monkeypatch.setattr(analysis_module, "AHEAD_PIXELS", 100)
    assert reindexed(library, "turned")["indexed"] == PHOTOS
    library.verify()


def _fail(self: FakeEncoder, images: object) -> None:
    raise RuntimeError("out of memory")


def test_the_remedy_of_a_refusal_changes_the_home(library: Library) -> None:
    refused = library.run("index", library.photos, "--profile", "turned")
    refused.expect_sentence(3, "regard reindex --profile turned")
    library.run("reindex", "--profile", "no-such").expect_sentence(2, "no-such")
    assert reindexed(library, "turned")["indexed"] == PHOTOS
    assert library.run("index", library.photos, "--profile", "turned").code == 0
    assert reindexed(library, "turned")["indexed"] == 0
    assert b"already" in library.run("reindex", "--profile", "turned").out


def test_changed_parameters_of_a_profile_need_reindexing(library: Library, profiles: Path) -> None:
    reindexed(library, "turned")
    assert library.run("prune", "--json").document["pruned"]
    write_turned(profiles, 9)
    library.run("index", library.photos).expect_sentence(3, "other revisions", "regard reindex")
    library.run("search", "red").expect_sentence(3, "another encoder", "regard reindex")
    assert reindexed(library)["indexed"] == PHOTOS
    assert library.search("red", "--limit", "1")[0]["channels"][0]["space"].endswith("turned-9")
    # The profile no longer matches the earlier pipeline, whose data still exists.
    assert library.run("rollback").code == 0
    library.run("search", "red").expect_sentence(3, "another encoder")
    assert library.run("rollback").code == 0
    assert library.run("index", library.photos).code == 0
    library.verify()


def test_an_empty_home_can_not_change_its_models(tmp_path: Path) -> None:
    empty = Library(tmp_path)
    for name in ("reindex", "rollback", "prune", "pipelines"):
        empty.run(name).expect_sentence(3, "nothing is indexed")


def test_indexing_and_reindexing_run_at_the_same_time(library: Library, gate: Gate) -> None:
    for number in range(PHOTOS, PHOTOS + 12):
        library.photo(f"{number:02}.png", number)
    gate.let(2)
    building = started(library, gate, "--json")
    until_analysed(library, 2, building)
    # The live pipeline gets the new photographs, and a second builder is refused.
    library.index()
    library.run("reindex", "--profile", "turned").expect_sentence(3, "is reindexing")
    assert building.poll() is None
    assert analysed(library, "fake") == PHOTOS + 12
    gate.open()
    out, _ = building.communicate(timeout=200)
    report = Outcome(building.returncode, out, "").document
    assert building.returncode == 0
    assert (report["indexed"], report["live"]) == (PHOTOS + 12, True)
    assert analysed(library, "turned") == PHOTOS + 12
    assert len(library.shown()) == PHOTOS + 12
    library.verify()


def test_an_interrupted_reindexing_keeps_its_unfinished_pipeline(
    library: Library, gate: Gate
) -> None:
    gate.let(2)
    process = started(library, gate)
    until_analysed(library, 2, process)
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    assert b"Ctrl-C again" in process.stderr.readline()
    gate.open()
    _, err = process.communicate(timeout=200)
    assert process.returncode == 130
    assert b"run the same command to carry on" in err
    assert [one["state"] for one in pipelines(library)] == ["live", "unfinished"]
    assert library.run("prune", "--json").document == {"pruned": []}
    assert len(library.run("prune", "--unfinished", "--json").document["pruned"]) == 1
    library.verify()


def test_rollback_catches_up_or_reports_what_is_missing(library: Library) -> None:
    reindexed(library, "turned")
    library.photo("new.png", 500)
    assert library.run("index", library.photos).code == 0
    outcome = library.run("rollback", "--json")
    assert outcome.code == 0
    assert "1 photographs are analysed first" in outcome.err
    assert outcome.document["missing"] == 0
    assert len(library.shown()) == PHOTOS + 1
    library.photo("newer.png", 501)
    library.index()
    outcome = library.run("rollback", "--at-once", "--json")
    assert (outcome.code, outcome.document["missing"]) == (1, 1)
    assert len(library.shown()) == PHOTOS + 1
    library.verify()
    assert library.run("index", library.photos).code == 0
    assert len(library.shown()) == PHOTOS + 2


def started(library: Library, gate: Gate, *more: str) -> subprocess.Popen[bytes]:
    """Start a process that reindexes as far as the gate allows."""
    return Forked(
        command("reindex", "--profile", "turned", "--home", library.home, *more),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **gate.environ},
    )


def until_analysed(library: Library, count: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until a process has stored `count` analyses by the new models."""
    while analysed(library, "turned") < count:
        assert process.poll() is None
        time.sleep(0.005)


def reindexed(library: Library, profile: str | None = None) -> dict[str, object]:
    chosen = () if profile is None else ("--profile", profile)
    outcome = library.run("reindex", *chosen, "--json")
    assert outcome.code == 0, outcome
    report: dict[str, object] = outcome.document
    return report


def pipelines(library: Library) -> list[dict[str, object]]:
    found: list[dict[str, object]] = library.run("pipelines", "--json").document["pipelines"]
    return found


def analysed(library: Library, profile: str) -> int:
    rows = library.sql(
        "SELECT count(*) FROM analysis JOIN pipeline ON pipeline.id = pipeline_id "
        "WHERE profile = ?",
        profile,
    )
    return int(rows[0][0])
