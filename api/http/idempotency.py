"""`Idempotency-Key`: a repeated request gets the first answer, and its work is done once."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Header
from starlette.responses import JSONResponse, Response

from regard.api.http.service import Service
from regard.core.keys import Caller
from regard.storage.service.idempotency import Answer

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        description="A repeated request with the same key gets the first answer again.",
    ),
]
_REPLAYED = "Idempotent-Replayed"


def answer_once(
    service: Service,
    caller: Caller,
    key: str | None,
    request_sha256: str,
    work: Callable[[], tuple[int, dict[str, Any]]],
) -> Response:
    """Answer with the status and document of `work`, or with the stored answer to the same
    request.

    Raises KeyReused, KeyInUse, and whatever `work` raises; failures are not stored.
    """
    if key is None:
        status, document = work()
        return JSONResponse(document, status)
    before = service.idempotency.recall(caller, key, request_sha256)
    if before is not None:
        return Response(
            before.body, before.status, {_REPLAYED: "true"}, media_type="application/json"
        )
    try:
        status, document = work()
    except BaseException:
        service.idempotency.forget(caller, key)
        raise
    service.idempotency.remember(caller, key, Answer(status, json.dumps(document)))
    return JSONResponse(document, status)
