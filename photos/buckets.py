"""Objects of S3-compatible storage, named `s3://bucket/key`, read and written like files.

Credentials, region and endpoint come from the usual chain of AWS tools: environment
(`AWS_ENDPOINT_URL` too), profile files, instance roles. Failed and slow requests are repeated with
growing pauses, for at most about `LONGEST_SECONDS`; then StoreUnavailable is raised. An object
counts as missing only if its bucket answers, so a bucket that is away never looks like deletions.
Reading an object that the caller may not read, or that is archived, raises PermissionError.

boto3 is imported when the first object is used. All functions may be called from several threads.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import importlib.util
import io
import itertools
import os
import tempfile
import time
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from regard.core.errors import DecodeError, MissingDependency, StoreUnavailable
from regard.photos.formats import SNIFF_BYTES, sniff_video

SCHEME = b"s3://"
_ATTEMPTS, _CONNECT_SECONDS, _READ_SECONDS = 5, 3, 10
# All attempts time out, and the pauses between them are the longest.
LONGEST_SECONDS = _ATTEMPTS * _READ_SECONDS + 1 + 2 + 4 + 8
# For what is not worth waiting for.
_QUICK_SECONDS = 2
_CONNECTIONS = 32
# Larger files are sent in parts.
_PART_BYTES = 32 << 20
_CHUNK = 1 << 18
_FORBIDDEN, _NOT_FOUND, _PRECONDITION_FAILED = 403, 404, 412
# Errors of one object, not of the credentials.
_UNREADABLE = {"AccessDenied": "permission denied", "InvalidObjectState": "it is archived"}
_REMEDY = "check that the store is up, and the AWS_* variables or profile that regard uses"


@dataclass(frozen=True, slots=True)
class ObjectStatus:
    """What the store says of an object; `mtime_ns` has whole seconds.

    The `etag` changes with the bytes.
    """

    size: int
    mtime_ns: int
    etag: str


class ObjectCopy(io.BufferedRandom):
    """A local copy of an object, and the `status` that it had."""

    status: ObjectStatus


class AccessDenied(StoreUnavailable):
    """The bucket answers, but refuses a request."""


def is_object(path: str | bytes | os.PathLike[str] | os.PathLike[bytes]) -> bool:
    """Whether a path names an object instead of a file."""
    return os.fsencode(path).startswith(SCHEME)


def require_installed() -> None:
    """Raise MissingDependency unless objects can be used here."""
    if importlib.util.find_spec("boto3") is None:
        raise MissingDependency(
            "object storage needs a package that is not installed",
            remedy='run: pip install "regard[s3]"',
        )


def object_status(path: bytes) -> ObjectStatus:
    """The status of an object; raises FileNotFoundError, StoreUnavailable."""
    bucket, key = _split(path)
    with _requests(path) as client:
        found = client.head_object(Bucket=bucket, Key=key)
    return _status(found["ContentLength"], found)


def find_object(path: bytes) -> ObjectStatus | None:
    """The status of an object; None if there is none, or none that may be seen.

    Raises StoreUnavailable.
    """
    if not _split(path)[1]:
        return None
    try:
        return object_status(path)
    except (FileNotFoundError, AccessDenied):
        # A caller that may list only some keys is not told which others are missing.
        return None


def open_object(
    path: bytes, *, max_bytes: int | None = None, etag: str | None = None
) -> ObjectCopy:
    """Open a local copy of an object, which goes when it is closed.

    Raises as `read_object`, DecodeError if the object is larger than `max_bytes` and no video, or
    OSError if there is no room for the copy.
    """
    answer = _get(path, 0, None, etag)
    size = answer["ContentLength"]
    chunks = _continued(path, 0, None, answer)
    first = next(chunks, b"")
    if max_bytes is not None and size > max_bytes and sniff_video(first[:SNIFF_BYTES]) is None:
        chunks.close()
        raise DecodeError(f"it has {size:,} bytes, more than {max_bytes:,}")
    file = ObjectCopy(tempfile.TemporaryFile(buffering=0))  # noqa: SIM115 - the caller closes it
    file.status = _status(size, answer)
    try:
        for chunk in itertools.chain([first], chunks):
            file.write(chunk)
        file.seek(0)
    except BaseException:
        file.close()
        raise
    return file


def read_object(
    path: bytes, start: int = 0, end: int | None = None, *, etag: str | None = None
) -> Iterator[bytes]:
    """Read an object, or the bytes from `start` to before `end`, in chunks.

    The first request is made at once. It raises FileNotFoundError, PermissionError or
    StoreUnavailable, and OSError with ESTALE if the object no longer has the `etag`. A connection
    that breaks is continued where it broke; later errors are the same.
    """
    answer = _get(path, start, end, etag)
    return _continued(path, start, end, answer)


def put_object(path: bytes, file: BinaryIO) -> ObjectStatus:
    """Store an open file as an object, which appears whole or not at all.

    Raises StoreUnavailable, also if the store has other bytes afterwards.
    """
    bucket, key = _split(path)
    size = os.fstat(file.fileno()).st_size
    # boto3 closes what it sends.
    copy = os.fdopen(os.dup(file.fileno()), "rb")
    copy.seek(0)
    with copy, _requests(path) as client:
        from boto3.s3.transfer import TransferConfig

        config = TransferConfig(
            multipart_threshold=_PART_BYTES, multipart_chunksize=_PART_BYTES, use_threads=False
        )
        client.upload_fileobj(copy, bucket, key, Config=config)
    status = object_status(path)
    if status.size != size:
        raise StoreUnavailable(
            f"the bucket {bucket} stored {status.size:,} of {size:,} bytes", remedy="try again"
        )
    return status


def delete_object(path: bytes) -> bool:
    """Delete an object; return whether there was one. Raises StoreUnavailable."""
    try:
        object_status(path)
    except FileNotFoundError:
        return False
    bucket, key = _split(path)
    with _requests(path) as client:
        client.delete_object(Bucket=bucket, Key=key)
    return True


def list_objects(folder: bytes) -> Iterator[tuple[bytes, ObjectStatus]]:
    """The objects below `folder/` in byte order of their paths, read page by page.

    Raises StoreUnavailable.
    """
    bucket, key = _split(folder)
    last = b""
    for page in _pages(bucket, f"{key}/" if key else ""):
        for path, status in _objects(bucket, page):
            if path <= last:
                # Comparing such a list with the catalog would look like deletions.
                raise StoreUnavailable(
                    f"the bucket {bucket} does not list its objects in the order of their keys",
                    remedy="use a general purpose bucket",
                )
            last = path
            yield path, status


def list_folder(folder: bytes) -> Iterator[tuple[bytes, ObjectStatus | None]]:
    """The names of the objects and the folders directly below `folder/`, in no order.

    Folders have no status. Raises StoreUnavailable.
    """
    bucket, key = _split(folder)
    start = len(folder) + 1
    for page in _pages(bucket, f"{key}/" if key else "", delimiter="/"):
        for path, status in _objects(bucket, page):
            yield path[start:], status
        for found in page.get("CommonPrefixes", ()):
            yield _path(bucket, found["Prefix"])[start:-1], None


def has_objects(folder: bytes) -> bool:
    """Whether there is an object below `folder/`; raises StoreUnavailable."""
    bucket, key = _split(folder)
    page = next(_pages(bucket, f"{key}/" if key else "", at_once=1))
    return bool(page.get("Contents"))


def objects_beginning(path: bytes) -> list[tuple[bytes, ObjectStatus]]:
    """Up to a thousand objects whose path begins so; raises StoreUnavailable."""
    bucket, key = _split(path)
    return list(_objects(bucket, next(_pages(bucket, key))))


def quickly_read(path: bytes) -> bytes:
    """A small object, by one request of a few seconds; raises as `open_object`."""
    bucket, key = _split(path)
    with _requests(path, is_quick=True) as client:
        data: bytes = client.get_object(Bucket=bucket, Key=key)["Body"].read()
    return data


def quickly_write(path: bytes, data: bytes) -> None:
    """Store a small object by one request of a few seconds; raises StoreUnavailable."""
    bucket, key = _split(path)
    with _requests(path, is_quick=True) as client:
        client.put_object(Bucket=bucket, Key=key, Body=data)


def presigned_url(path: bytes, *, seconds: int, answer_headers: Mapping[str, str]) -> str:
    """A URL at which anyone may read an object for some seconds; no request is made.

    `answer_headers` may set Content-Type, Content-Disposition and Cache-Control.
    """
    bucket, key = _split(path)
    named = {f"Response{name.replace('-', '')}": value for name, value in answer_headers.items()}
    with _requests(path) as client:
        return str(
            client.generate_presigned_url(
                "get_object", {"Bucket": bucket, "Key": key, **named}, ExpiresIn=seconds
            )
        )


def require_bucket(path: bytes) -> None:
    """Raise StoreUnavailable unless the bucket of a path answers."""
    bucket, _ = _split(path)
    try:
        with _requests(path) as client:
            client.head_bucket(Bucket=bucket)
    except FileNotFoundError:
        raise StoreUnavailable(f"there is no bucket {bucket}", remedy=_REMEDY) from None


def _status(size: int, found: Mapping[str, Any]) -> ObjectStatus:
    modified: datetime = found["LastModified"]
    return ObjectStatus(size, int(modified.timestamp()) * 1_000_000_000, found["ETag"])


def _pages(
    bucket: str, prefix: str, *, delimiter: str = "", at_once: int = 1000
) -> Iterator[dict[str, Any]]:
    """The answers that list the keys that begin so; at least one."""
    wanted: dict[str, Any] = {"Bucket": bucket, "Prefix": prefix, "MaxKeys": at_once}
    if delimiter:
        wanted["Delimiter"] = delimiter
    while True:
        with _requests(_path(bucket, prefix)) as client:
            page = client.list_objects_v2(**wanted)
        yield page
        if not page["IsTruncated"]:
            return
        wanted["ContinuationToken"] = page["NextContinuationToken"]


def _objects(bucket: str, page: Mapping[str, Any]) -> Iterator[tuple[bytes, ObjectStatus]]:
    for found in page.get("Contents", ()):
        yield _path(bucket, found["Key"]), _status(found["Size"], found)


def _path(bucket: str, key: str) -> bytes:
    return b"/".join((SCHEME + bucket.encode(), os.fsencode(key)))


def _split(path: bytes) -> tuple[str, str]:
    bucket, _, key = os.fsdecode(path[len(SCHEME) :]).partition("/")
    return bucket, key


def _get(path: bytes, start: int, end: int | None, etag: str | None) -> dict[str, Any]:
    bucket, key = _split(path)
    more: dict[str, str] = {} if etag is None else {"IfMatch": etag}
    if start or end is not None:
        more["Range"] = f"bytes={start}-" if end is None else f"bytes={start}-{end - 1}"
    with _requests(path) as client:
        answer: dict[str, Any] = client.get_object(Bucket=bucket, Key=key, **more)
    return answer


def _continued(
    path: bytes, start: int, end: int | None, answer: dict[str, Any]
) -> Generator[bytes, None, None]:
    from botocore.exceptions import BotoCoreError

    breaks = 0
    while True:
        try:
            with contextlib.closing(answer["Body"]) as body:
                for chunk in body.iter_chunks(_CHUNK):
                    start += len(chunk)
                    breaks = 0
                    yield chunk
        except (BotoCoreError, OSError) as error:
            breaks += 1
            if breaks == _ATTEMPTS:
                raise _away(path, error) from error
            time.sleep(2.0 ** (breaks - 2))
            answer = _get(path, start, end, answer["ETag"])
        else:
            return


@contextlib.contextmanager
def _requests(path: bytes, *, is_quick: bool = False) -> Iterator[Any]:
    """Gives the client; turns errors of boto3 into FileNotFoundError and StoreUnavailable."""
    client = _client(is_quick=is_quick)
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield client
    except ClientError as error:
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        code = error.response.get("Error", {}).get("Code")
        if status == _PRECONDITION_FAILED:
            raise OSError(errno.ESTALE, "it has changed", os.fsdecode(path)) from error
        if status == _FORBIDDEN and error.operation_name == "GetObject" and code in _UNREADABLE:
            raise PermissionError(errno.EACCES, _UNREADABLE[code], os.fsdecode(path)) from error
        if status != _NOT_FOUND or code == "NoSuchBucket":
            raise _away(path, error, AccessDenied if status == _FORBIDDEN else None) from error
        if error.operation_name in {"HeadObject", "DeleteObject"}:
            # The answer to HEAD has no body, so a missing bucket looks like a missing object.
            require_bucket(path)
        raise FileNotFoundError(_NOT_FOUND, "there is no such object", os.fsdecode(path)) from error
    except (Boto3Error, BotoCoreError) as error:
        raise _away(path, error) from error


def _away(
    path: bytes, error: Exception, kind: type[StoreUnavailable] | None = None
) -> StoreUnavailable:
    bucket, _ = _split(path)
    reason = " ".join(str(error).split())
    kind = kind or StoreUnavailable
    return kind(f"the bucket {bucket} can't be used: {reason}", remedy=_REMEDY)


@functools.cache
def _client(*, is_quick: bool = False) -> Any:
    require_installed()
    import boto3
    from botocore.config import Config

    config = Config(
        connect_timeout=_QUICK_SECONDS if is_quick else _CONNECT_SECONDS,
        read_timeout=_QUICK_SECONDS if is_quick else _READ_SECONDS,
        retries={"mode": "standard", "total_max_attempts": 1 if is_quick else _ATTEMPTS},
        max_pool_connections=_CONNECTIONS,
        tcp_keepalive=True,
        signature_version="s3v4",
    )
    session = boto3.session.Session()
    client = session.client("s3", config=config)
    host = urlsplit(client.meta.endpoint_url).hostname or ""
    if ".amazonaws." not in host:
        # Other servers rarely have a host name for each bucket.
        config = config.merge(Config(s3={"addressing_style": "path"}))
        client = session.client("s3", config=config)
    return client
