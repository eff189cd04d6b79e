"""`/v1/duplicates`: groups in pages, for those who may see them, without what lies in the
trash."""

from __future__ import annotations

import pytest
from made_pictures import cropped, encoded, scene
from made_service import Served, Shelf, refused

from regard.api.schemas import DuplicateGroupDocument


def members(group: DuplicateGroupDocument) -> set[str]:
    return {member.asset.id for member in group.members}


def filled(shelf: Shelf, seed: int) -> dict[str, str]:
    """A photograph, edited copies of it, one of these twice, and others; ids by name."""
    whole = scene(seed)
    worse = encoded(whole, quality=50)
    folder = shelf.folder(
        whole=encoded(whole, quality=95),
        worse=worse,
        again=worse,
        cut=encoded(cropped(whole, 0.1, 0.1, 0, 0), quality=85),
        other=encoded(scene(seed + 1)),
        another=encoded(scene(seed + 2)),
    )
    shelf.bring(folder)
    return {
        asset.file_name.removesuffix(".png"): asset.id
        for asset in shelf.client.assets.iterate(shelf.within)
    }


def test_groups_name_a_keeper_and_reasons(shelf: Shelf) -> None:
    ids = filled(shelf, 100)
    exact, edited = shelf.client.duplicates.iterate(collection=[shelf.name])
    assert (exact.kind, edited.kind) == ("exact", "edited")
    assert members(exact) == {ids["worse"], ids["again"]}
    assert members(edited) & {ids["whole"], ids["cut"]} == {ids["whole"], ids["cut"]}
    # Of twins one alone is among the edited.
    assert len(members(edited)) == len(members(edited) & set(ids.values())) == 3
    assert edited.keeper == ids["whole"]
    assert edited.reasons[0] == "most pixels: 320 × 240"
    assert all(0.9 < member.similarity <= 1 and not member.region for member in edited.members)
    only = shelf.client.duplicates.list(["edited"], collection=[shelf.name])
    assert (only.groups, only.next, only.complete) == ([edited], None, True)


def test_trashed_duplicates_leave_their_group(shelf: Shelf) -> None:
    ids = filled(shelf, 200)
    client, within = shelf.client, [shelf.name]
    groups = list(client.duplicates.iterate(["exact", "edited"], collection=within))
    others = set.union(*(members(group) - {group.keeper} for group in groups))
    client.assets.bulk(sorted(others), "delete")
    assert not list(client.duplicates.iterate(["exact", "edited"], collection=within))
    # What comes while they lie there is compared with them when they come back.
    whole = scene(200).resize((300, 225))
    client.assets.upload(("late.jpg", encoded(whole)), collection=shelf.name)
    for job in client.jobs.iterate(collection=within):
        shelf.served.wait(job)
    client.assets.bulk([ids["cut"]], "restore")
    [group] = client.duplicates.iterate(["edited"], collection=within)
    assert len(members(group)) == 3
    assert {ids["whole"], ids["cut"]} <= members(group)


def test_pages_list_every_group_once(shelf: Shelf) -> None:
    pictures = {}
    for seed in range(5):
        whole = scene(300 + seed)
        pictures[f"a{seed}"] = encoded(whole, quality=95)
        pictures[f"b{seed}"] = pictures[f"c{seed}"] = encoded(whole, quality=60)
    shelf.bring(shelf.folder(**pictures))
    every = list(shelf.client.duplicates.iterate(collection=[shelf.name]))
    assert [group.kind for group in every] == ["exact"] * 5 + ["edited"] * 5
    for size in (1, 2, 3, 5, 10):
        paged = list(shelf.client.duplicates.iterate(collection=[shelf.name], page=size))
        assert paged == every
    page = shelf.client.duplicates.list(collection=[shelf.name], limit=2)
    rest = shelf.client.duplicates.list(["exact"], collection=[shelf.name], cursor=page.next)
    assert rest.groups == every[2:5]
    with refused("validation"):
        shelf.client.duplicates.list(["edited"], collection=[shelf.name], cursor=page.next)


def test_bound_keys_see_duplicates_of_their_collections(served: Served) -> None:
    mine, theirs = served.shelf(), served.shelf()
    whole = scene(400)
    mine.add(encoded(whole, quality=95), encoded(whole, quality=60))
    theirs.add(encoded(whole, quality=80))
    client = served.with_key(served.key("read", mine.name))
    [group] = [g for g in client.duplicates.iterate(["edited"]) if members(g) & set(mine.ids())]
    assert members(group) == set(mine.ids())
    with refused("not-found"):
        client.duplicates.list(collection=[theirs.name])
    both = [g for g in served.client.duplicates.iterate(["edited"]) if members(g) & set(mine.ids())]
    assert members(both[0]) == {*mine.ids(), *theirs.ids()}


