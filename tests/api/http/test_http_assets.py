"""Assets over HTTP: lists in pages, filters, edits, many at once, the trash."""

from __future__ import annotations

import datetime
import hashlib
from typing import Any

import httpx
import pytest
from made_service import Served, Shelf, jpeg, png, refused

from regard.api.client import Filters
from regard.api.client.searching import Facet
from regard.api.schemas import AssetDocument

DAY = datetime.datetime(2024, 5, 1, 12)


def test_lists_come_in_pages_in_any_order(served: Served, shelf: Shelf) -> None:
    pictures = [jpeg(taken=DAY + datetime.timedelta(days=number % 3)) for number in range(7)]
    added = shelf.add(*pictures, png())
    assert len(added) == 8
    orders: dict[str, Any] = {
        "-date": (lambda asset: (asset.dated_at, int(asset.id[1:])), True),
        "date": (lambda asset: (asset.dated_at, int(asset.id[1:])), False),
        "-added": (lambda asset: int(asset.id[1:]), True),
        "added": (lambda asset: int(asset.id[1:]), False),
    }
    for sort, (key, reverse) in orders.items():
        wanted = [asset.id for asset in sorted(added, key=key, reverse=reverse)]
        for page in (1, 3, 8, 100):
            assert shelf.ids(sort=sort, page=page) == wanted
    assert shelf.ids() == shelf.ids(sort="-date")


def test_month_counts_are_the_offsets_of_lists(served: Served, shelf: Shelf) -> None:
    days = [datetime.datetime(year, month, 9) for year in (2019, 2023) for month in (1, 12)]
    taken = [jpeg(taken=day) for day in [*days, days[0], days[3]]]
    # Without a time of its own, it has that of its file.
    added = shelf.add(*taken, png(), tags=["sea"])
    this_month = f"{added[-1].dated_at:%Y-%m}"
    counted = shelf.client.assets.months(shelf.within)
    assert [(month.month, month.count) for month in counted.months] == [
        (this_month, 1), ("2023-12", 2), ("2023-01", 1), ("2019-12", 1), ("2019-01", 2),
    ]  # fmt: skip
    assert (counted.total, counted.through) == (7, added[-1].id)

    shelf.add(jpeg(taken=days[1]), jpeg(taken=days[2]))
    offset = 0
    for month in counted.months:
        listed = shelf.client.assets.list(
            shelf.within, offset=offset, limit=month.count, through=counted.through
        )
        assert [f"{asset.dated_at:%Y-%m}" for asset in listed.items] == [month.month] * month.count
        offset += month.count
    assert listed.next is None
    first = shelf.client.assets.list(shelf.within, limit=2)
    rest = shelf.client.assets.list(shelf.within, cursor=first.next, offset=3)
    assert [asset.id for asset in rest.items] == shelf.ids()[5:]

    shelf.client.assets.delete(added[0].id)
    shelf.client.assets.patch(added[1].id, tags=["sea", "dawn"])
    for options, months in (
        ({"filters": Filters(collection=[shelf.name], tag=["sea"])}, 5),
        ({"filters": Filters(collection=[shelf.name], tag=["dawn"])}, 1),
        ({"filters": Filters(collection=[shelf.name], min_width=1000)}, 0),
        ({"filters": shelf.within, "state": "trashed"}, 1),
        ({"filters": shelf.within, "state": "indexed"}, 5),
    ):
        counted = shelf.client.assets.months(**options)  # type: ignore[arg-type]
        listed = shelf.client.assets.list(**options)  # type: ignore[arg-type]
        assert (counted.total, len(counted.months)) == (len(listed.items), months)
        assert (counted.through is None) == (months == 0)


def test_lists_filter_by_state(served: Served, shelf: Shelf) -> None:
    one, two = shelf.add(png(), png())
    shelf.client.assets.delete(two.id)
    assert shelf.ids() == shelf.ids(state="live") == shelf.ids(state="indexed") == [one.id]
    assert shelf.ids(state="trashed") == [two.id]
    assert shelf.ids(state="failed") == shelf.ids(state="pending") == []


