"""Where a server may stand: keys beyond loopback, hosts and origins, headers, health and
figures."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from made_library import Library, regard_process
from made_server import Server
from made_service import Served, Shelf, png, refused

from regard.api.client import Client

NAME, ORIGIN = "dam.example", "https://dam.example"


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Served, str]]:
    """A server that goes by another name too, so that it asks for keys; and a key."""
    folder = tmp_path_factory.mktemp("known")
    made = regard_process(
        *("keys", "create", "first", "--scope", "admin", "--home", folder / "home")
    )
    key = made.out.decode().strip()
    with Served(folder, None, "--allow-host", NAME, "--cors-origin", ORIGIN) as served:
        yield served, key


# Keys


@pytest.mark.parametrize(
    "arguments", [("--host", "0.0.0.0"), ("--host", "::"), ("--allow-host", NAME)]
)
def test_server_beyond_loopback_does_not_start_without_a_key(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    """The guard is `check_may_start`."""
    outcome = regard_process(
        *("serve", *arguments, "--port", "0", "--home", tmp_path / "home", "--profile", "fake")
    )
    if "can't listen" not in outcome.err:
        outcome.expect_sentence(3, "keys", "regard keys create")


def test_without_keys_starts_beyond_loopback(tmp_path: Path) -> None:
    with Served(tmp_path, None, "--host", "0.0.0.0", "--without-keys") as served:
        info = served.client.info()
        assert (info.scope, info.keys_required) == ("admin", False)


def test_every_operation_requires_a_key(known: tuple[Served, str]) -> None:
    """The guard is Access's `required`."""
    served, key = known
    raw = served.raw()
    document = served.raw(key).get("/v1/openapi.json").json()
    tried = 0
    for path, item in document["paths"].items():
        for method in item:
            answer = raw.request(method, path.replace("{id}", "a1"))
            if path in {"/healthz", "/readyz"}:
                assert answer.status_code == 200
            elif path == "/v1/session":
                assert answer.status_code in {204, 422}
            else:
                assert answer.status_code == 401, (method, path, answer.text)
                assert answer.json()["type"] == "/v1/problems/key-required"
                tried += 1
    assert tried > 25
    for path in ("/v1/docs", "/v1/openapi.json"):
        assert raw.get(path).status_code == 401
    # The page asks for the key; it holds nothing itself.
    assert raw.get("/").status_code == 200
    assert served.with_key(key).info().keys_required


def test_revoked_keys_are_refused_within_a_second(known: tuple[Served, str]) -> None:
    served, key = known
    admin = served.with_key(key)
    made = regard_process("keys", "create", "short", "--scope", "read", "--home", served.home)
    secret = made.out.decode().strip()
    number = re.search(r"the key (\d+)", made.err)
    assert number is not None
    client = served.with_key(secret)
    client.info()
    assert regard_process("keys", "revoke", number[1], "--home", served.home).code == 0
    time.sleep(1)
    with refused("key-invalid"):
        client.info()
    admin.info()


def test_photographs_elsewhere_need_a_root_where_keys_are_required(tmp_path: Path) -> None:
    library = Library(tmp_path)
    library.photo("1.png", 1)
    library.index()
    made = regard_process("keys", "create", "all", "--scope", "admin", "--home", library.home)
    key = {"Authorization": f"Bearer {made.out.decode().strip()}"}
    needed, hidden = ("--allow-host", "photos.example"), "1.png lies outside --root and --import"
    for arguments, roots, status in (
        (needed, None, 403),
        (needed, {"photos": library.photos}, 200),
        ((), None, 200),
    ):
        with Server(library.home, *arguments, roots=roots) as server:
            assert (hidden in server.err) == (status == 403)
            with httpx.Client(base_url=server.url, trust_env=False) as client:
                for kind in ("thumbnail", "original"):
                    answer = client.get(f"/v1/assets/a1/{kind}", headers=key)
                    assert answer.status_code == status, answer.text
        if status == 403:
            assert answer.json()["type"] == "/v1/problems/outside-roots"
            assert "--root NAME=DIR" in answer.json()["remedy"]


# Hosts and origins


def test_guards_are_around_the_application(served: Served, shelf: Shelf) -> None:
    """`tests/api/http/test_guards.py` tests each guard; this tests that the server uses them."""
    raw = served.raw()
    refused_host = raw.get("/v1/info", headers={"Host": "evil.example"})
    assert refused_host.status_code == 421
    for answer in (refused_host, raw.get("/"), raw.get("/v1/nowhere"), raw.get("/web/nowhere.js")):
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "server" not in answer.headers
    foreign = {"Origin": "https://evil.example"}
    form = {"files": {"file": ("x.png", png())}, "data": {"collection": shelf.name}}
    for answer in (
        raw.post("/v1/assets", headers=foreign, **form),  # type: ignore[arg-type]
        raw.get("/v1/info", headers={"Sec-Fetch-Site": "cross-site"}),
    ):
        assert answer.status_code == 403
        assert answer.json()["type"] == "/v1/problems/origin-refused"
        assert "access-control-allow-origin" not in answer.headers
    assert shelf.name not in {item.name for item in served.client.collections.iterate()}
    own = {"Origin": served.server.url, "Sec-Fetch-Site": "same-origin"}
    assert raw.get("/v1/info", headers=own).status_code == 200


