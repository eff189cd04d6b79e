"""Thumbnails, crops and masks, made from originals or read from the cache."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from functools import partial
from typing import Annotated, Any, BinaryIO, Literal

from anyio import to_thread
from fastapi import APIRouter, Query
from starlette.responses import JSONResponse, Response

from regard.api import schemas
from regard.api.http.conditions import Conditional, Conditions, FileVersion
from regard.api.http.dependencies import Reader, Use
from regard.api.http.documents import read_identifier
from regard.api.http.problems import Problem, Responses, responses
from regard.api.http.service import Service
from regard.core.assets import Asset
from regard.photos.media import decode_picture
from regard.photos.rendering import (
    cropped,
    encode_webp,
    mask_png,
    mask_svg,
    thumbnail,
)

router = APIRouter(prefix="/v1", tags=["files"])

_YEAR = 365 * 24 * 3600
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
