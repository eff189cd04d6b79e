"""What each kind of job does, in runs of an indexer.

What it says, in errors and of what was passed over, names files by their root and the path below it:
others than the server's owner read it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

from regard.core.catalog import Failure
from regard.core.errors import NotFound, RootUnavailable
from regard.core.jobs import Job, JobKind
from regard.core.uris import absolute_path, uri_of_path
from regard.indexer.discover import require_root
from regard.indexer.report import IndexReport, Progress
from regard.indexer.run import Indexer

# Each upload is a root of its own, of which a run keeps some account.
_UPLOADS_AT_ONCE = 1000
_SUMMED = ("indexed", "unchanged", "moved", "removed", "regions", "captions", "seconds")


class WaitingOriginals(Protocol):
    """Lists the uploads of a collection that are not analysed yet."""

    def __call__(self, collection: str, *, failed: bool) -> Sequence[bytes]:
        """Their paths; with `failed`, also of those that could not be used."""


class JobWork:
    """Does jobs: `roots` are the configured ones by name, and nothing outside of them is imported.

    `indexer` makes the indexer into a collection; `imported_folders` gives the (root, path) that were
    ever imported into one. `for_all` does the jobs that are of no collection.
    """

    def __init__(
        self,
        indexer: Callable[[str], Indexer],
        roots: Mapping[str, bytes],
        waiting_originals: WaitingOriginals,
        imported_folders: Callable[[str], Sequence[tuple[str, str]]],
        for_all: Callable[[Job, Progress, Callable[[], bool]], IndexReport] | None = None,
    ) -> None:
        self._indexer = indexer
        self._roots = roots
        self._waiting_originals = waiting_originals
        self._imported_folders = imported_folders
        self._for_all = for_all

    def __call__(
        self, job: Job, progress: Progress, should_stop: Callable[[], bool]
    ) -> IndexReport:
        """Do a job; the sum of what its runs did.

        Raises NotFound for a root that is not configured any more, and what `Indexer.run` raises.
        """
        if job.collection is None:
            if self._for_all is None:
                raise ValueError(f"nothing here does jobs of kind {job.kind}")
            return self._for_all(job, progress, should_stop)
        total = IndexReport()
        for report in self._runs(job, job.collection, _InTurn(progress), should_stop):
            _add(total, report)
            if total.interrupted:
                break
        return total

    def _runs(
        self, job: Job, collection: str, progress: _InTurn, should_stop: Callable[[], bool]
    ) -> Iterator[IndexReport]:
        indexer = self._indexer(collection)
        retry_failed = job.retry_failed or job.kind is JobKind.REINDEX

        def run(paths: Sequence[bytes], confined_to: bytes | None) -> IndexReport:
            if should_stop():
                # Before the models are loaded for nothing.
                return IndexReport(interrupted=True)
            return indexer.run(
                paths,
                retry_failed=retry_failed,
                confined_to=confined_to,
                progress=progress.next(),
                should_stop=should_stop,
            )

        if job.kind is JobKind.IMPORT:
            yield self._import(job.root or "", [job.path or ""], run)
            return
        if job.kind is JobKind.REINDEX:
            yield from self._import_again(collection, run)
        for there, gone in self._uploads(collection, failed=retry_failed):
            yield IndexReport(failures=gone, unseen=gone)
            if there:
                yield run(there, None)

    def _import(self, name: str, paths: Sequence[str], run: _Run) -> IndexReport:
        """Index folders of one root, in one run, so that what was moved between them is noticed."""
        root = self._root(name)
        try:
            report = run([os.path.join(root, os.fsencode(path)) for path in paths], root)
        except RootUnavailable as error:
            raise RootUnavailable(
                _as_seen(error.message, name, root),
                remedy="look after the folder, or its mount, on the server",
            ) from error
        report.unseen = [
            Failure(_as_seen(failure.uri, name, root), failure.reason) for failure in report.unseen
        ]
        return report

    def _import_again(self, collection: str, run: _Run) -> Iterator[IndexReport]:
        """All that was ever imported; a folder that is not there any more does not hold up the others."""
        by_root: dict[str, list[str]] = {}
        for name, path in self._imported_folders(collection):
            try:
                require_root(os.path.join(self._root(name), os.fsencode(path)))
            except (NotFound, RootUnavailable):
                gone = [Failure(os.path.join(name, path), "it is not there, or can't be read")]
                yield IndexReport(failures=gone, unseen=gone)
            else:
                by_root.setdefault(name, []).append(path)
        for name, paths in by_root.items():
            yield self._import(name, paths, run)

    def _root(self, name: str) -> bytes:
        if name not in self._roots:
            raise NotFound(
                f"the server has no root {name!r} any more",
                remedy=f"start it with: --root {name}=FOLDER",
            )
        return absolute_path(self._roots[name])

    def _uploads(
        self, collection: str, *, failed: bool
    ) -> Iterator[tuple[list[bytes], list[Failure]]]:
        """Uploads that wait now, in portions: what is there, and what is gone.

        Those that come meanwhile have a job of their own, or this one would never end while they come.
        """
        waiting = self._waiting_originals(collection, failed=failed)
        for start in range(0, len(waiting), _UPLOADS_AT_ONCE):
            there, gone = [], []
            for path in waiting[start : start + _UPLOADS_AT_ONCE]:
                try:
                    require_root(path)
                    there.append(path)
                except RootUnavailable:
                    name = uri_of_path(os.path.basename(path))
                    gone.append(Failure(f"the upload {name}", "its file is gone"))
            yield there, gone


_Run = Callable[[Sequence[bytes], bytes | None], IndexReport]


class _InTurn:
    """Makes one progress of that of several runs, one after another."""

    def __init__(self, whole: Progress) -> None:
        self._whole = whole
        self._lock = threading.Lock()
        self._before = self._done = 0

    def next(self) -> Progress:
        """For the next run."""
        self._before = self._done
        return self

    def expect(self, total: int) -> None:
        """So many files need work in the run that goes on."""
        self._whole.expect(self._before + total)

    def advance(self) -> None:
        """One of them is done."""
        with self._lock:
            self._done += 1
        self._whole.advance()


def _add(total: IndexReport, report: IndexReport) -> None:
    for name in _SUMMED:
        setattr(total, name, getattr(total, name) + getattr(report, name))
    total.interrupted |= report.interrupted
    total.failures.extend(report.failures)
    total.unseen.extend(report.unseen)


def _as_seen(text: str, name: str, root: bytes) -> str:
    """The text with paths below a root as ROOT/path."""
    return text.replace(uri_of_path(root), name)
