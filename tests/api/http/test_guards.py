"""The guards around the application; each test fails when the guard that it names is taken
away."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import anyio
import httpx
import pytest
from fastapi import FastAPI, Request
from starlette.types import Message, Receive, Scope, Send

from regard.api.http.guards import guarded, host_name
from regard.api.http.problems import handle_errors

HOST = "photos.example:8000"
OWN = f"http://{HOST}"
HOSTS = ("photos.example", "127.0.0.1", "::1", "localhost")
MAX_BYTES = 1000
Ask = Callable[..., httpx.Response]


def application() -> FastAPI:
    app = FastAPI(openapi_url=None)
    handle_errors(app)

    @app.api_route("/v1/things", methods=["GET", "POST"])
    async def things(request: Request) -> dict[str, int]:
        return {"bytes": len(await request.body())}

    @app.post("/v1/assets")
    async def upload(request: Request) -> dict[str, int]:
        return {"bytes": len(await request.body())}

    @app.get("/v1/assets/a1/original")
    @app.get("/v1/assets/a1/motion")
    async def original() -> dict[str, str]:
        return {}

    @app.get("/")
    async def page() -> dict[str, str]:
        return {}

    @app.get("/v1/broken")
    async def broken() -> None:
        raise RuntimeError("secret of the server")

    return app


class Client:
    """Sends requests as they are, headers twice too, to the guarded application."""

    def __init__(self, **options: Any) -> None:
        self._app = guarded(
            application(),
            hosts=HOSTS,
            max_json_bytes=MAX_BYTES,
            multipart_paths=["/v1/assets"],
            **options,
        )

    def __call__(
        self,
        method: str,
        path: str,
        *headers: tuple[str, str],
        host: str | None = HOST,
        content: bytes | None = None,
    ) -> httpx.Response:
        async def ask() -> httpx.Response:
            # An application that raises has answered before; a server logs what it raised.
            transport = httpx.ASGITransport(self._app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport) as client:
                request = client.build_request(method, OWN + path, content=content)
                del request.headers["host"]
                own = [] if host is None else [("host", host)]
                request.headers = httpx.Headers([*own, *request.headers.items(), *headers])
                return await client.send(request)

        return anyio.run(ask)


@pytest.fixture
def ask() -> Ask:
    return Client()


def expect(response: httpx.Response, status: int, name: str) -> None:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    document = response.json()
    assert document["type"] == f"/v1/problems/{name}"
    assert document["status"] == status
    assert set(document) == {"type", "title", "status", "detail", "remedy"}


@pytest.mark.parametrize(
    "host",
    [
        "photos.example", "PHOTOS.Example:8000", "127.0.0.1:1", "localhost", "[::1]:8000",
        "[0:0:0:0:0:0:0:1]",
    ],
)  # fmt: skip
def test_host_guard_takes_served_names(ask: Ask, host: str) -> None:
    assert ask("GET", "/v1/things", host=host).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example", "evil.example:8000", "photos.example.evil.example", "xphotos.example",
        "photos.example.", "127.0.0.2", "127.1", "[::2]", "192.168.1.5:8000",
    ],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/", "/v1/things", "/v1/nothing"])
def test_host_guard_stops_dns_rebinding(ask: Ask, host: str, path: str) -> None:
    """HostGuard: a foreign name that was pointed at this address."""
    expect(ask("GET", path, host=host), 421, "host-refused")


@pytest.mark.parametrize(
    "host", ["", "a b", "photos.example:x", "photos.example@evil.example", "photos.example/", None]
)
def test_host_guard_needs_one_host(ask: Ask, host: str | None) -> None:
    expect(ask("GET", "/v1/things", host=host), 400, "bad-request")


def test_host_guard_takes_no_two_hosts(ask: Ask) -> None:
    expect(ask("GET", "/v1/things", ("host", "evil.example")), 400, "bad-request")
    expect(ask("GET", "/v1/things", ("host", HOST)), 400, "bad-request")


def test_host_guard_lets_no_websocket_past_it() -> None:
    """HostGuard: guards that look at `http` alone would pass the other kind of connection."""
    called, sent = [], []

    async def app(_scope: Scope, _receive: Receive, _send: Send) -> None:
        called.append(True)

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message["type"])

    outer = guarded(app, hosts=HOSTS, max_json_bytes=MAX_BYTES, multipart_paths=[])
    anyio.run(outer, {"type": "websocket", "path": "/", "headers": []}, receive, send)
    assert sent == ["websocket.close"]
    assert not called


@pytest.mark.parametrize("origin", [OWN, f"https://{HOST}", OWN.upper().replace("HTTP", "http")])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_origin_guard_takes_its_own(ask: Ask, method: str, origin: str) -> None:
    assert ask(method, "/v1/things", ("origin", origin)).status_code == 200


def test_origin_guard_knows_default_ports(ask: Ask) -> None:
    for host, origin in [
        ("photos.example", "http://photos.example:80"),
        ("photos.example:443", "https://photos.example"),
        ("[::1]", "http://[::1]:80"),
    ]:
        assert ask("GET", "/v1/things", ("origin", origin), host=host).status_code == 200


@pytest.mark.parametrize(
    "origin",
    [
        "null", "", "http://evil.example", "http://photos.example", "http://photos.example:8001",
        "http://photos.example:8000.evil.example", "http://localhost:8000", "photos.example:8000",
        "ftp://photos.example:8000", "http://user@photos.example:8000", f"{OWN} http://evil.example",
        f"{OWN}/",
    ],
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_origin_guard_refuses_others(ask: Ask, method: str, origin: str) -> None:
    """OriginGuard: pages of other sites that post to this server, from other ports too."""
    response = ask(method, "/v1/things", ("origin", origin))
    expect(response, 403, "origin-refused")
    assert "access-control-allow-origin" not in response.headers


def test_origin_guard_takes_no_two_origins(ask: Ask) -> None:
    response = ask("POST", "/v1/things", ("origin", OWN), ("origin", "http://evil.example"))
    expect(response, 403, "origin-refused")


def cross_site(mode: str, dest: str) -> list[tuple[str, str]]:
    return [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", mode), ("sec-fetch-dest", dest)]


@pytest.mark.parametrize(
    ("method", "path", "mode", "dest"),
    [
        ("GET", "/v1/things", "no-cors", "image"),
        ("GET", "/v1/things", "navigate", "document"),
        ("POST", "/v1/things", "navigate", "document"),
        ("POST", "/", "navigate", "document"),
        ("GET", "/", "navigate", "iframe"),
        ("GET", "/", "no-cors", "script"),
    ],
)
def test_origin_guard_refuses_cross_site_requests_without_an_origin(
    ask: Ask, method: str, path: str, mode: str, dest: str
) -> None:
    """OriginGuard: what `<img>`, `<script>` and links of other sites send carries no `Origin`."""
    expect(ask(method, path, *cross_site(mode, dest)), 403, "origin-refused")


def test_origin_guard_lets_people_follow_a_link_to_the_page(ask: Ask) -> None:
    assert ask("GET", "/", *cross_site("navigate", "document")).status_code == 200
    for site in ("same-origin", "none"):
        assert ask("GET", "/v1/things", ("sec-fetch-site", site)).status_code == 200


def test_cors_is_for_configured_origins_alone() -> None:
    """OriginGuard with CORS: what another site's page may read is off unless it was asked for."""
    ask = Client(cors_origins=["https://dam.example"])
    foreign = ("origin", "https://dam.example")
    response = ask("GET", "/v1/things", foreign, *cross_site("cors", "empty"))
    assert response.status_code == 200
    assert response.headers["access-control-allow-origin"] == "https://dam.example"
    assert "access-control-allow-credentials" not in response.headers
    wish = ("access-control-request-method", "PATCH")
    preflight = ask(
        "OPTIONS", "/v1/things", foreign, wish, ("access-control-request-headers", "authorization")
    )
    assert preflight.status_code == 200
    assert "PATCH" in preflight.headers["access-control-allow-methods"]
    for other in ("https://evil.example", "http://dam.example", "https://dam.example:444", "null"):
        expect(ask("OPTIONS", "/v1/things", ("origin", other), wish), 403, "origin-refused")
    expect(ask("GET", "/v1/things", *cross_site("no-cors", "image")), 403, "origin-refused")