FILTERS: dict[str, tuple[Filters, str]] = {
    "taken_from": (Filters(taken_from="2024-05-02"), "bcd"),
    "taken_to": (Filters(taken_to="2024-05-02"), "ab"),
    "taken_at a time": (Filters(taken_from="2024-05-02T12:00:00", taken_to=DAY.replace(day=3)), "bc"),
    "camera": (Filters(camera=["x100", "CANON R5"]), "abc"),
    "make and model": (Filters(camera=["fuji x100"]), "ab"),
    "gps_box": (Filters(gps_box=(170.0, -20.0, -170.0, 20.0)), "bc"),
    "gps_near": (Filters(gps_near=(0.0, 179.0, 250.0)), "bc"),
    "country": (Filters(country=["Fiji", "td"]), "a"),
    "city": (Filters(city=["MOUSSORO"]), ""),
    "wide": (Filters(min_width=25), "bd"),
    "size": (Filters(max_width=31, min_height=16, max_height=16), "ab"),
    "landscape": (Filters(orientation="landscape"), "abd"),
    "portrait": (Filters(orientation="portrait"), "c"),
    "square": (Filters(orientation="square"), "e"),
    "tag": (Filters(tag=["sea", "dawn"]), "a"),
    "not_tag": (Filters(not_tag=["sea"]), "cde"),
    "custom number": (Filters(custom={"n": 1}), "a"),
    "custom text": (Filters(custom={"n": "1"}), "b"),
    "custom truth": (Filters(custom={"n": True}), "c"),
    "custom fraction": (Filters(custom={"n": 1.5, "m": "x y"}), "d"),
    "external_id": (Filters(external_id=["dam 1", "dam é"]), "de"),
    "several": (Filters(tag=["sea"], camera=["x100"], taken_to="2024-05-01"), "a"),
    "none": (Filters(tag=["sea"], not_tag=["sea"]), ""),
}  # fmt: skip


@pytest.fixture(scope="module")
def varied(served: Served) -> tuple[Shelf, dict[str, str]]:
    """Five photographs that the filters tell apart, and their ids."""
    shelf = served.shelf()
    day = datetime.timedelta(days=1)
    made: dict[str, tuple[bytes, dict[str, Any]]] = {
        "a": (
            jpeg(taken=DAY, make="Fuji", model="X100", place=(10.0, 20.0)),
            {"tags": ["sea", "dawn"], "custom": {"n": 1}},
        ),
        "b": (
            jpeg(taken=DAY + day, make="Fuji", model="X100", place=(0.5, 179.5), size=(31, 16)),
            {"tags": ["sea"], "custom": {"n": "1"}},
        ),
        "c": (
            jpeg(
                taken=DAY + 2 * day, make="Canon", model="R5", place=(-0.5, -179.5), size=(16, 24)
            ),
            {"custom": {"n": True}},
        ),
        "d": (
            jpeg(taken=DAY + 3 * day, size=(40, 20)),
            {
                "custom": {"n": 1.5, "m": "x y"},
                "external_id": "dam 1",
            },
        ),
        "e": (png(size=(20, 20)), {"external_id": "dam é"}),
    }
    ids = {}
    for name, (picture, said) in made.items():
        [item] = shelf.send(picture, **said).items
        assert item.asset is not None
        ids[item.asset.id] = name
    for job in served.client.jobs.iterate(collection=[shelf.name]):
        served.wait(job)
    return shelf, ids


def test_places_are_counted_in_a_grid(varied: tuple[Shelf, dict[str, str]]) -> None:
    shelf, names = varied
    found = shelf.client.assets.places(shelf.within, cell=90.0)
    counted = {names[place.asset]: place.count for place in found.places}
    assert counted == {"a": 1, "b": 1, "c": 1}
    assert found.total == 3
    chad = next(place for place in found.places if names[place.asset] == "a")
    assert (chad.country, chad.box) == ("Chad", [20.0, 10.0, 20.0, 10.0])
    thumbnail = httpx.get(f"{shelf.client.url}{chad.thumbnail}", trust_env=False)
    assert thumbnail.headers["content-type"] == "image/webp"
    assert len(shelf.client.assets.places(shelf.within, cell=1.0, limit=2).places) == 2


