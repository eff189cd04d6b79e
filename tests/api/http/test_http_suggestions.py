"""Suggestions over HTTP: values of the library that the caller may see."""

from __future__ import annotations

from made_service import Served, jpeg, png

from regard.api.client import Client


def suggested(client: Client, text: str) -> list[tuple[str, str]]:
    return [(one.kind, one.value) for one in client.suggest(text)]


def test_values_of_photographs_are_suggested(served: Served) -> None:
    client, shelf = served.client, served.shelf()
    taken = jpeg("red", make="Zenith", model="Zeta 9", place=(64.1466, -21.9426))
    (asset,) = shelf.add(taken, tags=["zebra crossing", "zébu"])
    assert suggested(client, "red ze") == [
        *(("tag", "zebra crossing"), ("tag", "zébu")),
        ("camera", "Zenith Zeta 9"),
    ]
    assert client.suggest("red ze", limit=1)[0].query == 'red tag:"zebra crossing"'
    assert suggested(client, "REYKJAVI") == [("city", "Reykjavík")]
    assert suggested(client, "country:ice") == [("country", "Iceland")]
    (found,) = client.suggest("city:reyk")
    assert [hit.asset.id for hit in client.search(query=found.query).hits] == [asset.id]
    # What is only in the trash is not suggested, and what changes is at once.
    client.assets.delete(asset.id)
    assert suggested(client, "red ze") == suggested(client, "country:ice") == []
    client.assets.restore(asset.id)
    client.assets.patch(asset.id, tags=["zeppelin"])
    assert suggested(client, "tag:ze") == [("tag", "zeppelin")]


def test_a_bound_key_gets_the_values_of_its_collections(served: Served) -> None:
    client, mine, theirs = served.client, served.shelf(), served.shelf()
    (seen,) = mine.add(png("red"), tags=["quay mine"])
    (hidden,) = theirs.add(png("blue"), tags=["quay theirs"])
    for name, asset in (("quays", seen), ("quays of others", hidden)):
        client.albums.change(client.albums.create(name).id, add=[asset.id])
    client.albums.create("quays saved", "tag:quay")
    bound = served.with_key(served.key("read", mine.name))
    assert suggested(bound, "qua") == [("tag", "quay mine"), ("album", "quays")]
    assert len(suggested(client, "qua")) == 5
    assert len(suggested(client, "album:qua")) == 3
