"""The Python client against a real server, whole and with connections that fail."""

from __future__ import annotations

import io
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from datetime import date
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from made_library import painted, regard, write_photo
from made_local_server import LocalServer
from PIL import Image

from regard.api.client import Client, Filters, ServerProblem
from regard.api.client.forms import form
from regard.core.errors import CannotWork, UsageError

_COUNT = 6


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    folder = tmp_path_factory.mktemp("served")
    for number in range(_COUNT):
        write_photo(folder / "photos" / "2024" / f"{number:02}.png", number)
    (folder / "photos" / "broken.jpg").write_bytes(b"\xff\xd8\xff no more")
    with LocalServer(folder / "home", roots={"photos": folder / "photos"}) as running:
        with Client(running.url) as client:
            job = client.jobs.start_import("photos", collection="imported")
            assert client.jobs.wait(job.id, timeout=200).state == "done"
        yield running


@pytest.fixture
def client(server: LocalServer) -> Iterator[Client]:
    with Client(server.url) as made:
        yield made


def _png(seed: int, *colours: str) -> bytes:
    file = io.BytesIO()
    painted(colours or ("red", "blue"), seed).save(file, "PNG")
    return file.getvalue()


def _refused(name: str) -> pytest.RaisesExc[ServerProblem]:
    return pytest.RaisesExc(ServerProblem, check=lambda problem: problem.name == name)


