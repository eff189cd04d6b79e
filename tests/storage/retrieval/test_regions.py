"""Regions and their vectors read back, page by page, on both databases."""

from __future__ import annotations

import numpy as np
import pytest
from catalog_samples import REGION, Home, analysis, attach

from regard.core.filters import EVERYTHING, AssetFilter
from regard.storage.retrieval import regions
from regard.storage.retrieval.regions import SqlRegions


def test_regions_come_back_as_they_were_kept(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(regions, "_PAGE", 2)
    kept = {"a": 2, "b": 0, "c": 3, "d": 1, "e": 1}
    for name, count in kept.items():
        home.save(f"/{name}", name, regions=count)
    reader = SqlRegions(home.catalog, home.pipeline)
    found = list(reader.content_regions(EVERYTHING))
    assert [of.content for of in found] == sorted(of.content for of in found)
    assert [len(of.ids) for of in found] == list(kept.values())
    for of, (name, count) in zip(found, kept.items(), strict=True):
        assert (of.width, of.height) == (40, 30)
        assert of.regions == analysis(name, count).regions


def test_a_filter_leaves_contents_out_and_two_paths_are_one_content(home: Home) -> None:
    home.save("/a", "a", regions=2)
    reader = SqlRegions(home.catalog, home.pipeline)
    assert list(reader.content_regions(AssetFilter(collections=("other",)))) == []
    # The same content at two paths is one content.
    with home.writing() as writer:
        attach(writer, "/b", "a")
    assert len(list(reader.content_regions(EVERYTHING))) == 1


def test_vectors_come_in_the_order_asked_for_and_missing_ones_are_nan(home: Home) -> None:
    home.save("/a", "a", regions=2)
    home.save("/b", "b", regions=2)
    reader = SqlRegions(home.catalog, home.pipeline)
    first, second = (of.ids for of in reader.content_regions(EVERYTHING))
    asked = [second[1], 999_999, first[0]]
    rows = reader.vectors_of_regions([REGION], asked)[REGION]
    expected = [analysis(name).embeddings[1 + place].vector for name, place in (("b", 1), ("a", 0))]
    assert rows[[0, 2]] == pytest.approx(np.stack(expected), abs=1e-3)
    assert np.isnan(rows[1]).all()
    assert reader.vectors_of_regions([REGION], [])[REGION].shape == (0, rows.shape[1])
