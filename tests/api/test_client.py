"""The Python client; its calls that are not tested here are used throughout tests/api/http."""

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
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from made_library import painted, regard, write_photo
from made_local_server import LocalServer

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
    with LocalServer(folder / "home", roots={"photos": bytes(folder / "photos")}) as running:
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
    """A web server that is not regard."""

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
