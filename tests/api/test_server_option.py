"""`regard --server`: the same commands on a server, in the same shapes and with the same exit codes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from made_gate import Gate
from made_library import Argument, Library, Outcome, command, regard, write_photo
from made_server import Server

from regard.api.client import Client, Filters

_COUNT = 9


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    made = Library(tmp_path_factory.mktemp("option"))
    for number in range(_COUNT):
        made.photo(f"{number:02}.png", number)
    made.index()
    return made


@pytest.fixture(scope="module")
def server(library: Library) -> Iterator[Server]:
    with Server(library.home, "--max-upload-files", "4", "--max-upload-bytes", "60000") as running:
        yield running


@pytest.fixture(autouse=True)
def _no_chosen_server(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REGARD_SERVER", "REGARD_API_KEY", "REGARD_HOME"):
        monkeypatch.delenv(name, raising=False)


def _on(server: Server, *arguments: Argument) -> Outcome:
    return regard("--server", server.url, *arguments)


def _queries(library: Library) -> dict[str, list[str]]:
    photo = str(library.photos / "03.png")
    return {
        "text": ["a red thing"],
        "image": ["--image", photo],
        "box": ["--image", photo, "--box", "2,1,9,200"],
        "asset": ["--like", "a3"],
        "region": ["--like", "r5"],
        "limit": ["red", "--limit", "2"],
        "many": ["red", "--limit", "10000"],
        "collection": ["red", "--collection", "default"],
    }


@pytest.mark.parametrize("target", ["image", "region"])
@pytest.mark.parametrize(
    "kind", ["text", "image", "box", "asset", "region", "limit", "many", "collection"]
)
def test_a_search_says_what_it_says_of_the_home(
    library: Library, server: Server, kind: str, target: str
) -> None:
    arguments = [*_queries(library)[kind], "--target", target]
    for form in ("--json", "--paths", "--paths0", None):
        given = [*arguments, *([form] if form else [])]
        there, here = _on(server, "search", *given), library.run("search", *given)
        assert (there.code, there.err) == (0, "")
        if form != "--json":
            assert there.out == here.out
            continue
        assert list(there.document) == list(here.document)
        for document in (there.document, here.document):
            assert document["hits"]
        assert {**there.document, "took_ms": 0} == {**here.document, "took_ms": 0}
        for hit, same in zip(there.document["hits"], here.document["hits"], strict=True):
            assert [list(hit), list(hit["asset"])] == [list(same), list(same["asset"])]


def test_deep_answers_come_in_pages_without_gaps(
    library: Library, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = _on(server, "search", "red", "--target", "region", "--limit", "30", "--json")
    monkeypatch.setattr("regard.api.library.remote._PAGE", 1)
    with monkeypatch.context() as patched:
        info = Client.info

        def few(self: Client) -> Any:
            found = info(self)
            return found.model_copy(update={"limits": found.limits.model_copy(update={"hits": 7})})

        patched.setattr(Client, "info", few)
        paged = _on(server, "search", "red", "--target", "region", "--limit", "30", "--json")
    assert paged.document["hits"] == whole.document["hits"]
    assert len(whole.document["hits"]) == 30


# textual-image 0.12 calls what Pillow 14 will drop.
@pytest.mark.filterwarnings("ignore:Image.Image.getdata:DeprecationWarning")
def test_previews_draw_what_the_server_sends(server: Server) -> None:
    shown = _on(server, "search", "red", "--target", "region", "--limit", "2", "--preview")
    assert (shown.code, shown.err) == (0, "")
    drawn = shown.out.decode()
    assert drawn.count("A mostly red photograph.") == 2
    # Each is drawn in shades of 36 columns.
    assert (
        max(line.count("▓") + line.count("░") + line.count("▒") for line in drawn.split("\n")) > 36
    )


def test_queries_answer_line_by_line(library: Library, server: Server, tmp_path: Path) -> None:
    lines = tmp_path / "queries.txt"
    lines.write_bytes(b"\xef\xbb\xbfred\n\nbl\xffue\n" + b"x" * 3000 + b"\ngreen")
    there = _on(server, "search", "--queries", lines, "--limit", "3")
    here = library.run("search", "--queries", lines, "--limit", "3")
    assert there.code == 0
    assert [line["query"] for line in there.lines[:3]] == [line["query"] for line in here.lines[:3]]
    assert there.lines[0]["hits"] == here.lines[0]["hits"]
    assert "error" in there.lines[1]
    assert "error" in there.lines[2]
    # The server takes no text of that length.
    assert there.lines[3]["query"] == "x" * 3000
    assert "2000" in there.lines[3]["error"]
    assert there.lines[4]["hits"] == here.lines[4]["hits"]


def test_wrong_use_is_wrong_on_a_server_too(
    library: Library, server: Server, tmp_path: Path
) -> None:
    (tmp_path / "text.jpg").write_text("no photograph")
    for arguments, code, words in (
        (["search"], 2, ["no query"]),
        (["search", ""], 2, ["empty"]),
        (["search", "red", "--limit", "0"], 2, ["limit"]),
        (["search", "--like", "q1"], 2, ["q1"]),
        (["search", "--like", "a999999"], 3, ["a999999"]),
        (["search", "red", "--collection", "nowhere"], 3, ["nowhere"]),
        (["search", "--image", str(tmp_path / "text.jpg")], 3, ["text.jpg can't be used"]),
        (["search", "--image", str(tmp_path / "missing.jpg")], 3, ["no file"]),
        (["index", str(tmp_path / "missing")], 3, ["check the path"]),
        (["index", str(tmp_path), "--profile", "lite"], 2, ["--profile"]),
        (["index", str(tmp_path), "--collection", " "], 2, ["collection"]),
    ):
        _on(server, *arguments).expect_sentence(code, *words)
    too_long = _on(server, "search", "x" * 3000)
    assert (too_long.code, too_long.err.count("\n")) == (2, 3)
    assert "2000" in too_long.err.splitlines()[0]


@pytest.mark.parametrize(
    "arguments",
    [["verify"], ["rebuild"], ["remove", "x"], ["serve"], ["keys", "list"], ["profiles"], ["demo"]],
)
def test_other_commands_say_that_they_work_on_a_home(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    regard("--server", "http://127.0.0.1:1", *arguments).expect_sentence(
        2,
        arguments[0],
        "not on a server",
        "--home" if arguments[0] in {"verify", "rebuild", "remove"} else "--server",
    )


def test_what_the_command_line_says_goes_before_the_environment(
    library: Library, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    regard("--server", server.url, "search", "red", "--home", library.home).expect_sentence(
        2, "--home and --server"
    )
    regard("--key-file", "x", "status").expect_sentence(2, "--key-file needs a server")
    monkeypatch.setenv("REGARD_SERVER", server.url)
    assert regard("status", "--json").document["server"] == server.url
    assert "server" not in regard("status", "--json", "--home", library.home).document
    monkeypatch.setenv("REGARD_HOME", "/nowhere")
    assert regard("status", "--json").document["server"] == server.url
    # No command quietly works on a home when a server was meant.
    for name in ("verify", "rebuild"):
        regard(name).expect_sentence(2, "not on a server", "--home")
    assert regard("verify", "--home", library.home).code == 0
    assert regard("profiles").code == 0


def test_the_status_of_a_server(library: Library, server: Server) -> None:
    document = _on(server, "status", "--json").document
    assert document["server"] == server.url
    assert (document["profile"], document["scope"]) == ("fake", "admin")
    assert document["counts"]["assets"] >= _COUNT
    assert "default" in [collection["name"] for collection in document["collections"]]
    assert isinstance(document["jobs"], list)
    shown = _on(server, "status").out.decode()
    assert f"collection default: {_COUNT} photographs" in shown
    assert server.url in shown


def test_indexing_sends_what_a_home_would_index(server: Server, tmp_path: Path) -> None:
    for number in range(10):
        write_photo(tmp_path / "new" / f"{number}.png", 100 + number)
    new = tmp_path / "new"
    write_photo(new / "copy of 3.png", 103)
    write_photo(os.fsencode(new) + b'/caf\xe9 "x".png', 120)
    write_photo(new / "a wrong name.txt", 121)
    write_photo(new / ".hidden.png", 122)
    (new / "notes.txt").write_text("no photograph")
    (new / "empty.jpg").touch()
    (new / "cut.png").write_bytes((new / "1.png").read_bytes()[:80])
    (new / "large.jpg").write_bytes(b"\xff\xd8\xff" + bytes(70_000))
    (new / "1.xmp").write_text("<x/>")
    done = _on(server, "index", new, "--collection", "sent", "--json")
    assert done.code == 1, done
    report = done.document
    assert {
        name: report[name] for name in ("indexed", "unchanged", "moved", "removed", "failed")
    } == {
        "indexed": 12,
        "unchanged": 1,
        "moved": 0,
        "removed": 0,
        "failed": 3,
    }
    assert report["regions"] == 48
    assert report["captions"] == 12
    reasons = {os.path.basename(one["uri"]): one["reason"] for one in report["failures"]}
    assert set(reasons) == {"empty.jpg", "cut.png", "large.jpg"}
    assert "60,000" in reasons["large.jpg"]
    assert "empty" in reasons["empty.jpg"]
    assert all(one["uri"].startswith(f"{new}/") for one in report["failures"])
    with Client(server.url) as client:
        names = {asset.file_name for asset in client.assets.iterate(Filters(collection=["sent"]))}
    # What shows only when a photograph is decoded whole is a failure of the server's.
    assert names == {f"{number}.png" for number in range(10)} | {
        "a wrong name.txt",
        "caf%E9 %22x%22.png",
        "cut.png",
    }

    again = _on(server, "index", new, "--collection", "sent")
    assert again.code == 1
    assert again.out.startswith(b"0 indexed, 13 unchanged, 3 failed;")
    assert again.err.count("  failed: ") == 3
    for name in ("empty.jpg", "cut.png", "large.jpg"):
        (new / name).unlink()
    assert _on(server, "index", new, "--collection", "sent").code == 0


def test_files_that_go_or_shrink_on_the_way_are_failures(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = [write_photo(tmp_path / f"{number}.png", 130 + number) for number in range(3)]
    from regard.api.library.sending import Sending

    found = Sending._find

    def find(self: Any, roots: Any) -> Any:
        stamps = found(self, roots)
        photos[1].unlink()
        return stamps

    monkeypatch.setattr(Sending, "_find", find)
    done = _on(server, "index", tmp_path, "--collection", "going", "--json")
    assert done.code == 1
    assert (done.document["indexed"], done.document["failed"]) == (2, 1)
    assert done.document["failures"][0]["uri"] == str(photos[1])


def test_an_interrupted_run_carries_on(tmp_path: Path) -> None:
    for number in range(40):
        write_photo(tmp_path / "many" / f"{number:02}.png", 200 + number)
    gate = Gate(tmp_path / "gate")
    gate.let(1)
    with Server(tmp_path / "home", environ=gate.environ) as server:
        process = subprocess.Popen(
            command("--server", server.url, "index", tmp_path / "many", "--json"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        with Client(server.url) as client:
            deadline = time.monotonic() + 60
            while not client.info().counts.assets:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=200)
            gate.open()
            assert process.returncode == 130, err
            assert err.splitlines()[-1] == b"regard: interrupted; run the same command to carry on"
            assert b"Traceback" not in err
            assert json.loads(out)["indexed"] < 40
            done = regard("--server", server.url, "index", tmp_path / "many", "--json")
            assert done.code == 0
            assert done.document["indexed"] + done.document["unchanged"] == 40
            assert client.info().counts.assets == 40
            assert client.assets.list(state="indexed", limit=100).next is None
            assert len(client.assets.list(state="indexed", limit=100).items) == 40


def test_a_job_that_is_cancelled_is_said(server: Server, tmp_path: Path) -> None:
    write_photo(tmp_path / "one.png", 300)
    from regard.api.library.sending import Sending

    send = Sending._send

    def send_and_cancel(self: Any, batch: Any) -> None:
        send(self, batch)
        for id, job in self._jobs.items():
            self._jobs[id] = job.model_copy(update={"state": "cancelled"})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Sending, "_send", send_and_cancel)
        done = _on(server, "index", tmp_path, "--collection", "cancelled")
    done.expect_sentence(3, "cancelled", "run the same command")


def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    write_photo(tmp_path / "a.png", 1)
    for arguments in (["search", "red"], ["status"], ["index", str(tmp_path)]):
        regard("--server", url, *arguments).expect_sentence(3, url, "regard serve")
    regard("--server", "no address", "status").expect_sentence(2, "no address")


def test_keys_come_from_a_file_or_the_environment(
    library: Library, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = regard("keys", "create", "reader", "--scope", "read", "--home", library.home)
    key_file = tmp_path / "key"
    key_file.write_bytes(made.out.split()[0] + b"\n")
    with_file = ("--server", server.url, "--key-file", key_file)
    assert regard(*with_file, "status", "--json").document["scope"] == "read"
    # It may not see paths of the server.
    hits = regard(*with_file, "search", "red", "--json").document["hits"]
    originals = [f"{server.url}/v1/assets/{hit['asset']['id']}/original" for hit in hits]
    assert [hit["asset"]["uri"] for hit in hits] == originals
    paths = regard(*with_file, "search", "red", "--paths").out.decode().splitlines()
    assert paths == originals
    groups = regard(*with_file, "duplicates", "--json").document["groups"]
    uris = [member["asset"]["uri"] for group in groups for member in group["members"]]
    assert uris
    assert set(uris) <= {f"{server.url}/v1/assets/a{number}/original" for number in range(99)}
    write_photo(tmp_path / "photos" / "a.png", 1)
    regard(*with_file, "index", tmp_path / "photos").expect_sentence(3, "scope", "regard keys")
    monkeypatch.setenv("REGARD_API_KEY", "rgd_wrong")
    _on(server, "status").expect_sentence(3, "key", "--key-file", "REGARD_API_KEY")
    assert regard(*with_file, "status").code == 0
    key_file.write_text("\n")
    regard(*with_file, "status").expect_sentence(3, "holds no key")
    key_file.write_text("two words")
    regard(*with_file, "status").expect_sentence(2, "no key")
    key_file.unlink()
    regard(*with_file, "status").expect_sentence(3, "can't be read")


def test_a_local_search_loads_no_client() -> None:
    names = "regard.api.cli.commands.search, regard.api.cli.commands.index"
    script = f"import sys, {names}; print('httpx' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"
