"""Who may do what: scopes, keys that are bound to collections, and no path of the server for
others.

The shared server needs no key, but one that is sent limits its holder.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from made_service import WAIT, Served, Shelf, cut_off, noisy, png, refused

from regard.api.client import Client, Filters

READ, WRITE, ADMIN = "read", "write", "admin"
LEVELS = {READ: 0, WRITE: 1, ADMIN: 2}


@dataclass
class World:
    """Two collections that share one photograph, a key bound to the first, and what the other
    holds."""

    served: Served
    mine: Shelf
    other: Shelf
    key: str
    mine_ids: list[str]
    other_ids: list[str]
    other_regions: list[str]
    jobs: list[str]

    @property
    def client(self) -> Client:
        return self.served.with_key(self.key)

    def raw(self) -> httpx.Client:
        return self.served.raw(self.key)


@pytest.fixture(scope="module")
def world(served: Served) -> World:
    """Collections as a bound key meets them."""
    mine, other = served.shelf(), served.shelf()
    shared, bad = png(), cut_off(noisy())
    mine_ids = [asset.id for asset in mine.add(png(), shared, tags=["mine"])]
    other.bring(other.folder(a=png(), bad=bad))
    other_ids = [asset.id for asset in other.add(png(), shared, tags=["theirs"], custom={"k": 1})]
    regions = [region.id for region in served.client.assets.get(other_ids[0]).regions]
    jobs = [job.id for job in served.client.jobs.iterate(collection=[other.name])]
    key = served.key(ADMIN, mine.name)
    return World(served, mine, other, key, mine_ids, other.ids(), regions, jobs)


# Scopes: (method, path, least scope, body). The paths name nothing, so a permitted call ends in
# 404 or 422.
CALLS = [
    ("GET", "/v1/info", READ, None),
    ("GET", "/metrics", READ, None),
    ("GET", "/v1/collections", READ, None),
    ("GET", "/v1/collections/c999999", READ, None),
    ("POST", "/v1/collections", WRITE, {"name": ""}),
    ("DELETE", "/v1/collections/c999999", ADMIN, None),
    ("GET", "/v1/albums", READ, None),
    ("POST", "/v1/albums", WRITE, {"name": ""}),
    ("GET", "/v1/albums/b999999", READ, None),
    ("PATCH", "/v1/albums/b999999", WRITE, {"name": ""}),
    ("DELETE", "/v1/albums/b999999", WRITE, None),
    ("POST", "/v1/albums/b999999/assets", WRITE, {"ids": []}),
    ("GET", "/v1/changes", READ, None),
    ("GET", "/v1/assets", READ, None),
    ("GET", "/v1/assets/months", READ, None),
    ("GET", "/v1/assets/places?cell=1", READ, None),
    ("POST", "/v1/assets", WRITE, {}),
    ("GET", "/v1/assets/a999999", READ, None),
    ("PATCH", "/v1/assets/a999999", WRITE, {"title": "x"}),
    ("DELETE", "/v1/assets/a999999", WRITE, None),
    ("POST", "/v1/assets/a999999/restore", WRITE, None),
    ("POST", "/v1/assets/bulk", WRITE, {"ids": ["a999999"], "action": "delete"}),
    ("GET", "/v1/assets/a999999/original", READ, None),
    ("GET", "/v1/assets/a999999/motion", READ, None),
    ("GET", "/v1/assets/a999999/thumbnail", READ, None),
    ("GET", "/v1/assets/a999999/similar", READ, None),
    ("POST", "/v1/trash/empty", ADMIN, {"collection": "nowhere"}),
    ("GET", "/v1/regions/r999999", READ, None),
    ("GET", "/v1/regions/r999999/crop", READ, None),
    ("GET", "/v1/regions/r999999/mask", READ, None),
    ("GET", "/v1/regions/r999999/similar", READ, None),
    ("GET", "/v1/search?q=red&collection=nowhere", READ, None),
    ("POST", "/v1/search", READ, {"query": "red"}),
    ("GET", "/v1/jobs", READ, None),
    ("POST", "/v1/jobs", WRITE, {"kind": "reindex", "collection": "nowhere"}),
    ("GET", "/v1/jobs/j999999", READ, None),
    ("GET", "/v1/jobs/j999999/failures", READ, None),
    ("GET", "/v1/jobs/j999999/events", READ, None),
    ("POST", "/v1/jobs/j999999/cancel", WRITE, None),
    ("POST", "/v1/jobs/j999999/retry", WRITE, None),
    ("GET", "/v1/duplicates?kind=exact&collection=nowhere", READ, None),
    ("POST", "/v1/duplicates/merge", WRITE, {"keep": 1}),
    ("POST", "/v1/duplicates/distinct", WRITE, {"ids": []}),
    ("GET", "/v1/suggestions", READ, None),
    ("GET", "/v1/pipelines", READ, None),
    ("POST", "/v1/pipelines", ADMIN, {"profile": 1}),
    ("POST", "/v1/pipelines/rollback", ADMIN, {"at_once": "perhaps"}),
    ("POST", "/v1/pipelines/prune", ADMIN, {"pipelines": 1}),
]


@pytest.mark.parametrize("scope", LEVELS)
def test_each_operation_requires_its_scope(served: Served, scope: str) -> None:
    """The guard is the `Reader`, `Writer` or `Administrator` of each route."""
    raw = served.raw(served.key(scope))
    for method, path, least, body in CALLS:
        answer = raw.request(method, path, json=body)
        allowed = LEVELS[scope] >= LEVELS[least]
        assert (answer.status_code == 403) is not allowed, (method, path, answer.text)
        if not allowed:
            assert answer.json()["type"] == "/v1/problems/scope-missing"
    assert raw.get("/v1/info").json()["scope"] == scope


def test_scope_table_lists_every_operation(served: Served) -> None:
    document = served.raw().get("/v1/openapi.json").json()
    operations = {
        (method.upper(), path)
        for path, item in document["paths"].items()
        for method in item
        if method in {"get", "post", "patch", "delete", "put"}
    }
    tried = {(method, re.sub(r"/[abcjr]999999", "/{id}", path.partition("?")[0]))
             for method, path, _, _ in CALLS}  # fmt: skip
    open_to_all = {("GET", "/healthz"), ("GET", "/readyz")}
    session = {("POST", "/v1/session"), ("DELETE", "/v1/session")}
    assert operations - open_to_all - session == tried


# A bound key: what it is not bound to does not exist.


def test_bound_keys_list_and_count_only_their_collections(world: World) -> None:
    """The guards are `visible` of each reading method."""
    client = world.client
    assert [item.name for item in client.collections.iterate()] == [world.mine.name]
    assert sorted(asset.id for asset in client.assets.iterate()) == sorted(world.mine_ids)
    for state in ("indexed", "failed", "pending", "trashed"):
        found = client.assets.iterate(state=state)  # type: ignore[arg-type]
        assert {asset.id for asset in found} <= set(world.mine_ids)
    info = client.info()
    assert info.collections == [world.mine.name]
    assert (info.counts.assets, info.counts.contents, info.counts.regions) == (2, 2, 8)
    jobs = {job.id for job in client.jobs.iterate()}
    assert jobs
    assert not jobs & set(world.jobs)
    changed = {change.asset for change in client.changes()}
    assert changed == set(world.mine_ids)
    assert list(client.changes(collection=[world.other.name])) == []
    assert client.jobs.list(collection=[world.other.name]).items == []
    with refused("scope-missing"):
        client.metrics()


def test_bound_keys_search_only_their_collections(world: World) -> None:
    client, other = world.client, set(world.other_ids)
    queries: list[dict[str, Any]] = [
        {"query": "red -blue"},
        {"query": "image:1", "images": [("x.png", png())]},
        {"query": f"like:{world.mine_ids[0]}"},
    ]
    for query in queries:
        for target in ("image", "region"):
            hits = list(client.iterate_hits(page=3, target=target, **query))
            assert hits
            assert not {hit.asset.id for hit in hits} & other
    answer = client.search("red", facets=["tags", "collection", "camera", "month"])
    assert answer.facets is not None
    assert [item.value for item in answer.facets["tags"]] == ["mine"]
    assert [item.value for item in answer.facets["collection"]] == [world.mine.name]
    for found in (
        client.assets.similar(world.mine_ids[0], limit=100).hits,
        client.regions.similar(client.assets.get(world.mine_ids[0]).regions[0].id, limit=100).hits,
    ):
        assert not {hit.asset.id for hit in found} & other
    with refused("not-found"):
        client.search("red", filters=Filters(collection=[world.other.name]))
    with refused("not-found"):
        client.assets.list(Filters(collection=[world.other.name, world.mine.name]))


def test_bound_keys_get_404_for_ids_of_other_collections(world: World) -> None:
    """As what does not exist: the very same answer."""
    raw, asset, region = world.raw(), world.other_ids[0], world.other_regions[0]
    job = world.jobs[0]
    calls: list[tuple[str, str, Any]] = [
        ("GET", "/v1/assets/{}", None),
        ("PATCH", "/v1/assets/{}", {"title": "x"}),
        ("DELETE", "/v1/assets/{}", None),
        ("POST", "/v1/assets/{}/restore", None),
        ("GET", "/v1/assets/{}/original", None),
        ("GET", "/v1/assets/{}/motion", None),
        ("GET", "/v1/assets/{}/thumbnail", None),
        ("GET", "/v1/assets/{}/similar", None),
    ]
    calls = [(method, path.replace("{}", "{asset}"), body) for method, path, body in calls]
    calls += [
        ("GET", f"/v1/regions/{{region}}{suffix}", None)
        for suffix in ("", "/crop", "/mask", "/mask?format=rle", "/similar")
    ]
    calls += [
        ("GET", "/v1/jobs/{job}", None),
        ("GET", "/v1/jobs/{job}/failures", None),
        ("GET", "/v1/jobs/{job}/events", None),
        ("POST", "/v1/jobs/{job}/cancel", None),
        ("POST", "/v1/jobs/{job}/retry", None),
        ("POST", "/v1/assets/bulk", {"ids": ["{asset}"], "action": "delete"}),
        ("POST", "/v1/assets/bulk", {"ids": ["{mine}", "{asset}"], "action": "tag", "tags": ["x"]}),
        ("POST", "/v1/search", {"query": "like:{asset}"}),
        ("POST", "/v1/search", {"terms": [{"like": "{region}"}]}),
        ("POST", "/v1/search", {"query": "red like:{region}", "target": "region"}),
    ]
    there = {"asset": asset, "region": region, "job": job, "mine": world.mine_ids[0]}
    nowhere = {"asset": "a999999", "region": "r999999", "job": "j999999", "mine": world.mine_ids[0]}

    def ask(method: str, path: str, body: Any, names: dict[str, str]) -> tuple[int, str]:
        text = None if body is None else json.dumps(body)
        for name, id in names.items():
            path = path.replace(f"{{{name}}}", id)
            text = text and text.replace(f"{{{name}}}", id)
        answer = raw.request(
            method, path, content=text, headers={"Content-Type": "application/json"}
        )
        shown = answer.text
        for name in ("asset", "region", "job"):
            shown = re.sub(rf"\b{names[name]}\b", "ID", shown)
        return answer.status_code, shown

    for method, path, body in calls:
        answer = ask(method, path, body, there)
        assert answer[0] == 404, (path, answer)
        assert answer == ask(method, path, body, nowhere), path
    assert world.other.ids(state="trashed") == []
    assert "x" not in world.served.client.assets.get(world.mine_ids[0]).tags


def test_bound_keys_can_not_change_other_collections(world: World) -> None:
    client, other = world.client, world.other
    [collection] = [
        item for item in world.served.client.collections.iterate() if item.name == other.name
    ]
    with refused("not-found"):
        client.collections.get(collection.id)
    with refused("not-found"):
        client.collections.delete(collection.id, with_assets=True)
    with refused("not-found"):
        client.trash.empty(other.name)
    for name in (other.name, "new of a bound key"):
        with refused("not-found"):
            client.assets.upload(("x.png", png()), collection=name)
        with refused("not-found"):
            client.jobs.start_import("photos", collection=name)
        with refused("not-found"):
            client.jobs.reindex(name)
    with refused("scope-missing"):
        client.collections.create("new of a bound key")
    names = {item.name for item in world.served.client.collections.iterate()}
    assert "new of a bound key" not in names


def test_bound_keys_empty_only_their_trash(world: World) -> None:
    asset = world.other.send(png()).items[0].asset
    mine = world.mine.send(png()).items[0].asset
    assert asset is not None
    assert mine is not None
    for job in world.served.client.jobs.iterate(state=["queued", "running"]):
        world.served.client.jobs.wait(job.id, WAIT)
    for id in (asset.id, mine.id):
        world.served.client.assets.delete(id)
    assert world.client.trash.empty().purged == 1
    assert world.other.ids(state="trashed") == [asset.id]
    world.served.client.assets.restore(asset.id)


def test_uploads_do_not_reveal_copies_in_other_collections(world: World) -> None:
    """A photograph that both have is each one's own asset; its regions belong to both."""
    shared = world.mine_ids[1]
    region = world.client.assets.get(shared).regions[0].id
    assert world.client.regions.get(region).asset.id == shared
    hits = world.client.search(terms=[{"like": region}], limit=100).hits
    assert not {hit.asset.id for hit in hits} & set(world.other_ids)
    picture = png()
    world.other.add(picture)
    sent = world.client.assets.upload(("x.png", picture), collection=world.mine.name)
    assert sent.items[0].status == "created"
    asset = sent.items[0].asset
    assert asset is not None
    world.client.assets.delete(asset.id)
    assert world.client.trash.empty().purged == 1


