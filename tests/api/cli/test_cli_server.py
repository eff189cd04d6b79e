"""`regard --server`: how the command line chooses a server, and what it shows of one."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from made_library import Argument, Library, Outcome, command, regard, write_photo
from made_local_server import LocalServer
from made_processes import Forked

from regard.api.client import Client
from regard.models.fake import FakeSegmenter


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    made = Library(tmp_path_factory.mktemp("option"), count=3)
    made.index()
    return made


@pytest.fixture(scope="module")
def server(library: Library) -> Iterator[LocalServer]:
    with LocalServer(library.home) as running:
        yield running


@pytest.fixture(autouse=True)
def _no_chosen_server(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REGARD_SERVER", "REGARD_API_KEY", "REGARD_HOME"):
        monkeypatch.delenv(name, raising=False)


def _on(server: LocalServer, *arguments: Argument) -> Outcome:
    return regard("--server", server.url, *arguments)


def test_commands_write_what_they_write_of_the_home(
    library: Library, server: LocalServer, tmp_path: Path
) -> None:
    lines = tmp_path / "queries.txt"
    lines.write_bytes(b"\xef\xbb\xbfred\n\nbl\xffue\n" + b"x" * 3000 + b"\ngreen")
    for arguments in (
        ["search", "red"],
        ["search", "red", "--paths0"],
        ["search", "red", "--explain"],
        ["duplicates"],
        ["duplicates", "--json"],
    ):
        assert _on(server, *arguments) == library.run(*arguments)
    there = _on(server, "search", "--queries", lines, "--limit", "2").lines
    here = library.run("search", "--queries", lines, "--limit", "2").lines
    assert [line.get("hits") for line in (*there[:3], there[4])] == [
        line.get("hits") for line in (*here[:3], here[4])
    ]
    # A server takes no text of that length.
    assert there[3] == {"query": "x" * 3000, "error": there[3]["error"]}
    assert "2,000" in there[3]["error"]


# textual-image 0.12 calls what Pillow 14 will drop.
@pytest.mark.filterwarnings("ignore:Image.Image.getdata:DeprecationWarning")
def test_previews_draw_what_the_server_sends(server: LocalServer) -> None:
    shown = _on(server, "search", "red", "--target", "region", "--limit", "2", "--preview")
    assert (shown.code, shown.err) == (0, "")
    drawn = shown.out.decode()
    assert drawn.count("A mostly red photograph.") == 2
    # Each is drawn in shades of 36 columns.
    assert max(sum(line.count(shade) for shade in "▓░▒") for line in drawn.split("\n")) > 36


def test_errors_have_the_exit_codes_of_a_home(server: LocalServer, tmp_path: Path) -> None:
    for arguments, code, words in (
        (["search", "--like", "q1"], 2, ["q1"]),
        (["search", "--like", "a999999"], 3, ["a999999"]),
        (["search", "--", "-night"], 2, ["only negative terms"]),
        (["search", "red", "--collection", "nowhere"], 3, ["nowhere"]),
        (["index", str(tmp_path / "missing")], 3, ["check the path"]),
        (["index", str(tmp_path), "--profile", "lite"], 2, ["--profile"]),
        (["verify"], 2, ["not on a server", "--home"]),
        (["remove", "x"], 2, ["not on a server", "--home"]),
        (["serve"], 2, ["not on a server", "--server"]),
        (["keys", "list"], 2, ["not on a server", "--server"]),
        (["profiles"], 2, ["not on a server", "--server"]),
    ):
        _on(server, *arguments).expect_sentence(code, *words)
    misspelt = _on(server, "search", "red tags:x")
    assert (misspelt.code, misspelt.err.count("\n")) == (2, 3)
    assert misspelt.err.splitlines()[2] == "      ^^^^^"


def test_the_command_line_goes_before_the_environment(
    library: Library, server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    regard("--server", server.url, "search", "red", "--home", library.home).expect_sentence(
        2, "--home and --server"
    )
    regard("--server", server.url, "status", "--vectors", "faiss").expect_sentence(
        2, "leave out --vectors"
    )
    regard("--key-file", "x", "status").expect_sentence(2, "--key-file needs a server")
    regard("--server", "no address", "status").expect_sentence(2, "not the address")
    monkeypatch.setenv("REGARD_SERVER", server.url)
    assert regard("status", "--json").document["server"] == server.url
    assert "server" not in regard("status", "--json", "--home", library.home).document
    monkeypatch.setenv("REGARD_HOME", "/nowhere")
    assert regard("status", "--json").document["server"] == server.url
    # No command works on a home when a server was meant.
    for arguments in (["verify"], ["keys", "list"]):
        regard(*arguments).expect_sentence(2, "not on a server", "--home")
    assert regard("verify", "--home", library.home).code == 0
    assert regard("profiles").code == 0


def test_the_status_of_a_server(server: LocalServer) -> None:
    document = _on(server, "status", "--json").document
    assert (document["profile"], document["scope"]) == ("fake", "admin")
    assert document["counts"]["assets"] == 3
    assert [collection["name"] for collection in document["collections"]] == ["default"]
    assert isinstance(document["jobs"], list)
    assert server.url in _on(server, "status").out.decode()


def test_an_interrupted_run_carries_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(40):
        write_photo(tmp_path / "many" / f"{number:02}.png", 200 + number)
    reached, gate = threading.Event(), threading.Event()
    segment = FakeSegmenter.segment

    def held(self: FakeSegmenter, images: Any) -> Any:
        reached.set()
        assert gate.wait(200)
        return segment(self, images)

    monkeypatch.setattr(FakeSegmenter, "segment", held)
    with LocalServer(tmp_path / "home") as server, Client(server.url) as client:
        process = Forked(
            command("--server", server.url, "index", tmp_path / "many", "--json"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert reached.wait(200)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=200)
        gate.set()
        assert process.returncode == 130, err
        assert err.splitlines()[-1] == b"regard: interrupted; run the same command to carry on"
        assert b"Traceback" not in err
        assert json.loads(out)["indexed"] < 40
        done = _on(server, "index", tmp_path / "many", "--json")
        assert done.code == 0
        assert done.document["indexed"] + done.document["unchanged"] == 40
        assert len(client.assets.list(state="indexed", limit=100).items) == 40


def test_keys_come_from_a_file_or_the_environment(
    library: Library, server: LocalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = regard("keys", "create", "reader", "--scope", "read", "--home", library.home)
    key_file = tmp_path / "key"
    key_file.write_bytes(made.out.split()[0] + b"\n")
    with_file = ("--server", server.url, "--key-file", key_file)
    assert regard(*with_file, "status", "--json").document["scope"] == "read"
    monkeypatch.setenv("REGARD_API_KEY", "rgd_wrong")
    _on(server, "status").expect_sentence(3, "key", "--key-file", "REGARD_API_KEY")
    assert regard(*with_file, "status").code == 0
    key_file.write_text("\n")
    regard(*with_file, "status").expect_sentence(3, "holds no key")
    key_file.write_text("two words")
    regard(*with_file, "status").expect_sentence(2, "not a key")
    key_file.unlink()
    regard(*with_file, "status").expect_sentence(3, "can't be read")


def test_a_local_search_loads_no_client() -> None:
    names = "regard.api.cli.commands.search, regard.api.library.local"
    script = f"import sys, {names}; print('httpx' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"
