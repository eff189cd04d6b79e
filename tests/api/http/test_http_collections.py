"""Collections over HTTP: made, listed, got and forgotten, and requests that come twice."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from made_service import Served, Shelf, png, refused

from regard.api.schemas import CollectionDocument
from regard.core.errors import CannotWork


def test_collections_are_created_once(served: Served) -> None:
    made = served.client.collections.create("made once")
    assert made == served.client.collections.get(made.id)
    assert (made.assets, made.pending, made.failed, made.trashed) == (0, 0, 0, 0)
    with refused("name-taken"):
        served.client.collections.create("made once")
    served.client.collections.delete(made.id)
    for call in (served.client.collections.get, served.client.collections.delete):
        with refused("not-found"):
            call(made.id)


@pytest.mark.parametrize("name", ["", " ", "x" * 201, "a\0b"])
def test_invalid_collection_names_are_refused(served: Served, name: str) -> None:
    with refused("validation"):
        served.client.collections.create(name)


def test_unpaired_surrogates_are_refused(served: Served) -> None:
    """httpx can't send it, others can."""
    for path, body in (
        ("/v1/collections", rb'{"name": "\ud800"}'),
        ("/v1/trash/empty", rb'{"collection": "\ud800"}'),
        ("/v1/jobs", rb'{"kind": "import", "root": "\ud800"}'),
        ("/v1/jobs", rb'{"kind": "import", "root": "photos", "path": "\ud800"}'),
        ("/v1/jobs", rb'{"kind": "reindex", "collection": "\ud800"}'),
        ("/v1/assets/bulk", rb'{"ids": ["\ud800"], "action": "delete"}'),
        ("/v1/search", rb'{"query": "\ud800"}'),
        ("/v1/search", rb'{"query": "x", "filters": {"path_prefix": "\ud800"}}'),
    ):
        answer = served.raw().post(path, content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code in {404, 422}, (path, answer.text)


def test_lists_come_in_pages_by_name(served: Served) -> None:
    names = {f"listed {number}" for number in range(7)}
    for name in names:
        served.client.collections.create(name)
    found: list[CollectionDocument] = []
    cursor = None
    while True:
        page = served.client.collections.list(cursor=cursor, limit=3)
        assert len(page.items) <= 3
        found += page.items
        cursor = page.next
        if cursor is None:
            break
    listed = [item.name for item in found]
    assert len(listed) == len(set(listed))
    assert names <= set(listed)
    assert [name for name in listed if name in names] == sorted(names)
    assert listed == [item.name for item in served.client.collections.iterate()]


def test_collections_with_assets_are_deleted_only_with_their_assets(
    served: Served, shelf: Shelf
) -> None:
    folder = shelf.folder(a=png())
    shelf.bring(folder)
    kept = shelf.add(png())
    shelf.client.assets.delete(kept[0].id)
    [collection] = [item for item in shelf.client.collections.iterate() if item.name == shelf.name]
    assert (collection.assets, collection.trashed) == (1, 1)
    with refused("collection-not-empty"):
        shelf.client.collections.delete(collection.id)
    assert kept[0].sha256 in served.originals()
    shelf.client.collections.delete(collection.id, with_assets=True)
    with refused("not-found"):
        shelf.client.assets.get(kept[0].id)
    assert kept[0].sha256 not in served.originals()
    assert [path.name for path in folder.iterdir()] == ["a.png"]


def test_collections_are_deleted_while_a_job_fills_them(served: Served, shelf: Shelf) -> None:
    """Its job, which would go on to fill it, goes first."""
    job = shelf.bring(shelf.folder(**{f"p{number}": png() for number in range(60)}), wait=False)
    collection = job.collection
    shelf.client.collections.delete(collection.id, with_assets=True)
    for call in (shelf.client.jobs.get, shelf.client.jobs.cancel):
        with refused("not-found"):
            call(job.id)
    with refused("not-found"):
        shelf.client.collections.get(collection.id)
    # The worker still works.
    other = served.shelf()
    assert len(other.add(png())) == 1
    assert other.ids(state="indexed")


def test_idempotency_key_repeats_the_first_answer(served: Served) -> None:
    raw = served.raw()

    def create(name: str, key: str) -> tuple[int, str | None, object]:
        answer = raw.post("/v1/collections", json={"name": name}, headers={"Idempotency-Key": key})
        return answer.status_code, answer.headers.get("Idempotent-Replayed"), answer.json()

    status, replayed, made = create("repeated", "k 1")
    assert (status, replayed) == (201, None)
    assert create("repeated", "k 1") == (201, "true", made)
    status, _, problem = create("another", "k 1")
    assert status == 422
    assert problem["type"] == "/v1/problems/idempotency-key-reused"  # type: ignore[index]
    # What was refused is not remembered.
    assert create("repeated", "k 2")[0] == 409
    served.client.collections.delete(made["id"])  # type: ignore[index]
    assert create("repeated", "k 2")[:2] == (201, None)
    assert create("x", "k" * 256)[0] == 422


def test_concurrent_repeats_are_done_once(served: Served) -> None:
    start = threading.Barrier(6)

    def create(_: int) -> str:
        start.wait()
        return served.client.collections.create("at once", idempotency_key="at once").id

    with ThreadPoolExecutor(6) as pool:
        assert len(set(pool.map(create, range(6)))) == 1


def test_unknown_parameters_and_fields_are_errors(served: Served) -> None:
    raw = served.raw()
    for answer in (
        raw.get("/v1/collections?limt=3"),
        raw.get("/v1/collections?limit=0"),
        raw.get("/v1/assets?custom=x"),
        raw.post("/v1/collections", json={"name": "x", "nme": "y"}),
        raw.post("/v1/assets/bulk", json={"ids": ["a1"], "action": "tag", "x": 1}),
    ):
        assert answer.status_code == 422
        assert answer.json()["type"] == "/v1/problems/validation"
        assert answer.json()["errors"]


def test_a_cursor_of_another_list_is_refused(served: Served, shelf: Shelf) -> None:
    shelf.add(png(), png())
    cursor = served.client.assets.list(shelf.within, limit=1).next
    assert cursor is not None
    for call in (
        lambda: served.client.collections.list(cursor=cursor),
        lambda: served.client.jobs.list(cursor=cursor),
        lambda: served.client.assets.list(cursor=cursor, sort="added"),
        lambda: served.client.search("red", cursor=cursor),
        lambda: served.client.assets.list(cursor="x"),
        lambda: served.client.assets.list(cursor="é"),
    ):
        with refused("validation"):
            call()


@pytest.mark.parametrize("values", [["\0"], ["\ud800"], [1], [None], ["a", "b"]])
def test_a_forged_cursor_is_refused(served: Served, values: list[object]) -> None:
    from regard.api.http.cursors import write_cursor

    with refused("validation"):
        served.client.collections.list(cursor=write_cursor("collections", *values))


def test_client_reports_a_missing_server() -> None:
    from regard.api.client import Client

    with Client("http://127.0.0.1:1") as client, pytest.raises(CannotWork):
        client.collections.list()
