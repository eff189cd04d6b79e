"""The first steps of docs/http.md work as they are written."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from made_service import Served, png

DOCS = Path(__file__).resolve().parents[3] / "docs" / "http.md"


def blocks() -> tuple[list[str], str]:
    """The commands for a shell, and the program."""
    text = DOCS.read_text(encoding="utf-8").split("## First steps")[1].split("\n## ")[0]
    shell, program = re.findall(r"```(?:python)?\n(.+?)```", text, re.DOTALL)
    return shell.splitlines(), program


def as_curl_does(client: httpx.Client, command: list[str], folder: Path) -> httpx.Response:
    """Make a request of a command's words; it knows those that the page uses."""
    files: list[tuple[str, Any]] = []
    headers: dict[str, str] = {}
    method = url = body = out = None
    words = iter(command)
    for word in words:
        match word:
            case "-F":
                name, _, value = next(words).partition("=")
                sent = (None, value)
                if value.startswith("@"):
                    sent = (value[1:], (folder / value[1:]).read_bytes())
                files.append((name, sent))
            case "-H":
                name, _, value = next(words).partition(": ")
                headers[name] = value
            case "-X":
                method = next(words)
            case "-d":
                body = next(words)
            case "-o":
                out = folder / next(words)
            case "-N":
                pass
            case _:
                assert url is None
                assert not word.startswith("-"), word
                url = word
    assert url is not None
    method = method or ("POST" if files or body else "GET")
    answer = client.request(method, url, headers=headers, files=files or None, content=body)
    if out is not None:
        out.write_bytes(answer.content)
    return answer


def test_first_steps_of_the_docs_work(
    own: Callable[..., Served],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    served = own()
    monkeypatch.chdir(tmp_path)
    for name in ("harbour", "boat"):
        (tmp_path / f"{name}.jpg").write_bytes(png())
    (served.photos / "2024").mkdir()
    [start, *lines], program = blocks()
    assert start == "URL=http://127.0.0.1:8420"
    answers = []
    for line in lines:
        curl, *words = shlex.split(line.replace("$URL", served.server.url))
        assert curl == "curl"
        answer = as_curl_does(served.raw(), words, tmp_path)
        assert answer.is_success, (line, answer.text)
        answers.append(answer)
    sent, events, text, box, similar, patched, listed, picture, _, started, changed = answers
    assert [item["asset"]["id"] for item in sent.json()["items"]] == ["a1", "a2"]
    assert '"state": "done"' in events.text
    for found in (text, box, similar):
        assert {hit["asset"]["id"] for hit in found.json()["hits"]} <= {"a1", "a2"}
        assert found.json()["hits"]
    assert patched.json()["title"] == "Harbour at dawn"
    assert [asset["id"] for asset in listed.json()["items"]] == ["a1"]
    assert listed.json()["facets"]["tags"] == [{"value": "summer", "count": 1}]
    assert (tmp_path / "harbour.webp").read_bytes() == picture.content
    assert started.json()["state"] == "queued"
    assert ["a2", "removed"] in [
        [change["asset"], change["kind"]] for change in changed.json()["changes"]
    ]
    exec(program.replace("http://127.0.0.1:8420", served.server.url), {})
    assert "harbour.jpg" in (printed := capsys.readouterr().out)
    assert "removed" in printed
    assert json.loads(sent.text)["job"]["id"] == "j1"
