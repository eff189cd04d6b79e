"""What a run writes, and the counts it keeps of it: one transaction a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from regard.core.catalog import IndexingCatalog, KnownAsset
from regard.core.errors import ModelError
from regard.core.records import Analysis, Image
from regard.indexer.decode import Photo
from regard.indexer.discover import Found, is_gone, lies_below
from regard.indexer.report import IndexReport, Progress


@dataclass(slots=True)
class Pending:
    """A content on its way through the models, and the files that turned out to be its twins.

    `photo` and the twins are without pixels; `image` goes once the models have seen it.
    """

    found: Found
    photo: Photo
    image: Image | None
    twins: list[tuple[Found, Photo]] = field(default_factory=list)

    @property
    def pixels(self) -> int:
        """Pixels of the picture."""
        return self.photo.content.width * self.photo.content.height


class Commits:
    """Writes assets and contents for one run; `count` is how many files are done."""

    def __init__(
        self,
        catalog: IndexingCatalog,
        roots: frozenset[bytes],
        report: IndexReport,
        progress: Progress | None,
    ) -> None:
        self.count = 0
        self._catalog = catalog
        self._roots = roots
        self._report = report
        self._progress = progress

    def save(self, pending: Pending, analysis: Analysis | str) -> None:
        """Write a content that the models have seen and all its files, or why they could not."""
        if isinstance(analysis, str):
            self._fail_all(pending, analysis)
            return
        photo = pending.photo
        try:
            self._catalog.save(
                pending.found.stamp,
                photo.content,
                photo.facts,
                analysis,
                signature=photo.signature,
            )
        except ModelError as error:
            # A vector that no index could take: this picture's trouble alone.
            self._fail_all(pending, error.message)
            return
        self._done()
        self._report.indexed += 1
        self._report.regions += len(analysis.regions)
        self._report.captions += len(analysis.captions)
        for found, twin in pending.twins:
            assets = self._catalog.assets_of_content(twin.content.sha256) or []
            self.attach(found, twin, assets)

    def attach(self, found: Found, photo: Photo, assets: Sequence[KnownAsset]) -> None:
        """Write an asset of a content that is stored: it changed in name, place or time only.

        `assets` are those of the same content; one whose file is gone from the roots was moved here.
        """
        path = found.stamp.path
        is_same = any(asset.stamp.path == path for asset in assets)
        moved_from = None
        if not is_same:
            gone = (
                asset.id
                for asset in assets
                if lies_below(asset.stamp.path, self._roots) and is_gone(asset.stamp.path)
            )
            moved_from = next(gone, None)
        self._catalog.attach(found.stamp, photo.content.sha256, photo.facts, moved_from=moved_from)
        self._done()
        if is_same:
            self._report.unchanged += 1
        elif moved_from is not None:
            self._report.moved += 1
        else:
            self._report.indexed += 1

    def fail(self, found: Found, reason: str) -> None:
        """Write a file that could not be used."""
        self._catalog.fail(found.stamp, reason)
        self._done()

    def _fail_all(self, pending: Pending, reason: str) -> None:
        for found in (pending.found, *(found for found, _ in pending.twins)):
            self.fail(found, reason)

    def _done(self) -> None:
        self.count += 1
        if self._progress is not None:
            self._progress.advance()
