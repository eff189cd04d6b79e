"""Originals, thumbnails, crops and masks.

Only the file that was indexed is read, never one that replaced it or a link. If keys are required,
it must be in the managed store or below a configured root.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from functools import partial
from typing import Annotated, Any, BinaryIO, Literal
from urllib.parse import quote

from anyio import to_thread
from fastapi import APIRouter, Header, Query
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from regard.api import schemas
from regard.api.http.conditions import Conditional, Conditions, FileVersion, modified_at
from regard.api.http.dependencies import Reader, Use
from regard.api.http.documents import read_identifier
from regard.api.http.problems import Problem, Responses, responses
from regard.api.http.service import Service
from regard.core.assets import Asset
from regard.photos.buckets import is_object, object_status, presigned_url, read_object
from regard.photos.media import decode_picture
from regard.photos.rendering import (
    content_type,
    cropped,
    encode_webp,
    mask_png,
    mask_svg,
    shown_inline,
    thumbnail,
)
from regard.storage.files.originals import changed, object_errors

router = APIRouter(prefix="/v1", tags=["files"])

_YEAR = 365 * 24 * 3600
_CHUNK = 1 << 18
_REDIRECT_SECONDS = 300
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
_WEBP: Responses = {200: {"content": {"image/webp": {}}, "description": "the image"}}
_RUN_LENGTHS: dict[str, Any] = {
    "type": "object",
    "required": ["size", "counts"],
    "properties": {
        "size": {"type": "array", "items": {"type": "integer"}, "description": "Height and width."},
        "counts": {"type": "string", "description": "Compressed run lengths of COCO."},
    },
    "examples": [{"size": [4, 6], "counts": "5220007"}],
}
_MASK_FORMS: Responses = {
    200: {
        "content": {
            "image/png": {},
            "image/svg+xml": {},
            "application/json": {"schema": _RUN_LENGTHS},
        },
        "description": "the mask",
    }
}
_FILE: Responses = {
    200: {"content": {"*/*": {}}, "description": "the file"},
    206: {"content": {"*/*": {}}, "description": "a range of the file"},
    304: {"description": "unchanged"},
    307: {"description": "the bucket has it"},
}
_UNCHANGED: Responses = {304: {"description": "unchanged"}}

Version = Annotated[
    str | None,
    Query(
        max_length=64, description="Version of the content; makes the answer cacheable for a year."
    ),
]


class PictureSize(IntEnum):
    """Length of the longer side in pixels."""

    SMALL = 256
    MEDIUM = 512
    LARGE = 1024
    LARGEST = 4096


Size = Annotated[PictureSize, Query(description="Length of the longer side in pixels.")]


@router.get(
    "/assets/{id}/original",
    response_class=Response,
    responses={
        **responses(
            *("not-found", "original-gone", "original-changed", "outside-roots"),
            *("precondition-failed", "range-not-satisfiable"),
        ),
        **_FILE,
    },
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
    range: Annotated[str | None, Header(max_length=200)] = None,
) -> Response:
    """Get the original file, or a range of it."""
    asset = service.assets.get(read_identifier(id, "a"), visible=caller.collections)
    tag = f'"{asset.sha256 or f"{asset.size}-{asset.mtime_ns}"}"'
    version = FileVersion(tag, modified_at(asset.mtime_ns))
    headers = {**version.headers, "Cache-Control": "private, no-cache"}
    if conditions.is_known(version):
        return Response(status_code=304, headers=headers)
    disposition = "inline" if shown_inline(asset.format) and not download else "attachment"
    headers |= {
        "Accept-Ranges": "bytes",
        "Content-Disposition": f"{disposition}; filename*=UTF-8''{quote(asset.file_name, safe='')}",
        "Content-Security-Policy": "default-src 'none'; sandbox",
    }
    media_type = content_type(asset.format) or "application/octet-stream"
    is_in_bucket = is_object(asset.path)
    if is_in_bucket and redirect:
        # A browser shows nothing from the bucket inline that this server would not.
        named = {name: headers[name] for name in ("Content-Disposition", "Cache-Control")}
        url = presigned_url(
            _require_unchanged(service.require_readable(asset), asset),
            seconds=_REDIRECT_SECONDS,
            answer_headers={**named, "Content-Type": media_type},
        )
        return Response(status_code=307, headers={"Location": url, "Cache-Control": "no-store"})
    file = None if is_in_bucket else service.open_original(asset)
    start, end = 0, asset.size
    status = 200
    if not conditions.has_part_of(version):
        # The caller has a part of another version.
        range = None
    if range is not None and (span := _span(range, asset.size)) is not None:
        start, end = span
        if start >= end:
            if file is not None:
                file.close()
            raise Problem(
                "range-not-satisfiable",
                f"the file has {asset.size} bytes",
                headers={"Content-Range": f"bytes */{asset.size}"},
            )
        status = 206
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{asset.size}"
    headers["Content-Length"] = str(end - start)
    if file is None:
        parts = _read_object(service.require_readable(asset), asset, start, end)
        return StreamingResponse(parts, status, headers, media_type)
    return _FileResponse(file, _part(file, start, end), status, headers, media_type)


@router.get(
    "/assets/{id}/thumbnail",
    response_class=Response,
    responses={
        **responses(
            "not-found",
            "original-gone",
            "original-changed",
            "outside-roots",
            "unusable-image",
            "precondition-failed",
        ),
        **_WEBP,
        **_UNCHANGED,
    },
)
async def get_thumbnail(
    id: str,
    service: Use,
    caller: Reader,
    conditions: Conditional,
    size: Size = PictureSize.SMALL,
    v: Version = None,
) -> Response:
    """Get a thumbnail as WebP."""
    number = read_identifier(id, "a")

    def find() -> _Rendering:
        asset = service.assets.get(number, visible=caller.collections)
        render = partial(
            thumbnail,
            longer_side=size.value,
            time_ms=asset.poster_ms,
            limits=service.limits,
        )
        frame = "" if asset.poster_ms is None else str(asset.poster_ms)
        return _Rendering(asset, _variant(asset.poster_ms, size), render, frame)

    return await _picture(service, find, v, conditions)


@router.get(
    "/regions/{id}",
    response_model=schemas.RegionWithAsset,
    responses=responses("not-found"),
    tags=["regions"],
)
def get_region(id: str, service: Use, caller: Reader) -> dict[str, Any]:
    """Get a region and its asset."""
    region, asset = service.assets.region(read_identifier(id, "r"), visible=caller.collections)
    make = service.documents(caller)
    return {**make.region(region, asset), "asset": make.asset(asset)}


@router.get(
    "/regions/{id}/crop",
    response_class=Response,
    responses={
        **responses(
            "not-found",
            "original-gone",
            "original-changed",
            "outside-roots",
            "unusable-image",
            "precondition-failed",
        ),
        **_WEBP,
        **_UNCHANGED,
    },
    tags=["regions"],
)
async def get_crop(
    id: str,
    service: Use,
    caller: Reader,
    conditions: Conditional,
    size: Size = PictureSize.MEDIUM,
    v: Version = None,
) -> Response:
    """Get the photograph inside the region's box as WebP."""
    number = read_identifier(id, "r")

    def find() -> _Rendering:
        region, asset = service.assets.region(number, visible=caller.collections)
        box = region.box

        def render(file: BinaryIO) -> bytes:
            image = decode_picture(file, service.limits, time_ms=region.time_ms)
            return encode_webp(cropped(image, box, size.value))

        name = f"crop-{box.x},{box.y},{box.width},{box.height}-{size.value}"
        if region.time_ms is not None:
            name = _variant(region.time_ms, size)
        return _Rendering(asset, name, render)

    return await _picture(service, find, v, conditions)


