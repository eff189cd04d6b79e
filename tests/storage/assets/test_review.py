"""What people decide about duplicates, on both databases: best ratings and distinct contents."""

from __future__ import annotations

import pytest
from catalog_samples import Home, header, on_sqlite, save
from made_assets import Assets

from regard.core.catalog import FileStamp
from regard.core.errors import Conflict, UsageError
from regard.core.facts import PhotoFacts
from regard.storage.assets.review import SqlDuplicateReview
from regard.storage.database import schema


def test_the_best_rating_stays_whatever_the_file_says(home: Home) -> None:
    assets, review = Assets(home), SqlDuplicateReview(home.catalog)
    with home.writing("one") as writer:

        def rate(name: str, rating: int | None) -> None:
            stamp = FileStamp(f"/p/{name}".encode(), 1, 1)
            writer.attach(stamp, header(name).sha256, PhotoFacts(rating=rating))

        def rating() -> int | None:
            return assets.reading.detail(keep).facts.rating

        for name, stars in (("keep", 2), ("copy", 4), ("bad", -1), ("plain", None)):
            save(writer, f"/p/{name}", name)
            rate(name, stars)
        ids = {asset.file_name: asset.id for asset in assets.reading.page()}
        keep = ids["keep"]
        assert review.merge(keep, [ids["bad"], ids["plain"]]) == 2
        assert rating() == 2
        rate("keep", None)
        assert rating() is None
        review.merge(keep, [ids["copy"]])
        assert rating() == 4
        for stars in (None, 3, 5):
            rate("keep", stars)
            assert rating() == 4
        with pytest.raises(Conflict):
            review.merge(ids["copy"], [keep])
        with pytest.raises(UsageError):
            review.merge(keep, [keep])


@on_sqlite
def test_distinct_contents_are_forgotten_with_a_content(assets: Assets) -> None:
    home = assets.home
    review = SqlDuplicateReview(home.catalog)
    one, two, three = (assets.upload(name).asset for name in ("p", "q", "r"))
    again = assets.upload("p", "two").asset
    assert review.mark_distinct([one, two, again]) == 2
    contents = {row.id: row.content_id for row in home.rows(schema.asset)}
    p, q = contents[one], contents[two]
    pairs = {(row.first_id, row.second_id) for row in home.rows(schema.distinct_pair)}
    assert pairs == {(p, p), (p, q)}
    assert review.mark_distinct([one, two, three]) == 3
    assets.editing.trash([two])
    assets.editing.purge_some()
    assert len(home.rows(schema.distinct_pair)) == 2
    assert review.mark_distinct([one, again, three], distinct=False) == 2
    assert home.rows(schema.distinct_pair) == []
    for few in ([one], [], [one, one]):
        with pytest.raises(UsageError):
            review.mark_distinct(few)
