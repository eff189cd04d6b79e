"""A server below a sub-path of a proxy that takes the prefix off, leaves it on, or names it."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx
import pytest
from made_library import Library, regard, write_photo
from made_proxy import Proxy
from made_server import Server

import regard as package

pytestmark = pytest.mark.slow

_seeds = itertools.count(50)
PREFIX = "/my/photos"
OTHER = "/b%C3%BCcher"


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    made = Library(tmp_path_factory.mktemp("below"), count=3)
    made.index()
    return made


@pytest.fixture(scope="module")
def server(library: Library) -> Iterator[Server]:
    with Server(library.home, "--root-path", f"{PREFIX}/") as running:
        yield running


@pytest.fixture(scope="module", params=["taken off", "left on", "named"])
def proxy(server: Server, request: pytest.FixtureRequest) -> Iterator[Proxy]:
    # The header wins over the option.
    named = request.param == "named"
    with Proxy(
        server.url,
        OTHER if named else PREFIX,
        {"X-Forwarded-Prefix": OTHER} if named else {},
        keep=request.param == "left on",
    ) as running:
        yield running


@pytest.fixture
def client(proxy: Proxy) -> Iterator[httpx.Client]:
    with httpx.Client(trust_env=False, verify=False, timeout=60) as made:
        yield made


def addresses(document: Any) -> Iterator[str]:
    """The values of every `urls` in a document."""
    if isinstance(document, dict):
        for name, value in document.items():
            yield from value.values() if name == "urls" else addresses(value)
    elif isinstance(document, list):
        for value in document:
            yield from addresses(value)


def test_everything_a_page_or_an_answer_names_is_below_the_prefix(
    proxy: Proxy, client: httpx.Client
) -> None:
    base = f"{proxy.url}/"
    page = client.get(base)
    links = re.findall(r'(?:href|src)="([^"#]+)"', page.text)
    assert len(links) > 10
    named = [urljoin(base, link) for link in links]
    for path in ("v1/assets", "v1/search?q=red", "v1/search?q=red&target=region"):
        found = list(addresses(client.get(base + path).json()))
        assert found
        named += [urljoin(base, url) for url in found]
    for url in dict.fromkeys(named):
        assert url.startswith(base), url
        assert client.get(url).status_code == 200, url
    assert proxy.outside == []


def test_the_reference_and_the_document_name_the_prefix(proxy: Proxy, client: httpx.Client) -> None:
    docs = client.get(f"{proxy.url}/v1/docs")
    link = re.search(r'href="([^"]*openapi.json)"', docs.text)
    assert link is not None
    document = client.get(urljoin(f"{proxy.url}/v1/docs", link[1])).json()
    assert document["servers"][0]["url"] == urlsplit(proxy.url).path


def test_the_prefix_without_a_slash_leads_to_the_page(proxy: Proxy, client: httpx.Client) -> None:
    path = urlsplit(proxy.url).path
    answer = client.get(f"{proxy.url}?q=red")
    if answer.status_code == 200:  # the server got "/", and can't know
        assert "<title>regard</title>" in answer.text
    else:
        assert (answer.status_code, answer.headers["location"]) == (308, f"{path}/?q=red")


def test_no_answer_leads_out_of_the_prefix(proxy: Proxy, client: httpx.Client) -> None:
    for path in ("v1/info/", "v1/assets/a1/", "v1/assets/%2e%2e%2f", "web/"):
        answer = client.get(f"{proxy.url}/{path}")
        assert (answer.status_code, answer.headers.get("location")) == (404, None), path


@pytest.mark.parametrize("end", ["", "/"])
def test_clients_and_commands_work_below_the_prefix(
    proxy: Proxy, library: Library, tmp_path: Path, end: str
) -> None:
    url, picture = proxy.url + end, tmp_path / "sent.png"
    write_photo(picture, next(_seeds), "green")
    sent = regard("--server", url, "index", picture)
    assert sent.code == 0, sent
    outcome = regard("--server", url, "search", "green", "--limit", "1", "--json")
    assert outcome.code == 0, outcome
    with package.open(url) as remote:
        (hit,) = remote.search("green", limit=1).hits
        assert hit.asset.id == json.loads(outcome.out)["hits"][0]["asset"]["id"]
        assert httpx.get(hit.asset.uri, trust_env=False, verify=False).status_code == 200
        assert hit.asset.uri.startswith(f"{proxy.url}/v1/")


def test_a_session_is_kept_to_the_prefix(proxy: Proxy, library: Library) -> None:
    made = library.run("keys", "create", proxy.url, "--scope", "read")
    assert made.code == 0, made
    key = made.out.decode().split()[-1]
    with httpx.Client(trust_env=False, verify=False, timeout=60) as client:
        started = client.post(f"{proxy.url}/v1/session", json={"key": key})
        assert started.status_code == 204, started.text
        path = urlsplit(proxy.url).path
        assert f"Path={path}/;" in started.headers["set-cookie"]
        assert client.get(f"{proxy.url}/v1/assets").status_code == 200
        assert client.delete(f"{proxy.url}/v1/session").status_code == 204
        assert not client.cookies


@pytest.mark.parametrize(
    "forged", ["//evil.example", "/../x", "https://evil.example", "/v1", "/a b", "/a,/b"]
)
def test_what_is_no_prefix_changes_nothing(server: Server, forged: str) -> None:
    with httpx.Client(
        trust_env=False, verify=False, headers={"X-Forwarded-Prefix": forged}
    ) as client:
        found = list(addresses(client.get(f"{server.url}/v1/assets").json()))
    assert all(url.startswith(f"{PREFIX}/v1/") for url in found)


@pytest.mark.parametrize(
    "path", ["photos", "//photos", "/photos/..", "/v1/x", "/web", "/a?b", "/a b"]
)
def test_a_path_that_no_server_can_have_is_refused(path: str, tmp_path: Path) -> None:
    regard("serve", "--root-path", path, "--home", tmp_path / "home").expect_sentence(
        2, "--root-path", "/photos"
    )
