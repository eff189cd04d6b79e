"""One caller's searches leave threads to the searches of others."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from made_library import Library, regard
from made_local_server import LocalServer

from regard.api.client import Client
from regard.core.machine import usable_cores
from regard.search.engine import SearchEngine


def test_searches_of_one_key_do_not_keep_others_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = Library(tmp_path)
    library.photo("red.png", 1, "red")
    library.index()
    at_once = max(8, 2 * usable_cores())
    begun = threading.Semaphore(0)
    go_on = threading.Event()
    running: list[Any] = []
    search = SearchEngine.search

    def held(self: SearchEngine, query: Any, scope: Any) -> Any:
        if "slow" in str(query):
            running.append(query)
            begun.release()
            assert go_on.wait(120)
        return search(self, query, scope)

    monkeypatch.setattr(SearchEngine, "search", held)
    create = ("keys", "create", "--home", library.home, "--scope", "read", "--json")
    secrets = [regard(*create, name).document["key"] for name in ("greedy", "other")]
    with LocalServer(library.home, keys_required=True) as server:
        greedy, other = (Client(server.url, key=secret) for secret in secrets)
        with greedy, other, ThreadPoolExecutor(50) as callers:
            try:
                answers = [callers.submit(greedy.search, "slow") for _ in range(50)]
                for _ in range(at_once):
                    assert begun.acquire(timeout=120)
                assert other.search("red").hits
                # All of them have been sent long ago, or still wait to be.
                assert len(running) == at_once
            finally:
                go_on.set()
            for answer in answers:
                answer.result(120)
    assert len(running) == len(answers)
