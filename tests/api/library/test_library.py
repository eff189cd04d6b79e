"""The Library interface: what holds of a home holds of a server."""

from __future__ import annotations

import datetime
import itertools
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import piexif
import pytest
from made_library import Library as Photos
from made_library import painted, regard, write_photo
from made_local_server import LocalServer
from PIL import Image, ImageDraw, ImageFont

import regard as api
from regard import Answer, Library, NotFound, UsageError
from regard.api.client import Client, Filters
from regard.api.library.results import Suggestion
from regard.api.library.sending import Sending
from regard.core.errors import (
    CannotWork,
    Conflict,
    DecodeError,
    MalformedQuery,
    NameTaken,
    UnanswerableQuery,
)
from regard.indexer.report import Progress
from regard.photos.masks import mask_area
from regard.storage.vectors.segments.index import SegmentedIndex

_COUNT = 9
_QUERIES = [
    ("list", "image"),  # filters alone list photographs
    *itertools.product(
        ("text", "language", "picture", "box", "asset", "region", "several", "few", "many",
         "collection", "relevance"),
        ("image", "region"),
    ),
]  # fmt: skip
_NOON = datetime.datetime(2024, 5, 17, 12)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Photos:
    """Nine photographs, a copy of one, and one of May 2024."""
    made = Photos(tmp_path_factory.mktemp("library"))
    for number in range(_COUNT):
        made.photo(f"{number:02}.png", number)
    shutil.copyfile(made.photos / "03.png", made.photos / "copy.png")
    exif = piexif.dump({"Exif": {piexif.ExifIFD.DateTimeOriginal: f"{_NOON:%Y:%m:%d %H:%M:%S}"}})
    (made.photos / "2024").mkdir()
    painted(["red"], 50).save(made.photos / "2024" / "may.jpg", exif=exif)
    made.index()
    return made


@pytest.fixture(scope="module")
def url(photos: Photos) -> Iterator[str]:
    with LocalServer(photos.home, upload_files=4, upload_bytes=60_000) as server:
        yield server.url


@pytest.fixture
def both(photos: Photos, url: str) -> Iterator[tuple[Library, Library]]:
    with api.open(photos.home) as local, api.open(url) as remote:
        yield local, remote


class Recorder(Progress):
    """Records what a long operation says."""

    def __init__(self) -> None:
        self.stages: list[str] = []
        self.notes: list[str] = []
        self.done = 0
        self.is_stopped = False

    def should_stop(self) -> bool:
        return self.is_stopped

    def begin(self, stage: str) -> None:
        self.stages.append(stage)

    def advance(self, count: int = 1) -> None:
        self.done += count

    def note(self, sentence: str) -> None:
        self.notes.append(sentence)


def untimed(answer: Answer) -> dict[str, Any]:
    return {**answer.to_json(), "took_ms": 0}


def queries(photos: Photos) -> dict[str, dict[str, Any]]:
    picture = photos.photos / "03.png"
    return {
        "text": {"text": "a red thing"},
        "language": {"text": f'"red"^2 -blue path:{photos.photos}'},
        "list": {"text": "taken:2024-05"},
        "picture": {"image": picture},
        "box": {"image": picture, "box": (2, 1, 9, 200)},
        "asset": {"like": "a3"},
        "region": {"like": "r5"},
        "several": {"text": f"blue -image:{picture}", "image": picture, "like": "a5"},
        "few": {"text": "red", "limit": 2},
        "many": {"text": "red", "limit": 10_000},
        "collection": {"text": "red", "collection": "default"},
        "relevance": {"text": "red", "min_relevance": 0.5},
    }


@pytest.mark.parametrize(("kind", "target"), _QUERIES)
def test_a_server_gives_the_answer_of_its_home(
    photos: Photos, both: tuple[Library, Library], kind: str, target: str
) -> None:
    query = {"target": target, **queries(photos)[kind]}
    local, remote = (library.search(**query) for library in both)
    assert local.hits
    assert untimed(remote) == untimed(local)
    assert [hit.asset.path for hit in remote.hits] == [hit.asset.path for hit in local.hits]