@pytest.mark.parametrize("name", FILTERS)
def test_filters_match_the_same_assets_in_lists_and_searches(
    served: Served, varied: tuple[Shelf, dict[str, str]], name: str
) -> None:
    shelf, ids = varied
    chosen, wanted = FILTERS[name]
    chosen = Filters(
        **{
            field: getattr(chosen, field)
            for field in Filters.__dataclass_fields__
            if field != "collection"
        },
        collection=[shelf.name],
    )

    def those(found: list[Any]) -> str:
        return "".join(sorted({ids[asset.id] for asset in found}))

    client = served.client
    assert those(list(client.assets.iterate(chosen, page=2))) == wanted
    like = next(asset for asset, letter in ids.items() if letter == "a")
    region = client.assets.get(like).regions[0].id
    queries: list[dict[str, Any]] = [
        {"query": "red"},
        {"query": "blue -red"},
        {"query": "image:1", "images": [("x.png", png("green"))]},
        {"query": "red box:1,0,0,4,4", "images": [("x.png", png("green"))]},
        {"query": f"like:{like}"},
        {"query": f"like:{region}"},
    ]
    for query in queries:
        for target in ("image", "region"):
            hits = list(client.iterate_hits(page=50, filters=chosen, target=target, **query))
            found = those([hit.asset for hit in hits])
            # What a query is like is not an answer to it.
            left = wanted.replace("a", "") if query["query"] == f"like:{like}" else wanted
            if query["query"] == f"like:{region}" and target == "image":
                assert found in {wanted, wanted.replace("a", "")}
            else:
                assert found == left, (query, target)
            if target == "region":
                assert all(hit.region is not None for hit in hits)
    # The same in a query string.
    shown = client.assets.similar(like, chosen, limit=50)
    assert those([hit.asset for hit in shown.hits]) == wanted.replace("a", "")
    shown = client.regions.similar(region, chosen, limit=500)
    assert those([hit.asset for hit in shown.hits]) == wanted


def test_invalid_filters_are_refused(served: Served) -> None:
    for query in (
        "taken_from=May", "gps_box=1,2,3", "gps_box=0,9,0,1", "gps_near=0,0,nan", "gps_near=95,0,1",
        "min_width=-1", "orientation=round", "path_prefix=/etc/%00", "path_prefix=photos/../..",
        "tag=", "tag=%00", "camera=%00",
    ):  # fmt: skip
        answer = served.raw().get(f"/v1/assets?{query}")
        assert answer.status_code == 422, (query, answer.text)
    for query in ("collection=nowhere", "collection=%00", "path_prefix=nowhere/x"):
        answer = served.raw().get(f"/v1/assets?{query}")
        assert answer.status_code == 404, (query, answer.text)


def test_path_prefix_is_relative_to_a_root(served: Served, shelf: Shelf) -> None:
    folder = shelf.folder(a=png(), b=png())
    (folder / "below").mkdir()
    (folder / "below" / "c.png").write_bytes(png())
    (folder.parent / f"{folder.name}x").mkdir()
    (folder.parent / f"{folder.name}x" / "d.png").write_bytes(png())
    shelf.bring(folder)
    shelf.bring(folder.parent / f"{folder.name}x")

    def below(prefix: str) -> set[str]:
        found = shelf.client.assets.iterate(Filters(collection=[shelf.name], path_prefix=prefix))
        return {asset.file_name for asset in found}

    name = f"photos/{folder.name}"
    assert below("photos") == {"a.png", "b.png", "c.png", "d.png"}
    assert below(name) == below(name + "/") == below(str(folder)) == {"a.png", "b.png", "c.png"}
    assert below(f"{name}/below") == {"c.png"}
    assert below(f"{name}/below/c.png") == {"c.png"}
    [asset] = shelf.client.assets.iterate(Filters(path_prefix=f"{name}/below"))
    assert asset.path == f"{name}/below/c.png"
    assert asset.uri == str(folder / "below" / "c.png")


_FACETS: list[Facet] = [
    *("camera", "month", "country", "city", "lens", "rating", "format", "tags", "collection")
]


