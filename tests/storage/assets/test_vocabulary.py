"""The distinct values of a library, on both databases."""

from __future__ import annotations

from made_assets import Assets

from regard.core.facts import PhotoFacts
from regard.core.filters import EVERYTHING
from regard.storage.assets.vocabulary import SqlVocabulary, Vocabulary


def test_values_are_read_once_each_and_those_of_trashed_assets_told(assets: Assets) -> None:
    vocabulary = SqlVocabulary(assets.home.catalog)
    berlin = PhotoFacts(
        camera_make="Zenith", camera_model="E", lens="50 mm", latitude=52.5163, longitude=13.3777,
        rating=4, keywords=("sea", "dawn"),
    )  # fmt: skip
    paris = PhotoFacts(lens="", latitude=48.8584, longitude=2.2945, keywords=("sea",))
    first, _, other = (
        assets.upload(name, collection, facts=facts).asset
        for name, collection, facts in (
            ("p", "one", berlin), ("q", "one", berlin), ("r", "two", paris)
        )
    )  # fmt: skip
    values = {
        Vocabulary.TAG: ["dawn", "sea"],
        Vocabulary.CAMERA: ["Zenith E"],
        Vocabulary.LENS: ["50 mm"],
        Vocabulary.CITY: ["Berlin", "Paris"],
        Vocabulary.COUNTRY: ["DE", "FR"],
    }
    assert {kind: vocabulary.read(kind, list) for kind in Vocabulary} == values
    for kind, named in values.items():
        assert all(vocabulary.is_of_any(kind, value) for value in named)
        assert not vocabulary.is_of_any(kind, "nothing")
    assert vocabulary.is_of_any(Vocabulary.TAG, "sea", visible=["two"])
    assert not vocabulary.is_of_any(Vocabulary.CITY, "Berlin", visible=["two"])
    facets = assets.reading.facets(EVERYTHING, ("country", "city", "lens", "rating", "format"))
    counts = {name: [(one.value, one.count) for one in found] for name, found in facets.items()}
    assert counts == {
        "country": [("Germany", 2), ("France", 1)],
        "city": [("Berlin", 2), ("Paris", 1)],
        "lens": [("50 mm", 2)],
        "rating": [("4", 2)],
        "format": [("jpeg", 3)],
    }
    assets.editing.trash([first, other])
    assert not vocabulary.is_of_any(Vocabulary.CITY, "Paris")
    assert vocabulary.is_of_any(Vocabulary.CITY, "Berlin")
    assert assets.reading.facets(EVERYTHING, ["format"])["format"][0].count == 1
