"""The OpenAPI document: complete, and kept by the server whatever is sent.

`make openapi-lint` checks the same document with Redocly's rules, which need Node.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema_rs import Draft202012Validator
from made_library import Library
from made_server import Server

from regard.api import schemas
from regard.api.http.app import create_api
from regard.api.http.examples import EXAMPLES
from regard.api.http.problems import PROBLEMS

_CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
)
_OPEN = {"/healthz", "/readyz", "/v1/session"}
Operation = tuple[str, str, dict[str, Any]]


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return create_api().openapi()


@pytest.fixture(scope="module")
def operations(document: dict[str, Any]) -> list[Operation]:
    return [
        (method, path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    library = Library(tmp_path, count=12)
    library.index()
    with Server(library.home, roots={"photos": library.photos}) as server:
        yield server


def _contents(operation: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Where, media type and content of each body and answer."""
    bodies = {"body": operation.get("requestBody", {}), **operation["responses"]}
    for where, body in bodies.items():
        for media_type, content in body.get("content", {}).items():
            yield where, media_type, content


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


@pytest.mark.slow
def test_every_operation_answers_as_documented(
    server: Server, operations: list[Operation], tmp_path: Path
) -> None:
    report = _examine(server, tmp_path, "--phases", "examples,fuzzing", "-n", "1")
    assert f"Tested: {len(operations)}" in report


@pytest.mark.campaign
def test_every_operation_answers_as_documented_at_length(server: Server, tmp_path: Path) -> None:
    _examine(server, tmp_path, "-n", "40")


def test_document_names_servers_licence_and_tags(
    document: dict[str, Any], operations: list[Operation]
) -> None:
    assert document["servers"]
    assert document["info"]["license"]["identifier"]
    described = {tag["name"] for tag in document["tags"] if tag["description"]}
    assert described == {tag for *_, operation in operations for tag in operation["tags"]}


def test_operations_have_id_summary_description_and_security(operations: list[Operation]) -> None:
    ids = [operation["operationId"] for *_, operation in operations]
    assert len(set(ids)) == len(ids) > 30
    for method, path, operation in operations:
        assert operation["summary"], (method, path)
        assert operation["description"], (method, path)
        assert len(operation["operationId"]) < 40
        ways = [] if path in _OPEN else [{"key": []}, {"session": []}]
        assert operation["security"] == ways, (method, path)


def test_operations_document_their_problems(operations: list[Operation]) -> None:
    for method, path, operation in operations:
        documented = set()
        for where, media_type, content in _contents(operation):
            if media_type == "application/problem+json":
                assert content["schema"] == {"$ref": "#/components/schemas/Problem"}
                documented |= content["examples"].keys()
                assert {PROBLEMS[name].status for name in content["examples"]} == {int(where)}
        expected = {"validation", "host-refused", "origin-refused", "internal"}
        if path not in _OPEN:
            expected |= {"key-required", "scope-missing", "unavailable"}
        assert expected <= documented, (method, path)


def test_examples_validate_against_their_schemas(
    document: dict[str, Any], operations: list[Operation]
) -> None:
    components = {"components": document["components"]}
    for method, path, operation in operations:
        for where, media_type, content in _contents(operation):
            schema = content.get("schema")
            if not media_type.endswith("json") or schema is None:
                continue
            named = document["components"]["schemas"].get(schema.get("$ref", "").split("/")[-1], {})
            examples = [example["value"] for example in content.get("examples", {}).values()]
            examples += named.get("examples", schema.get("examples", []))
            if where.startswith("2"):
                assert examples, (method, path, where)
            for example in examples:
                Draft202012Validator({**schema, **components}).validate(example)


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_show_every_field_of_their_models(name: str) -> None:
    model = getattr(schemas, name)
    shown = model.model_validate(EXAMPLES[name]).model_dump(mode="json", exclude_unset=True)
    assert shown == EXAMPLES[name]
    assert set(model.model_fields) <= set(shown)