def test_results_name_what_the_json_names(library: Library, photos: Photos) -> None:
    answer = library.search("a red thing", target="region", limit=3)
    assert answer.query == {"text": "a red thing", "target": "region"}
    assert (answer.matched, len(answer.hits)) == (True, 3)
    hit = answer.hits[0]
    assert hit.region is not None
    document = answer.to_json()
    assert list(document) == ["query", "took_ms", "matched", "relevance_source", "hits"]
    shown = document["hits"][0]
    assert list(shown) == ["rank", "score", "relevance", "asset", "region", "channels"]
    asset = hit.asset
    assert shown["asset"] == {
        "id": asset.id, "uri": asset.uri, "width": 24, "height": 16, "caption": asset.caption,
    }  # fmt: skip
    assert shown["region"] == {
        "id": hit.region.id, "bbox": list(hit.region.bbox), "area": hit.region.area,
        "caption": None,
    }  # fmt: skip
    assert asset.path == os.fsencode(asset.uri)
    assert {match.kind for match in hit.channels} >= {"region"}
    keyword = [match for match in hit.channels if match.kind == "keyword"]
    assert all(match.space is None and match.words for match in keyword)
    assert sum(match.contribution for match in hit.channels) == pytest.approx(hit.score, abs=1e-5)
    text = repr(answer)
    assert text.startswith("Answer(query={'text': 'a red thing', 'target': 'region'}, ")
    assert f"Region(id='{hit.region.id}', bbox={hit.region.bbox}" in text
    assert "load_picture" not in text
    assert repr(library).startswith("<regard library ")


def test_like_takes_an_id_or_anything_that_was_found(library: Library) -> None:
    hit = library.search("red", target="region").hits[0]
    assert hit.region is not None
    by_region = untimed(library.search(like=hit.region.id, target="region"))
    assert untimed(library.search(like=hit, target="region")) == by_region
    assert untimed(library.search(like=hit.region, target="region")) == by_region
    by_asset = untimed(library.search(like=hit.asset.id))
    assert untimed(library.search(like=hit)) == by_asset
    assert untimed(library.search(like=hit.asset)) == by_asset
    assert hit.asset.id not in {found.asset.id for found in library.search(like=hit).hits}


def test_hits_show_as_pictures_in_a_notebook(library: Library) -> None:
    answer = library.search("red", target="region", limit=2)
    shown = answer._repr_html_()
    assert shown.count('src="data:image/jpeg;base64,') == 2
    assert answer.hits[0].asset.id in shown
    assert answer.hits[0]._repr_html_().count("<img") == 1


def test_a_hit_is_drawn_with_the_outline_of_its_region(library: Library) -> None:
    hit = library.search("red", target="region", limit=1).hits[0]
    assert hit.region is not None
    mask = hit.region.mask()
    assert mask is not None
    assert mask_area(mask) == hit.region.area
    assert (mask.width, mask.height) == (hit.asset.width, hit.asset.height)
    drawn = (np.asarray(hit.picture(512)) == (255, 194, 10)).all(axis=2)
    x, y, width, height = hit.region.bbox
    assert drawn[max(y - 1, 0) : y + height + 1, max(x - 1, 0) : x + width + 1].sum() == drawn.sum()
    assert drawn.sum() > width + height


def test_a_picture_is_small_and_upright(library: Library) -> None:
    hit = library.search("red", limit=1).hits[0]
    assert library.picture(hit).size == (24, 16)
    assert library.picture(hit.asset, 12).size == (12, 8)
    assert library.picture(hit.asset.id).mode == "RGB"


def test_the_regions_of_a_photograph(library: Library) -> None:
    hit = library.search("red", target="region", limit=1).hits[0]
    regions = library.regions(hit)
    assert hit.region in regions
    assert all(region.score is not None for region in regions)
    assert regions == library.regions(hit.asset) == library.regions(hit.asset.id)


def test_the_details_of_a_photograph(both: tuple[Library, Library]) -> None:
    local, remote = both
    hit = local.search("taken:2024").hits[0]
    details = local.details(hit)
    assert details == remote.details(hit.asset.id)
    assert details.to_json() == remote.details(hit.asset).to_json()
    assert details.asset == hit.asset
    assert (details.taken_at, details.taken_precision) == (_NOON, "time")
    assert (details.state, details.asset.format) == ("indexed", "JPEG")
    assert details.facts["rating"] is None
    for library in both:
        for read in (library.details, library.regions, library.picture):
            with pytest.raises(NotFound, match="a4711"):
                read("a4711")
            for wrong in ("r1", "4711"):
                with pytest.raises(UsageError, match=wrong):
                    read(wrong)


