"""Who may call what: keys in headers and cookies, scopes, and where keys have to be asked for."""

from collections.abc import Iterator
from html import escape
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from regard.api.http.access import COOKIE, Access, check_may_start, must_require_keys
from regard.api.http.dependencies import Administrator, Reader, Writer
from regard.api.http.openapi import complete_openapi, reference_router
from regard.api.http.problems import PROBLEMS, handle_errors
from regard.api.http.routers import sessions
from regard.core.errors import CannotWork
from regard.core.keys import AccessScope, Caller
from regard.storage.database.catalog import open_catalog
from regard.storage.service.keys import SqlKeys


@pytest.fixture
def keys(tmp_path: Path) -> Iterator[SqlKeys]:
    catalog = open_catalog(tmp_path / "catalog.sqlite3")
    yield SqlKeys(catalog)
    catalog.close()


def client_of(keys: SqlKeys, *, required: bool, url: str = "http://testserver") -> TestClient:
    app = FastAPI(title="regard", openapi_url=None)
    app.state.service = SimpleNamespace(access=Access(keys, required=required))
    handle_errors(app)
    complete_openapi(app)

    def shown(caller: Caller) -> dict[str, Any]:
        return {"scope": caller.scope, "key": caller.key_id}

    @app.get("/v1/read", tags=["<things>"])
    async def read(caller: Reader) -> dict[str, Any]:
        """Read & see."""
        return shown(caller)

    @app.post("/v1/write")
    async def write(caller: Writer) -> dict[str, Any]:
        return shown(caller)

    @app.post("/v1/admin")
    async def admin(caller: Administrator) -> dict[str, Any]:
        return shown(caller)

    app.include_router(sessions.router)
    app.include_router(reference_router(app))
    return TestClient(app, base_url=url)


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def problem(response: Any) -> str:
    assert response.headers["content-type"] == "application/problem+json"
    return str(response.json()["type"]).removeprefix("/v1/problems/")


def test_loopback_without_a_key_allows_everything(keys: SqlKeys) -> None:
    client = client_of(keys, required=False)
    assert client.post("/v1/admin").json() == {"scope": "admin", "key": None}


@pytest.mark.parametrize("path", ["/v1/read", "/v1/docs", "/v1/openapi.json"])
def test_other_addresses_require_a_key(keys: SqlKeys, path: str) -> None:
    """Access's guard: without it everyone on the network may do everything."""
    client = client_of(keys, required=True)
    response = client.get(path)
    assert response.status_code == 401
    assert problem(response) == "key-required"
    assert response.headers["www-authenticate"] == "Bearer"
    _, secret = keys.create("reader", AccessScope.READ)
    assert client.get(path, headers=bearer(secret)).status_code == 200
    assert client.get(path, headers={"Authorization": f"bearer  {secret}"}).status_code == 200


@pytest.mark.parametrize("required", [True, False])
def test_scope_of_a_sent_key_applies_everywhere(keys: SqlKeys, required: bool) -> None:
    """Access's guard: scopes."""
    client = client_of(keys, required=required)
    may: dict[AccessScope, list[int]] = {}
    for scope in AccessScope:
        key, secret = keys.create("k", scope)
        calls = (("GET", "/v1/read"), ("POST", "/v1/write"), ("POST", "/v1/admin"))
        answers = [client.request(*call, headers=bearer(secret)) for call in calls]
        may[scope] = [answer.status_code for answer in answers]
        assert answers[0].json() == {"scope": scope, "key": key.id}
        for answer in answers:
            assert answer.status_code == 200 or problem(answer) == "scope-missing"
    assert may == {
        AccessScope.READ: [200, 403, 403],
        AccessScope.WRITE: [200, 200, 403],
        AccessScope.ADMIN: [200, 200, 200],
    }


@pytest.mark.parametrize("required", [True, False])
def test_sent_keys_must_be_valid(keys: SqlKeys, required: bool) -> None:
    """Access's guard: a wrong key is nobody's, and not that of someone on loopback."""
    client = client_of(keys, required=required)
    key, secret = keys.create("k", AccessScope.ADMIN)
    wrong = [bearer("rgd_" + "A" * 43), bearer(""), {"Authorization": f"Basic {secret}"}]
    wrong += [{"Authorization": secret}, {"Cookie": f"{COOKIE}=rgd_x"}, {"Authorization": ""}]
    wrong += [{"Authorization": "Bearer rgd_x", "Cookie": f"{COOKIE}={secret}"}]
    for headers in wrong:
        response = client.get("/v1/read", headers=headers)
        assert response.status_code == 401, headers
        assert problem(response) == "key-invalid"
        assert response.headers["www-authenticate"].startswith("Bearer")
    assert client.get("/v1/read", headers=bearer(secret)).status_code == 200
    keys.revoke(key.id)
    assert client.get("/v1/read", headers=bearer(secret)).status_code == 401


