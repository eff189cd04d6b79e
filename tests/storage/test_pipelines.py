"""Which pipeline is live: the first, until something was made by it, and one only."""

from __future__ import annotations

from dataclasses import replace

import pytest
from catalog_samples import SPEC, Home, save

from regard.core.errors import PipelineConflict
from regard.core.records import Space
from regard.storage.indexing import SqlIndexingCatalog
from regard.storage.pipelines import check_pipeline

OTHER = replace(SPEC, profile="other", spaces=(Space("joint-2", 5), Space("looks-2", 3)))


def test_a_pipeline_that_made_nothing_gives_way_to_another(home: Home) -> None:
    other = home.catalog.make_live(OTHER)
    assert home.catalog.live_pipeline() == other
    check_pipeline(other, OTHER)
    assert {(c.channel.space, c.dimension) for c in other.channels.values()} == {
        ("joint-2", 5),
        ("looks-2", 3),
    }
    # And back: the pipeline and its channels are those of before.
    assert home.catalog.make_live(SPEC) == home.pipeline == home.catalog.live_pipeline()


def test_a_pipeline_that_made_something_stays(home: Home) -> None:
    home.save("/a.jpg", "a")
    assert home.catalog.make_live(OTHER) == home.pipeline
    with home.writing() as writer:
        assert writer.remove(list(writer.known_assets(b"/a.jpg"))) == 1
    assert home.counts()["analysis"] == 0
    assert home.catalog.make_live(OTHER).profile == "other"


def test_a_pipeline_that_is_being_written_with_stays(home: Home) -> None:
    with home.writing() as writer:
        assert home.catalog.make_live(OTHER) == home.pipeline
        save(writer, "/a.jpg", "a")
    assert home.catalog.live_pipeline() == home.pipeline


def test_what_was_opened_before_a_change_writes_nothing_after_it(home: Home) -> None:
    before = SqlIndexingCatalog(home.catalog, home.pipeline, "default")
    other = home.catalog.make_live(OTHER)
    with pytest.raises(PipelineConflict, match="other models than sample"), before.writer_lease():
        raise AssertionError("not reached")
    with SqlIndexingCatalog(home.catalog, other, "default").writer_lease():
        pass
