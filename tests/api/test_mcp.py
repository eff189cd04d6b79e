"""`regard mcp`, asked by the SDK's own client over stdio."""

from __future__ import annotations

import base64
import io
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from made_library import Argument, Library, command, regard_process
from made_local_server import LocalServer
from made_processes import WARNINGS
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp_types import CallToolResult, ImageContent, TextContent
from PIL import Image

import regard as api
from regard.api.library.results import Album

pytestmark = pytest.mark.slow

Calls = Callable[[Client], Awaitable[Any]]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    made = Library(tmp_path_factory.mktemp("mcp"), count=5)
    made.index()
    return made


@pytest.fixture(scope="module")
def url(library: Library) -> Iterator[str]:
    with LocalServer(library.home) as server:
        yield server.url


@pytest.fixture(scope="module", params=["home", "server"])
def options(request: pytest.FixtureRequest, library: Library) -> list[Argument]:
    if request.param == "home":
        return ["mcp", "--home", library.home]
    return ["--server", request.getfixturevalue("url"), "mcp"]


@pytest.fixture(scope="module")
def asked(options: list[Argument]) -> dict[str, CallToolResult]:
    """The answers to calls of one client, by name."""
    requests: dict[str, tuple[str, dict[str, Any]]] = {
        "red": ("search", {"query": "red", "limit": 3}),
        "regions": ("search", {"query": "red", "target": "region", "limit": 2}),
        "similar": ("similar", {"id": "a1", "limit": 2}),
        "shown": ("show", {"id": "a2", "size": 64}),
        "malformed": ("search", {"query": "taken:never"}),
        "a file": ("search", {"query": f"red -image:{os.devnull}"}),
        "a part": ("search", {"query": f"red OR box:{os.devnull},0,0,8,8"}),
        "no hits": ("search", {"query": "red", "limit": 0}),
        "many hits": ("search", {"query": "red", "limit": 99}),
        "no query": ("search", {}),
        "no tool": ("nope", {}),
        "unknown": ("show", {"id": "a4711"}),
        "a region": ("show", {"id": "r1"}),
        "nonsense": ("similar", {"id": "nonsense"}),
        "no album": ("albums", {"name": "no such"}),
        "again": ("search", {"query": "red"}),
    }

    async def calls(client: Client) -> dict[str, CallToolResult]:
        tools = (await client.list_tools()).tools
        assert [tool.name for tool in tools] == ["search", "similar", "show", "albums"]
        for tool in tools:
            assert tool.description
            assert tool.annotations is not None
            assert tool.annotations.read_only_hint
        return {name: await client.call_tool(*request) for name, request in requests.items()}

    answers: dict[str, CallToolResult] = _ask(calls, *options)
    return answers


def _ask(calls: Calls, *options: Argument, environ: Mapping[str, str] | None = None) -> Any:
    """What `calls` gives, of a client of `regard` with these options; it must end in order."""
    name, *arguments = [os.fsdecode(part) for part in command(*options)]
    parameters = StdioServerParameters(
        command=name,
        args=arguments,
        env={"PYTHONWARNINGS": ",".join(WARNINGS), **(environ or {})},
    )

    async def run() -> Any:
        async with Client(stdio_client(parameters, errlog=log)) as client:
            return await calls(client)

    with tempfile.TemporaryFile("w+", encoding="utf-8") as log:
        answer = anyio.run(run)
        log.seek(0)
        written = log.read()
    assert "Traceback" not in written, written
    return answer


def _document(result: CallToolResult) -> dict[str, Any]:
    assert not result.is_error, result
    document: dict[str, Any] | None = result.structured_content
    assert document is not None
    return document


def _message(result: CallToolResult) -> str:
    assert result.is_error, result
    (content,) = result.content
    assert isinstance(content, TextContent)
    return content.text


def test_tools_answer_as_the_library_does(
    library: Library, asked: dict[str, CallToolResult]
) -> None:
    found, things, near = (_document(asked[name]) for name in ("red", "regions", "similar"))
    with api.open(library.home) as opened:
        expected = opened.search("red", limit=3)
        similar = opened.search(like="a1", limit=2)
        regions = opened.search("red", target="region", limit=2)
    assert found["matched"] == expected.matched
    assert [hit["id"] for hit in found["hits"]] == [hit.asset.id for hit in expected.hits]
    assert found["hits"][0].keys() == {
        *("id", "uri", "width", "height", "caption", "relevance", "region")
    }
    assert [hit["id"] for hit in near["hits"]] == [hit.asset.id for hit in similar.hits]
    assert [hit["region"]["id"] for hit in things["hits"]] == [
        hit.region.id for hit in regions.hits if hit.region is not None
    ]


