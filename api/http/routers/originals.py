"""Originals, and the videos in motion photos, whole or in ranges.

Only the file that was indexed is read, never one that replaced it or a link. If keys are required,
it must be in the managed store or below a configured root.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, BinaryIO
from urllib.parse import quote

from fastapi import APIRouter, Header, Query
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from regard.api.http.conditions import Conditional, FileVersion, modified_at
from regard.api.http.dependencies import Reader, Use
from regard.api.http.documents import read_identifier
from regard.api.http.problems import Problem, Responses, responses
from regard.api.http.service import Service
from regard.core.assets import Asset
from regard.core.errors import NotFound
from regard.photos.buckets import is_object, object_status, presigned_url, read_object
from regard.photos.rendering import content_type, shown_inline
from regard.storage.files.originals import changed, object_errors

router = APIRouter(prefix="/v1", tags=["files"])

_CHUNK = 1 << 18
_REDIRECT_SECONDS = 300
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
_PROBLEMS = responses(
    *("not-found", "original-gone", "original-changed", "outside-roots"),
    *("precondition-failed", "range-not-satisfiable"),
)
_UNCHANGED: Responses = {304: {"description": "unchanged"}}
_FILE: Responses = {
    200: {"content": {"*/*": {}}, "description": "the file"},
    206: {"content": {"*/*": {}}, "description": "a range of the file"},
    307: {"description": "the bucket has it"},
}
_VIDEO: Responses = {
    200: {"content": {"video/mp4": {}}, "description": "the video"},
    206: {"content": {"video/mp4": {}}, "description": "a range of the video"},
}

Range = Annotated[str | None, Header(max_length=200)]


@router.get(
    "/assets/{id}/original",
    response_class=Response,
    responses={**_PROBLEMS, **_FILE, **_UNCHANGED},
)
def get_original(
    id: str,
    service: Use,
    caller: Reader,
    conditions: Conditional,
    download: Annotated[bool, Query(description="Send as an attachment.")] = False,
    redirect: Annotated[
        bool,
        Query(
            description="Redirect to the bucket that holds the file, if one does. Only the caller"
            " knows whether it can reach the bucket."
        ),
    ] = False,
    range: Range = None,
) -> Response:
    """Get the original file, or a range of it."""
    asset = service.assets.get(read_identifier(id, "a"), visible=caller.collections)
    version = _version(asset)
    headers = {**version.headers, "Cache-Control": "private, no-cache"}
    if conditions.is_known(version):
        return Response(status_code=304, headers=headers)
    disposition = "inline" if shown_inline(asset.format) and not download else "attachment"
    headers["Content-Disposition"] = (
        f"{disposition}; filename*=UTF-8''{quote(asset.file_name, safe='')}"
    )
    media_type = content_type(asset.format) or "application/octet-stream"
    if redirect and is_object(asset.path):
        # A browser shows nothing from the bucket inline that this server would not.
        named = {name: headers[name] for name in ("Content-Disposition", "Cache-Control")}
        url = presigned_url(
            _require_unchanged(service.require_readable(asset), asset),
            seconds=_REDIRECT_SECONDS,
            answer_headers={**named, "Content-Type": media_type},
        )
        return Response(status_code=307, headers={"Location": url, "Cache-Control": "no-store"})
    # The caller may have a part of another version.
    wanted = range if conditions.has_part_of(version) else None
    return _read(service, asset, wanted, headers, media_type)


@router.get(
    "/assets/{id}/motion",
    response_class=Response,
    responses={**_PROBLEMS, **_VIDEO, **_UNCHANGED},
)
def get_motion(
    id: str,
    service: Use,
    caller: Reader,
    conditions: Conditional,
    range: Range = None,
) -> Response:
    """Get the video in a motion photo, or a range of it.

    It is the end of the original, from `motion_video_offset` of the facts on. 404 if there is none.
    """
    detail = service.assets.detail(read_identifier(id, "a"), visible=caller.collections)
    asset, begin = detail.asset, detail.facts.capture.motion_video_offset
    if begin is None or begin >= asset.size:
        raise NotFound(
            f"the photograph {id} has no video in its file",
            remedy="ask for those whose facts have a motion_video_offset",
        )
    version = _version(asset, f"-{begin}")
    headers = {**version.headers, "Cache-Control": "private, no-cache"}
    if conditions.is_known(version):
        return Response(status_code=304, headers=headers)
    headers["Content-Disposition"] = "inline"
    wanted = range if conditions.has_part_of(version) else None
    return _read(service, asset, wanted, headers, "video/mp4", begin)


def _version(asset: Asset, part: str = "") -> FileVersion:
    tag = f'"{asset.sha256 or f"{asset.size}-{asset.mtime_ns}"}{part}"'
    return FileVersion(tag, modified_at(asset.mtime_ns))


def _read(
    service: Service,
    asset: Asset,
    wanted: str | None,
    headers: dict[str, str],
    media_type: str,
    begin: int = 0,
) -> Response:
    """Answer with the file from `begin` on, or the `wanted` range of that."""
    file = None if is_object(asset.path) else service.open_original(asset)
    size = asset.size - begin
    start, end, status = 0, size, 200
    headers["Accept-Ranges"] = "bytes"
    headers["Content-Security-Policy"] = "default-src 'none'; sandbox"
    if wanted is not None and (span := _span(wanted, size)) is not None:
        start, end = span
        if start >= end:
            if file is not None:
                file.close()
            raise Problem(
                "range-not-satisfiable",
                f"the file has {size} bytes",
                headers={"Content-Range": f"bytes */{size}"},
            )
        status = 206
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    headers["Content-Length"] = str(end - start)
    start, end = begin + start, begin + end
    if file is None:
        parts = _read_object(service.require_readable(asset), asset, start, end)
        return StreamingResponse(parts, status, headers, media_type)
    return _FileResponse(file, _part(file, start, end), status, headers, media_type)


def _require_unchanged(path: bytes, asset: Asset) -> bytes:
    """The URI of an object that is as it was indexed; an upload always is, so none is asked for."""
    if asset.etag is not None:
        with object_errors():
            if object_status(path).etag != asset.etag:
                raise changed()
    return path


def _read_object(path: bytes, asset: Asset, start: int, end: int) -> Iterator[bytes]:
    """The bytes of a range; raises OriginalGone, OriginalChanged, StoreUnavailable at once."""
    with object_errors():
        if asset.etag is None and object_status(path).size != asset.size:
            raise changed()
        return read_object(path, start, end, etag=asset.etag)


def _span(value: str, size: int) -> tuple[int, int] | None:
    """Start and end of the requested range, end exclusive; None for what is not one valid
    range."""
    match = _RANGE.fullmatch(value)
    if match is None:
        return None
    first, last = match.groups()
    if not first:
        return (max(size - int(last), 0), size) if last else None
    if last and int(last) < int(first):
        return None
    return int(first), min(int(last) + 1, size) if last else size


class _FileResponse(StreamingResponse):
    """Streams an open file and closes it, even if the client disconnects before the first byte."""

    def __init__(
        self,
        file: BinaryIO,
        content: Iterator[bytes],
        status: int,
        headers: Mapping[str, str],
        media_type: str,
    ) -> None:
        super().__init__(content, status, headers, media_type)
        self._file = file

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        with self._file:
            await super().__call__(scope, receive, send)


def _part(file: BinaryIO, start: int, end: int) -> Iterator[bytes]:
    file.seek(start, os.SEEK_SET)
    left = end - start
    while left > 0 and (chunk := file.read(min(_CHUNK, left))):
        left -= len(chunk)
        yield chunk
