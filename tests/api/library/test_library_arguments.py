"""Arguments of wrong types: one sentence that names the argument, before anything is done."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from made_library import Library as Photos

import regard as api
from regard import Library, UsageError

_OPERATIONS = [
    (name, parameter.name)
    for name, operation in inspect.getmembers(Library, inspect.isfunction)
    for parameter in list(inspect.signature(operation).parameters.values())[1:]
    if not name.startswith("_")
]
_NEEDED: Mapping[str, Any] = {
    "texts": ["red"], "keep": "a1", "discard": ["a2"], "assets": ["a1", "a2"], "asset": "a1",
    "text": "red", "rating": 3, "name": "an album", "new_name": "another", "folder": "export",
}  # fmt: skip


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Photos:
    made = Photos(tmp_path_factory.mktemp("library"))
    for number in range(3):
        made.photo(f"{number}.png", number)
    made.index()
    return made


@pytest.mark.parametrize(("operation", "wrong"), _OPERATIONS)
def test_an_argument_of_a_wrong_type_is_named(library: Library, operation: str, wrong: str) -> None:
    call = getattr(library, operation)
    parameters = inspect.signature(call).parameters
    given: dict[str, Any] = {
        name: _NEEDED[name]
        for name, one in parameters.items()
        if one.default is one.empty and one.kind is not one.VAR_POSITIONAL
    }
    several = ()
    if parameters[wrong].kind is inspect.Parameter.VAR_POSITIONAL:
        several = (object(),)
    else:
        given[wrong] = object()
    with pytest.raises(UsageError, match=rf"^(each of )?{wrong} must be .*, not <object obj"):
        call(*several, **given)


@pytest.mark.parametrize(
    ("operation", "given", "sentence"),
    [
        ("search", {"text": "red", "limit": "5"}, "limit must be an integer, not '5'"),
        ("search", {"text": "red", "limit": None}, "limit must be an integer, not None"),
        ("search", {"text": "red", "limit": True}, "limit must be an integer, not True"),
        ("search", {"text": "red", "limit": 2.0}, "limit must be an integer, not 2.0"),
        ("search", {"text": "red", "exact": "no"}, "exact must be True or False, not 'no'"),
        ("search", {"text": b"red"}, "text must be a string or None, not b'red'"),
        ("search", {"text": "red", "min_relevance": "1"},
         "min_relevance must be a number or None, not '1'"),
        ("search", {"image": "a.jpg", "box": "1,2,3,4"},
         "box must be a list or None, not '1,2,3,4'"),
        ("search", {"image": "a.jpg", "box": (1, 2, 3.5, 4)},
         "each of box must be an integer, not 3.5"),
        ("search", {"image": "a\0.jpg"}, "image has a NUL character, which no path has"),
        ("search", {"like": 5},
         "like must be a string, a Hit, an Asset, a Region or None, not 5"),
        ("search_texts", {"texts": "red"}, "texts must be a list, not 'red'"),
        ("search_texts", {"texts": ["red", 5]}, "each of texts must be a string, not 5"),
        ("index", {"exclude": "*.png"}, "exclude must be a list, not '*.png'"),
        ("change_album", {"name": "x", "add": [5]},
         "each of add must be a string, an Asset or a Hit, not 5"),
        ("export", {"folder": b"export"}, "folder must be a string or a path, not b'export'"),
        ("picture", {"asset": "a1", "longest": 0}, "longest must be at least 1 pixel"),
        ("suggest", {"text": "\udcff"}, "the query is not text"),
        ("create_album", {"name": "x", "query": "\udcff"}, "the query is not text"),
        ("search", {"text": "red", "sort": "best"}, "'best' is not an order"),
        ("duplicates", {"kinds": "same"}, "'same' is not a kind of duplicate"),
    ],
)  # fmt: skip
def test_a_wrong_argument_is_one_plain_sentence(
    library: Library, operation: str, given: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(UsageError) as caught:
        getattr(library, operation)(**given)
    assert caught.value.message == sentence


def test_numbers_of_numpy_and_any_iterable_are_taken(library: Library) -> None:
    answer = library.search("red", limit=np.int64(2), min_relevance=np.float32(0.5))
    assert len(answer.hits) == 2
    assert len(library.search_texts(text for text in ("red", "blue"))) == 2
    assert library.picture("a1", np.int32(12)).size == (12, 8)
    box = np.array([0, 0, 9, 9])
    assert library.search(image=answer.hits[0].asset.path, box=box, limit=1).hits


@pytest.mark.parametrize(
    ("location", "given", "name"),
    [(b"home", {}, "location"), (5, {}, "location"), ("home", {"profile": 5}, "profile"),
     ("http://127.0.0.1:1", {"key": b"rgd_x"}, "key"), ("home\0", {}, "location")],
)  # fmt: skip
def test_open_names_a_wrong_argument(location: Any, given: dict[str, Any], name: str) -> None:
    with pytest.raises(UsageError, match=f"^{name} "):
        api.open(location, **given)