def test_show_gives_facts_and_a_picture(asked: dict[str, CallToolResult]) -> None:
    result = asked["shown"]
    assert not result.is_error
    text, image = result.content
    assert isinstance(text, TextContent)
    assert isinstance(image, ImageContent)
    shown = json.loads(text.text)
    assert (shown["id"], shown["state"], shown["format"]) == ("a2", "indexed", "PNG")
    assert shown["regions_in_all"] == len(shown["regions"]) > 0
    assert image.mime_type == "image/jpeg"
    picture = Image.open(io.BytesIO(base64.b64decode(image.data)))
    assert picture.size == (24, 16)


def test_errors_are_answers_that_say_what_to_do(asked: dict[str, CallToolResult]) -> None:
    for name, sentence in {
        "no hits": "limit: it must be at least 1",
        "many hits": "limit: it must be at most 50",
        "no query": "query: it is required",
        "no tool": "no tool is named 'nope'; the tools are search, similar, show, albums",
    }.items():
        assert _message(asked[name]) == sentence
    for name, part in {
        "malformed": "'never' is not a date",
        "a file": "may not name picture files",
        "a part": "may not name picture files",
        "unknown": "a4711",
        "a region": "r1",
        "nonsense": "nonsense",
        "no album": "no such",
    }.items():
        assert part in _message(asked[name]), name
        assert "Error executing" not in _message(asked[name]), name
    assert _document(asked["again"])["hits"]


def test_albums_and_ratings_change_only_if_that_is_allowed(
    library: Library, options: list[Argument]
) -> None:
    name, made = f"red: {options[0]}", f"made: {options[0]}"
    with api.open(library.home) as opened:
        opened.create_album(name)

    async def calls(client: Client) -> list[CallToolResult]:
        return [
            await client.call_tool("change_album", {"name": name, "add": ["a1", "a3"]}),
            await client.call_tool("change_album", {"name": name, "remove": ["a1"]}),
            await client.call_tool("albums", {"name": name}),
            await client.call_tool("create_album", {"name": made, "query": "tag:lake"}),
            await client.call_tool("albums", {}),
            await client.call_tool("rate", {"photographs": ["a1", "a3"], "stars": 4}),
            await client.call_tool("search", {"query": "rating:4"}),
            await client.call_tool("rate", {"photographs": ["a1", "a3"], "stars": 0}),
        ]

    results = _ask(calls, *options, "--allow-changes")
    added, removed, contents, created, listed, rated, found, _ = map(_document, results)
    assert rated == {"rated": 2}
    assert {hit["id"] for hit in found["hits"]} == {"a1", "a3"}
    assert (added, removed) == ({"changed": 2}, {"changed": 1})
    assert [hit["id"] for hit in contents["hits"]] == ["a3"]
    assert created == Album(made, "tag:lake", None).to_json()
    with api.open(library.home) as opened:
        assert listed["albums"] == [album.to_json() for album in opened.albums()]


def test_a_photograph_without_its_file_is_still_described(tmp_path: Path) -> None:
    made = Library(tmp_path)
    path = made.photo("gone.png", 1)
    made.index()
    path.unlink()

    async def calls(client: Client) -> CallToolResult:
        return await client.call_tool("show", {"id": "a1"})

    (content,) = _ask(calls, "mcp", "--home", made.home).content
    assert '"picture_problem"' in content.text


def test_what_is_missing_is_told_with_each_call_until_it_is_there(tmp_path: Path) -> None:
    made = Library(tmp_path)
    made.photo("1.png", 1)
    index = [made.photos, "--home", made.home, "--profile", "fake"]

    async def calls(client: Client) -> list[CallToolResult]:
        before = await client.call_tool("search", {"query": "red"})
        indexing = partial(regard_process, "index", *index)
        assert (await anyio.to_thread.run_sync(indexing)).code == 0
        return [before, await client.call_tool("search", {"query": "red"})]

    before, after = _ask(calls, "mcp", "--home", made.home)
    assert "regard index" in _message(before)
    assert len(_document(after)["hits"]) == 1
    away = _ask(
        lambda client: client.call_tool("albums", {}), "--server", "http://127.0.0.1:1", "mcp"
    )
    assert "127.0.0.1:1" in _message(away)


@pytest.mark.parametrize("ending", ["input ends", "Ctrl-C"])
def test_it_ends_when_its_client_does(library: Library, ending: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "regard.api.cli", "mcp", "--home", library.home],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b'{"jsonrpc": "2.0", "id": 1, "method": "ping"}\n')
        process.stdin.flush()
        assert process.stdout.readline()
        if ending == "Ctrl-C":
            process.send_signal(signal.SIGINT)
        else:
            process.stdin.close()
        try:
            code = process.wait(60)
        finally:
            process.kill()
        assert process.stderr is not None
        written = process.stderr.read()
    assert code == (130 if ending == "Ctrl-C" else 0), written
    assert b"Traceback" not in written