# No path of the server


def everything_said(raw: httpx.Client, ids: dict[str, list[str]]) -> Iterator[tuple[str, str]]:
    """All JSON that a reader can get of these things."""
    paths = ["/v1/info", "/metrics", "/readyz", "/v1/collections", "/v1/changes", "/v1/jobs",
             "/v1/search?q=red&limit=500&facets=camera,month,tags,collection",
             "/v1/search?q=red&limit=500&target=region", "/v1/openapi.json"]  # fmt: skip
    paths += [f"/v1/assets?state={state}&limit=1000" for state in ("live", "failed", "trashed")]
    for id in ids["assets"]:
        paths += [f"/v1/assets/{id}{suffix}" for suffix in ("", "/similar", "/thumbnail?size=9")]
    for id in ids["regions"]:
        paths += [f"/v1/regions/{id}{suffix}" for suffix in ("", "/similar", "/mask?format=rle")]
    for id in ids["jobs"]:
        paths += [f"/v1/jobs/{id}{suffix}" for suffix in ("", "/failures", "/events")]
    paths += [
        "/v1/assets?path_prefix=/etc",
        "/v1/nowhere",
        "/v1/assets/a1/../../..",
        "/v1/assets?collection=/",
    ]
    for path in paths:
        answer = raw.get(path)
        # What the page's own addresses say does not count.
        yield path, answer.text + json.dumps(dict(answer.headers))
    posts: list[tuple[str, Any]] = [
        ("/v1/jobs", {"kind": "import", "root": "photos", "path": "../.."}),
        ("/v1/jobs", {"kind": "import", "root": "photos", "path": "nowhere"}),
        ("/v1/jobs", {"kind": "import", "root": "nowhere"}),
        ("/v1/search", {"query": "x", "filters": {"path_prefix": "/"}}),
        ("/v1/search", {"query": "like:a999999"}),
    ]
    for path, body in posts:
        yield path, raw.post(path, json=body).text


