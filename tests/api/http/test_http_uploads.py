"""Uploads: one or many, once on disk, repeated, refused, limited, and told by their content."""

from __future__ import annotations

import datetime
import hashlib
import io
import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from made_library import painted
from made_service import Served, Shelf, cut_off, jpeg, names, noisy, png, refused
from PIL import Image

MEGABYTE = 1 << 20


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_uploads_become_assets_and_are_found(served: Served, shelf: Shelf) -> None:
    picture = png("red", "green")
    answer = shelf.client.assets.upload(
        ("harbour.jpg", picture),
        collection=shelf.name,
        external_id="dam-1",
        title="Harbour",
        tags=["sea", "dawn", "sea"],
        rating=4,
        custom={"shoot": 7, "tree": {"a": [1, None]}},
    )
    [item] = answer.items
    assert (item.status, item.problem, item.file_name) == ("created", None, "harbour.jpg")
    asset = item.asset
    assert asset is not None
    assert (asset.title, asset.tags, asset.external_id) == ("Harbour", ["dawn", "sea"], "dam-1")
    assert asset.custom == {"shoot": 7, "tree": {"a": [1, None]}}
    assert (asset.width, asset.height, asset.format, asset.size) == (24, 16, "PNG", len(picture))
    assert asset.path is None
    assert asset.uri == asset.urls.original
    assert answer.job is not None
    assert answer.job.kind == "upload"
    served.wait(answer.job)
    detail = shelf.client.assets.get(asset.id)
    assert (detail.state, detail.facts.rating) == ("indexed", 4)
    assert shelf.found("red") == [asset.id]
    assert served.originals()[digest(picture)] == picture


def test_uploads_of_one_capture_form_a_stack(served: Served, shelf: Shelf) -> None:
    noon = datetime.datetime(2024, 5, 1, 12)
    answer = shelf.client.assets.upload(
        *(
            (name, jpeg("red", taken=noon, model="R5"))
            for name in ("IMG_1.jpg", "IMG_1-edited.jpg")
        ),
        ("IMG_1~2.jpg", jpeg("red", taken=noon, model="other")),
        collection=shelf.name,
    )
    assert answer.job is not None
    served.wait(answer.job)
    ids = [item.asset.id for item in answer.items if item.asset is not None]
    stacks = [shelf.client.assets.get(id).stack for id in ids]
    assert [stack and (stack.id, stack.count) for stack in stacks] == [(ids[1], 2)] * 2 + [None]
    assert len(shelf.found("red")) == 2


def test_repeated_uploads_give_the_existing_asset(served: Served, shelf: Shelf) -> None:
    picture = png()
    [asset] = shelf.add(picture)
    raw = served.raw()
    files = {"file": ("other.png", picture)}
    answer = raw.post("/v1/assets", files=files, data={"collection": shelf.name})
    assert answer.status_code == 200
    document = answer.json()
    assert document["job"] is None
    assert document["items"][0]["status"] == "existing"
    assert document["items"][0]["asset"]["id"] == asset.id
    assert document["items"][0]["asset"]["file_name"] == "0.png"
    elsewhere = served.shelf()
    assert elsewhere.send(picture).items[0].status == "created"
    assert list(served.originals()).count(digest(picture)) == 1


def test_uploads_of_many_files_report_bad_ones(served: Served, shelf: Shelf) -> None:
    good, again = png(), png()
    shelf.add(again)
    answer = shelf.send(good, b"no picture", again, b"", good, png()[:40])
    assert [item.status for item in answer.items] == [
        "created", "refused", "existing", "refused", "existing", "refused",
    ]  # fmt: skip
    problems = [item.problem and item.problem["type"].rsplit("/")[-1] for item in answer.items]
    assert problems == [
        None, "unsupported-media", None, "unsupported-media", None, "unusable-image",
    ]  # fmt: skip
    assert len(shelf.ids()) == 2
    assert digest(b"no picture") not in served.originals()


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "unsupported-media"),
        (b"<html><script>alert(1)</script></html>", "unsupported-media"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "unsupported-media"),
        (b"%PDF-1.7", "unsupported-media"),
        (b"\xff\xd8\xff\xe0 not really", "unusable-image"),
    ],
)
def test_file_type_is_detected_from_content(
    served: Served, shelf: Shelf, data: bytes, problem: str
) -> None:
    """The guard is `sniff`: without it whatever calls itself a JPEG is kept and served."""
    with refused(problem):
        shelf.client.assets.upload(("holiday.jpg", data), collection=shelf.name)
    assert digest(data) not in served.originals()
    answer = served.raw().post(
        "/v1/assets",
        files={"file": ("page.html", png(), "text/html")},
        data={"collection": shelf.name},
    )
    [item] = answer.json()["items"]
    assert item["asset"]["format"] == "PNG"
    original = served.raw().get(item["asset"]["urls"]["original"])
    assert original.headers["content-type"] == "image/png"
    assert original.headers["x-content-type-options"] == "nosniff"


