"""Does each kind of job by running an indexer.

Errors and skipped files are named by root and path below it, because people other than the
server's owner read them.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

from regard.core.catalog import Failure
from regard.core.errors import NotFound, RootUnavailable
from regard.core.jobs import Job, JobKind
from regard.indexer.changes import MOST_PARTS, QUIET_SECONDS, coarsened
from regard.indexer.discover import require_root
from regard.indexer.exclusions import ExclusionChange
from regard.indexer.indexing import Indexer
from regard.indexer.report import IndexReport, Progress
from regard.photos.files import absolute_path, uri_of_path

# Each upload is a root, and a run keeps some state per root.
_UPLOADS_AT_ONCE = 1000
_SUMMED = (
    *("indexed", "unchanged", "moved", "removed", "left_out"),
    *("regions", "captions", "damaged_sidecars", "skipped_videos", "read", "lines", "seconds"),
)


class WaitingOriginals(Protocol):
    """Lists the uploads of a collection that are not analysed yet."""

    def __call__(self, collection: str, *, failed: bool, analysed: bool = False) -> Sequence[bytes]:
        """Their paths; with `failed` and `analysed`, including such ones."""


class JobWork:
    """Does jobs; `roots` are the configured ones by name, and nothing outside them is imported.

    `indexer` returns the indexer of a collection, `imported_folders` the (root, path) pairs that
    were ever imported into one. `for_all` does the jobs that need no indexer.
    """

    def __init__(
        self,
        indexer: Callable[[str], Indexer],
        roots: Mapping[str, bytes],
        waiting_originals: WaitingOriginals,
        imported_folders: Callable[[str], Sequence[tuple[str, str]]],
        for_all: Callable[[Job, Progress], IndexReport] | None = None,
    ) -> None:
        self._indexer = indexer
        self._roots = roots
        self._waiting_originals = waiting_originals
        self._imported_folders = imported_folders
        self._for_all = for_all

    def __call__(self, job: Job, progress: Progress) -> IndexReport:
        """Do a job and add up the reports of its runs.

        Raises NotFound for a root that is no longer configured, and whatever `Indexer.run` raises.
        """
        if job.collection is None or job.kind is JobKind.PURGE:
            if self._for_all is None:
                raise ValueError(f"nothing here does jobs of kind {job.kind}")
            return self._for_all(job, progress)
        total = IndexReport()
        for report in self._runs(job, job.collection, _RunsProgress(progress)):
            _add(total, report)
            if total.interrupted:
                break
        return total

    def _runs(self, job: Job, collection: str, progress: _RunsProgress) -> Iterator[IndexReport]:
        indexer = self._indexer(collection)
        retry_failed = job.retry_failed or job.kind is JobKind.REINDEX
        exclusion_change = None
        parts: list[bytes] = []
        if job.changed:
            root = self._root(job.root or "")
            below = (
                os.path.join(root, os.fsencode(path)) if path else root for path in job.changed
            )
            parts = coarsened(list(below), MOST_PARTS, root)
        elif job.kind is JobKind.IMPORT:
            exclusion_change = ExclusionChange(job.exclude, job.include, job.clear_exclusions)

        def run(paths: Sequence[bytes], confined_to: bytes | None) -> IndexReport:
            if progress.should_stop():
                # Do not load the models for nothing.
                return IndexReport(interrupted=True)
            return indexer.run(
                paths,
                parts=parts,
                quiet_seconds=QUIET_SECONDS if parts else 0.0,
                retry_failed=retry_failed,
                reread=job.reread,
                confined_to=confined_to,
                exclusion_change=exclusion_change,
                progress=progress.next(),
            )

        if job.kind is JobKind.IMPORT:
            yield self._import(job.root or "", [job.path or ""], run)
            return
        if job.kind is JobKind.REINDEX:
            yield from self._import_again(collection, run)
        for existing, missing in self._uploads(
            collection, failed=retry_failed, analysed=job.reread
        ):
            yield IndexReport(failures=missing, unseen=missing)
            if existing:
                yield run(existing, None)

    def _import(self, name: str, paths: Sequence[str], run: _Run) -> IndexReport:
        """Index folders of one root in one run, so that moves between them are recognised."""
        root = self._root(name)
        try:
            report = run([os.path.join(root, os.fsencode(path)) for path in paths], root)
        except RootUnavailable as error:
            raise RootUnavailable(
                _named_by_root(error.message, name, root),
                remedy="check the folder, or its mount, on the server",
            ) from error
        report.unseen = [
            Failure(_named_by_root(failure.uri, name, root), failure.reason)
            for failure in report.unseen
        ]
        return report

    def _import_again(self, collection: str, run: _Run) -> Iterator[IndexReport]:
        """Index all folders ever imported; a missing one does not block the others."""
        by_root: dict[str, list[str]] = {}
        for name, path in self._imported_folders(collection):
            try:
                require_root(absolute_path(os.path.join(self._root(name), os.fsencode(path))))
            except (NotFound, RootUnavailable):
                gone = [Failure(os.path.join(name, path), "it is missing or can't be read")]
                yield IndexReport(failures=gone, unseen=gone)
            else:
                by_root.setdefault(name, []).append(path)
        for name, paths in by_root.items():
            yield self._import(name, paths, run)

    def _root(self, name: str) -> bytes:
        if name not in self._roots:
            raise NotFound(
                f"the server no longer has a root {name!r}",
                remedy=f"start it with: --root {name}=FOLDER",
            )
        return absolute_path(self._roots[name])

    def _uploads(
        self, collection: str, *, failed: bool, analysed: bool
    ) -> Iterator[tuple[list[bytes], list[Failure]]]:
        """The uploads waiting now, in portions: existing files, and failures for missing ones.

        Later uploads have their own job; otherwise this one might never end.
        """
        waiting = self._waiting_originals(collection, failed=failed, analysed=analysed)
        for start in range(0, len(waiting), _UPLOADS_AT_ONCE):
            existing, missing = [], []
            for path in waiting[start : start + _UPLOADS_AT_ONCE]:
                try:
                    require_root(path)
                    existing.append(path)
                except RootUnavailable:
                    name = uri_of_path(os.path.basename(path))
                    missing.append(Failure(f"the upload {name}", "its file is gone"))
            yield existing, missing


_Run = Callable[[Sequence[bytes], bytes | None], IndexReport]


class _RunsProgress(Progress):
    """Combines the progress of consecutive runs."""

    def __init__(self, whole: Progress) -> None:
        self._whole = whole
        self._lock = threading.Lock()
        self._before = self._done = 0

    def next(self) -> Progress:
        """Start the next run."""
        self._before = self._done
        return self

    def expect(self, total: int) -> None:
        """See `Progress`; `total` is that of the current run."""
        self._whole.expect(self._before + total)

    def advance(self, count: int = 1) -> None:
        """See `Progress`."""
        with self._lock:
            self._done += count
        self._whole.advance(count)

    def should_stop(self) -> bool:
        """See `Progress`."""
        return self._whole.should_stop()


def _add(total: IndexReport, report: IndexReport) -> None:
    for name in _SUMMED:
        setattr(total, name, getattr(total, name) + getattr(report, name))
    total.interrupted |= report.interrupted
    total.failures.extend(report.failures)
    total.unseen.extend(report.unseen)


def _named_by_root(text: str, name: str, root: bytes) -> str:
    """Replace the root's path by its name."""
    return text.replace(uri_of_path(root), name)