@pytest.mark.parametrize("scope", [READ, WRITE])
def test_only_admins_see_paths_of_the_server(served: Served, shelf: Shelf, scope: str) -> None:
    """The guards are Documents' `uri` and `shown`, and `problem_of`."""
    folder = shelf.folder(a=png(), bad=cut_off(noisy()))
    (folder / "link").symlink_to(served.outside)
    (folder / "link.png").symlink_to(served.outside / "nothing.png")
    shelf.bring(folder)
    shelf.add(png(), cut_off(noisy()))
    gone = shelf.folder(c=png())
    shelf.bring(gone)
    (gone / "a.png").unlink()
    shelf.client.assets.delete(shelf.ids()[0])
    ids = {
        "assets": shelf.ids() + shelf.ids(state="trashed"),
        "regions": [
            region.id
            for id in shelf.ids(state="indexed")
            for region in shelf.client.assets.get(id).regions[:1]
        ],
        "jobs": [job.id for job in shelf.client.jobs.iterate(collection=[shelf.name])],
    }
    own = str(served.folder)
    for path, said in everything_said(served.raw(served.key(scope)), ids):
        assert own not in said, path
        assert own.encode().hex() not in said, path
    # An administrator sees them, so the check above can fail.
    said = "".join(said for _, said in everything_said(served.raw(served.key(ADMIN)), ids))
    assert own in said
    reader = served.with_key(served.key(scope))
    with refused("validation"):
        reader.assets.list(Filters(path_prefix=str(served.photos)))
    for asset in reader.assets.iterate(shelf.within):
        assert asset.uri == asset.urls.original
        assert asset.path is None or asset.path.startswith(f"photos/{folder.name}/")


def test_failures_with_paths_are_shown_to_admins_only(served: Served, shelf: Shelf) -> None:
    """The guard is `Documents.shown`: reasons may quote what the system said."""
    from regard.api.http.documents import Documents
    from regard.core.keys import AccessScope, Caller

    for scope, hidden in (
        (AccessScope.READ, True),
        (AccessScope.WRITE, True),
        (AccessScope.ADMIN, False),
    ):
        make = Documents(Caller(scope, None, 1), {})
        for sentence in (
            "it can't be read: [Errno 13] Permission denied: '/srv/photos/a.png'",
            "the database /home/x/catalog.sqlite3 can't be used",
        ):
            assert (make.shown(sentence) != sentence) is hidden
            assert ("/" in (make.shown(sentence) or "")) is not hidden
        for plain in ("it is cut off", "skipped: photos/a/b: it is missing", None):
            assert make.shown(plain) == plain