def test_truncated_uploads_fail_in_their_job(served: Served, shelf: Shelf) -> None:
    cut = cut_off(noisy())
    answer = shelf.send(cut, png(), tags=["t"])
    job = served.wait(answer.job)
    assert (job.done, job.total, job.failed) == (2, 2, 1)
    [failure] = shelf.client.jobs.failures(job.id)
    assert failure.file_name == "0.png"
    asset = shelf.client.assets.get(failure.asset)
    assert (asset.state, asset.failure, asset.tags) == ("failed", failure.reason, ["t"])
    assert shelf.ids(state="failed") == [asset.id]
    with refused("unusable-image"):
        shelf.client.assets.thumbnail(asset.id)
    with refused("not-found"):
        shelf.client.search(terms=[{"like": asset.id}])
    # Sent again it is tried again, and is the same asset.
    again = shelf.send(cut)
    assert again.items[0].asset is not None
    assert again.items[0].asset.id == asset.id
    assert served.wait(again.job).failed == 1


def test_file_names_are_never_used_as_paths(served: Served, shelf: Shelf) -> None:
    for name, shown in (
        ("../../etc/passwd.png", "passwd.png"),
        ("C:\\photos\\x.png", "x.png"),
        ("..", "unnamed"),
        ("a\u202egnp.exe", "agnp.exe"),
        ("naïve 🌊.png", "naïve 🌊.png"),
    ):
        answer = shelf.client.assets.upload((name, png()), collection=shelf.name)
        assert answer.items[0].file_name == shown
    assert all(len(name) == 64 for name in served.originals())


def test_external_ids_are_unique_within_a_collection(served: Served, shelf: Shelf) -> None:
    picture = png()
    [asset] = shelf.send(picture, external_id="x").items
    rejected = png()
    with refused("external-id-taken"):
        shelf.send(rejected, external_id="x")
    assert digest(rejected) not in served.originals()
    assert shelf.send(picture, external_id="x").items[0].status == "existing"
    assert served.shelf().send(rejected, external_id="x").items[0].status == "created"
    [other] = shelf.send(png(), external_id="y").items
    assert asset.asset is not None
    assert other.asset is not None
    with refused("external-id-taken"):
        shelf.client.assets.patch(other.asset.id, external_id="x")
    shelf.client.assets.patch(asset.asset.id, external_id=None)
    assert shelf.client.assets.patch(other.asset.id, external_id="x").external_id == "x"


def test_title_and_external_id_need_a_single_file(shelf: Shelf) -> None:
    for said in ({"external_id": "x"}, {"title": "x"}):
        with refused("validation"):
            shelf.send(png(), png(), **said)
    # Not even the collection was made.
    with refused("not-found"):
        shelf.ids()


@pytest.mark.parametrize(
    "custom",
    ["[1]", "1", "{", '"x"', '{"a": NaN}', '{"a": [-Infinity]}', '{"a": 1e999}', '{"a": "\\u0000"}',
     '{"a": "\\ud800"}', json.dumps({"n" * 201: 1}), json.dumps({f"f{n}": n for n in range(101)}),
     '{"a":' * 30 + "1" + "}" * 30, '{"a":' * 40_000],
)  # fmt: skip
def test_unstorable_custom_fields_are_refused(served: Served, shelf: Shelf, custom: str) -> None:
    answer = served.raw().post(
        "/v1/assets",
        files={"file": ("x.png", png())},
        data={"collection": shelf.name, "custom": custom},
    )
    assert answer.status_code in {413, 422}, answer.text