def test_facets_count_all_matching_assets(
    served: Served, varied: tuple[Shelf, dict[str, str]]
) -> None:
    shelf, _ = varied
    answer = served.client.search("red", filters=shelf.within, limit=1, facets=_FACETS)
    assert answer.facets is not None
    shown = {
        name: [(item.value, item.count) for item in values]
        for name, values in answer.facets.items()
    }
    assert shown == {
        "camera": [("Fuji X100", 2), ("Canon R5", 1)],
        "month": [("2024-05", 4)],
        "country": [("Chad", 1)],
        "city": [],
        "lens": [],
        "rating": [],
        "format": [("JPEG", 4), ("PNG", 1)],
        "tags": [("sea", 2), ("dawn", 1)],
        "collection": [(shelf.name, 5)],
    }
    narrow = Filters(collection=[shelf.name], tag=["dawn"])
    answer = served.client.search("red", filters=narrow, facets=["tags"])
    assert answer.facets is not None
    assert {item.value: item.count for item in answer.facets["tags"]} == {"sea": 1, "dawn": 1}
    assert served.client.search("red", filters=narrow).facets is None
    query = {"q": "red", "collection": shelf.name, "facets": "month,tags"}
    assert set(served.raw().get("/v1/search", params=query).json()["facets"]) == {"month", "tags"}
    listed = served.client.assets.list(shelf.within, limit=1, facets=_FACETS)
    assert (
        listed.facets == served.client.search("red", filters=shelf.within, facets=[*shown]).facets
    )
    assert listed.next is not None
    assert "facets" not in served.raw().get("/v1/assets").json()
    trashed = served.client.assets.list(shelf.within, state="trashed", facets=["collection"])
    assert trashed.facets == {"collection": []}
    query["facets"] = "colour"
    assert served.raw().get("/v1/search", params=query).status_code == 422
    assert served.raw().get("/v1/assets?facets=tags").status_code == 200
    assert served.raw().get("/v1/assets?facets=colour").status_code == 422


def test_changed_assets_are_listed_by_id_in_one_call(served: Served, shelf: Shelf) -> None:
    ids = [asset.id for asset in shelf.add(*(png() for _ in range(4)))]
    chosen = Filters(id=[ids[2], ids[0], "a999999999"])
    assert {asset.id for asset in served.client.assets.iterate(chosen)} == {ids[0], ids[2]}
    assert set(shelf.found(filters=chosen)) == {ids[0], ids[2]}
    hits = shelf.client.search("red", target="region", filters=chosen, limit=100).hits
    assert {hit.asset.id for hit in hits} == {ids[0], ids[2]}
    # Of others' nothing is told.
    bound = served.with_key(served.key("read", served.shelf().name))
    assert bound.assets.list(chosen).items == []
    for wrong in ("r1", "1", "a-1"):
        with refused("not-found"):
            served.client.assets.list(Filters(id=[wrong]))
    many = [("id", f"a{number}") for number in range(1, 1002)]
    assert served.raw().get("/v1/assets", params=many[:1000]).status_code == 200
    assert served.raw().get("/v1/assets", params=many).status_code == 422


# Edits


def test_patch_changes_only_the_given_fields(served: Served, shelf: Shelf) -> None:
    [asset] = shelf.add(png(), tags=["a"], custom={"x": 1, "y": [2]})
    edit = shelf.client.assets.patch
    assert edit(asset.id, title="Mine").title == "Mine"
    assert edit(asset.id, tags=["b", "c", "b"]).tags == ["b", "c"]
    assert edit(asset.id, custom={"x": None, "z": {"deep": True}}).custom == {
        "y": [2], "z": {"deep": True},
    }  # fmt: skip
    assert edit(asset.id, external_id="e").external_id == "e"
    assert edit(asset.id, rating=4).facts.rating == 4
    now = edit(asset.id, title=None)
    assert (now.title, now.tags, now.external_id) == (None, ["b", "c"], "e")
    assert now.facts.rating == 4
    assert edit(asset.id) == now == shelf.client.assets.get(asset.id)
    assert shelf.ids() == [asset.id]
    for body in (
        {"tags": None}, {"tags": [""]}, {"tags": ["x" * 201]}, {"title": "a\0"}, {"state": "indexed"},
        {"custom": {"n" * 201: 1}}, {"custom": []}, {"external_id": ""},
        {"rating": 6}, {"rating": -1}, {"rating": 2.5}, {"rating": "four"},
    ):  # fmt: skip
        answer = served.raw().patch(f"/v1/assets/{asset.id}", json=body)
        assert answer.status_code == 422, (body, answer.text)
    headers = {"Content-Type": "application/json"}
    for text in ('{"custom": {"x": NaN}}', '{"custom": {"x": [1e999]}}', '{"tags": ["\\ud800"]}'):
        answer = served.raw().patch(f"/v1/assets/{asset.id}", content=text, headers=headers)
        assert answer.status_code == 422, (text, answer.text)
    assert shelf.client.assets.get(asset.id) == now


