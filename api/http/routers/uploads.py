"""`POST /v1/assets`: uploads into the managed store.

Each file is hashed while it streams to disk, inspected before it is kept, and protected from
deletion until its row is committed. A job analyses it later.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from anyio import to_thread
from fastapi import APIRouter, Request
from pydantic import Field, ValidationError
from starlette.responses import Response

from regard.api import schemas
from regard.api.http.dependencies import RequestBody, Use, Writer
from regard.api.http.forms import Form, FormFile, FormLimits, FormShape, read_form
from regard.api.http.idempotency import IdempotencyKey, answer_once
from regard.api.http.problems import (
    FieldError,
    Problem,
    invalid_values,
    named,
    problem_document,
    responses,
)
from regard.api.http.routers.assets import Custom, Tag
from regard.api.http.service import Service
from regard.api.http.storable import StorableText
from regard.api.library.queries import DEFAULT_COLLECTION, require_name
from regard.core.catalog import ContentHeader, FileStamp
from regard.core.errors import DecodeError, NameTaken, NotFound, UnknownFormat, UnstorableValue
from regard.core.jobs import JobKind
from regard.core.keys import Caller
from regard.photos.media import media_in
from regard.photos.video import VideoHeader
from regard.storage.assets.uploads import Upload, Uploaded
from regard.storage.files.originals import Incoming

router = APIRouter(prefix="/v1", tags=["assets"])

_SHAPE = FormShape(
    files=frozenset({"file"}),
    single=frozenset({"collection", "external_id", "title", "rating", "custom"}),
    many=frozenset({"tag"}),
)
_FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "file": {
                            "type": "array",
                            "items": {"type": "string", "format": "binary"},
                            "description": "One or more photographs or videos.",
                        },
                        "collection": {"type": "string", "default": DEFAULT_COLLECTION},
                        "external_id": {
                            "type": "string",
                            "description": "Only with a single file.",
                        },
                        "title": {"type": "string", "description": "Only with a single file."},
                        "tag": {"type": "array", "items": {"type": "string"}},
                        "rating": {"type": "integer", "minimum": 0, "maximum": 5},
                        "custom": {"type": "string", "description": "A JSON object."},
                    },
                }
            }
        },
    }
}


class UploadFields(RequestBody):
    """The fields of an upload, for all its files."""

    collection: StorableText = Field(default=DEFAULT_COLLECTION, min_length=1, max_length=200)
    external_id: StorableText | None = Field(default=None, min_length=1, max_length=500)
    title: StorableText | None = Field(default=None, max_length=2000)
    tag: list[Tag] = Field(default=[], max_length=500)
    rating: int | None = Field(default=None, ge=0, le=5)
    custom: Custom = Field(default={})


@dataclass(frozen=True, slots=True)
class _Outcome:
    file_name: str
    uploaded: Uploaded | None
    problem: dict[str, Any] | None


@router.post(
    "/assets",
    status_code=201,
    response_model=schemas.UploadAnswer,
    responses={
        **responses(
            "bad-request",
            "not-found",
            "too-large",
            "unsupported-media",
            "unusable-image",
            "external-id-taken",
            "idempotency-key-reused",
            "conflict",
        ),
        200: {"model": schemas.UploadAnswer, "description": "all files were already there"},
    },
    openapi_extra=_FORM,
)
async def upload_assets(
    request: Request, service: Use, caller: Writer, key: IdempotencyKey = None
) -> Response:
    """Upload photographs and videos. A file that the collection already has gives the existing
    asset."""
    options = service.options
    limits = FormLimits(options.upload_bytes, options.upload_files, video_bytes=service.video_bytes)
    incoming = service.originals.incoming
    started = time.perf_counter()
    kept: list[str] = []
    try:
        async with read_form(request, files=incoming, shape=_SHAPE, limits=limits) as form:
            # Commit the rows while the files are still open and thus protected from deletion.
            answer = await to_thread.run_sync(_answer, service, caller, key, form, kept)
    finally:
        # Delete files whose assets were not created, or that exist elsewhere.
        await to_thread.run_sync(service.purging.discard_unused, kept)
    service.metrics.observe_stage("upload", time.perf_counter() - started)
    return answer


def _answer(
    service: Service, caller: Caller, key: str | None, form: Form[Incoming], kept: list[str]
) -> Response:
    fields = _read_fields(form)
    require_name(fields.collection)
    if not caller.may_see(fields.collection):
        raise NotFound(f"no collection is named {fields.collection}")
    if not form.files:
        raise _wrong("file", "the form has no file")
    for name in ("external_id", "title"):
        if len(form.files) > 1 and getattr(fields, name) is not None:
            raise _wrong(name, "external_id and title need a single file")
    digest = hashlib.sha256(
        json.dumps(
            [
                "POST /v1/assets",
                fields.model_dump(mode="json"),
                [[file.file_name, file.sink.sha256] for file in form.files],
            ],
            sort_keys=True,
        ).encode()
    ).hexdigest()
    return answer_once(
        service, caller, key, digest, lambda: _take_in(service, caller, fields, form.files, kept)
    )


def _take_in(
    service: Service,
    caller: Caller,
    fields: UploadFields,
    files: Sequence[FormFile[Incoming]],
    kept: list[str],
) -> tuple[int, dict[str, Any]]:
    outcomes = [_keep(service, caller, fields, file, kept) for file in files]
    if len(outcomes) == 1 and (refused := outcomes[0].problem) is not None:
        name = str(refused["type"]).rpartition("/")[2]
        raise Problem(name, refused["detail"], remedy=refused["remedy"])
    stored = [outcome.uploaded for outcome in outcomes if outcome.uploaded is not None]
    assets = service.assets.by_ids([uploaded.asset for uploaded in stored])
    make = service.documents(caller)
    job = None
    if any(asset.state == "pending" for asset in assets.values()):
        job = make.job(service.jobs.add(JobKind.UPLOAD, fields.collection))
        service.wake_worker()
    items = [
        {
            "file_name": outcome.file_name,
            "status": "refused" if outcome.uploaded is None else outcome.uploaded.status,
            "asset": None
            if outcome.uploaded is None
            else make.asset(assets[outcome.uploaded.asset]),
            "problem": outcome.problem,
        }
        for outcome in outcomes
    ]
    is_new = any(uploaded.status != "existing" for uploaded in stored)
    return (201 if is_new else 200), {"items": items, "job": job}


def _keep(
    service: Service,
    caller: Caller,
    fields: UploadFields,
    file: FormFile[Incoming],
    kept: list[str],
) -> _Outcome:
    """Check one file and keep it, or give the reason why not."""
    name = file.file_name or "unnamed"
    try:
        with file.sink.open() as opened, media_in(opened, service.limits, name) as media:
            header, kind = media.header, str(media.format)
            facts = media.facts()
    except UnknownFormat as error:
        return _Outcome(name, None, problem_document("unsupported-media", error.message))
    except DecodeError as error:
        return _Outcome(name, None, problem_document("unusable-image", error.message))
    original = file.sink.keep()
    kept.append(original.name)
    upload = Upload(
        stamp=FileStamp(original.path, original.size, original.mtime_ns),
        content=ContentHeader(
            *(file.sink.sha256, kind, header.width, header.height),
            duration_ms=header.duration_ms or 0 if isinstance(header, VideoHeader) else None,
        ),
        facts=facts,
        file_name=name,
        external_id=fields.external_id,
        title=fields.title,
        tags=tuple(dict.fromkeys(fields.tag)),
        rating=fields.rating,
        custom=fields.custom,
    )
    try:
        with named(NameTaken, "external-id-taken", caller):
            uploaded = service.uploads.upload(
                fields.collection, upload, is_sound=service.has_original
            )
    except UnstorableValue as error:
        return _Outcome(name, None, problem_document("unusable-image", error.message))
    if uploaded.path == original.path:
        kept.remove(original.name)
    return _Outcome(name, uploaded, None)


def _read_fields(form: Form[Incoming]) -> UploadFields:
    values: dict[str, Any] = {
        name: value for name, value in form.fields if name in _SHAPE.single and name != "custom"
    }
    values["tag"] = form.values("tag")
    if (rating := values.get("rating", "")).isdecimal():
        values["rating"] = int(rating)
    custom = form.value("custom")
    if custom is not None:
        try:
            values["custom"] = json.loads(custom)
        except (ValueError, RecursionError):
            raise _wrong("custom", "it is not a JSON object") from None
    try:
        return UploadFields.model_validate(values)
    except ValidationError as error:
        raise invalid_values(error, "body", values) from None


def _wrong(where: str, message: str) -> Problem:
    field = FieldError(where=f"body.{where}", message=message)
    return Problem("validation", f"{field.where}: {message}", errors=[field])