@router.get(
    "/regions/{id}/mask",
    response_class=Response,
    responses={**responses("not-found", "precondition-failed"), **_MASK_FORMS, **_UNCHANGED},
    tags=["regions"],
)
def get_mask(
    id: str,
    service: Use,
    caller: Reader,
    conditions: Conditional,
    format: Annotated[Literal["png", "rle", "svg"], Query()] = "png",
    v: Version = None,
) -> Response:
    """Get the region's mask as PNG (0 and 255), its outline as SVG, or COCO's compressed run
    lengths."""
    region, asset = service.assets.region(read_identifier(id, "r"), visible=caller.collections)
    tag = f'"{(asset.sha256 or "")[:32]}-{id}-{format}"'
    headers = {**_caching(asset, v), "ETag": tag}
    if conditions.is_known(FileVersion(tag)):
        return Response(status_code=304, headers=headers)
    mask = service.assets.mask(region.id)
    if format == "rle":
        document = {"size": [mask.height, mask.width], "counts": mask.counts.decode("ascii")}
        return JSONResponse(document, headers=headers)
    if format == "svg":
        return Response(mask_svg(mask), headers=headers, media_type="image/svg+xml")
    return Response(mask_png(mask), headers=headers, media_type="image/png")


@dataclass(frozen=True, slots=True)
class _Rendering:
    """A rendering of an asset: its name in the cache, and the function that makes it from the
    file. `frame` is the time that its version names beside the content, for the poster of a video."""

    asset: Asset
    variant: str
    render: Callable[[BinaryIO], bytes]
    frame: str = ""