def test_only_named_origins_get_cors_headers(known: tuple[Served, str]) -> None:
    served, key = known
    raw = served.raw(key)
    preflight = {"Origin": ORIGIN, "Access-Control-Request-Method": "GET"}
    answer = raw.options("/v1/info", headers=preflight)
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert raw.get("/v1/info", headers={"Origin": ORIGIN}).status_code == 200
    assert raw.get("/v1/info", headers={"Origin": "https://evil.example"}).status_code == 403


# Health and figures


def test_health_readiness_info_and_metrics(served: Served, shelf: Shelf) -> None:
    shelf.add(png())
    shelf.found()
    client = served.client
    assert client.health().status == "ok"
    assert client.ready().status == "ready"
    info = client.info()
    assert (info.profile, info.roots, info.collections, info.scope) == (
        "fake", ["photos"], None, "admin",
    )  # fmt: skip
    assert info.spaces == {"fake-colour-1": 32}
    counts = info.counts
    assert counts.assets >= counts.contents > 0
    assert counts.embeddings >= counts.regions > 0
    figures = client.metrics()
    for wanted in (
        r'regard_http_request_seconds_count\{method="POST",route="/v1/search",status="200"\} [1-9]',
        r'regard_stage_seconds_count\{stage="encode"\} [1-9]',
        r'regard_stage_seconds_count\{stage="upload"\} [1-9]',
        r'regard_jobs\{state="done"\} [1-9]',
        r'regard_jobs\{state="queued"\} \d',
        r'regard_index_rows\{kind="image",space="fake-colour-1"\} [1-9]',
    ):
        assert re.search(wanted, figures), wanted
    # No path that a caller made up becomes a label.
    served.raw().get("/v1/made-up")
    assert "made-up" not in client.metrics()


def test_server_without_its_database_is_not_ready(tmp_path: Path) -> None:
    with Served(tmp_path, None) as served:
        reader = served.raw(served.key("read"))
        for path in served.home.glob("catalog.sqlite3*"):
            path.rename(path.with_name(f"gone-{path.name}"))
        (served.home / "catalog.sqlite3").mkdir()
        time.sleep(1.2)
        for path in ("/readyz", "/v1/assets", "/v1/search?q=red"):
            answer = reader.get(path)
            if answer.status_code == 200:
                # Connections that were open still reach the file that was moved.
                continue
            assert answer.status_code in {401, 503}
            assert str(tmp_path) not in answer.text
        assert reader.get("/healthz").status_code == 200
        (served.home / "catalog.sqlite3").rmdir()
        for path in served.home.glob("gone-*"):
            path.rename(path.with_name(path.name.removeprefix("gone-")))


def test_unroutable_requests_get_problems(served: Served) -> None:
    raw = served.raw()
    for method, path, status in (
        ("PUT", "/v1/assets", 405), ("GET", "/v1", 404), ("GET", "/v1/assets/a1/nothing", 404),
        ("POST", "/healthz", 405), ("GET", "/web/../../../etc/passwd", 404),
        ("GET", "/web/%2e%2e/%2e%2e/pyproject.toml", 404), ("DELETE", "/v1/trash/empty", 405),
    ):  # fmt: skip
        answer = raw.request(method, path)
        assert answer.status_code == status, (method, path)
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["status"] == status
    for path, methods in (("/v1/assets", "GET, HEAD, POST"), ("/v1/trash/empty", "POST"),
                          ("/v1/assets/a1", "GET, HEAD, PATCH, DELETE")):  # fmt: skip
        assert raw.put(path).headers["allow"] == methods


def test_disconnecting_clients_do_no_harm(served: Served, shelf: Shelf) -> None:
    [asset] = shelf.add(png())
    for _ in range(5):
        with served.raw().stream("GET", asset.urls.original):
            pass
        address = urlsplit(served.server.url)
        with socket.create_connection((address.hostname, address.port)) as half:
            half.sendall(
                b"POST /v1/assets HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999\r\n"
                b"Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\n"
                b'Content-Disposition: form-data; name="file"; filename="a"\r\n\r\nhalf of it'
            )
    with Client(served.server.url) as client:
        assert client.health().status == "ok"
