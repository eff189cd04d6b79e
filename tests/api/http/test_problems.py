"""Errors as problems: the documented names, and what each caller is told."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import pytest
from fastapi import FastAPI, Query
from pydantic import BaseModel
from starlette.requests import Request
from starlette.testclient import TestClient

from regard.api.http.problems import PROBLEMS, Problem, handle_errors, named, problem_of, responses
from regard.core import errors
from regard.core.errors import RegardError
from regard.core.keys import LOCAL, AccessScope, Caller

READER = Caller(AccessScope.READ, None, 1)
BOUND_ADMIN = Caller(AccessScope.ADMIN, ("holiday",), 2)
CONTRACT = Path(__file__).resolve().parents[3] / "docs" / "http.md"


class Thing(BaseModel):
    name: str
    size: int = 0


def client_for(error: Exception | None = None, caller: Caller | None = None) -> TestClient:
    """A client of an application whose `/fails` raises the error to this caller."""
    app = FastAPI(openapi_url=None)
    handle_errors(app)

    @app.get("/fails", responses=responses("not-found"))
    async def fails(request: Request) -> None:
        if caller is not None:
            request.state.caller = caller
        assert error is not None
        raise error

    @app.post("/things", responses=responses("conflict"))
    async def make(thing: Thing, limit: Annotated[int, Query(ge=1)] = 1) -> dict[str, int]:
        return {"size": thing.size + limit}

    @app.get("/plain")
    async def plain(limit: int = 1) -> dict[str, int]:
        return {"limit": limit}

    return TestClient(app, raise_server_exceptions=False)


def answer_to(error: Exception, caller: Caller | None) -> dict[str, Any]:
    response = client_for(error, caller).get("/fails")
    assert response.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = response.json()
    assert document["status"] == response.status_code
    return document


def test_names_and_statuses_match_the_docs() -> None:
    section = CONTRACT.read_text(encoding="utf-8").split("## Errors")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (\d{3}) \| (.+) \|$", section, re.MULTILINE)
    documented = {
        name: int(status) for status, names in rows for name in re.findall("`([a-z-]+)`", names)
    }
    assert {name: kind.status for name, kind in PROBLEMS.items()} == documented


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (errors.UsageError, "validation"),
        (errors.UnanswerableQuery, "unanswerable-query"),
        (errors.DecodeError, "unusable-image"),
        (errors.NotFound, "not-found"),
        (errors.Conflict, "conflict"),
        (errors.NameTaken, "name-taken"),
        (errors.KeyReused, "idempotency-key-reused"),
        (errors.KeyInUse, "conflict"),
        (errors.OutsideRoots, "outside-roots"),
        (errors.OriginalGone, "original-gone"),
        (errors.OriginalChanged, "original-changed"),
        (errors.LeaseHeld, "unavailable"),
        (errors.HomeVersionError, "unavailable"),
        (errors.ModelError, "unavailable"),
        (errors.IndexMismatch, "unavailable"),
        (errors.PipelineConflict, "unavailable"),
        (errors.MissingDependency, "unavailable"),
        (errors.RootUnavailable, "unavailable"),
    ],
)
def test_core_errors_map_to_problem_names(kind: type[RegardError], name: str) -> None:
    document = answer_to(kind("it is so", remedy="do that"), LOCAL)
    assert document["type"] == f"/v1/problems/{name}"
    assert document["status"] == PROBLEMS[name].status
    assert document["detail"] == "it is so"
    assert document["remedy"] == "do that"


@pytest.mark.parametrize("caller", [READER, Caller(AccessScope.WRITE, None, 1), None])
@pytest.mark.parametrize(
    "error",
    [
        errors.HomeError("the database /srv/home/catalog.sqlite3 can't be used", remedy="look"),
        errors.LeaseHeld("process 12 on build-host is indexing into this home", remedy="wait"),
        errors.NotFound("there is no file '/srv/photos/a.jpg'", remedy="give another"),
        errors.UsageError("the folder C:\\photos is a file"),
        errors.UsageError(r"the folder \\server\share is a file"),
        errors.OutsideRoots("a/b leads out of its root", remedy="stay in (/srv/photos)"),
        errors.DecodeError("/srv/home/originals/ab/cd is damaged"),
        RuntimeError("/srv/home"),
    ],
)
def test_paths_are_hidden_from_non_admins(error: Exception, caller: Caller | None) -> None:
    """`problem_of`'s guard: sentences of core errors may hold paths."""
    text = str(answer_to(error, caller))
    for secret in ("srv", "C:", "share", "build-host", "12"):
        assert secret not in text


