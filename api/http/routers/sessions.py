"""`/v1/session`: a key in a cookie that the page's scripts can't read."""

from __future__ import annotations

from typing import Literal, TypedDict

from fastapi import APIRouter
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from regard.api.http.access import COOKIE, Access
from regard.api.http.dependencies import RequestBody
from regard.api.http.problems import responses
from regard.api.http.sub_path import current_prefix

router = APIRouter(tags=["service"])

_COOKIE_SECONDS = 30 * 24 * 3600


class SessionStart(RequestBody):
    """The key to keep in a cookie."""

    key: str = Field(max_length=200, examples=["rgd_…"])


@router.post("/v1/session", status_code=204, responses=responses("key-invalid", takes_key=False))
async def start_session(session: SessionStart, request: Request) -> Response:
    """Store a key in a cookie. Later requests need no `Authorization` header."""
    access: Access = request.app.state.service.access
    await access.caller_of(session.key)
    response = Response(status_code=204)
    response.set_cookie(COOKIE, session.key, max_age=_COOKIE_SECONDS, **_attributes(request))
    return response


@router.delete("/v1/session", status_code=204, responses=responses(takes_key=False))
async def end_session(request: Request) -> Response:
    """Delete the cookie. The key itself remains valid."""
    response = Response(status_code=204)
    response.delete_cookie(COOKIE, **_attributes(request))
    return response


class _Attributes(TypedDict):
    path: str
    httponly: bool
    samesite: Literal["strict"]
    secure: bool


def _attributes(request: Request) -> _Attributes:
    """No script can read the cookie, and requests from other sites do not carry it."""
    return {
        "path": f"{current_prefix()}/",
        "httponly": True,
        "samesite": "strict",
        "secure": request.url.scheme == "https",
    }