def _variant(time_ms: int | None, size: PictureSize) -> str:
    """The name of a whole picture: a photograph, or one of a video's frames."""
    return str(size.value) if time_ms is None else f"moment-{time_ms}-{size.value}"


async def _picture(
    service: Service,
    find: Callable[[], _Rendering],
    version: str | None,
    conditions: Conditions,
) -> Response:
    """Answer with a rendering, from the cache or made now.

    Few threads render, so that a page full of new thumbnails does not delay searches.
    """
    wanted, data = await to_thread.run_sync(_find_picture, service, find)
    asset = wanted.asset
    tag = f'"{(asset.sha256 or "")[:32]}-{wanted.variant}"'
    headers = {**_caching(asset, version, wanted.frame), "ETag": tag}
    if conditions.is_known(FileVersion(tag)):
        return Response(status_code=304, headers=headers)
    if data is None:
        data = await to_thread.run_sync(
            _make_picture, service, wanted, limiter=service.rendering_threads
        )
    return Response(data, headers=headers, media_type="image/webp")


def _find_picture(
    service: Service, find: Callable[[], _Rendering]
) -> tuple[_Rendering, bytes | None]:
    wanted = find()
    if wanted.asset.sha256 is None:
        raise Problem("unusable-image", "the file could not be read, so it has no thumbnail")
    return wanted, service.thumbnails.find(wanted.asset.sha256, wanted.variant)


def _make_picture(service: Service, wanted: _Rendering) -> bytes:
    def make() -> bytes:
        started = time.perf_counter()
        with service.open_original(wanted.asset) as file:
            picture = wanted.render(file)
        service.metrics.observe_stage("thumbnail", time.perf_counter() - started)
        return picture

    assert wanted.asset.sha256 is not None
    return service.thumbnails.get(wanted.asset.sha256, wanted.variant, make)


def _caching(asset: Asset, version: str | None, frame: str = "") -> dict[str, str]:
    """Cache for a year if the URL names the content and the frame, else revalidate each time."""
    digest, _, named_frame = (version or "").partition("-")
    is_named = len(digest) >= 8 and (asset.sha256 or "").startswith(digest)
    long = is_named and named_frame == frame
    return {
        "Cache-Control": f"private, max-age={_YEAR}, immutable" if long else "private, no-cache"
    }


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