def test_photographs_are_rated(both: tuple[Library, Library]) -> None:
    hits = both[0].search("red", limit=3).hits
    for library, stars in zip(both, (4, 2), strict=True):
        library.rate(hits[0], stars)
        library.rate([hits[1].asset, hits[2].asset.id], 5)
        rated = [one.details(hit).facts["rating"] for one in both for hit in hits]
        assert rated == [stars, 5, 5] * 2
        found = library.search("rating:5", limit=9).hits
        assert {hit.asset.id for hit in found} == {hit.asset.id for hit in hits[1:]}
        library.rate(hits, 0)
        assert not library.search("has:rating").hits
        library.rate([], 3)
        with pytest.raises(NotFound, match="a4711"):
            library.rate([hits[0], "a4711"], 3)
        for wrong in (6, -1):
            with pytest.raises(UsageError, match="is not a rating"):
                library.rate(hits[0], wrong)
    assert both[0].search("has:rating").hits == ()


def test_texts_are_answered_in_order_and_never_parsed(library: Library) -> None:
    texts = ["red", "", '"red tag:x', "  ", "-blue"]
    answers = library.search_texts(texts, limit=2)
    for text, answer in zip(texts, answers, strict=True):
        if text.strip():
            assert isinstance(answer, Answer)
            assert answer.query == {"text": text, "target": "image"}
            assert len(answer.hits) == 2
        else:
            assert isinstance(answer, UsageError)
            assert answer.message == "the query is empty"
    red = answers[0]
    assert isinstance(red, Answer)
    assert untimed(red) == untimed(library.search("red", limit=2))


def test_duplicates_and_which_to_keep(both: tuple[Library, Library], photos: Photos) -> None:
    local, remote = (library.duplicates("exact") for library in both)
    assert remote == local
    assert remote.to_json() == local.to_json()
    (group,) = local.groups
    assert {os.path.basename(path) for path in group.paths} == {b"03.png", b"copy.png"}
    assert group.members[0].asset.size == (photos.photos / "03.png").stat().st_size
    assert both[1].duplicates().groups == both[0].duplicates().groups
    for library in both:
        with pytest.raises(UsageError, match="'copy' is not a kind of duplicate"):
            library.duplicates(["copy"])


def test_status_and_pipelines(library: Library) -> None:
    status = library.status()
    assert (status.profile, status.contents) == ("fake", _COUNT + 1)
    (collection,) = (one for one in status.collections if one.name == "default")
    assert (collection.assets, collection.failed) == (_COUNT + 2, 0)
    assert "collection default: 11 photographs" in str(status)
    assert {"home", "server"} & status.to_json().keys()
    (pipeline,) = library.pipelines().items
    assert (pipeline.profile, pipeline.state, pipeline.analysed) == ("fake", "live", _COUNT + 1)
    document = library.pipelines().to_json()["pipelines"][0]
    assert document["fingerprint"] == pipeline.fingerprint


