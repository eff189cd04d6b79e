"""Deletes assets for good, and the files of the managed store that no asset needs any more.

Works in portions, each of which is one transaction and then its files, so that others need not
wait and what was done stays done when the process is killed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from datetime import datetime
from functools import partial
from pathlib import Path

from regard.storage.assets.editing import Purged, SqlAssetEditing
from regard.storage.assets.uploads import SqlUploads
from regard.storage.database.catalog import Catalog
from regard.storage.files.originals import Originals
from regard.storage.files.thumbnails import Thumbnails

# SQLite lets others write between two portions; they look for a chance ten times a second.
_PAUSE_SECONDS = 0.1


class Purging:
    """Purges assets of one home. Thread-safe."""

    def __init__(self, catalog: Catalog, home: Path) -> None:
        """`home` is the folder that holds originals and thumbnails."""
        self._database = catalog.database
        self._editing = SqlAssetEditing(catalog)
        self._uploads = SqlUploads(catalog)
        self._originals = Originals(home / "originals")
        self._thumbnails = Thumbnails(home / "thumbnails")

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
        """Delete the files of portions whose process was killed before it did."""
        self._delete(self._uploads.forgotten_originals())

    def discard_unneeded(self, digests: Iterable[str]) -> None:
        """Delete the managed files with these SHA-256 digests that no asset needs."""
        for sha256 in digests:
            is_needed = partial(self._uploads.needs, self._originals.path_of(sha256))
            # A file that is gone already may have thumbnails: a process was killed in between.
            if self._originals.discard(sha256, unless=is_needed) or not is_needed():
                self._thumbnails.discard(sha256)

    def _delete(self, digests: list[str]) -> None:
        self.discard_unneeded(digests)
        self._uploads.forget_originals(digests)
