"""Stacks through the Library interface, over a home and over a server, and on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_library import Library as Photos
from made_library import regard

import regard as api
from regard import Asset, Hit, Library, NotFound, Stack, UsageError
from regard.api.client import Client, Filters

_COVER = "x_BURST002_COVER.png"
_FRAMES = {"x_BURST001.png", _COVER, "x_BURST003.png"}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Photos:
    """A burst of three red frames, and two photographs."""
    made = Photos(tmp_path_factory.mktemp("stacks"))
    for number, name in enumerate(sorted(_FRAMES)):
        made.photo(name, number, "red")
    made.photo("blue.png", 10, "blue")
    made.photo("green.png", 11, "green")
    made.index()
    return made


def _name(asset: Asset) -> str:
    return Path(asset.uri).name


def _names(hits: tuple[Hit, ...]) -> list[str]:
    return [_name(hit.asset) for hit in hits]


def test_a_stack_is_one_hit_that_says_how_many_it_has(library: Library) -> None:
    hits = library.search("red", limit=10).hits
    assert len(hits) == 3
    (frame,) = (hit for hit in hits if hit.asset.stack is not None)
    assert _name(frame.asset) in _FRAMES
    assert frame.asset.stack is not None
    assert frame.asset.stack.count == 3
    assert frame.to_json()["asset"]["stack"] == frame.asset.stack.to_json()
    others = [hit.to_json()["asset"] for hit in hits if hit is not frame]
    assert not any("stack" in asset for asset in others)
    assert len(library.search("red", limit=10, fold_stacks=False).hits) == 5
    assert len(library.search_texts(["red"], limit=10)[0].hits) == 3  # type: ignore[union-attr]
    unfolded = library.search_texts(["red"], limit=10, fold_stacks=False)
    assert len(unfolded[0].hits) == 5  # type: ignore[union-attr]


def test_lists_are_folded_on_demand(library: Library) -> None:
    assert set(_names(library.search("has:stack", limit=10).hits)) == _FRAMES
    (cover,) = library.search("has:stack", limit=10, fold_stacks=True).hits
    assert _name(cover.asset) == _COVER
    assert cover.asset.stack == Stack(cover.asset.id, 3)
    assert len(library.search("-has:stack", limit=10).hits) == 2
    details = library.details(cover)
    assert details.asset.stack == cover.asset.stack
    assert details.to_json()["stack"] == {"id": cover.asset.id, "count": 3}


def test_a_stack_is_found_by_any_of_its_files(library: Library) -> None:
    for hit in library.search("has:stack", limit=10).hits:
        for fold in (None, True):
            found = library.search(f"stack:{hit.asset.id}", limit=10, fold_stacks=fold).hits
            assert set(_names(found)) == _FRAMES
        assert len(library.search(f"red stack:{hit.asset.id}", limit=10).hits) == 3
    assert library.search("stack:a999", limit=10).hits == ()
    for wrong in ("stack:r1", "stack:x"):
        with pytest.raises(api.UsageError):
            library.search(wrong)


def test_like_finds_no_other_file_of_the_same_stack(library: Library) -> None:
    (cover,) = library.search("has:stack", fold_stacks=True).hits
    assert set(_names(library.search(like=cover.asset.id).hits)) == {"blue.png", "green.png"}


def test_http_lists_and_their_counts_agree(url: str) -> None:
    with Client(url) as client:
        assets = client.assets
        for fold, count in ((False, 5), (True, 3)):
            found = assets.list(facets=["format", "collection"], fold_stacks=fold)
            assert len(found.items) == count
            assert found.facets is not None
            assert [value.count for value in found.facets["format"]] == [count]
            assert [value.count for value in found.facets["collection"]] == [count]
            assert assets.months(fold_stacks=fold).total == count
        member = next(one for one in assets.list().items if one.stack is not None)
        assert member.stack is not None
        assert member.stack.count == 3
        whole = assets.list(Filters(stack=[member.id]), fold_stacks=True).items
        assert {asset.file_name for asset in whole} == _FRAMES
        one = next(item for item in whole if item.file_name != _COVER)
        assert len(assets.list(Filters(id=[one.id]), fold_stacks=True).items) == 1
        answer = client.search("red", facets=["format"])
        assert answer.facets is not None
        assert [value.count for value in answer.facets["format"]] == [3]


def test_the_command_line_folds_searches_and_tells_of_stacks(photos: Photos) -> None:
    def paths(*arguments: str) -> list[str]:
        outcome = regard("search", *arguments, "--paths", "--home", photos.home)
        return [Path(line).name for line in outcome.out.decode().splitlines()]

    assert len(paths("red", "--min-relevance", "0")) == 3
    assert len(paths("red", "--min-relevance", "0", "--no-fold-stacks")) == 5
    assert set(paths("has:stack")) == _FRAMES
    assert paths("has:stack", "--fold-stacks") == [_COVER]
    shown = regard("search", "has:stack", "--fold-stacks", "--home", photos.home).out.decode()
    assert "(1 of 3 in its stack)" in shown


def test_a_saved_search_has_each_stack_once(library: Library) -> None:
    library.create_album("reds", "red")
    try:
        found = library.search("red", limit=10).hits
        saved = library.search("album:reds", limit=10).hits
        assert {hit.asset.id for hit in saved} == {hit.asset.id for hit in found}
        assert len(saved) == 3
    finally:
        library.delete_album("reds")


def test_a_stack_is_changed_by_hand(library: Library, photos: Photos) -> None:
    ids = {
        _name(hit.asset): hit.asset.id
        for hit in library.search(f"path:{photos.photos}", limit=9).hits
    }
    assert library.unstack(ids["x_BURST001.png"]) == 1
    assert library.unstack([ids["x_BURST001.png"], ids["blue.png"]]) == 0
    assert set(_names(library.search("has:stack", limit=9).hits)) == _FRAMES - {"x_BURST001.png"}
    assert library.stack([ids["blue.png"], ids["x_BURST001.png"]]) == 2
    photos.index()
    found = library.search(f"stack:{ids['blue.png']}", limit=9).hits
    assert set(_names(found)) == {"blue.png", "x_BURST001.png"}
    for wrong, error in (([ids["blue.png"]], UsageError), ([ids["blue.png"], "a999"], NotFound)):
        with pytest.raises(error):
            library.stack(wrong)
    # As it was.
    assert library.restack([ids["blue.png"], ids["x_BURST001.png"], ids[_COVER]]) == 2
    assert set(_names(library.search("has:stack", limit=9).hits)) == _FRAMES


def test_a_stack_is_changed_by_hand_on_the_command_line(photos: Photos, url: str) -> None:
    with api.open(photos.home) as library:
        ids = {
            _name(hit.asset): hit.asset.id
            for hit in library.search(f"path:{photos.photos}", limit=9).hits
        }
    blue, green = ids["blue.png"], ids["green.png"]
    for where in (("--home", photos.home), ("--server", url)):
        place = where if where[0] == "--home" else ()
        server = where if where[0] == "--server" else ()
        made = regard(*server, "stack", blue, green, *place)
        assert made.out == b"2 photographs in the stack\n"
        apart = regard(*server, "unstack", blue, green, "--json", *place)
        assert apart.document == {"unstacked": 2}
        again = regard(*server, "unstack", "--reset", blue, green, "--json", *place)
        assert again.document == {"reset": 2}