def test_status_of_a_home_opens_no_index(photos: Photos, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise AssertionError("an index was opened")

    monkeypatch.setattr(SegmentedIndex, "open", fail)
    with api.open(photos.home) as library:
        channels = library.status().details["channels"]
    assert {one["rows"] for one in channels.values()} >= {_COUNT + 1}
    assert all(one["applied_through"] > 0 for one in channels.values())


@pytest.mark.parametrize(
    ("query", "error", "words"),
    [
        ({}, UsageError, "the query is empty"),
        ({"text": " "}, UnanswerableQuery, "the query is empty"),
        ({"text": "\udcff"}, UsageError, "not text"),
        ({"text": "red", "limit": 0}, UsageError, "limit"),
        ({"text": "red", "target": "face"}, UsageError, "'face' is not a target"),
        ({"text": "red", "collection": " "}, UsageError, "name is empty"),
        ({"text": "red", "collection": "nowhere"}, NotFound, "nowhere"),
        ({"text": "red", "min_relevance": 2}, UsageError, "relevance"),
        ({"text": "red tags:x"}, MalformedQuery, "tags"),
        ({"text": "-night"}, UsageError, "only negative terms"),
        ({"text": "red like:a999"}, NotFound, "a999"),
        ({"like": "q1"}, UsageError, "'q1'"),
        ({"like": "a999999"}, NotFound, "a999999"),
        ({"text": "red", "box": (1, 2, 3, 4)}, UsageError, "a box needs a picture"),
        ({"image": "{photo}", "box": (1, 2, 3)}, UsageError, "not a box"),
        ({"image": "{photo}", "box": (1, 2, 0, 4)}, UsageError, "the box is empty"),
        ({"image": "{photo}", "box": (500, 0, 9, 9)}, UsageError, "outside"),
        ({"image": "/no/such.jpg"}, NotFound, "/no/such.jpg"),
        ({"image": __file__}, DecodeError, "can't be used"),
    ],
)
def test_wrong_queries_raise_the_same_errors(
    library: Library, photos: Photos, query: dict[str, Any], error: type, words: str
) -> None:
    query = {
        name: str(photos.photos / "03.png") if value == "{photo}" else value
        for name, value in query.items()
    }
    with pytest.raises(error, match=words):
        library.search(**query)


def test_a_malformed_query_names_the_place(library: Library) -> None:
    with pytest.raises(MalformedQuery) as caught:
        library.search("red tags:x")
    assert (caught.value.position, caught.value.length) == (4, 5)


def test_indexing_reports_what_it_did(
    request: pytest.FixtureRequest, library: Library, tmp_path: Path
) -> None:
    name = f"new {request.node.callspec.id}"
    for number in range(6):
        write_photo(tmp_path / name / f"{number}.png", 100 + number)
    new = tmp_path / name
    write_photo(os.fsencode(new) + b'/caf\xe9 "x".png', 120)
    (new / "notes.txt").write_text("no photograph")
    (new / "empty.jpg").touch()
    (new / "cut.png").write_bytes((new / "1.png").read_bytes()[:80])
    progress = Recorder()
    report = library.index(new, collection=name, progress=progress)
    assert (report.indexed, report.unchanged, len(report.failures)) == (7, 0, 2)
    assert {os.path.basename(one.uri) for one in report.failures} == {"empty.jpg", "cut.png"}
    assert "indexing" in progress.stages
    assert progress.done >= 7
    again = library.index(str(new), collection=name)
    assert (again.indexed, again.unchanged, len(again.failures)) == (0, 7, 2)
    assert len(library.search("red", collection=name).hits) == 7
    with pytest.raises(CannotWork, match="missing"):
        library.index(tmp_path / "missing")
    with pytest.raises(UsageError, match="name is empty"):
        library.index(new, collection=" ")
    progress.is_stopped = True
    assert library.index(new, collection=name, progress=progress).interrupted


def test_models_change_and_change_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    (tmp_path / "turned.toml").write_text(
        'description = "another"\n[encoder]\nkind = "fake"\n[encoder.parameters]\nturn = 5\n'
    )
    monkeypatch.setenv("REGARD_PROFILES", str(tmp_path))
    monkeypatch.setattr("regard.storage.pipelines.pruning._NOTICED_SECONDS", 0.0)
    photos = Photos(tmp_path)
    for number in range(3):
        photos.photo(f"{number}.png", number)
    with api.open(photos.home, profile="fake") as library:
        assert library.index(photos.photos).indexed == 3
        before = untimed(library.search("red"))
        _change_models(library)
        assert untimed(library.search("red"))["hits"] == before["hits"]
    with LocalServer(photos.home, profile=None) as server, api.open(server.url) as library:
        _change_models(library)


def _change_models(library: Library) -> None:
    progress = Recorder()
    change = library.reindex("turned", progress=progress)
    assert (change.profile, change.live, change.failed) == ("turned", True, 0)
    assert progress.stages == ["reindexing"]
    assert [one.profile for one in library.pipelines().items] == ["turned", "fake"]
    back = library.rollback()
    assert (back.profile, back.live, back.missing) == ("fake", True, 0)
    pruned = library.prune()
    assert len(pruned.fingerprints) == 1
    assert [one.profile for one in library.pipelines().items] == ["fake"]


@pytest.mark.parametrize(
    "operation",
    ["remove", "watch", "write_metadata", "verify", "measure_recall", "rebuild", "export",
     "import_"],
)  # fmt: skip
def test_a_server_refuses_what_works_on_a_home(url: str, operation: str) -> None:
    arguments = ("x",) if operation in {"remove", "watch", "export", "import_"} else ()
    refusal = "watches its own" if operation == "watch" else "works on a home and not on a server"
    with api.open(url) as library, pytest.raises(UsageError, match=refusal):
        getattr(library, operation)(*arguments)


def test_a_home_is_watched_until_progress_says_stop(tmp_path: Path) -> None:
    photos = Photos(tmp_path)
    photos.photo("a.png", 1)
    progress = Recorder()
    with api.open(photos.home, profile="fake") as library:
        runs = library.watch(photos.photos, progress=progress)
        assert next(runs).indexed == 1
        photos.photo("b.png", 2)
        assert next(runs).indexed == 1
        assert len(library.search("red").hits) == 2
        progress.is_stopped = True
        assert list(runs) == []


def test_text_is_not_read_without_a_reader(library: Library) -> None:
    with pytest.raises(CannotWork, match="reader"):
        library.read()


@pytest.mark.parametrize("is_remote", [False, True])
def test_text_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_remote: bool
) -> None:
    (tmp_path / "reads.toml").write_text(
        'description = "reads"\n[encoder]\nkind = "fake"\n[reader]\nkind = "rapidocr"\n'
    )
    monkeypatch.setenv("REGARD_PROFILES", str(tmp_path))
    photos = Photos(tmp_path)
    sign = Image.new("RGB", (320, 160), (40, 70, 200))
    ImageDraw.Draw(sign).text((30, 50), "Fresh Coffee", font=ImageFont.load_default(40))
    sign.save(photos.photos / "sign.png")
    with api.open(photos.home, profile="reads") as library:
        assert library.index(photos.photos, read=False).indexed == 1
    with ExitStack() as opened:
        place: Path | str = photos.home
        if is_remote:
            place = opened.enter_context(LocalServer(photos.home, profile=None)).url
        library = opened.enter_context(api.open(place))
        report = library.read()
        assert (report.read, report.lines, report.interrupted) == (1, 1, False)
        assert library.read().read == 0
        assert [region.text for region in library.regions("a1") if region.text] == ["Fresh Coffee"]


