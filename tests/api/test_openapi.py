"""What the OpenAPI document promises holds for whatever is sent: no 5xx, no undocumented answer.

schemathesis makes the requests from the document, as a user of it would, against a real server.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from made_library import Library
from made_server import Server

_CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
)


@pytest.fixture
def server(tmp_path: Path) -> object:
    library = Library(tmp_path)
    for number in range(12):
        library.photo(f"{number}.png", number)
    library.index()
    with Server(library.home, roots={"photos": library.photos}) as server:
        yield server


def _examine(server: Server, folder: Path, *options: str) -> str:
    done = subprocess.run(
        [
            *(Path(sys.executable).parent / "schemathesis", "run"),
            f"{server.url}/v1/openapi.json",
            *("--checks", ",".join(_CHECKS), "--suppress-health-check", "all"),
            *("--request-timeout", "30", "--generation-database", "none", "--no-color", *options),
        ],
        cwd=folder,
        env={**os.environ, "SCHEMATHESIS_HOOKS": ""},
        capture_output=True,
        text=True,
        timeout=1500,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-12000:] + done.stderr[-2000:]
    return done.stdout


def test_every_operation_keeps_its_word(server: Server, tmp_path: Path) -> None:
    report = _examine(server, tmp_path, "--phases", "examples,fuzzing", "-n", "4")
    document = httpx.get(f"{server.url}/v1/openapi.json").json()
    operations = sum(len(path) for path in document["paths"].values())
    assert operations > 30
    assert f"Tested: {operations}" in report


@pytest.mark.campaign
def test_every_operation_keeps_its_word_for_long(server: Server, tmp_path: Path) -> None:
    _examine(server, tmp_path, "-n", "40")


def test_operations_have_words_and_examples(server: Server) -> None:
    document = httpx.get(f"{server.url}/v1/openapi.json").json()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert operation["description"], (method, path)
            assert len(operation["operationId"]) < 40
            body = operation.get("requestBody", {}).get("content", {}).get("application/json")
            names = re.findall(r"#/components/schemas/(\w+)", str(body))
            models = [document["components"]["schemas"][name] for name in names]
            assert body is None or "example" in f"{body} {models}", (method, path)
