"""Searches over HTTP: every kind of query, weights, pages, and what is not a query."""

from __future__ import annotations

import json
from typing import Any

import pytest
from made_service import Served, Shelf, png, refused

from regard.api.client import SearchTerm, ServerProblem
from regard.api.schemas import SearchAnswer

COLOURS = ("red", "blue", "green", "yellow")


@pytest.fixture(scope="module")
def filled(served: Served) -> tuple[Shelf, dict[str, str]]:
    """Photographs of one colour and of two, and their ids by colours."""
    shelf = served.shelf()
    mixes = [(colour,) for colour in COLOURS] + [
        (one, two) for one in COLOURS for two in COLOURS if one < two
    ]
    assets = shelf.add(
        *(png(*mix, size=(32, 32), seed=9_000_000 + number) for number, mix in enumerate(mixes))
    )
    return shelf, {"+".join(mix): asset.id for mix, asset in zip(mixes, assets, strict=True)}


def asked(filled: tuple[Shelf, dict[str, str]], text: str | None = None, **terms: Any) -> list[str]:
    """The colours of all hits, best first."""
    shelf, ids = filled
    answer = shelf.client.search(text, filters=shelf.within, limit=100, **terms)
    of = {id: name for name, id in ids.items()}
    assert [hit.rank for hit in answer.hits] == list(range(1, len(answer.hits) + 1))
    scores = [hit.score for hit in answer.hits]
    assert scores == sorted(scores, reverse=True)
    return [of[hit.asset.id] for hit in answer.hits]


def have(found: list[str], colour: str) -> bool:
    """Whether the first four, which are all that have a colour, have it."""
    return all(colour in name for name in found[:4])


def test_a_text_finds_what_it_names(served: Served, filled: tuple[Shelf, dict[str, str]]) -> None:
    shelf, ids = filled
    found = asked(filled, "a blue thing")
    assert have(found, "blue")
    assert len(found) == len(ids) == len(set(found))
    answer = shelf.client.search("blue", filters=shelf.within, limit=3)
    hit = answer.hits[0]
    assert answer.matched
    assert answer.query == {"text": "blue", "target": "image"}
    assert hit.asset == shelf.client.assets.list(shelf.within).items[
        [item.id for item in shelf.client.assets.list(shelf.within).items].index(hit.asset.id)
    ]  # fmt: skip
    assert hit.asset.caption == "A mostly blue photograph."
    assert hit.region is None or hit.region.urls.crop.startswith(f"/v1/regions/{hit.region.id}/")
    assert {channel.kind for channel in hit.channels} <= {"image", "region", "caption", "keyword"}
    got = served.raw().get("/v1/search", params={"q": "blue", "collection": shelf.name, "limit": 3})
    assert [hit["asset"]["id"] for hit in got.json()["hits"]] == [
        hit.asset.id for hit in answer.hits
    ]


def test_a_negative_text_turns_away_from_what_it_names(
    filled: tuple[Shelf, dict[str, str]],
) -> None:
    with_red = asked(filled, "blue", terms=[{"text": "red", "negative": True, "weight": 1}])
    place = with_red.index("blue+red")
    assert place > max(map(with_red.index, ("blue", "blue+green", "blue+yellow")))
    assert place > asked(filled, "blue").index("blue+red")


def test_a_picture_and_a_part_of_it(filled: tuple[Shelf, dict[str, str]]) -> None:
    images = [("x.png", png("green", "yellow", size=(40, 40), seed=1))]
    assert asked(filled, images=images, terms=[{"image": 1}])[0] == "green+yellow"
    for box, colour in (([0, 0, 20, 40], "green"), ([20, 0, 20, 40], "yellow")):
        assert have(asked(filled, images=images, terms=[{"image": 1, "box": box}]), colour)
    # Beyond the picture's edge there is nothing: the box is what lies on it.
    for box in ([0, 0, 0, 5], [100, 100, 5, 5]):
        with pytest.raises(ServerProblem) as told:
            asked(filled, images=images, terms=[{"image": 1, "box": box}])
        assert told.value.status == 422