def test_a_home_is_maintained(tmp_path: Path) -> None:
    photos = Photos(tmp_path)
    photos.photo("a.png", 1)
    photos.photo("b.png", 2)
    with api.open(photos.home, profile="fake") as library:
        with pytest.raises(CannotWork, match="nothing is indexed"):
            library.search("red")
        assert not photos.home.exists()
        assert library.index(photos.photos).indexed == 2
        assert len(library.search("red").hits) == 2
        assert library.remove(photos.photos / "a.png") == 1
        assert len(library.search("red").hits) == 1
        assert library.verify() == []
        assert library.rebuild().indexes == 3
        assert library.export(tmp_path / "export").assets == 1
        # Another process indexes, and the open library notices.
        photos.index(photos.photos / "a.png")
        assert len(library.search("red").hits) == 2
    with api.open(tmp_path / "copy") as library:
        assert library.import_(tmp_path / "export").assets == 1
        os.unlink(photos.photos / "b.png")
        answer = library.search("red")
        assert "No such file" in answer._repr_html_()
        with pytest.raises(DecodeError):
            library.picture(answer.hits[0])


def test_text_in_a_notebook_is_escaped(tmp_path: Path) -> None:
    photos = Photos(tmp_path)
    photos.photo('<script>"&.png', 1)
    with api.open(photos.home, profile="fake") as library:
        library.index(photos.photos)
        shown = library.search("red")._repr_html_()
    assert "<script>" not in shown
    assert "&lt;script&gt;&quot;&amp;.png" in shown