@pytest.mark.parametrize(
    ("path", "host", "status"),
    [
        ("/", HOST, 200), ("/v1/things", HOST, 200), ("/v1/nothing", HOST, 404),
        ("/v1/things", "evil.example", 421), ("/v1/broken", HOST, 500),
    ],
)  # fmt: skip
def test_security_headers_are_on_every_answer(ask: Ask, path: str, host: str, status: int) -> None:
    """SecurityHeaders: on errors too, unforeseen ones among them."""
    response = ask("GET", path, host=host)
    assert response.status_code == status
    policy = policies(response.headers)
    assert policy["default-src"] == ["'none'"]
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == ["'self'"]
    assert policy["img-src"] == ["'self'", "blob:", "data:"]
    assert policy["media-src"] == ["'self'"]
    assert policy["base-uri"] == policy["frame-ancestors"] == ["'none'"]
    assert policy["form-action"] == ["'self'"]
    assert "unsafe" not in response.headers["content-security-policy"]
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["referrer-policy"] == "no-referrer"
    assert response.headers["cross-origin-opener-policy"] == "same-origin"
    assert response.headers["cross-origin-resource-policy"] == "same-origin"
    assert response.headers["x-frame-options"] == "DENY"
    assert "geolocation=()" in response.headers["permissions-policy"]
    assert response.headers.get("cache-control") == ("no-store" if path != "/" else None)
    assert "secret" not in response.text


