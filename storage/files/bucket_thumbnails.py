"""Thumbnails that servers share in a bucket, `s3://bucket/prefix/thumbnails/ab/<sha256>/<variant>`.

A request never waits long for it: one attempt of a few seconds, and none for a while after one that
failed.
"""

from __future__ import annotations

import logging
import time

from regard.core.errors import StoreUnavailable
from regard.photos.buckets import delete_object, list_objects, quickly_read, quickly_write

_log = logging.getLogger(__name__)

_REST_SECONDS = 30.0


class BucketThumbnails:
    """The thumbnails at `uri`, such as `s3://bucket/prefix`; see `SharedThumbnails`."""

    def __init__(self, uri: str) -> None:
        self._folder = f"{uri}/thumbnails"
        self._rests_until = 0.0

    def find(self, sha256: str, variant: str) -> bytes | None:
        """As in the Protocol."""
        if self._rests():
            return None
        try:
            return quickly_read(self._path(sha256, variant)) or None
        except OSError:
            return None
        except StoreUnavailable as error:
            self._rest(error)
            return None

    def store(self, sha256: str, variant: str, data: bytes) -> None:
        """As in the Protocol."""
        if self._rests():
            return
        try:
            quickly_write(self._path(sha256, variant), data)
        except StoreUnavailable as error:
            self._rest(error)

    def discard(self, sha256: str) -> None:
        """As in the Protocol."""
        for path, _ in list_objects(self._path(sha256)):
            delete_object(path)

    def _path(self, sha256: str, *variant: str) -> bytes:
        return "/".join((self._folder, sha256[:2], sha256, *variant)).encode()

    def _rests(self) -> bool:
        return time.monotonic() < self._rests_until

    def _rest(self, error: StoreUnavailable) -> None:
        _log.warning("thumbnails are not shared for %.0f s: %s", _REST_SECONDS, error)
        self._rests_until = time.monotonic() + _REST_SECONDS