def test_what_is_like_something_stored(filled: tuple[Shelf, dict[str, str]]) -> None:
    shelf, ids = filled
    found = asked(filled, terms=[{"like": ids["red"]}])
    assert "red" not in found
    assert all("red" in name for name in found[:3])
    region = shelf.client.assets.get(ids["green+red"]).regions[0].id
    assert asked(filled, terms=[{"like": region}], target="region").count("green") == 4


def test_terms_are_weighed_together(filled: tuple[Shelf, dict[str, str]]) -> None:
    _, ids = filled
    images = [("x.png", png("green", seed=2))]

    def weighted(text: float, image: float, *others: SearchTerm) -> list[str]:
        terms = [{"text": "yellow", "weight": text}, {"image": 1, "weight": image}, *others]
        return asked(filled, images=images, terms=terms)

    both = weighted(1, 1)
    assert "green+yellow" in both[:3]
    assert "green" in both[:6]
    assert have(weighted(1, 30), "green")
    assert have(weighted(30, 1), "yellow")
    everything = weighted(
        1, 1, {"like": ids["red"]}, {"text": "blue", "negative": True, "weight": 1}
    )
    assert len(everything) == len(ids) - 1
    assert everything.index("blue") > everything.index("yellow")


@pytest.mark.parametrize("target", ["image", "region"])
@pytest.mark.parametrize("query", ["text", "like", "composed"])
def test_pages_are_one_long_answer(
    filled: tuple[Shelf, dict[str, str]], target: Any, query: str
) -> None:
    shelf, ids = filled
    text: SearchTerm = {"text": "blue"}
    like: SearchTerm = {"like": ids["red"]}
    terms: dict[str, list[SearchTerm]] = {
        "text": [text],
        "like": [like],
        "composed": [text, like, {"text": "green", "negative": True}],
    }

    def key(answer: SearchAnswer) -> list[tuple[object, ...]]:
        return [
            (hit.rank, hit.asset.id, hit.region and hit.region.id, round(hit.score, 6))
            for hit in answer.hits
        ]

    def page(limit: int, cursor: str | None = None) -> SearchAnswer:
        return shelf.client.search(
            terms=terms[query], filters=shelf.within, target=target, limit=limit, cursor=cursor
        )

    whole = page(200)
    assert whole.next is None
    count = len(ids) - (query != "text")
    assert len(whole.hits) == count * (4 if target == "region" else 1)
    for size in (1, 4, len(whole.hits)) if target == "image" else (7, len(whole.hits)):
        found: list[tuple[object, ...]] = []
        answer = page(size)
        while True:
            found += key(answer)
            if answer.next is None:
                break
            assert len(answer.hits) == size
            answer = page(size, answer.next)
        assert found == key(whole)


def test_what_is_no_query_is_told(served: Served) -> None:
    raw = served.raw()
    for body in (
        {}, {"text": "x"}, {"query": "x", "limit": 0}, {"query": "x", "limit": 501},
        {"query": "x", "target": "video"}, {"terms": [{"like": "x"}]}, {"terms": [{"text": ""}]},
        {"query": "x", "facets": ["colour"]}, {"query": "x", "filters": {"colour": "red"}},
        {"terms": [{"text": "x" * 2001}]}, {"query": "x", "filters": {"custom": {"a": [1]}}},
    ):  # fmt: skip
        answer = raw.post("/v1/search", json=body)
        assert answer.status_code == 422, (body, answer.text)
        assert answer.json()["type"] in {
            "/v1/problems/validation", "/v1/problems/unanswerable-query",
        }  # fmt: skip
    for like in ("a999999999", "r999999999"):
        assert raw.post("/v1/search", json={"terms": [{"like": like}]}).status_code == 404
    answer = raw.post("/v1/search", content=b"{}")
    assert answer.status_code == 415
    assert all(kind in answer.json()["detail"] for kind in ("application/json", "multipart/form-"))
    assert raw.get("/v1/search").status_code == 422
    picture = ("x.png", b"no picture")
    assert raw.post("/v1/search", files={"image": picture}).status_code == 422
    assert raw.post("/v1/search", files={"picture": picture}).status_code == 422
    query = json.dumps({"terms": [{"image": 1, "box": [0, 0, -1, 1]}]})
    form = {"image": ("x.png", png()), "query": (None, query)}
    assert raw.post("/v1/search", files=form).status_code == 422


