"""The log of changes over HTTP: in order, none missed, replayed it is the list."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from made_service import Served, Shelf, png


def last(served: Served) -> int:
    """Where the log ends now."""
    since = 0
    while True:
        page = served.client.list_changes(since)
        since = page.next
        if not page.more:
            return since


def told(shelf: Shelf, since: int) -> list[tuple[str, str]]:
    return [
        (change.kind, change.asset)
        for change in shelf.client.changes(since, collection=[shelf.name])
    ]


def test_changes_are_listed_in_order(served: Served, shelf: Shelf) -> None:
    since = last(served)
    [asset] = shelf.add(png())
    id = asset.id
    assert told(shelf, since) == [("added", id), ("changed", id)]
    since = last(served)
    shelf.client.assets.patch(id, title="x")
    shelf.client.assets.bulk([id], "tag", tags=["t"])
    shelf.client.assets.delete(id)
    shelf.client.assets.delete(id)
    shelf.client.assets.patch(id, title="y")
    shelf.client.assets.restore(id)
    shelf.client.assets.delete(id)
    served.client.trash.empty(shelf.name)
    assert told(shelf, since) == [
        ("changed", id), ("changed", id), ("removed", id), ("added", id), ("removed", id),
    ]  # fmt: skip


def test_pages_of_changes_are_complete(served: Served, shelf: Shelf) -> None:
    since = last(served)
    shelf.add(*(png() for _ in range(5)))
    whole = list(shelf.client.changes(since))
    for limit in (1, 3, len(whole), 1000):
        found, at = [], since
        while True:
            page = served.client.list_changes(at, limit=limit)
            assert len(page.changes) <= limit
            assert page.next >= at
            found += page.changes
            at = page.next
            if not page.more:
                break
        assert found == whole
        assert at == last(served)
    positions = [change.position for change in whole]
    assert positions == sorted(set(positions))
    assert served.client.list_changes(last(served)).changes == []
    ahead = served.raw().get(f"/v1/changes?since={1 << 60}")
    assert ahead.status_code == 422
    assert "start again from 0" in ahead.json()["remedy"]
    for query in ("since=-1", "since=x", f"since={1 << 63}", "limit=0", "limit=1001"):
        assert served.raw().get(f"/v1/changes?{query}").status_code == 422
    assert served.raw().get("/v1/changes?collection=%00").json()["changes"] == []


def test_followers_miss_no_change_of_concurrent_writers(served: Served) -> None:
    """Numbers that are taken before a commit would show out of order, and some be passed over."""
    shelves = [served.shelf() for _ in range(3)]
    since = last(served)
    copy: dict[str, Any] = {}
    positions: list[int] = []
    ended = threading.Event()

    def follow() -> None:
        at = since
        while True:
            was_over = ended.is_set()
            page = served.client.list_changes(at, limit=7)
            for change in page.changes:
                positions.append(change.position)
                if change.kind == "removed":
                    del copy[change.asset]
                else:
                    assert change.kind == "added" or change.asset in copy
                    assert change.kind == "changed" or change.asset not in copy
                    copy[change.asset] = change.collection
            at = page.next
            if was_over and not page.more:
                return
            time.sleep(0.005)

    def write(shelf: Shelf) -> None:
        for number in range(8):
            [item] = shelf.send(png(), tags=[f"t{number}"]).items
            assert item.asset is not None
            if number % 2:
                shelf.client.assets.delete(item.asset.id)
            if number % 4 == 3:
                shelf.client.assets.restore(item.asset.id)

    with ThreadPoolExecutor(4) as pool:
        follower = pool.submit(follow)
        for writer in [pool.submit(write, shelf) for shelf in shelves]:
            writer.result()
        for shelf in shelves:
            for job in served.client.jobs.iterate(collection=[shelf.name]):
                served.wait(job)
        ended.set()
        follower.result()
    assert positions == sorted(set(positions))
    assert set(copy) == {id for shelf in shelves for id in shelf.ids()}


def test_bound_keys_see_the_removal_of_their_collection(served: Served, shelf: Shelf) -> None:
    [asset] = shelf.add(png())
    bound = served.with_key(served.key("read", shelf.name))
    since = last(served)
    id = asset.collection.id
    served.client.collections.delete(id, with_assets=True)
    for changes in (list(bound.changes(since)), list(shelf.client.changes(since))):
        [change] = [change for change in changes if change.asset == asset.id]
        assert change.kind == "removed"
        assert change.collection is not None
        assert (change.collection.id, change.collection.name) == (id, shelf.name)
    assert told(shelf, since) == [("removed", asset.id)]