def test_importing_it_loads_nothing_heavy() -> None:
    heavy = "fastapi starlette uvicorn torch faiss sqlalchemy numpy PIL regard.storage regard.api.http.app"
    script = (
        f"import sys, regard.api.client; print([m for m in '{heavy}'.split() if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


def test_collections(client: Client) -> None:
    made = client.collections.create("empty one")
    assert (made.name, made.assets) == ("empty one", 0)
    with pytest.raises(ServerProblem) as caught:
        client.collections.create("empty one")
    problem = caught.value
    assert (problem.type, problem.name) == ("/v1/problems/name-taken", "name-taken")
    assert (problem.status, problem.title) == (409, "Name taken")
    # One key, one collection, whatever happened to the first answer.
    again = client.collections.create("once", idempotency_key="k1")
    assert client.collections.create("once", idempotency_key="k1") == again
    names = {collection.name for collection in client.collections.iterate()}
    assert {"empty one", "imported", "once"} <= names
    first = client.collections.list(limit=1)
    assert len(first.items) == 1
    assert client.collections.list(cursor=first.next, limit=1).items != first.items
    assert client.collections.get(made.id) == made
    client.collections.delete(made.id)
    with _refused("not-found"):
        client.collections.get(made.id)
    imported = next(one for one in client.collections.iterate() if one.name == "imported")
    with _refused("collection-not-empty"):
        client.collections.delete(imported.id)


def test_uploads_from_disk_memory_and_open_files(client: Client, tmp_path: Path) -> None:
    photo = write_photo(tmp_path / "häfen.png", 50)
    answer = client.assets.upload(
        photo,
        ("open.png", io.BytesIO(_png(51))),
        ("memory.png", _png(52)),
        ("text.png", b"no photograph"),
        collection="uploaded",
        tags=["harbour", "dawn"],
        custom={"approved": True},
    )
    assert [item.file_name for item in answer.items] == [
        "häfen.png",
        "open.png",
        "memory.png",
        "text.png",
    ]
    assert [item.status for item in answer.items] == ["created"] * 3 + ["refused"]
    assert answer.items[3].problem is not None
    assert answer.items[3].problem["type"] == "/v1/problems/unsupported-media"
    assert answer.job is not None
    job = client.jobs.wait(answer.job.id, timeout=200)
    assert (job.state, job.kind, job.collection.name) == ("done", "upload", "uploaded")
    asset = answer.items[0].asset
    assert asset is not None
    stored = client.assets.get(asset.id)
    assert (stored.state, stored.tags, stored.custom) == (
        "indexed",
        ["dawn", "harbour"],
        {"approved": True},
    )
    assert client.assets.original(asset.id, tmp_path / "back.png") == photo.stat().st_size
    assert (tmp_path / "back.png").read_bytes() == photo.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["back.png", "häfen.png"]
    file = io.BytesIO()
    client.assets.original(asset.id, file)
    assert file.getvalue() == photo.read_bytes()
    with _refused("unsupported-media"):
        client.assets.upload(("text.png", b"no photograph"))
    with pytest.raises(FileNotFoundError):
        client.assets.upload(tmp_path / "missing.png")


def test_external_ids_and_edits(client: Client) -> None:
    def upload(seed: int) -> str:
        answer = client.assets.upload(
            ("a.png", _png(seed)), collection="edited", external_id=f"e{seed}", title="Before"
        )
        assert answer.items[0].asset is not None
        return answer.items[0].asset.id

    first, second = upload(60), upload(61)
    with _refused("external-id-taken"):
        client.assets.patch(first, external_id="e61")
    changed = client.assets.patch(first, tags=["x"], custom={"a": 1, "b": "two"}, title="After")
    assert (changed.title, changed.tags, changed.external_id) == ("After", ["x"], "e60")
    # What is not given stays; None is something else.
    changed = client.assets.patch(first, custom={"a": None}, title=None, external_id=None)
    assert (changed.title, changed.tags, changed.custom) == (None, ["x"], {"b": "two"})
    assert changed.external_id is None
    assert client.assets.bulk([first, second], "tag", tags=["many"]).done == 2
    assert client.assets.get(second).tags == ["many"]
    with _refused("not-found"):
        client.assets.bulk([first, "a999999"], "delete")
    assert client.assets.get(first).state != "trashed"
    client.assets.delete(first)
    client.assets.delete(second)
    edited = Filters(collection=["edited"])
    assert client.assets.list(edited).items == []
    assert {one.id for one in client.assets.iterate(edited, state="trashed")} == {first, second}
    assert client.assets.restore(second).id == second
    assert client.trash.empty("edited").purged == 1
    with _refused("not-found"):
        client.assets.get(first)


def test_lists_follow_cursors_and_filters(client: Client) -> None:
    imported = Filters(collection=["imported"])
    everything = list(client.assets.iterate(imported, page=2))
    assert len({asset.id for asset in everything}) == _COUNT + 1
    assert everything == client.assets.list(imported, limit=100).items
    one, other = [asset.id for asset in everything if asset.state == "indexed"][:2]
    client.assets.patch(one, custom={"number": "12", "real": 12, "place": "a & b=ü"}, tags=["t"])
    client.assets.patch(other, custom={"number": 12}, tags=["t", "u"])

    def found(**filters: object) -> set[str]:
        return {asset.id for asset in client.assets.iterate(Filters(**filters))}  # type: ignore[arg-type]

    # As text, and as a number: the client says which.
    assert found(custom={"number": "12"}) == {one}
    assert found(custom={"number": 12}) == {other}
    assert found(custom={"place": "a & b=ü", "real": 12}) == {one}
    assert found(tag=["t"]) == {one, other}
    assert found(tag=["t"], not_tag=["u"]) == {one}
    assert found(path_prefix="photos/2024", collection=["imported"]) == {
        asset.id for asset in everything if asset.file_name != "broken.jpg"
    }
    assert found(min_width=25) == set()
    assert found(gps_box=(-1e-05, 0.0, 1.5, 2.0)) == set()
    assert found(taken_from=date(2024, 5, 1), taken_to="2024-06-01T12:00:00") == set()
    assert found(orientation="portrait") == set()
    # The same conditions, as a search sends them.
    hits = client.search("red", filters=Filters(tag=["t"], custom={"number": "12"}), limit=100).hits
    assert [hit.asset.id for hit in hits] == [one]
    with pytest.raises(TypeError, match="tag"):
        Filters(tag="dawn")
    with pytest.raises(ServerProblem) as caught:
        client.assets.list(limit=100_000)
    assert caught.value.name == "validation"
    assert [wrong.where for wrong in caught.value.errors] == ["query.limit"]


def test_searches(client: Client, tmp_path: Path) -> None:
    answer = client.search("red", limit=3, facets=["collection", "tags"])
    assert answer.query == {"text": "red", "target": "image"}
    assert (len(answer.hits), answer.hits[0].rank) == (3, 1)
    assert answer.facets is not None
    assert "imported" in {facet.value for facet in answer.facets["collection"]}
    every = client.search("red", limit=500).hits
    paged = list(client.iterate_hits("red", page=4))
    assert [hit.asset.id for hit in paged] == [hit.asset.id for hit in every]
    assert [hit.rank for hit in paged] == list(range(1, len(paged) + 1))

    photo = write_photo(tmp_path / "q.png", 2)
    imported = Filters(collection=["imported"])
    by_image = client.search(query="image:1", images=[photo], filters=imported, limit=1)
    assert by_image.hits[0].asset.file_name == "02.png"
    by_part = client.search(
        terms=[{"image": 1, "box": (0, 0, 12, 16)}],
        images=[("q.png", photo.read_bytes())],
        target="region",
        limit=5,
    )
    assert by_part.query["box"] == [0, 0, 12, 16]
    region = by_part.hits[0].region
    assert region is not None
    composed = client.search(
        "red",
        terms=[{"text": "blue", "negative": True}, {"like": region.id, "weight": 0.25}],
        filters=imported,
    )
    assert composed.query["weights"] == {"text": 1.0, "negative_text": 0.5, "like": 0.25}
    assert {hit.asset.collection.name for hit in composed.hits} == {"imported"}
    with _refused("validation"):
        client.search()
    with _refused("unusable-image"):
        client.search(query="image:1", images=[("q.png", photo.read_bytes()[:60])])


def test_pictures_and_regions(client: Client) -> None:
    asset = client.assets.list(Filters(path_prefix="photos/2024"), limit=1).items[0]
    thumbnail = Image.open(io.BytesIO(client.assets.thumbnail(asset.id)))
    assert (thumbnail.format, thumbnail.size) == ("WEBP", (24, 16))
    region = client.assets.get(asset.id).regions[0]
    found = client.regions.get(region.id)
    assert (found.asset.id, found.bbox) == (asset.id, region.bbox)
    crop = Image.open(io.BytesIO(client.regions.crop(region.id, 256)))
    assert (crop.format, crop.size) == ("WEBP", tuple(region.bbox[2:]))
    mask = Image.open(io.BytesIO(client.regions.mask(region.id)))
    assert (mask.format, mask.size) == ("PNG", (24, 16))
    assert sum(mask.histogram()[1:]) == region.area
    lengths = client.regions.mask_run_lengths(region.id)
    assert lengths.size == (16, 24)
    assert lengths.counts
    like = client.regions.similar(region.id, limit=2)
    assert all(hit.region is not None for hit in like.hits)
    assert region.id not in {hit.region.id for hit in like.hits if hit.region is not None}
    others = client.assets.similar(asset.id, Filters(collection=["imported"]), limit=2)
    assert len(others.hits) == 2
    assert asset.id not in {hit.asset.id for hit in others.hits}


def test_jobs(client: Client) -> None:
    job = client.jobs.start_import("photos", "2024", collection="again", idempotency_key="j1")
    assert (
        client.jobs.start_import("photos", "2024", collection="again", idempotency_key="j1").id
        == job.id
    )
    seen = list(client.jobs.events(job.id))
    assert seen[-1].state == "done"
    assert {one.id for one in seen} == {job.id}
    assert all(former != later for former, later in pairwise(seen))
    assert seen[-1] == client.jobs.get(job.id)
    with _refused("job-not-running"):
        client.jobs.cancel(job.id)
    failing = next(client.jobs.iterate(collection=["imported"]))
    assert [failure.file_name for failure in client.jobs.failures(failing.id)] == ["broken.jpg"]
    again = client.jobs.wait(client.jobs.retry(failing.id).id, timeout=200)
    assert (again.failed, again.report is not None) == (1, True)
    whole = client.jobs.wait(client.jobs.reindex("again").id, timeout=200)
    assert whole.kind == "reindex"
    newest = client.jobs.list(state=["done"], limit=1)
    assert newest.items[0].id == whole.id
    assert newest.next is not None
    with _refused("not-found"):
        client.jobs.start_import("elsewhere")
    with _refused("outside-roots"):
        client.jobs.start_import("photos", "../home")
    with _refused("not-found"):
        list(client.jobs.events("j999999"))


def test_changes_go_on_from_where_one_was(client: Client) -> None:
    before = client.list_changes(limit=1000)
    assert not before.more
    assert [change.kind for change in before.changes[:1]] == ["added"]
    assert client.list_changes(before.next).changes == []
    answer = client.assets.upload(("c.png", _png(70)), collection="changing")
    assert answer.items[0].asset is not None
    client.assets.delete(answer.items[0].asset.id)
    after = [change for change in client.changes(before.next) if change.kind != "changed"]
    assert [change.kind for change in after] == ["added", "removed"]
    assert {change.asset for change in after} == {answer.items[0].asset.id}
    # Page by page it is the same story.
    one_by_one, position, more = [], 0, True
    while more:
        page = client.list_changes(position, limit=1, collection=["changing"])
        one_by_one += page.changes
        position, more = page.next, page.more
    assert one_by_one == list(client.changes(collection=["changing"]))


def test_the_service_itself(client: Client) -> None:
    info = client.info()
    assert (info.profile, info.scope, info.keys_required) == ("fake", "admin", False)
    assert info.roots == ["photos"]
    assert client.health().status == "ok"
    assert client.ready().status == "ready"
    assert "regard_http_request_seconds" in client.metrics()


def test_keys_and_sessions(server: LocalServer) -> None:
    def made(scope: str, *more: str) -> str:
        arguments = ("--scope", scope, *more, "--home", server.home)
        return regard("keys", "create", f"a {scope} key", *arguments).out.decode().split()[0]

    reading = made("read", "--collection", "imported")
    with Client(server.url, reading) as client:
        assert client.info().collections == ["imported"]
        with _refused("scope-missing"):
            client.assets.upload(("a.png", _png(1)))
        assert client.assets.list(limit=1).items[0].uri.startswith("/v1/assets/")
    with Client(server.url, "rgd_unknown") as client, _refused("key-invalid"):
        client.info()
    with Client(server.url) as client:
        client.session.start(reading)
        assert client.info().scope == "read"
        client.session.end()
        assert client.info().scope == "admin"
        with _refused("key-invalid"):
            client.session.start("rgd_unknown")


def test_what_is_no_address_or_no_key_is_wrong_use() -> None:
    for url in (
        "",
        "localhost:8420",
        "ftp://localhost",
        "http://",
        "http://u:p@localhost",
        "http://[::1",
    ):
        with pytest.raises(UsageError):
            Client(url)
    for key in ("", "two words", "ключ", "line\n"):
        with pytest.raises(UsageError):
            Client("http://localhost", key)


def test_a_server_that_is_not_there_is_one_sentence() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
    with Client(f"http://127.0.0.1:{port}") as client, pytest.raises(CannotWork) as caught:
        client.info()
    assert f"http://127.0.0.1:{port}" in caught.value.message
    assert caught.value.remedy is not None
    assert "regard serve" in caught.value.remedy


class _Stranger(BaseHTTPRequestHandler):
    """A web server that is no regard."""

    def do_GET(self) -> None:
        found = self.path != "/v1/jobs/j1"
        self.send_response(200 if found else 502, "Fine" if found else "Bad Gateway")
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<html>hello</html>")

    def log_message(self, *_: object) -> None:
        pass


def test_another_server_is_told_from_regard() -> None:
    with HTTPServer(("127.0.0.1", 0), _Stranger) as stranger:
        thread = threading.Thread(target=stranger.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{stranger.server_port}"
        with Client(url) as client:
            with pytest.raises(CannotWork, match="is not regard") as caught:
                client.info()
            assert not isinstance(caught.value, ServerProblem)
            with pytest.raises(CannotWork, match="sends no events"):
                list(client.jobs.events("j2"))
            with pytest.raises(ServerProblem, match="502 Bad Gateway") as refused:
                client.jobs.get("j1")
            assert (refused.value.type, refused.value.name) == ("about:blank", "")
        stranger.shutdown()
        thread.join()


class _Breaking:
    """Stands between client and server; the answers of the first connections never arrive."""

    def __init__(self, url: str, broken: int) -> None:
        self._to = urlsplit(url)
        self._left = broken
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.requests = 0
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> _Breaking:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        # A closed listener would leave its `accept` waiting; shut down, it ends.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(30)
        self._listener.close()

    def _run(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            with near, socket.create_connection((self._to.hostname, self._to.port)) as far:
                breaks, self._left = self._left > 0, self._left - 1
                up = threading.Thread(target=self._up, args=(near, far))
                up.start()
                self._down(far, near, breaks=breaks)
                up.join(30)

    def _up(self, near: socket.socket, far: socket.socket) -> None:
        with suppress(OSError):  # the client has gone, or what it spoke to
            while data := near.recv(1 << 16):
                if data.split(b" ", 1)[0] in {b"GET", b"POST", b"DELETE"}:
                    self.requests += 1
                far.sendall(data)
            far.shutdown(socket.SHUT_WR)

    def _down(self, far: socket.socket, near: socket.socket, *, breaks: bool) -> None:
        with suppress(OSError):
            while data := far.recv(1 << 16):
                if breaks:
                    break
                near.sendall(data)
            near.shutdown(socket.SHUT_RDWR)


def test_an_upload_whose_answer_is_lost_is_sent_again_and_is_one(
    server: LocalServer, tmp_path: Path
) -> None:
    photo = write_photo(tmp_path / "lost.png", 80)
    with _Breaking(server.url, 1) as between, Client(between.url) as client:
        answer = client.assets.upload(photo, ("more.png", io.BytesIO(_png(81))), collection="lost")
        assert between.requests == 2
        # The first answer, given again: not that the photographs were there already.
        assert [item.status for item in answer.items] == ["created", "created"]
        assert len(list(client.assets.iterate(Filters(collection=["lost"])))) == 2
        assert client.assets.original(answer.items[0].asset.id, io.BytesIO()) > 0  # type: ignore[union-attr]


def test_reads_are_tried_again_but_not_for_ever(server: LocalServer) -> None:
    with _Breaking(server.url, 2) as between, Client(between.url) as client:
        assert client.info().profile == "fake"
        assert between.requests == 3
    with _Breaking(server.url, 3) as between, Client(between.url) as client:
        with pytest.raises(CannotWork, match="broke off"):
            client.search("red")
        assert between.requests == 3


def test_what_would_do_something_twice_is_not_tried_again(server: LocalServer) -> None:
    with Client(server.url) as client:
        collection = client.collections.create("deleted once")
    with _Breaking(server.url, 1) as between, Client(between.url) as client:
        with pytest.raises(CannotWork, match="broke off"):
            client.collections.delete(collection.id)
        assert between.requests == 1
        with _refused("not-found"):
            client.collections.get(collection.id)


def test_events_are_taken_up_again_when_they_break_off(server: LocalServer) -> None:
    with Client(server.url) as client:
        job = client.jobs.start_import("photos", collection="followed")
    with _Breaking(server.url, 1) as between, Client(between.url) as client:
        assert list(client.jobs.events(job.id))[-1].state == "done"
        assert between.requests >= 2


def test_waiting_ends_when_time_is_up(server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with Client(server.url) as client:
        job = client.jobs.start_import("photos", collection="waited for")
        running = client.jobs.wait(job.id, timeout=200).model_copy(update={"state": "running"})
        monkeypatch.setattr(client.jobs, "get", lambda _id: running)
        with pytest.raises(CannotWork, match=r"has not ended after 0\.1 s"):
            client.jobs.wait(job.id, timeout=0.1)


def test_a_file_is_sent_as_long_as_it_was(tmp_path: Path) -> None:
    growing, shrinking = tmp_path / "growing.bin", tmp_path / "shrinking.bin"
    growing.write_bytes(b"g" * 100_000)
    shrinking.write_bytes(b"s" * 100_000)
    with form("file", [growing], [("tag", "x")])() as parts:
        request = httpx.Request("POST", "http://localhost", files=parts)
        with growing.open("ab") as more:
            more.write(b"more")
        # What was said of the length has to hold, or the connection is lost.
        assert len(request.read()) == int(request.headers["Content-Length"])
        assert request.content.count(b"g") >= 100_000
        assert b"more" not in request.content
    with form("file", [shrinking], [])() as parts:
        request = httpx.Request("POST", "http://localhost", files=parts)
        os.truncate(shrinking, 70_000)
        with pytest.raises(OSError, match="became shorter"):
            request.read()