def test_upload_form_needs_a_file_and_known_fields(served: Served, shelf: Shelf) -> None:
    raw = served.raw()
    file = ("x.png", png())
    for files, data, where in (
        ([("collection", (None, "x"))], {}, "file"),
        ([("file", file)], {"colection": shelf.name}, "colection"),
        ([("image", file)], {}, "image"),
        ([("file", file), ("title", (None, "a")), ("title", (None, "b"))], {}, "title"),
        ([("file", file)], {"tag": "x" * 201}, "tag.0"),
        ([("file", file), ("file", file)], {"title": "a"}, "title"),
        ([("file", file), ("file", file)], {"external_id": "a"}, "external_id"),
        ([("file", file)], {"custom": '{"": 1}'}, "custom"),
        ([("file", file)], {"collection": " "}, None),
    ):
        answer = raw.post("/v1/assets", files=files, data=data)
        assert answer.status_code == 422, answer.text
        assert answer.json()["type"] == "/v1/problems/validation"
        named = [error["where"] for error in answer.json()["errors"]]
        assert named == ([] if where is None else [f"body.{where}"])
    answer = raw.post("/v1/assets", json={"file": "http://example.org/x.png"})
    assert answer.status_code == 415


def test_urls_in_uploads_are_not_fetched(served: Served, shelf: Shelf) -> None:
    """No call takes a URL, and a file part that contains one is not a photograph."""
    with refused("unsupported-media"):
        shelf.send(b"http://127.0.0.1:1/x.png")
    document = served.raw().get("/v1/openapi.json").json()
    shown = json.dumps(document["paths"]) + json.dumps(document["components"])
    assert '"format": "uri"' not in shown
    assert '"url":' not in shown


# Repeated requests


def test_uploads_with_one_idempotency_key_are_answered_again(served: Served, shelf: Shelf) -> None:
    raw, picture = served.raw(), png()

    def send(data: bytes, **fields: str) -> tuple[int, str | None, dict[str, object]]:
        answer = raw.post(
            "/v1/assets",
            files={"file": ("x.png", data)},
            data={"collection": shelf.name, **fields},
            headers={"Idempotency-Key": f"key of {shelf.name}"},
        )
        return answer.status_code, answer.headers.get("idempotent-replayed"), answer.json()

    status, replayed, first = send(picture)
    assert (status, replayed) == (201, None)
    assert send(picture) == (201, "true", first)
    for other in (lambda: send(png()), lambda: send(picture, title="x")):
        status, replayed, problem = other()
        assert (status, replayed) == (422, None)
        assert problem["type"] == "/v1/problems/idempotency-key-reused"
    assert len(shelf.ids()) == 1
    # A caller of its own has keys of its own.
    mine = served.raw(served.key("write")).post(
        "/v1/assets",
        files={"file": ("x.png", png())},
        data={"collection": shelf.name},
        headers={"Idempotency-Key": f"key of {shelf.name}"},
    )
    assert mine.status_code == 201


def test_concurrent_repeats_are_one_upload(served: Served, shelf: Shelf) -> None:
    picture = png()
    with ThreadPoolExecutor(6) as pool:
        under_one_key = pool.map(
            lambda _: shelf.send(picture, idempotency_key=f"once {shelf.name}"), range(3)
        )
        under_others = pool.map(lambda _: shelf.send(picture), range(3))
        answers = [*under_one_key, *under_others]
    assert len({answer.items[0].asset.id for answer in answers if answer.items[0].asset}) == 1
    assert len(shelf.ids()) == 1
    assert len([answer for answer in answers if answer.items[0].status == "created"]) <= 4


def test_concurrent_uploads_lose_nothing(served: Served, shelf: Shelf) -> None:
    pictures = [png() for _ in range(24)]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(shelf.send, pictures))
    for answer in answers:
        served.wait(answer.job)
    assert sorted(shelf.ids(state="indexed")) == sorted(
        answer.items[0].asset.id for answer in answers if answer.items[0].asset
    )
    assert len(shelf.found()) == 24


# An imported twin


def test_uploads_of_imported_files_are_not_stored_twice(served: Served, shelf: Shelf) -> None:
    picture = png()
    folder = shelf.folder(a=picture)
    shelf.bring(folder)
    [imported] = shelf.ids()
    again = shelf.send(picture)
    assert (again.items[0].status, again.job) == ("existing", None)
    assert shelf.ids() == [imported]
    assert digest(picture) not in served.originals()
    # The file is gone, but the catalog does not know it yet: the upload needs its own copy.
    (folder / "a.png").unlink()
    made = shelf.send(picture)
    assert made.items[0].status == "created"
    assert served.originals()[digest(picture)] == picture
    assert made.items[0].asset is not None
    out = io.BytesIO()
    shelf.client.assets.original(made.items[0].asset.id, out)
    assert out.getvalue() == picture