def test_odd_texts_are_answered(filled: tuple[Shelf, dict[str, str]]) -> None:
    shelf, ids = filled
    for text in ("\0", "*", '"', "🌊", "red" * 600, "' OR 1=1 --", "\u202e", "NEAR(", "a" * 2000):
        answer = shelf.client.search(text, filters=shelf.within, limit=100)
        assert len(answer.hits) == len(ids), text


def test_what_waits_to_be_analysed_can_not_be_asked_with(served: Served) -> None:
    shelf = served.shelf()
    # Those before it keep the worker at work for a while.
    answer = shelf.send(*(png() for _ in range(20)))
    item = answer.items[-1]
    assert item.asset is not None
    # The worker may be as quick; then it is an answer.
    told = served.raw().post("/v1/search", json={"terms": [{"like": item.asset.id}]})
    state = shelf.client.assets.get(item.asset.id).state
    assert told.status_code == 422 or state == "indexed", told.text
    served.wait(answer.job)


def test_an_empty_library_is_an_answer(served: Served) -> None:
    served.client.collections.create("nothing in it")
    from regard.api.client import Filters

    answer = served.client.search("red", filters=Filters(collection=["nothing in it"]))
    assert (answer.hits, answer.matched, answer.next) == ([], False, None)
    with refused("not-found"):
        served.client.search("red", filters=Filters(collection=["nowhere"]))


@pytest.mark.parametrize(
    ("body", "where", "message"),
    [
        ({"limit": "3"}, "limit", "it must be an integer"),
        ({"limit": True}, "limit", "it must be an integer"),
        ({"limit": 1000}, "limit", "it must be at most 500"),
        ({"filters": {"min_width": "5"}}, "filters.min_width", "it must be an integer"),
        ({"min_relevance": True}, "min_relevance", "it must be a number"),
        ({"exact": 1}, "exact", "it must be true or false"),
        ({"query": ""}, "query", "it must not be empty"),
        ({"query": 1}, "query", "it must be a string"),
        ({"colour": 1}, "colour", "there is no such field"),
        ({"terms": "x"}, "terms", "it must be an array"),
        ({"terms": [{"text": "x"}] * 17}, "terms", "it may have at most 16 items"),
        ({"terms": [{}]}, "terms.0", "give exactly one of text, image and like"),
        ({"terms": [{"image": 1, "box": [1, 1, 1]}]}, "terms.0.box.3", "it is required"),
        ({"terms": [{"text": "x" * 2001}]}, "terms.0.text", "it may have at most 2,000 characters"),
        ({"target": "video"}, "target", "it must be 'image' or 'region'"),
        *(
            (
                {"filters": {"custom": {"a": value}}},
                "filters.custom.a",
                "it must be a string, a number, or true or false",
            )
            for value in ([1], {"b": 1})
        ),
    ],
)
def test_a_wrong_field_is_told_once_in_plain_words(
    served: Served, body: dict[str, Any], where: str, message: str
) -> None:
    answer = served.raw().post("/v1/search", json={"query": "x", **body})
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"] == [{"where": f"body.{where}", "message": message}]
    assert answer.json()["detail"] == f"body.{where}: {message}"


def test_wrong_parameters_are_told_in_plain_words(served: Served) -> None:
    answer = served.raw().get("/v1/search", params={"q": "", "min_relevance": "nan", "exact": "x"})
    assert {error["where"]: error["message"] for error in answer.json()["errors"]} == {
        "query.q": "it must not be empty",
        "query.min_relevance": "it must be a number",
        "query.exact": "it must be true or false",
    }
