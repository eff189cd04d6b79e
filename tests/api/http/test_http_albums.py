"""Albums over HTTP: sets of assets, saved searches, and what a bound key sees of them."""

from __future__ import annotations

import pytest
from made_service import Served, png, refused

from regard.api.client import Client, Filters
from regard.api.client.searching import SearchOptions
from regard.api.schemas import AlbumName


def in_album(client: Client, name: str) -> set[str]:
    """What a list and a search give for an album, which must be the same."""
    listed = {one.id for one in client.assets.list(Filters(album=[name])).items}
    query = SearchOptions(query=f'album:"{name}"')
    assert {hit.asset.id for hit in client.search(**query).hits} == listed
    return listed


def test_an_album_from_beginning_to_end(served: Served) -> None:
    client, shelf = served.client, served.shelf()
    one, two, three = (asset.id for asset in shelf.add(png("red"), png("blue"), png("green")))
    album = client.albums.create("Harbour, é")
    assert (album.query, album.assets, album.cover) == (None, 0, None)
    with refused("name-taken"):
        client.albums.create("Harbour, e\u0301")
    assert client.albums.change(album.id, add=[one, two]) == 2
    assert client.albums.change(album.id, add=[two, three]) == 1
    with refused("not-found"):
        client.albums.change(album.id, add=[one, "a999999"])
    assert in_album(client, album.name) == {one, two, three}
    assert client.albums.change(album.id, remove=[three, three]) == 1
    assert client.albums.get(album.id).assets == 2
    # What is in the trash is not shown, and comes back.
    client.assets.delete(one)
    assert in_album(client, album.name) == {two}
    assert client.albums.get(album.id).cover == two
    client.assets.restore(one)
    assert in_album(client, album.name) == {one, two}
    renamed = client.albums.edit(album.id, name="Harbour")
    assert renamed in list(client.albums.iterate())
    with refused("not-found"):
        in_album(client, album.name)
    # What is purged leaves it.
    client.assets.delete(one)
    client.trash.empty(collection=shelf.name)
    assert client.albums.get(album.id).assets == 1
    client.albums.delete(album.id)
    assert client.assets.get(two).id == two
    with refused("not-found"):
        client.albums.get(album.id)


def test_the_log_tells_who_joins_and_leaves(served: Served) -> None:
    client, shelf = served.client, served.shelf()
    (asset,) = shelf.add(png("blue"))
    album = client.albums.create(f"log of {shelf.name}")

    def count() -> int:
        return sum(
            change.asset == asset.id and change.kind == "changed"
            for change in client.changes(since=0)
        )

    before = count()
    client.albums.change(album.id, add=[asset.id])
    client.albums.change(album.id, add=[asset.id])
    assert count() == before + 1
    client.albums.delete(album.id)
    assert count() == before + 2


def test_a_saved_search_fills_itself(served: Served) -> None:
    client, shelf = served.client, served.shelf()
    tagged = shelf.add(png("red"), tags=["saved"])[0].id
    name = f"saved in {shelf.name}"
    album = client.albums.create(name, f'collection:"{shelf.name}" (tag:saved OR tag:later)')
    assert album.assets is None
    assert in_album(client, name) == {tagged}
    later = shelf.add(png("red"), tags=["later"])[0].id
    assert in_album(client, name) == {tagged, later}
    with refused("conflict"):
        client.albums.change(album.id, add=[tagged])
    client.albums.edit(album.id, query=f'collection:"{shelf.name}" tag:later')
    assert in_album(client, name) == {later}
    # With something to look for it is the likely hits, whatever the filter around it.
    client.albums.edit(album.id, query=f'red collection:"{shelf.name}"')
    assert in_album(client, name) == {tagged, later}
    inside = client.search(query=f'album:"{name}" tag:later').hits
    assert [hit.asset.id for hit in inside] == [later]


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ("tags:x", "malformed-query"),
        ("album:other", "malformed-query"),
        ("image:1", "malformed-query"),
        ("-red", "unanswerable-query"),
        (" ", "validation"),
    ],
)
def test_queries_that_cannot_be_saved(served: Served, query: str, problem: str) -> None:
    with refused(problem):
        served.client.albums.create("cannot be saved", query)


def test_a_bound_key_sees_what_it_may(served: Served) -> None:
    client, shelf, other = served.client, served.shelf(), served.shelf()
    mine, theirs = shelf.add(png("red"))[0].id, other.add(png("blue"))[0].id
    shared, foreign = (client.albums.create(f"{name} {shelf.name}") for name in ("both", "none"))
    saved = client.albums.create(f"saved {shelf.name}", "has:gps OR -has:gps")
    client.albums.change(shared.id, add=[mine, theirs])
    client.albums.change(foreign.id, add=[theirs])
    bound = served.with_key(served.key("write", shelf.name))
    assert [album.id for album in bound.albums.iterate()] == [shared.id]
    assert bound.albums.get(shared.id).assets == 1
    assert in_album(bound, shared.name) == {mine}
    assert bound.assets.get(mine).albums == [AlbumName(id=shared.id, name=shared.name)]
    assert {album.id for album in client.assets.get(theirs).albums} == {shared.id, foreign.id}
    client.assets.delete(mine)
    assert bound.assets.get(mine).albums == []
    client.assets.restore(mine)
    for hidden in (foreign, saved):
        for call in (bound.albums.get, lambda id: bound.albums.change(id, add=[mine])):
            with refused("not-found"):
                call(hidden.id)
        with refused("not-found"):
            in_album(bound, hidden.name)
    with refused("not-found"):
        bound.albums.change(shared.id, remove=[theirs])
    assert bound.albums.change(shared.id, remove=[mine]) == 1
    with refused("not-found"):
        bound.albums.get(shared.id)
    for change in (
        lambda: bound.albums.create("new"),
        lambda: bound.albums.edit(shared.id, name="new"),
        lambda: bound.albums.delete(shared.id),
    ):
        with refused("scope-missing"):
            change()
    reader = served.with_key(served.key("read"))
    assert in_album(reader, shared.name) == {theirs}
    with refused("scope-missing"):
        reader.albums.create("new")