def test_ratings_are_filtered_by_and_logged(served: Served, shelf: Shelf) -> None:
    one, two, three = (asset.id for asset in shelf.add(*(png() for _ in range(3))))
    *_, last = served.client.changes()
    starred = Filters(collection=[shelf.name], min_rating=1)

    def listed() -> set[str]:
        return {asset.id for asset in served.client.assets.iterate(starred)}

    shelf.client.assets.patch(one, rating=2)
    assert shelf.client.assets.bulk([one, two, three], "rate", rating=5).done == 3
    assert listed() == {one, two, three}
    for none in (0, None):
        shelf.client.assets.patch(one, rating=none)
    shelf.client.assets.bulk([two], "rate", rating=None)
    assert listed() == {three}
    known = served.raw().get("/v1/search", params={"q": "has:rating", "collection": shelf.name})
    assert [hit["asset"]["id"] for hit in known.json()["hits"]] == [three]
    changes = [change.asset for change in served.client.changes(last.position)]
    assert changes == [one, one, two, three, one, two]
    with refused("not-found"):
        shelf.client.assets.bulk([three, "a999999999"], "rate", rating=1)
    assert shelf.client.assets.get(three).facts.rating == 5
    answer = served.raw().post("/v1/assets/bulk", json={"ids": [three], "action": "rate"})
    assert (answer.status_code, "needs a rating" in answer.text) == (422, True)


def test_edits_show_in_filters_and_searches_immediately(shelf: Shelf) -> None:
    [asset] = shelf.add(png())
    chosen = Filters(collection=[shelf.name], tag=["new"])
    assert shelf.found(filters=chosen) == []
    shelf.client.assets.patch(asset.id, tags=["new"])
    assert shelf.found(filters=chosen) == [asset.id]


@pytest.mark.parametrize(
    "id", ["a0", "a999999999", "r1", "x", "a1 ", "../collections", "a" + "9" * 30]
)
def test_unknown_asset_ids_are_not_found(served: Served, id: str) -> None:
    assets = served.client.assets
    for call in (assets.get, assets.patch, assets.delete, assets.restore, assets.thumbnail,
                 assets.similar):  # fmt: skip
        with refused("not-found"):
            call(id)


def test_bulk_actions_change_all_assets_or_none(served: Served, shelf: Shelf) -> None:
    ids = [asset.id for asset in shelf.add(*(png() for _ in range(4)))]
    bulk = shelf.client.assets.bulk
    assert bulk(ids, "tag", tags=["t", "u"]).done == 4
    assert bulk(ids[:2], "untag", tags=["t", "nothing"]).done == 2
    assert [shelf.client.assets.get(id).tags for id in ids] == [
        ["u"],
        ["u"],
        ["t", "u"],
        ["t", "u"],
    ]
    for action in ("tag", "untag", "delete", "restore"):
        with refused("not-found"):
            bulk([*ids, "a999999999"], action, tags=["v"])  # type: ignore[arg-type]
    assert [shelf.client.assets.get(id).tags for id in ids] == [
        ["u"],
        ["u"],
        ["t", "u"],
        ["t", "u"],
    ]
    assert bulk([*ids[:3], ids[0]], "delete").done == 3
    assert shelf.ids() == [ids[3]]
    assert bulk(ids, "restore").done == 4
    assert sorted(shelf.ids(state="indexed")) == sorted(ids)
    with refused("validation"):
        bulk(ids, "tag")
    with refused("validation"):
        bulk(["a1"] * 1001, "delete")
    with refused("validation"):
        bulk([], "delete")


# The trash


def counts(served: Served) -> dict[str, int]:
    return served.client.info().counts.model_dump()


def test_deleted_assets_leave_searches_and_are_restored_without_analysis(
    served: Served, shelf: Shelf
) -> None:
    asset, other = shelf.add(png("red"), png("red"))
    detail = shelf.client.assets.get(asset.id)
    region = detail.regions[0].id
    jobs = len(list(served.client.jobs.iterate(collection=[shelf.name])))
    shelf.client.assets.delete(asset.id)
    shelf.client.assets.delete(asset.id)
    assert shelf.ids() == [other.id]
    assert shelf.found() == [other.id]
    assert [hit.asset.id for hit in shelf.client.regions.similar(region, shelf.within).hits] != []
    assert asset.id not in {
        hit.asset.id for hit in shelf.client.regions.similar(region, shelf.within).hits
    }
    gone = shelf.client.assets.get(asset.id)
    assert gone.state == "trashed"
    assert gone.deleted_at is not None
    back = shelf.client.assets.restore(asset.id)
    assert back.state == "indexed"
    assert sorted(shelf.found()) == sorted([asset.id, other.id])
    again = shelf.client.assets.get(asset.id)
    # The same rows: nothing was analysed again.
    assert [item.id for item in again.regions] == [item.id for item in detail.regions]
    assert len(list(served.client.jobs.iterate(collection=[shelf.name]))) == jobs


