"""A pipeline's calibration of relevance in the catalog, and the captions that it is made with."""

from __future__ import annotations

from catalog_samples import Home

from regard.core.filters import EVERYTHING, AssetFilter
from regard.storage.retrieval.calibrations import SqlCalibrations

NAMES = [f"photograph {number}" for number in range(8)]


def test_a_calibration_replaces_the_former_one_and_is_read_by_all(home: Home) -> None:
    store = SqlCalibrations(home.catalog, home.pipeline)
    assert (store.read(), store.count_contents()) == (None, 0)
    home.save("/a.jpg", "a")
    assert store.count_contents() == 1
    for document, contents in (("{}", 50), ('{"space": "s"}', 100)):
        store.replace(document, contents)
        found = SqlCalibrations(home.catalog, home.pipeline).read()
        assert found is not None
        assert (found.document, found.contents) == (document, contents)


def test_captions_are_those_of_different_images_spread_over_all(home: Home) -> None:
    for name in NAMES:
        home.save(f"/{name}.jpg", name)
    store = SqlCalibrations(home.catalog, home.pipeline)
    captions = store.captions(EVERYTHING, 100)
    assert len(captions) == len(set(captions)) == len(NAMES)
    assert store.captions(EVERYTHING, 100) == captions
    fewer = store.captions(EVERYTHING, 4)
    assert 2 <= len(fewer) <= 5
    assert fewer == [caption for caption in captions if caption in fewer]
    assert fewer != captions[: len(fewer)]
    assert store.captions(AssetFilter(collections=("none such",)), 100) == []