@pytest.mark.parametrize("name", ["original", "motion"])
def test_security_headers_keep_an_uploaded_file_from_doing_anything(ask: Ask, name: str) -> None:
    """SecurityHeaders: an upload that a browser takes for a page runs no script in our origin."""
    policy = policies(ask("GET", f"/v1/assets/a1/{name}").headers)
    assert policy["default-src"] == ["'none'"]
    assert policy["sandbox"] == []
    assert "script-src" not in policy


def policies(headers: Mapping[str, str]) -> dict[str, list[str]]:
    parts = [part.split() for part in headers["content-security-policy"].split(";")]
    return {name: values for name, *values in parts}


JSON = ("content-type", "application/json")
MULTIPART = ("content-type", "multipart/form-data; boundary=x")


@pytest.mark.parametrize("kind", [JSON, MULTIPART, ("content-type", "text/plain")])
def test_body_limit_refuses_a_larger_body(ask: Ask, kind: tuple[str, str]) -> None:
    """BodyLimit: a route reads such a body whole into memory, also one that calls itself
    multipart."""
    fits = ask("POST", "/v1/things", kind, content=b"x" * MAX_BYTES)
    assert fits.json() == {"bytes": MAX_BYTES}
    expect(ask("POST", "/v1/things", kind, content=b"x" * (MAX_BYTES + 1)), 413, "too-large")


def test_body_limit_leaves_uploads_to_their_route(ask: Ask) -> None:
    many = b"x" * (MAX_BYTES * 10)
    assert ask("POST", "/v1/assets", MULTIPART, content=many).json() == {"bytes": len(many)}
    expect(ask("POST", "/v1/assets", JSON, content=many), 413, "too-large")


@pytest.mark.parametrize("declared", [None, "10"])
def test_body_limit_counts_what_comes_and_not_what_is_declared(declared: str | None) -> None:
    """BodyLimit: a chunked body declares no length, and one may be declared beside it."""
    pieces: Iterator[bytes] = iter([b"x" * 400] * 1000)
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": next(pieces), "more_body": True}

    async def send(message: Message) -> None:
        sent.append(message)

    headers = [(b"host", HOST.encode()), (b"transfer-encoding", b"chunked")]
    if declared is not None:
        headers.append((b"content-length", declared.encode()))
    scope: Scope = {
        "type": "http", "method": "POST", "path": "/v1/things", "raw_path": b"/v1/things",
        "query_string": b"", "headers": headers, "scheme": "http", "http_version": "1.1",
    }  # fmt: skip
    app = guarded(application(), hosts=HOSTS, max_json_bytes=MAX_BYTES, multipart_paths=[])
    anyio.run(app, scope, receive, send)
    assert sent[0]["status"] == 413
    # It stopped reading when it knew.
    assert len(list(pieces)) == 997


def test_hosts_are_compared_in_one_form() -> None:
    assert host_name("[::1]") == host_name("0:0::1") == "::1"
    assert host_name("LOCALHOST") == "localhost"