@pytest.mark.parametrize(("url", "secure"), [("http://testserver", False), ("https://t", True)])
def test_session_cookie_is_httponly_and_samesite(keys: SqlKeys, url: str, secure: bool) -> None:
    client = client_of(keys, required=True, url=url)
    _, secret = keys.create("page", AccessScope.READ)
    started = client.post("/v1/session", json={"key": secret})
    assert started.status_code == 204
    cookie = started.headers["set-cookie"]
    attributes = {part.strip().lower() for part in cookie.split(";")[1:]}
    assert {"httponly", "samesite=strict", "path=/"} <= attributes
    assert ("secure" in attributes) is secure
    assert client.get("/v1/read").json()["scope"] == "read"
    assert client.post("/v1/write").status_code == 403
    assert client.delete("/v1/session").status_code == 204
    assert client.get("/v1/read").status_code == 401


def test_session_starts_with_a_valid_key_and_ends_with_any(keys: SqlKeys) -> None:
    client = client_of(keys, required=True)
    response = client.post("/v1/session", json={"key": "rgd_" + "A" * 43})
    assert problem(response) == "key-invalid"
    assert "set-cookie" not in response.headers
    assert client.post("/v1/session", json={"key": "x", "more": 1}).status_code == 422
    ended = client.delete("/v1/session", headers={"Cookie": f"{COOKIE}=rgd_revoked"})
    assert ended.status_code == 204
    assert "max-age=0" in ended.headers["set-cookie"].lower()


@pytest.mark.parametrize(
    ("host", "allowed", "required"),
    [
        ("127.0.0.1", [], False), ("::1", [], False), ("localhost", ["127.0.0.7", "[::1]"], False),
        ("0.0.0.0", [], True), ("::", [], True), ("", [], True), ("192.168.1.5", [], True),
        ("photos.example", [], True), ("127.0.0.1", ["photos.example"], True),
        ("127.0.0.1.evil.example", [], True), ("localhost.evil.example", [], True),
    ],
)  # fmt: skip
def test_keys_are_required_beyond_loopback(host: str, allowed: list[str], required: bool) -> None:
    assert must_require_keys(host, allowed) is required


def test_server_beyond_loopback_starts_with_a_key_or_without_keys(keys: SqlKeys) -> None:
    """`check_may_start`'s guard: a server on the network that nobody could be kept from."""
    assert not check_may_start(keys, "127.0.0.1", [], without_keys=False)
    with pytest.raises(CannotWork) as caught:
        check_may_start(keys, "0.0.0.0", [], without_keys=False)
    assert "regard keys create" in str(caught.value)
    assert "--without-keys" in str(caught.value)
    assert not check_may_start(keys, "0.0.0.0", [], without_keys=True)
    key, _ = keys.create("k", AccessScope.READ)
    assert check_may_start(keys, "0.0.0.0", [], without_keys=False)
    keys.revoke(key.id)
    with pytest.raises(CannotWork):
        check_may_start(keys, "127.0.0.1", ["photos.example"], without_keys=False)


def test_openapi_documents_security_schemes(keys: SqlKeys) -> None:
    document = client_of(keys, required=False).get("/v1/openapi.json").json()
    schemes = document["components"]["securitySchemes"]
    assert (schemes["key"]["type"], schemes["key"]["scheme"]) == ("http", "bearer")
    assert (schemes["session"]["in"], schemes["session"]["name"]) == ("cookie", COOKIE)
    assert document["paths"]["/v1/read"]["get"]["security"] == [{"key": []}, {"session": []}]
    assert document["paths"]["/v1/session"]["delete"]["security"] == []


def test_the_type_of_a_problem_leads_to_a_page_that_explains_it(keys: SqlKeys) -> None:
    client = client_of(keys, required=True)
    refusal = client.get("/v1/read").json()
    assert refusal["status"] == 401
    page = client.get(refusal["type"])
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "this server needs a key" in page.text
    for name, kind in PROBLEMS.items():
        page = client.get(f"/v1/problems/{name}")
        assert f"<h1>{escape(kind.title)}</h1>" in page.text
        assert f"the status {kind.status} mean" in page.text
    unknown = client.get("/v1/problems/nothing")
    assert (unknown.status_code, unknown.json()["type"]) == (404, "/v1/problems/not-found")


def test_reference_page_has_no_scripts_or_external_resources(keys: SqlKeys) -> None:
    page = client_of(keys, required=False).get("/v1/docs").text
    for forbidden in ("<style", "style=", "src=", "://", "onload", "onclick"):
        assert forbidden not in page
    assert "<script" not in page
    assert "GET /v1/read" in page
    assert "Read &amp; see." in page
    assert "&lt;things&gt;" in page
    assert "<things>" not in page
    assert "key-required" in page