def test_open_takes_a_folder_or_a_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGARD_HOME", str(tmp_path / "home"))
    assert str(tmp_path / "home") in repr(api.open())
    monkeypatch.setenv("HOME", str(tmp_path))
    assert str(tmp_path / "photo-index") in repr(api.open("~/photo-index"))
    assert repr(api.open("http://127.0.0.1:1/")) == "<regard library at http://127.0.0.1:1>"
    with pytest.raises(UsageError, match="takes no key"):
        api.open(tmp_path, key="rgd_x")
    with pytest.raises(UsageError, match="models already"):
        api.open("http://127.0.0.1:1", profile="lite")
    with pytest.raises(UsageError, match="not the address"):
        api.open("http://")
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="is a file"):
        api.open(tmp_path / "file")
    with pytest.raises(CannotWork, match="no server can be reached"):
        api.open("http://127.0.0.1:1").status()
    for place in (tmp_path / "home", "http://127.0.0.1:1"):
        library = api.open(place)
        library.close()
        with pytest.raises(CannotWork, match="was closed"):
            library.search("red")


def test_importing_regard_is_quick_and_its_names_are_there() -> None:
    script = (
        "import sys, regard\n"
        "heavy = {'torch', 'numpy', 'sqlalchemy', 'httpx', 'faiss'} & sys.modules.keys()\n"
        "assert not heavy, heavy\n"
        "library = regard.open('http://127.0.0.1:1')\n"
        "assert not {'torch', 'sqlalchemy', 'faiss'} & sys.modules.keys()\n"
        "library.close()\n"
        "local = regard.open('nowhere')\n"
        "assert not {'torch', 'transformers'} & sys.modules.keys()\n"
        "print(regard.__version__, all(hasattr(regard, name) for name in regard.__all__))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert done.stdout.split() == [b"0.1.0", b"True"]
    with pytest.raises(AttributeError, match="no attribute"):
        _ = api.nothing


def test_a_key_without_admin_sees_urls_in_the_place_of_paths(photos: Photos, url: str) -> None:
    made = regard("keys", "create", "reader", "--scope", "read", "--home", photos.home)
    with api.open(url, key=made.out.split()[0].decode()) as library:
        hit = library.search("red").hits[0]
        assert hit.asset.uri == f"{url}/v1/assets/{hit.asset.id}/original"
        assert hit.asset.path == hit.asset.uri.encode()
        groups = library.duplicates(["exact"]).groups
        assert groups
        assert all(path.startswith(url.encode()) for group in groups for path in group.paths)
        with pytest.raises(CannotWork, match="scope") as caught:
            library.index(photos.photos)
        assert "regard keys create" in str(caught.value)
    with api.open(url, key="rgd_wrong") as library, pytest.raises(CannotWork) as caught:
        library.status()
    assert "--key-file" in str(caught.value)


def test_what_a_server_takes_is_known_before_it_is_sent(url: str, tmp_path: Path) -> None:
    for number in range(5):
        write_photo(tmp_path / "sent" / f"{number}.png", 140 + number)
    write_photo(tmp_path / "sent" / "copy of 3.png", 143)
    (tmp_path / "sent" / "large.jpg").write_bytes(b"\xff\xd8\xff" + bytes(70_000))
    (tmp_path / "sent" / "1.xmp").write_text("<x/>")
    with api.open(url) as library, Client(url) as client:
        report = library.index(tmp_path / "sent", collection="sent")
        assert (report.indexed, report.unchanged) == (5, 1)
        assert (report.regions, report.captions) == (20, 5)
        assert [one.reason for one in report.failures] == [
            "it has more than the 60,000 bytes that the server takes"
        ]
        touched = (tmp_path / "sent" / "@eaDir", tmp_path / "sent" / "5.png")
        write_photo(touched[0] / "thumb.png", 145)
        write_photo(touched[1], 146)
        report = library.index(tmp_path / "sent", collection="sent", exclude=["5.*"])
        assert (report.indexed, report.left_out) == (0, 2)
        sent = client.assets.iterate(Filters(collection=["sent"]))
        assert {asset.file_name for asset in sent} == {f"{number}.png" for number in range(5)}


def test_files_that_vanish_while_they_are_sent_are_failures(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = [write_photo(tmp_path / f"{number}.png", 130 + number) for number in range(3)]
    find = Sending._find

    def find_and_lose(self: Sending, roots: Any) -> Any:
        stamps = find(self, roots)
        photos[1].unlink()
        return stamps

    monkeypatch.setattr(Sending, "_find", find_and_lose)
    with api.open(url) as library:
        report = library.index(tmp_path, collection="going")
    assert report.indexed == 2
    assert [one.uri for one in report.failures] == [str(photos[1])]


def test_a_cancelled_job_is_an_error(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_photo(tmp_path / "one.png", 300)
    take = Sending._take
    jobs: list[str] = []

    def take_and_cancel(self: Sending, batch: Any, answer: Any) -> None:
        take(self, batch, answer)
        jobs.extend(self._jobs)
        for id, job in self._jobs.items():
            self._jobs[id] = job.model_copy(update={"state": "cancelled"})

    monkeypatch.setattr(Sending, "_take", take_and_cancel)
    with api.open(url) as library, pytest.raises(CannotWork, match="cancelled"):
        library.index(tmp_path, collection="cancelled")
    with Client(url) as client:  # the server's job goes on; the next test needs a library at rest
        for id in jobs:
            client.jobs.wait(id)


def test_long_answers_come_in_pages_without_gaps(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with api.open(url) as library:
        whole = library.search("red", target="region", limit=30)
        assert len(whole.hits) == 30
        monkeypatch.setattr("regard.api.library.remote._PAGE", 1)
        info = Client.info

        def few(self: Client) -> Any:
            found = info(self)
            return found.model_copy(update={"limits": found.limits.model_copy(update={"hits": 7})})

        monkeypatch.setattr(Client, "info", few)
        paged = library.search("red", target="region", limit=30)
    assert paged.hits == whole.hits


def test_duplicates_are_decided(both: tuple[Library, Library]) -> None:
    for library in both:
        one, two, three = library.search("red", limit=3).hits
        assert library.mark_distinct([one, two.asset.id, three.asset]) == 3
        assert library.mark_distinct([one, two, three], distinct=False) == 3
        for single in ([one], one.asset.id):
            with pytest.raises(UsageError, match=r"two|2"):
                library.mark_distinct(single)
        for decide in (library.mark_distinct, partial(library.merge_duplicates, one)):
            with pytest.raises(NotFound, match="no photograph has the id a999999"):
                decide(["a1", "a999999"])


def test_albums(both: tuple[Library, Library]) -> None:
    for library in both:
        name = f"album of {type(library).__name__}"
        hits = library.search("red", limit=3).hits
        made = library.create_album(name)
        assert made in library.albums()
        assert library.change_album(name, add=hits) == 3
        assert library.change_album(name, add=hits, remove=[hits[0].asset.id]) == 1
        kept = {hit.asset.id for hit in hits[1:]}
        # All of a change happens or none of it.
        for change in (
            {"add": hits[:1], "remove": ["a999999"]},
            {"add": ["a999999"], "remove": hits[1:]},
        ):
            with pytest.raises(NotFound, match="a999999"):
                library.change_album(name, **change)
        found = library.search(f'album:"{name}"').hits
        assert {hit.asset.id for hit in found} == kept
        assert [one.details(hit).albums for one in both for hit in hits[:2]] == [(), (name,)] * 2
        saved = library.create_album(f"{name}, saved", "red -has:gps")
        assert (saved.query, saved.assets) == ("red -has:gps", None)
        for wrong in ("tags:x", "album:x"):
            with pytest.raises(UsageError):
                library.create_album("wrong", wrong)
        renamed = library.rename_album(name, f"{name}, renamed")
        assert (renamed.name, renamed.assets) == (f"{name}, renamed", 2)
        with pytest.raises(NameTaken, match="already exists"):
            library.rename_album(renamed.name, saved.name)
        with pytest.raises(Conflict, match="saved search"):
            library.change_album(saved.name, add=hits)
        suggested = library.suggest(f"red {name[:12]}")
        assert suggested[0] == Suggestion("album", renamed.name, f'red album:"{renamed.name}"')
        assert ("saved search", saved.name) in {(one.kind, one.value) for one in suggested}
        with pytest.raises(UsageError):
            library.suggest("red", 0)
        for one in (renamed.name, saved.name):
            library.delete_album(one)
            with pytest.raises(NotFound, match="no album is named"):
                library.search(f'album:"{one}"')
        with pytest.raises(NotFound):
            library.delete_album(name)
