from __future__ import annotations

import errno
import io
import os
import tempfile
import time
from collections.abc import Iterator
from typing import BinaryIO

import httpx
import pytest
from made_bucket import Bucket, used_here

from regard.core.errors import DecodeError, StoreUnavailable
from regard.photos import buckets
from regard.photos.buckets import (
    delete_object,
    object_status,
    open_object,
    presigned_url,
    put_object,
    read_object,
)
from regard.photos.decoding import DecodeLimits
from regard.photos.files import open_regular
from regard.photos.photo_file import PhotoFile

DATA = os.urandom(700_000)
PATH = b"s3://photos/some prefix/caf\xc3\xa9.jpg"


@pytest.fixture(scope="module")
def bucket() -> Iterator[Bucket]:
    with Bucket() as bucket, used_here(bucket):
        yield bucket


@pytest.fixture(autouse=True)
def _empty(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    yield
    bucket.failing, bucket.hangs, bucket.is_away = 0.0, 0.0, False
    delete_object(PATH)


def put(data: bytes = DATA, path: bytes = PATH) -> None:
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        put_object(path, file)
        # The caller's file stays open.
        file.seek(0)


def read(file: BinaryIO) -> bytes:
    with file:
        return file.read()


def test_an_object_is_read_as_it_was_stored(bucket: Bucket) -> None:
    put()
    status = object_status(PATH)
    assert status.size == len(DATA)
    assert abs(status.mtime_ns / 1e9 - time.time()) < 60
    assert read(open_object(PATH)) == DATA
    assert b"".join(read_object(PATH, 10, 300_000)) == DATA[10:300_000]
    assert b"".join(read_object(PATH, 699_999)) == DATA[699_999:]
    assert delete_object(PATH)
    assert not delete_object(PATH)
    with pytest.raises(FileNotFoundError):
        object_status(PATH)
    with pytest.raises(FileNotFoundError):
        open_object(PATH)


def test_large_files_are_sent_in_parts(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buckets, "_PART_BYTES", 5 << 20)
    data = os.urandom(11 << 20)
    bucket.requests.clear()
    put(data)
    assert bucket.requests["PUT"] == 3
    assert read(open_object(PATH)) == data


def test_larger_objects_than_a_limit_are_not_fetched(bucket: Bucket) -> None:
    put()
    for max_bytes in (len(DATA) - 1, 1000):
        with (
            pytest.raises(DecodeError, match="700,000 bytes, more than"),
            PhotoFile.open(PATH, DecodeLimits(max_bytes=max_bytes)),
        ):
            pass
    assert read(open_regular(PATH, max_bytes=len(DATA))) == DATA
    # A video is never read whole.
    video = b"\x1aE\xdf\xa3" + DATA
    put(video)
    assert read(open_regular(PATH, max_bytes=1000)) == video


def test_an_object_is_read_only_as_it_was(bucket: Bucket) -> None:
    put()
    etag = object_status(PATH).etag
    assert read(open_object(PATH, etag=etag)) == DATA
    put(DATA[1:])
    with pytest.raises(OSError, match="has changed") as told:
        read_object(PATH, 5, 9, etag=etag)
    assert told.value.errno == errno.ESTALE


def test_an_object_that_may_not_be_read_is_told_from_a_bucket_that_may_not(bucket: Bucket) -> None:
    put()
    key = os.fsdecode(PATH).removeprefix("s3://photos/")
    for code, error in (("AccessDenied", PermissionError), ("ExpiredToken", StoreUnavailable)):
        bucket.denied[key] = code
        with pytest.raises(error):
            open_object(PATH)
    bucket.denied.clear()


def test_a_presigned_url_needs_no_credentials(bucket: Bucket) -> None:
    put()
    url = presigned_url(PATH, seconds=60, answer_headers={"Content-Type": "image/jpeg"})
    answer = httpx.get(url, headers={"Range": "bytes=5-9"}, trust_env=False)
    assert (answer.status_code, answer.content) == (206, DATA[5:10])
    assert answer.headers["content-type"] == "image/jpeg"


def test_failing_requests_are_repeated(bucket: Bucket) -> None:
    bucket.failing, bucket.failed = 0.2, 0
    for number in range(12):
        data = io.BytesIO(DATA[number:]).getvalue()
        put(data)
        assert read(open_object(PATH)) == data
    assert bucket.failed > 2


def test_requests_that_hang_are_repeated(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buckets, "_READ_SECONDS", 1)
    with used_here(bucket):
        bucket.failing, bucket.hangs, bucket.hung = 0.2, 60.0, 0
        began = time.monotonic()
        for number in range(200):
            put(DATA[number:])
            assert read(open_object(PATH)) == DATA[number:]
            if bucket.hung == 2:
                break
        assert bucket.hung == 2
        assert time.monotonic() - began < 60


@pytest.mark.parametrize("path", [PATH, b"s3://no-such-bucket/a.jpg"])
def test_a_bucket_that_is_away_or_missing_says_nothing_about_objects(
    bucket: Bucket, path: bytes
) -> None:
    bucket.is_away = path == PATH
    with pytest.raises(StoreUnavailable, match=r"the bucket|no bucket"):
        object_status(path)