def test_admins_see_message_and_remedy() -> None:
    error = errors.HomeError("the database /srv/home can't be used", remedy="look at /srv")
    document = answer_to(error, LOCAL)
    assert (document["detail"], document["remedy"]) == (error.message, error.remedy)


def test_messages_without_paths_are_shown_to_all() -> None:
    message = "the box lies outside the picture of 640×480 pixels, and/or is not image/png"
    assert answer_to(errors.UnanswerableQuery(message), None)["detail"] == message


@pytest.mark.parametrize("caller", [BOUND_ADMIN, Caller(AccessScope.READ, ("holiday",), 3), None])
def test_remedies_are_hidden_from_bound_keys(caller: Caller | None) -> None:
    """`problem_of`'s guard: other collections do not exist for a bound key, in no remedy
    either."""
    error = errors.NotFound(
        "no collection is named work", remedy="the collections are: holiday, secret"
    )
    assert answer_to(error, caller)["remedy"] is None
    assert answer_to(error, READER)["remedy"] == error.remedy


def test_unexpected_errors_are_logged_and_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    document = answer_to(RuntimeError("the password is x"), LOCAL)
    assert document["type"] == "/v1/problems/internal"
    assert "password" not in str(document)
    assert "GET /fails failed: RuntimeError('the password is x')" in caplog.text


def test_server_errors_are_logged_in_full(caplog: pytest.LogCaptureFixture) -> None:
    answer_to(errors.HomeError("the database /srv/home can't be used"), READER)
    assert "the database /srv/home can't be used" in caplog.text


def test_validation_problems_name_each_field() -> None:
    response = client_for().post("/things?limit=0", json={"size": "big"})
    assert response.status_code == 422
    document = response.json()
    assert document["type"] == "/v1/problems/validation"
    assert [item["where"] for item in document["errors"]] == [
        "query.limit", "body.name", "body.size",
    ]  # fmt: skip
    assert document["detail"].startswith("query.limit: ")
    broken = client_for().post(
        "/things", content=b"{", headers={"content-type": "application/json"}
    )
    assert broken.json()["type"] == "/v1/problems/validation"
    [error] = broken.json()["errors"]
    assert error["where"] == "body"
    assert error["message"].startswith("not valid JSON: ")
    assert error["message"].endswith(" at character 1")


def test_framework_errors_are_problems() -> None:
    client = client_for()
    missing = client.get("/nothing").json()
    assert (missing["status"], missing["type"]) == (404, "/v1/problems/not-found")
    assert "/nothing" in missing["detail"]
    wrong_method = client.put("/things")
    assert wrong_method.json()["type"] == "/v1/problems/method-not-allowed"
    assert wrong_method.status_code == 405
    assert wrong_method.headers["allow"] == "POST"


def test_routes_can_rename_an_error() -> None:
    with pytest.raises(Problem) as caught, named(errors.Conflict, "job-not-running", LOCAL):
        raise errors.Conflict("job 3 has ended already")
    assert caught.value.document["type"] == "/v1/problems/job-not-running"
    assert caught.value.document["detail"] == "job 3 has ended already"
    with pytest.raises(Problem) as caught, named(errors.NotFound, "not-found", READER):
        raise errors.NotFound("there is no /srv/x")
    assert "srv" not in str(caught.value.document)
    with pytest.raises(errors.NotFound), named(errors.Conflict, "conflict", LOCAL):
        raise errors.NotFound("something else")
    assert problem_of(errors.Conflict("x"), LOCAL)["type"] == "/v1/problems/conflict"
