"""Edited assets, on both databases: which there are, and what settles them."""

from __future__ import annotations

from catalog_samples import Home, header, save
from made_assets import Assets

from regard.core.assets import AssetEdit
from regard.core.catalog import FileStamp
from regard.core.facts import PhotoFacts
from regard.core.filters import EVERYTHING, AssetFilter
from regard.storage.assets.edited import SqlEditedAssets
from regard.storage.assets.review import SqlDuplicateReview

TITLE = frozenset({"title"})


def test_edits_are_found_until_they_are_settled(home: Home) -> None:
    assets, edited = Assets(home), SqlEditedAssets(home.catalog, EVERYTHING)
    with home.writing("one") as writer:
        for name, facts in (
            ("tagged", PhotoFacts(keywords=("sea", "old"))),
            ("titled", PhotoFacts(title="Its own")),
            ("rated", PhotoFacts(rating=1)),
            ("copy", PhotoFacts(rating=4)),
            ("plain", PhotoFacts(keywords=("sea",), title="Plain", rating=3)),
        ):
            save(writer, f"/p/{name}", name)
            stamp = FileStamp(f"/p/{name}".encode(), 1, 1, "former")
            writer.attach(stamp, header(name).sha256, facts)
    ids = {asset.file_name: asset.id for asset in assets.reading.page()}
    assert (edited.count(), edited.page(0, 10)) == (0, [])
    assets.editing.tag([ids["tagged"]], add=["lake"], remove=["old"])
    assets.editing.edit(ids["titled"], AssetEdit(TITLE, title="Mine"))
    SqlDuplicateReview(home.catalog).merge(ids["rated"], [ids["copy"]])
    assets.editing.edit(assets.upload("u").asset, AssetEdit(TITLE, title="Sent"))
    assert (edited.count(), edited.count_without_folder()) == (3, 1)
    tagged, titled, rated = edited.page(0, 10)
    assert [one.id for one in edited.page(tagged.id, 1)] == [titled.id]
    assert (tagged.added_tags, tagged.removed_tags) == (("lake",), ("old",))
    assert (tagged.title, titled.title, rated.rating) == (None, "Mine", 4)
    assert rated.stamp == FileStamp(b"/p/rated", 1, 1, "former")
    tags = SqlEditedAssets(home.catalog, AssetFilter(tags=("lake",)))
    assert [one.id for one in tags.page(0, 10)] == [tagged.id]
    # What people say meanwhile stays an edit.
    assets.editing.edit(ids["titled"], AssetEdit(TITLE, title="Later"))
    assets.editing.tag([ids["tagged"]], remove=["lake"])
    edited.settle(tagged, PhotoFacts(keywords=("sea", "lake")), "new")
    edited.settle(titled, PhotoFacts(title="Mine"), "new")
    edited.settle(rated, PhotoFacts(rating=4), "new")
    tagged, titled = edited.page(0, 10)
    assert (tagged.added_tags, tagged.removed_tags) == ((), ("lake",))
    assert (titled.title, titled.stamp.sidecar) == ("Later", "new")
    assert assets.reading.get(ids["titled"]).title == "Later"
    assert assets.reading.get(ids["tagged"]).tags == ("sea",)
    assert assets.reading.detail(ids["rated"]).facts.rating == 4
    edited.settle(titled, PhotoFacts(title="Later"), None)
    edited.settle(tagged, PhotoFacts(), None)
    assert [one.added_tags for one in edited.page(0, 10)] == [("sea",)]
