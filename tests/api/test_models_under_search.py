"""The campaign of a change of models: real photographs, `lite` beside another, four clients, two
kills."""

from __future__ import annotations

import json
import shutil
import statistics
import time
from pathlib import Path
from typing import Any

import pytest
from made_library import regard
from made_searchers import Ask, Searchers, Told, answers_as_wholes
from made_server import Server

from regard.api.client import Client

PHOTOS = 300
TEXTS = ("a red bus", "a dog on the grass", "something to eat", "a bicycle", "people", "a chair")
OTHER = """
description = "lite with fewer regions and no captions"
batch_size = 4
threads = "cores"
[encoder]
kind = "lite-joint"
[visual_encoder]
kind = "lite-visual"
[segmenter]
kind = "superpixels"
parameters = { max_regions = 6 }
"""


@pytest.mark.campaign
@pytest.mark.timeout(3000)
def test_a_reindex_of_300_photographs_under_search(
    photos_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every answer is complete and from one pipeline before, during and after, despite kills."""
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "other.toml").write_text(OTHER)
    monkeypatch.setenv("REGARD_PROFILES", str(tmp_path / "profiles"))
    photos, home = tmp_path / "photos", tmp_path / "home"
    photos.mkdir()
    for path in sorted(photos_dir.glob("*/*.jpg"))[:PHOTOS]:
        shutil.copy(path, photos / f"{path.parent.name}-{path.name}")
    assert regard("index", photos, "--home", home, "--profile", "lite").code == 0
    asks: list[Ask] = [
        *(lambda client, text=text: client.search(text, limit=20) for text in TEXTS),
        lambda client: client.search("a red bus", target="region", limit=20),
        lambda client: client.search(terms=[{"like": "a1"}], limit=20),
    ]
    with Server(home, profile=None) as server, Client(server.url) as client:
        before = _told_by(client, asks)
        with Searchers(server.url, asks, pause=0.05) as searchers:
            time.sleep(5)
            started = time.monotonic()
            job = client.pipelines.reindex("other")
            for part in (PHOTOS // 4, PHOTOS // 2):
                _kill_worker_at(client, server, part)
            ended = client.jobs.wait(job.id, timeout=2400)
            built = time.monotonic()
            assert ended.state == "done", ended
            assert ended.report is not None
            assert ended.report["failed"] == 0
            while client.info().profile != "other":
                assert time.monotonic() < built + 60
                time.sleep(0.02)
            followed = time.monotonic()
            time.sleep(5)
            after = _told_by(client, asks)
        assert [one.analysed for one in client.pipelines.list().items] == [PHOTOS, PHOTOS]
    answers_as_wholes(searchers, [before, after])
    assert regard("verify", "--home", home).code == 0
    print(json.dumps(_figures(searchers, started, built, followed), indent=1))


def _told_by(client: Client, asks: list[Ask]) -> list[Told]:
    return [Told.of(0.0, number, ask(client)) for number, ask in enumerate(asks)]


def _kill_worker_at(client: Client, server: Server, part: int) -> None:
    """Kill the worker with no warning when so many photographs are done, and look who answers
    then."""
    while True:
        found = client.pipelines.list().items
        done = found[1].analysed if len(found) > 1 else 0
        if done >= part:
            break
        time.sleep(0.05)
    assert done < PHOTOS
    workers = server.workers()
    assert workers
    for worker in workers:
        worker.kill()
    assert client.info().profile == "lite"


def _figures(searchers: Searchers, started: float, built: float, followed: float) -> dict[str, Any]:
    """Answers and their times in ms, of the phases of the change."""
    phases = {
        "before": (0.0, started),
        "building": (started, built),
        "switching": (built, followed),
        "after": (followed, float("inf")),
    }
    found: dict[str, Any] = {
        "seconds_of_the_build": round(built - started, 1),
        "seconds_until_followed": round(followed - built, 2),
    }
    for name, (begin, end) in phases.items():
        times = sorted(
            1000 * (one.came - one.asked) for one in searchers.answers if begin <= one.came < end
        )
        if len(times) > 1:
            found[name] = {
                "answers": len(times),
                "median_ms": round(statistics.median(times), 1),
                "p99_ms": round(times[int(0.99 * (len(times) - 1))], 1),
                "longest_ms": round(times[-1], 1),
            }
    return found
