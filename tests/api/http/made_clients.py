"""Clients that use several servers at random, and compare what these answer with what they
answered before."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import httpx
from made_service import WAIT, Served, Shelf, png

from regard.api.client import Client, Filters
from regard.core.errors import CannotWork

CLIENTS = 6


def write_at_random(
    servers: Sequence[Served], name: str, seed: int, until: threading.Event
) -> dict[str, str | None]:
    """The last tag that was answered to have been written, by asset; None for deleted ones.

    In between, what any server answers is compared with it.
    """
    draw = random.Random(seed)
    answered: dict[str, str | None] = {}
    number = 0
    shelf = Filters(collection=[name])
    while not until.is_set():
        number += 1
        # What a killed server doesn't answer may hold or not.
        with contextlib.closing(Client(draw.choice(servers).server.url)) as client:
            if draw.random() < 0.5:
                with contextlib.suppress(CannotWork):
                    check_read(client, shelf, draw, answered)
                continue
            ids = [one for one, tag in answered.items() if tag is not None]
            if len(ids) < 3 or draw.random() < 0.3:
                with contextlib.suppress(CannotWork):
                    sent = client.assets.upload(("a.png", png("red")), collection=name)
                    asset = sent.items[0].asset
                    assert asset is not None
                    answered[asset.id] = ""
                continue
            one = draw.choice(ids)
            was = answered.pop(one)
            with contextlib.suppress(CannotWork):
                if draw.random() < 0.2:
                    client.assets.delete(one)
                    answered[one] = None
                else:
                    client.assets.patch(one, tags=[f"{number}"])
                    answered[one] = f"{number}"
            # Unknown until the next answer about it.
            del was
    return answered


def check_read(
    client: Client, shelf: Filters, draw: random.Random, answered: Mapping[str, str | None]
) -> None:
    """Compare what one server finds and reads with what was answered before.

    The last tag of an asset is listed, and found once the photograph is analysed. A deleted
    asset is never a hit.
    """
    tagged = [one for one, tag in answered.items() if tag]
    deleted = {one for one, tag in answered.items() if tag is None}
    hits = {hit.asset.id for hit in client.iterate_hits("red", page=50, filters=shelf)}
    assert not hits & deleted
    if tagged:
        one = draw.choice(tagged)
        tag = answered[one]
        assert tag is not None
        asset = client.assets.get(one)
        assert asset.tags == [tag]
        within = replace(shelf, tag=[tag])
        assert [each.id for each in client.assets.iterate(within)] == [one]
        found = [hit.asset.id for hit in client.iterate_hits("red", page=50, filters=within)]
        assert found == [one] or (not found and asset.state == "pending")
    if deleted:
        assert client.assets.get(draw.choice(sorted(deleted))).state == "trashed"


def check_answered(
    servers: Sequence[Served], name: str, answered: Sequence[dict[str, str | None]]
) -> None:
    """Check through each server that what was answered holds, by the number of the client."""
    assert all(answered), answered
    for served in servers:
        served.client = served.with_key(None)
        for number, tags in enumerate(answered):
            shelf = Shelf(served, f"{name} {number}")
            deadline = time.monotonic() + WAIT
            while list(served.client.assets.iterate(shelf.within, state="pending")):
                assert time.monotonic() < deadline
                time.sleep(0.2)
            assets = {asset.id: asset for asset in served.client.assets.iterate(shelf.within)}
            found = set(shelf.found())
            for one, tag in tags.items():
                assert (one in assets) == (tag is not None)
                assert (one in found) == (tag is not None)
                if tag:
                    assert assets[one].tags == [tag]


def wait_for_searches(servers: Sequence[Served]) -> None:
    """Until each server answers searches."""
    deadline = time.monotonic() + WAIT
    for served in servers:
        with httpx.Client(base_url=served.url, timeout=WAIT, trust_env=False) as client:
            while not (answer := client.get("/v1/search?q=red")).is_success:
                assert time.monotonic() < deadline, answer.text
                time.sleep(0.2)


@contextlib.contextmanager
def used_at_random(servers: Sequence[Served], name: str) -> Iterator[None]:
    """Four clients write and two search until the block ends, in which something goes away.

    Searches answer with hits or 503, and do both. Each answered write holds in the end.
    """
    until = threading.Event()
    answers: Counter[str] = Counter()

    def search(seed: int) -> None:
        draw = random.Random(seed)
        while not until.is_set():
            served = draw.choice(servers)
            with httpx.Client(base_url=served.url, timeout=WAIT, trust_env=False) as client:
                answer = client.get("/v1/search", params={"q": f"red {draw.random()}"})
            assert answer.status_code in {200, 503}, answer.text
            answers["hits" if answer.is_success else answer.json()["type"]] += 1

    with ThreadPoolExecutor(CLIENTS) as threads:
        writing = [
            threads.submit(write_at_random, servers, f"{name} {number}", number, until)
            for number in range(CLIENTS - 2)
        ]
        searching = [threads.submit(search, seed) for seed in range(2)]
        try:
            yield
        finally:
            until.set()
    for each in searching:
        each.result()
    assert answers["hits"] > 20, answers
    assert len(answers) > 1, answers
    wait_for_searches(servers)
    check_answered(servers, name, [each.result() for each in writing])
