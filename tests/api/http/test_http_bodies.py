"""Bodies in JSON are read as they are written: a string is never a number or a boolean."""

from __future__ import annotations

from typing import Any

import pytest
from made_service import Served

_IMPORT = {"kind": "import", "root": "photos"}
_BOOLEAN, _STRING, _ARRAY = (
    f"it must be {kind}" for kind in ("true or false", "a string", "an array")
)


@pytest.mark.parametrize(
    ("call", "body", "where", "message"),
    [
        ("POST jobs", {**_IMPORT, "clear_exclusions": "yes"}, "clear_exclusions", _BOOLEAN),
        ("POST jobs", {**_IMPORT, "path": 5}, "path", _STRING),
        ("POST jobs", {**_IMPORT, "exclude": "*.tmp"}, "exclude", _ARRAY),
        ("POST pipelines/rollback", {"at_once": 1}, "at_once", _BOOLEAN),
        ("POST pipelines/prune", {"unfinished": "true"}, "unfinished", _BOOLEAN),
        ("POST pipelines", {"profile": 5}, "profile", _STRING),
        ("POST duplicates/distinct", {"ids": ["a1", "a2"], "distinct": "no"}, "distinct", _BOOLEAN),
        ("POST duplicates/merge", {"keep": 1, "discard": ["a2"]}, "keep", _STRING),
        ("POST albums", {"name": True}, "name", _STRING),
        ("POST albums/b1/assets", {"add": "a1"}, "add", _ARRAY),
        ("POST collections", {"name": 5}, "name", _STRING),
        ("PATCH assets/a1", {"tags": "red"}, "tags", _ARRAY),
        ("POST assets/bulk", {"ids": [5], "action": "delete"}, "ids.0", _STRING),
        ("POST trash/empty", {"collection": 5}, "collection", _STRING),
        ("POST session", {"key": 5}, "key", _STRING),
    ],
)
def test_a_value_of_another_type_is_refused_in_plain_words(
    served: Served, call: str, body: dict[str, Any], where: str, message: str
) -> None:
    method, path = call.split()
    answer = served.raw().request(method, f"/v1/{path}", json=body)
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"] == [{"where": f"body.{where}", "message": message}]