def test_assets_restored_before_analysis_are_analysed(served: Served, shelf: Shelf) -> None:
    """Else it would wait for ever: its job is over."""
    blocker = shelf.send(*(png() for _ in range(40)))
    answer = shelf.send(png())
    [item] = answer.items
    assert item.asset is not None
    shelf.client.assets.delete(item.asset.id)
    served.wait(blocker.job)
    served.wait(answer.job)
    state = shelf.client.assets.restore(item.asset.id).state
    assert state in {"pending", "indexed"}
    for job in served.client.jobs.iterate(collection=[shelf.name]):
        served.wait(job)
    assert shelf.client.assets.get(item.asset.id).state == "indexed"


def test_emptying_the_trash_deletes_unneeded_managed_files(served: Served, shelf: Shelf) -> None:
    picture, shared = png(), png()
    other = served.shelf()
    [mine, both] = shelf.add(picture, shared)
    [elsewhere] = other.add(shared)
    for asset in (mine, both):
        served.client.assets.thumbnail(asset.id)
    folder = shelf.folder(a=png())
    shelf.bring(folder)
    before = counts(served)
    for id in shelf.ids():
        shelf.client.assets.delete(id)
    digests = {hashlib.sha256(data).hexdigest() for data in (picture, shared)}
    assert digests <= {path.split("/")[-2] for path in served.thumbnails()}
    assert digests <= set(served.originals())
    assert served.client.trash.empty(other.name).purged == 0
    assert served.client.trash.empty(shelf.name).purged == 3
    assert shelf.ids(state="trashed") == []
    # Only its own managed file went, and of imports none.
    assert set(served.originals()) & digests == {hashlib.sha256(shared).hexdigest()}
    assert (folder / "a.png").exists()
    assert other.found() == [elsewhere.id]
    after = counts(served)
    assert before["assets"] - after["assets"] == 3
    assert before["contents"] - after["contents"] == 2
    other.client.assets.delete(elsewhere.id)
    served.client.trash.empty(other.name)
    assert not set(served.originals()) & digests
    # The cache has no picture of what is gone.
    assert not digests & {path.split("/")[-2] for path in served.thumbnails()}
    with refused("not-found"):
        served.client.trash.empty("nowhere")


def test_a_job_empties_a_large_trash(served: Served, shelf: Shelf) -> None:
    shelf.bring(shelf.folder(**{f"damaged {number}": b"no photograph" for number in range(205)}))
    served.client.assets.bulk(shelf.ids(), "delete")
    answer = served.client.trash.empty(shelf.name)
    assert answer.purged == 200
    [job] = answer.jobs
    assert (job.kind, job.collection and job.collection.name) == ("purge", shelf.name)
    ended = served.wait(job)
    assert (ended.done, ended.total, ended.report and ended.report["removed"]) == (5, 5, 5)
    assert shelf.ids(state="trashed") == []
    with refused("scope-missing"):
        served.with_key(served.key("write")).jobs.retry(job.id)
    again = served.wait(served.client.jobs.retry(job.id))
    assert (again.kind, again.done) == ("purge", 0)


def test_trashed_imports_stay_trashed_when_imported_again(served: Served, shelf: Shelf) -> None:
    folder = shelf.folder(a=png(), b=png())
    shelf.bring(folder)
    first: AssetDocument = next(iter(shelf.client.assets.iterate(shelf.within)))
    shelf.client.assets.delete(first.id)
    shelf.bring(folder)
    assert first.id not in shelf.ids()
    (folder / first.file_name).write_bytes(png())
    shelf.bring(folder)
    assert first.id not in shelf.ids()
    assert first.id in shelf.ids(state="trashed")
    assert len(shelf.found()) == 1
