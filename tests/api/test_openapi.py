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

from regard.api.http import schemas
from regard.api.http.examples import EXAMPLES

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
            for status, answer in operation["responses"].items():
                for kind, content in answer.get("content", {}).items():
                    if status.startswith("2") and kind == "application/json":
                        schema = content["schema"]
                        name = schema.get("$ref", "").rpartition("/")[2]
                        shown = document["components"]["schemas"].get(name, schema)
                        assert shown["examples"], (method, path, status)


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_are_what_their_models_say(name: str) -> None:
    model = getattr(schemas, name)
    document = model.model_validate(EXAMPLES[name]).model_dump(mode="json", exclude_unset=True)
    assert document == EXAMPLES[name]
    assert set(model.model_fields) <= set(document), "an example shows all there is"
