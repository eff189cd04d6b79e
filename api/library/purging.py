"""Deletes assets for good, and the files of the managed store that no asset needs any more.

Works in portions, each of which is one transaction and then its files, so that others need not
wait and what was done stays done when the process is killed.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial
from itertools import compress

from regard.core.errors import RegardError, StoreUnavailable
from regard.photos.buckets import is_object
from regard.storage.assets.editing import Purged, SqlAssetEditing
from regard.storage.assets.uploads import SqlUploads
from regard.storage.database.catalog import Catalog
from regard.storage.files.bucket_originals import announced_at
from regard.storage.files.originals import LEFTOVER_SECONDS, SHA256_DIGITS, OriginalStore
from regard.storage.files.thumbnails import Thumbnails

_log = logging.getLogger(__name__)

# SQLite lets others write between two portions; they look for a chance ten times a second.
_PAUSE_SECONDS = 0.1
_LEFT_FILES_SECONDS = 600.0
# Files in a bucket that are deleted at once.
_DELETED_AT_ONCE = 8


class Purging:
    """Purges assets of one home. Thread-safe."""

    def __init__(self, catalog: Catalog, originals: OriginalStore, thumbnails: Thumbnails) -> None:
        self._database = catalog.database
        self._editing = SqlAssetEditing(catalog)
        self._uploads = SqlUploads(catalog)
        self._originals = originals
        self._thumbnails = thumbnails

    def purge_some(
        self,
        collection: int | None,
        *,
        trashed_only: bool = True,
        trashed_by: datetime | None = None,
    ) -> Purged:
        """Purge a portion, with its files; see `SqlAssetEditing.purge_some`."""
        purged = self._editing.purge_some(
            collection, trashed_only=trashed_only, trashed_by=trashed_by
        )
        self._delete(purged.originals)
        return purged

    def purge(
        self,
        collection: int | None,
        *,
        trashed_only: bool = True,
        trashed_by: datetime | None = None,
        should_stop: Callable[[], bool] = lambda: False,
        advance: Callable[[int], None] = lambda count: None,
    ) -> bool:
        """Purge portions until none is left, and return True; or until `should_stop`.

        `advance` is called with the size of each.
        """
        portions = 0
        while not should_stop():
            purged = self.purge_some(collection, trashed_only=trashed_only, trashed_by=trashed_by)
            advance(purged.assets)
            portions += 1
            if not purged.has_more:
                if portions > 1:
                    self._database.give_back_space(should_stop)
                return True
            time.sleep(_PAUSE_SECONDS)
        return False

    def delete_left_files(self) -> None:
        """Delete the files of portions and uploads whose process was killed before it did."""
        self._uploads.abandon()
        self._delete(self._uploads.forgotten_originals())

    def keep_deleting(self, stop: threading.Event) -> None:
        """Delete what is left every few minutes until `stop`, also once a bucket is back."""
        while not stop.wait(_LEFT_FILES_SECONDS):
            try:
                self.delete_left_files()
            except RegardError as error:
                _log.warning("files without assets have to wait: %s", error)

    def discard_unknown_thumbnails(self) -> None:
        """Delete thumbnails of this home whose contents other servers purged, or imports removed."""
        self._thumbnails.keep_only(self._uploads.known_contents)

    def discard_unused(self, names: Sequence[str]) -> None:
        """Delete the files of uploads that have become no asset, unless another asset needs them."""
        if names:
            self._uploads.abandon(names)
            self._delete(names)

    def discard_unneeded(self, name: str) -> None:
        """Delete the managed file of a name if no asset needs it; raises CannotWork."""
        is_needed = partial(self._uploads.needs, self._originals.path_of(name))
        # A file that is gone already may have thumbnails: a process was killed in between.
        if self._originals.discard(name, unless=is_needed) or not is_needed():
            self._thumbnails.discard(name[:SHA256_DIGITS])

    def _delete(self, names: Sequence[str]) -> None:
        errors: list[StoreUnavailable] = []

        def is_discarded(name: str) -> bool:
            if errors:
                return False
            try:
                self.discard_unneeded(name)
            except StoreUnavailable as error:
                errors.append(error)
                return False
            return True

        if names and is_object(self._originals.path_of(names[0])):
            # A bucket takes some requests for each, and may be slow to answer.
            with ThreadPoolExecutor(_DELETED_AT_ONCE) as threads:
                outcomes = list(threads.map(is_discarded, names))
        else:
            outcomes = [is_discarded(name) for name in names]
        done = list(compress(names, outcomes))
        if errors:
            # They stay noted, and are deleted later.
            _log.warning("%d files are to be deleted later: %s", len(names) - len(done), errors[0])
        # The network may deliver a young object after it was deleted: that one is deleted again.
        limit = time.time() - LEFTOVER_SECONDS
        self._uploads.forget_originals([name for name in done if announced_at(name) < limit])