def test_object_groups_are_listed_on_request(shelf: Shelf) -> None:
    filled(shelf, 500)
    # Each a quarter of the frame, as large as regions of the profile `fake` are.
    shown = []
    for seed, places in ((1, [(0, 0), (160, 0), (0, 120)]), (2, [(0, 0), (160, 0)])):
        pictures = [scene(510 + 10 * seed + number) for number in range(len(places))]
        for picture, place in zip(pictures, places, strict=True):
            picture.paste(scene(seed, (160, 120)), place)
        added = shelf.add(*(encoded(picture, "PNG") for picture in pictures))
        shown.append({asset.id for asset in added})
    within = [shelf.name]
    every = list(shelf.client.duplicates.iterate(["object"], collection=within))
    # That profile sees little: other regions may seem to be one thing as well, and beside many
    # photographs it takes a thing that it sees again for a common one.
    found = [members(group) for group in every]
    assert all(any(group <= thing for group in found) for thing in shown)
    assert {group.kind for group in every} == {"object"}
    assert all(group.reasons for group in every)
    assert all(member.region for group in every for member in group.members)
    assert list(shelf.client.duplicates.iterate(["object"], collection=within, page=1)) == every
    # Edits compare nothing again, and the trash takes effect at once.
    first = shelf.client.jobs.list(limit=1).items[0]
    assert (first.kind, first.state, first.collection) == ("objects", "done", None)
    one = every[0].members[0].asset.id
    shelf.client.assets.bulk([one], "tag", tags=["seen"])
    page = shelf.client.duplicates.list(["object"], collection=within)
    assert (page.waiting, [members(group) for group in page.groups]) == (False, found)
    shelf.client.assets.bulk([one], "delete")
    page = shelf.client.duplicates.list(["object"], collection=within)
    assert not page.waiting
    assert all(one not in members(group) for group in page.groups)
    assert shelf.client.jobs.list(limit=1).items[0].id == first.id


def test_requests_only_ask_for_a_comparison_that_a_worker_does(
    served: Served, shelf: Shelf
) -> None:
    shelf.add(*(encoded(scene(600 + seed)) for seed in range(3)))
    reader = served.with_key(served.key("read"))
    assert reader.duplicates.list(["object"]).waiting
    [job] = served.client.jobs.list(state=["queued", "running"]).items
    assert (job.kind, job.collection) == ("objects", None)
    assert reader.duplicates.list(["object"]).waiting
    assert [one.id for one in served.client.jobs.list(limit=1).items] == [job.id]
    served.wait(job)
    assert not reader.duplicates.list(["object"]).waiting


@pytest.mark.parametrize(
    "query",
    ["kind=similar", "limit=0", "limit=201", "cursor=nonsense", "cursor=WyJhIiwxXQ", "sort=date"],
)
def test_invalid_parameters_are_refused(served: Served, query: str) -> None:
    answer = served.raw().get(f"/v1/duplicates?{query}")
    assert answer.status_code == 422, answer.text


def test_unknown_collections_are_not_found(served: Served) -> None:
    with refused("not-found"):
        served.client.duplicates.list(collection=["nowhere at all"])


def test_a_merge_keeps_what_people_said_of_the_others(shelf: Shelf) -> None:
    ids = filled(shelf, 300)
    client = shelf.client
    whole, worse, cut = ids["whole"], ids["worse"], ids["cut"]
    client.assets.patch(whole, tags=["sea"])
    client.assets.patch(worse, tags=["sea", "dawn"])
    album = client.albums.create(f"merged {shelf.name}")
    client.albums.change(album.id, add=[cut])
    assert client.duplicates.merge(whole, [worse, cut, ids["again"]]) == 3
    assert client.assets.get(whole).tags == ["dawn", "sea"]
    assert client.albums.get(album.id).cover == whole
    assert {client.assets.get(id).state for id in (worse, cut)} == {"trashed"}
    assert not list(client.duplicates.iterate(["exact", "edited"], collection=[shelf.name]))
    # Again it changes nothing, and what can't be done does nothing at all.
    assert client.duplicates.merge(whole, [worse, cut]) == 0
    for keep, discard, problem in (
        (whole, [ids["other"], "a999999"], "not-found"),
        (cut, [whole], "conflict"),
        (whole, [whole], "validation"),
    ):
        with refused(problem):
            client.duplicates.merge(keep, discard)
    assert {client.assets.get(ids[name]).state for name in ("whole", "other")} == {"indexed"}
    bound = shelf.served.with_key(shelf.served.key("write", shelf.served.shelf().name))
    with refused("not-found"):
        bound.duplicates.merge(whole, [ids["other"]])


def test_what_is_no_duplicate_is_remembered(shelf: Shelf) -> None:
    ids = filled(shelf, 400)
    duplicates, within = shelf.client.duplicates, [shelf.name]

    def groups() -> list[set[str]]:
        found = duplicates.iterate(["exact", "edited"], collection=within)
        return sorted((members(group) for group in found), key=len)

    both = groups()
    assert list(map(len, both)) == [2, 3]
    # The files of one content are all wanted.
    assert duplicates.mark_distinct([ids["worse"], ids["again"]]) == 1
    assert groups() == both[1:]
    # Two that are copies of a third are not listed together either.
    copy = next(iter(both[1] - {ids["whole"], ids["cut"]}))
    duplicates.mark_distinct([ids["cut"], copy])
    (one,) = groups()
    assert (ids["whole"] in one, len(one)) == (True, 2)
    duplicates.mark_distinct([ids["cut"], copy], distinct=False)
    # One of the edited copies is another picture; the rest stays together.
    assert duplicates.mark_distinct([ids["whole"], ids["cut"]]) == 1
    (rest,) = groups()
    assert ids["cut"] not in rest
    assert ids["whole"] in rest
    assert duplicates.mark_distinct([*both[1], ids["other"]]) == 6
    assert groups() == []
    for pair in (["worse", "again"], ["whole", "cut"], ["whole", "worse"], ["cut", "worse"]):
        duplicates.mark_distinct([ids[name] for name in pair], distinct=False)
    assert groups() == both
    with refused("not-found"):
        duplicates.mark_distinct([ids["whole"], "a999999"])
    with refused("validation"):
        duplicates.mark_distinct([ids["whole"], ids["whole"]])
