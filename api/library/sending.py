"""Indexing on a server: files are found here, sent, and analysed there.

Files are recognised as a home does it. The server keeps each content once, so the same call again
carries on where an interrupted one stopped, and tries again what failed. Sidecars are not sent.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

from regard.api.client import Client, Filters, ServerProblem
from regard.api.client.jobs import ENDED
from regard.api.schemas import JobDocument, UploadAnswer
from regard.core.catalog import Failure, FileStamp
from regard.core.errors import CannotWork, RootUnavailable, UsageError
from regard.indexer.discover import distinct_roots, require_root
from regard.indexer.exclusions import NO_EXCLUSION_CHANGE, ExclusionChange, Exclusions
from regard.indexer.folder_walk import FolderWalk
from regard.indexer.report import IndexReport, Progress
from regard.photos.buckets import is_object
from regard.photos.files import uri_of_path
from regard.photos.formats import VIDEO_SUFFIXES

_FILES_AT_ONCE = 16
_BYTES_AT_ONCE = 64 << 20
_LOOK_SECONDS = 0.2
# Problems of one file, not of the request around it.
_FILE_PROBLEMS = {"too-large", "unsupported-media", "unusable-image"}


class Sending:
    """One run: sends the files, waits for the jobs that analyse them, and reports."""

    def __init__(
        self,
        client: Client,
        collection: str,
        progress: Progress,
        exclusion_change: ExclusionChange = NO_EXCLUSION_CHANGE,
    ) -> None:
        self._report = IndexReport()
        self._client = client
        self._collection = collection
        self._progress = progress
        self._exclusion_change = exclusion_change
        # The first place that each asset came from, and the assets that wait for analysis.
        self._sent: dict[str, str] = {}
        self._new: set[str] = set()
        self._jobs: dict[str, JobDocument] = {}

    def run(self, paths: Sequence[bytes]) -> IndexReport:
        """Send what is at or below the paths; raises RootUnavailable, ServerProblem, CannotWork,
        and UsageError for a bucket."""
        roots = distinct_roots(paths)
        for root in roots:
            if is_object(root):
                raise UsageError(
                    "a bucket is not sent to a server",
                    remedy="start the server with --root NAME=s3://… and import from there",
                )
            try:
                require_root(root)
            except RootUnavailable as error:
                raise RootUnavailable(error.message, remedy="check the path") from error
        started = time.perf_counter()
        self._limits = self._client.info().limits
        stamps = self._find(roots)
        self._progress.begin("sending")
        self._progress.expect(len(stamps))
        for batch in self._batches(stamps):
            if self._progress.should_stop():
                break
            self._send(batch)
            self._progress.advance(len(batch))
        self._wait()
        self._count()
        self._report.interrupted = self._progress.should_stop()
        self._report.seconds = time.perf_counter() - started
        return self._report

    def _find(self, roots: Sequence[bytes]) -> list[FileStamp]:
        stamps = []
        # The server knows none of these paths, so nothing is remembered.
        _, added = self._exclusion_change.changes_to([], list(roots), None)
        exclusions = Exclusions(added)
        for root in roots:
            walk = FolderWalk(root, self._progress.should_stop, exclusions=exclusions)
            for found in walk:
                if found.failure_reason is None:
                    stamps.append(found.stamp)
                else:
                    self._fail(found.stamp.path, found.failure_reason)
            for folder, reason in walk.unreadable:
                self._fail(folder, f"the folder can't be read: {reason}")
            self._report.left_out += walk.left_out
        return stamps

    def _batches(self, stamps: Iterable[FileStamp]) -> Iterator[list[bytes]]:
        batch: list[bytes] = []
        size = 0
        for stamp in stamps:
            is_video = os.path.splitext(stamp.path)[1].lower() in VIDEO_SUFFIXES
            limit = self._limits.video_bytes if is_video else self._limits.upload_bytes
            if limit is None:
                self._report.skipped_videos += 1
                continue
            if stamp.size > limit:
                self._fail(
                    stamp.path, f"it has more than the {limit:,} bytes that the server takes"
                )
                continue
            is_full = len(batch) == min(_FILES_AT_ONCE, self._limits.upload_files)
            if batch and (is_full or size + stamp.size > _BYTES_AT_ONCE):
                yield batch
                batch, size = [], 0
            batch.append(stamp.path)
            size += stamp.size
        if batch:
            yield batch

    def _send(self, batch: Sequence[bytes]) -> None:
        """Send some files; when one of them fails the request, send each alone to learn which."""
        try:
            answer = self._client.assets.upload(
                *map(os.fsdecode, batch), collection=self._collection
            )
        except OSError as error:
            reason = f"it can't be read: {error.strerror or error}"
        except ServerProblem as problem:
            if problem.name not in _FILE_PROBLEMS:
                raise
            reason = problem.detail
        else:
            self._take(batch, answer)
            return
        if len(batch) == 1:
            self._fail(batch[0], reason)
            return
        for path in batch:
            self._send([path])

    def _take(self, batch: Sequence[bytes], answer: UploadAnswer) -> None:
        if answer.job is not None:
            self._jobs[answer.job.id] = answer.job
        for path, item in zip(batch, answer.items, strict=True):
            if item.asset is None:
                self._fail(path, str((item.problem or {}).get("detail") or "the server refused it"))
            elif item.asset.id in self._sent:
                # The same bytes at another place are one asset of the server.
                self._report.unchanged += 1
            else:
                self._sent[item.asset.id] = uri_of_path(path)
                if item.status == "existing" and item.asset.state == "indexed":
                    self._report.unchanged += 1
                else:
                    self._new.add(item.asset.id)

    def _wait(self) -> None:
        """Follow the jobs until they have ended, or are stopped; raises CannotWork."""
        self._progress.begin("indexing")
        seen = 0
        while (running := self._running_jobs()) and not self._progress.should_stop():
            time.sleep(_LOOK_SECONDS)
            for id in running:
                self._jobs[id] = self._client.jobs.get(id)
            done = sum(job.done for job in self._jobs.values())
            self._progress.expect(sum(job.total or job.done for job in self._jobs.values()))
            self._progress.advance(max(0, done - seen))
            seen = max(seen, done)
        for job in self._jobs.values():
            if job.state in {"failed", "cancelled"}:
                why = f": {job.message}" if job.message else ""
                raise CannotWork(
                    f"the job {job.id} of the server ended as {job.state}{why}",
                    remedy="run the same command to carry on",
                )

    def _running_jobs(self) -> list[str]:
        return [id for id, job in self._jobs.items() if job.state not in ENDED]

    def _count(self) -> None:
        """Count what became of the assets."""
        report = self._report
        if self._new:
            failed = self._among_new("failed")
            waiting = self._among_new("pending")
            for id in sorted(failed, key=self._sent.__getitem__):
                reason = self._client.assets.get(id).failure or "the server could not use it"
                report.failures.append(Failure(self._sent[id], reason))
            report.indexed = len(self._new) - len(failed) - len(waiting)
        for job in self._jobs.values():
            counts = job.report or {}
            report.regions += int(counts.get("regions", 0))
            report.captions += int(counts.get("captions", 0))

    def _among_new(self, state: Literal["failed", "pending"]) -> set[str]:
        assets = self._client.assets.iterate(
            Filters(collection=[self._collection]), state=state, page=self._limits.page
        )
        return self._new.intersection(asset.id for asset in assets)

    def _fail(self, path: bytes, reason: str) -> None:
        self._report.failures.append(Failure(uri_of_path(path), reason))