def test_uploads_restore_lost_originals(home: Path, shelf: Shelf) -> None:
    picture = png()
    [asset] = shelf.add(picture)
    [path] = (home / "originals").rglob(digest(picture))
    path.unlink()
    with refused("original-gone"):
        shelf.client.assets.original(asset.id, io.BytesIO())
    assert shelf.send(picture).items[0].status == "existing"
    out = io.BytesIO()
    shelf.client.assets.original(asset.id, out)
    assert out.getvalue() == picture


def test_missing_collections_are_created(served: Served) -> None:
    shelf = served.shelf()
    shelf.send(png())
    assert shelf.name in [item.name for item in served.client.collections.iterate()]
    answer = served.client.assets.upload(("x.png", png()))
    assert answer.items[0].asset is not None
    assert answer.items[0].asset.collection.name == "default"


def test_facts_are_read_from_the_file(served: Served, shelf: Shelf) -> None:
    taken = datetime.datetime(2023, 7, 9, 18, 30, 5)
    [asset] = shelf.add(jpeg("red", taken=taken, make="Fuji", model="X100", place=(-33.5, 151.25)))
    assert (asset.taken_at, asset.dated_at, asset.camera) == (taken, taken, "Fuji X100")
    detail = shelf.client.assets.get(asset.id)
    facts = detail.facts
    assert (facts.camera_make, facts.camera_model, facts.f_number, facts.iso) == (
        "Fuji", "X100", 2.8, 200,
    )  # fmt: skip
    assert facts.latitude == pytest.approx(-33.5)
    assert facts.longitude == pytest.approx(151.25)
    assert len(detail.regions) == 4
    assert detail.caption == "A mostly red photograph."
    assert detail.captions[0].text == detail.caption
    assert detail.sha256 is not None
    assert names([detail]) == ["0.png"]


# Limits


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server that takes little."""
    with Served(
        tmp_path_factory.mktemp("small"),
        None,
        *("--max-upload-bytes", str(MEGABYTE), "--max-upload-files", "3"),
    ) as served:
        yield served


def too_many(small: Served) -> None:
    small.shelf().send(*(png() for _ in range(4)))


def too_long(small: Served) -> None:
    small.shelf().send(png(), png() + bytes(MEGABYTE))


def too_long_to_search(small: Served) -> None:
    small.client.search(images=[("x.png", png() + bytes(MEGABYTE))])


@pytest.mark.parametrize("send", [too_many, too_long, too_long_to_search])
def test_uploads_above_a_limit_are_refused_whole(
    small: Served, send: Callable[[Served], None]
) -> None:
    """The guards are FormLimits' files and file_bytes."""
    with refused("too-large"):
        send(small)
    assert small.originals() == {}
    assert list(small.client.assets.iterate()) == []


def test_images_with_too_many_pixels_are_refused(small: Served) -> None:
    """The guard is DecodeLimits.max_pixels: a few bytes would fill the memory."""
    limit = small.client.info().limits.pixels
    side = int(limit**0.5) + 1000
    with io.BytesIO() as file:
        Image.new("1", (side, side)).save(file, "PNG", optimize=True)
        bomb = file.getvalue()
    assert len(bomb) < MEGABYTE
    with refused("unusable-image"):
        small.shelf().send(bomb)
    with refused("unusable-image"):
        small.client.search(terms=[{"image": 1}], images=[("x.png", bomb)])
    assert small.originals() == {}


def test_json_bodies_are_limited(small: Served) -> None:
    """The guard is BodyLimit."""
    answer = small.raw().post("/v1/search", json={"query": "x" * (MEGABYTE + 1)})
    assert answer.status_code == 413


def test_info_shows_the_limits(small: Served) -> None:
    limits = small.client.info().limits
    assert (limits.upload_bytes, limits.upload_files) == (MEGABYTE, 3)


def test_managed_store_is_readable_only_by_its_owner(home: Path, shelf: Shelf) -> None:
    data = png()
    shelf.send(data)
    [path] = (home / "originals").rglob(digest(data))
    for part in (path, *path.parents[:3]):
        assert os.stat(part).st_mode & 0o077 == 0, part


def test_every_readable_format_is_accepted(shelf: Shelf) -> None:
    pictures = []
    for kind in ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"):
        with io.BytesIO() as file:
            painted(["red"], len(pictures)).save(file, kind)
            pictures.append(file.getvalue())
    answer = shelf.send(*pictures)
    assert {item.status for item in answer.items} == {"created"}, answer
