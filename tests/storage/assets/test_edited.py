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

TITLE, RATING = frozenset({"title"}), frozenset({"rating"})


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


def test_a_given_rating_outranks_the_file_until_it_is_settled(home: Home) -> None:
    assets, edited = Assets(home), SqlEditedAssets(home.catalog, EVERYTHING)
    with home.writing("one") as writer:

        def read(rating: int | None) -> None:
            stamp = FileStamp(b"/p/one", 1, 1, "former")
            writer.attach(stamp, header("one").sha256, PhotoFacts(rating=rating))

        def rating() -> int | None:
            return assets.reading.detail(number).facts.rating

        save(writer, "/p/one", "one")
        (number,) = [asset.id for asset in assets.reading.page()]
        for stars, same in ((4, 4), (0, 0), (5, 5)):
            position = assets.position()
            assets.editing.edit(number, AssetEdit(RATING, rating=stars))
            assert assets.editing.rate([number], same) == 0
            assert assets.events(position) == [("changed", number)]
            for said in (None, 3, -1, 0):
                read(said)
                assert rating() == stars
        (five,) = edited.page(0, 10)
        assert [five.applied_to(PhotoFacts(rating=said)).rating for said in (None, 3)] == [5, 5]
        assert assets.editing.rate([number], 2) == 1
        edited.settle(five, PhotoFacts(rating=5), "new")
        (two,) = edited.page(0, 10)
        assert (two.rating, rating()) == (2, 2)
        edited.settle(two, PhotoFacts(rating=2), "new")
        assert (edited.count(), rating()) == (0, 2)
        read(3)
        assert rating() == 3
        # A file without a rating need not say that it has none.
        assets.editing.rate([number], 0)
        (none,) = edited.page(0, 10)
        assert [none.applied_to(PhotoFacts(rating=said)).rating for said in (None, 3)] == [None, 0]
        edited.settle(none, PhotoFacts(), None)
        assert (edited.count(), rating()) == (0, None)
        assert assets.editing.rate([number], 0) == 0
