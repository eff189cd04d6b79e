"""`regard index` on a server: photographs are found here, sent there, and looked at there.

Files are told from others as a home does it. The server keeps each content once, so the same command again
carries on where an interrupted one stopped, and what failed is tried again. Sidecars are not sent.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

import click

from regard.api.cli.app import DONE, DONE_WITH_FAILURES, INTERRUPTED, write_json
from regard.api.cli.commands.index import describe_report
from regard.api.cli.options import ChosenServer
from regard.api.cli.progress import progress_bar, stop_request
from regard.api.cli.remote import open_client
from regard.api.client import Client, Filters, ServerProblem
from regard.api.client.jobs import ENDED
from regard.api.http.schemas import JobDocument, UploadAnswer
from regard.core.catalog import Failure, FileStamp
from regard.core.errors import CannotWork, RootUnavailable
from regard.core.uris import uri_of_path
from regard.indexer.discover import Walk, distinct_roots, require_root
from regard.indexer.report import IndexReport

_FILES_AT_ONCE = 16
_BYTES_AT_ONCE = 64 << 20
_LOOK_SECONDS = 0.2
# What is wrong with one file, not with the request around it.
_OF_ONE_FILE = {"too-large", "unsupported-media", "unusable-image"}


def index_on_server(
    server: ChosenServer, paths: Sequence[bytes], collection: str, *, as_json: bool
) -> int:
    """Send the photographs at or below the paths, and wait until the server has looked at them."""
    roots = distinct_roots(paths)
    for root in roots:
        try:
            require_root(root)
        except RootUnavailable as error:
            raise RootUnavailable(error.message, remedy="check the path") from error
    with open_client(server) as client, stop_request() as stop:
        run = _Run(client, collection, stop)
        run.index(roots)
    report = run.report
    if as_json:
        write_json(report.to_json())
    else:
        describe_report(report)
    if report.interrupted:
        click.echo("regard: interrupted; run the same command to carry on", err=True)
        return INTERRUPTED
    return DONE_WITH_FAILURES if report.failures else DONE


class _Run:
    """One run: what was sent, as which asset, and the jobs that look at it."""

    def __init__(self, client: Client, collection: str, stop: threading.Event) -> None:
        self.report = IndexReport()
        self._client = client
        self._collection = collection
        self._stop = stop
        self._limits = client.info().limits
        # By asset: the first place it came from. `new` are those that the server has yet to look at.
        self._sent: dict[str, str] = {}
        self._new: set[str] = set()
        self._jobs: dict[str, JobDocument] = {}

    def index(self, roots: Iterable[bytes]) -> None:
        """Send all, wait for all, and fill in the report."""
        started = time.perf_counter()
        stamps = self._find(roots)
        with progress_bar("sending") as progress:
            if progress is not None:
                progress.expect(len(stamps))
            for batch in self._batches(stamps):
                if self._stop.is_set():
                    break
                self._send(batch)
                if progress is not None:
                    for _ in batch:
                        progress.advance()
        self._wait()
        self._settle()
        self.report.interrupted = self._stop.is_set()
        self.report.seconds = time.perf_counter() - started

    def _find(self, roots: Iterable[bytes]) -> list[FileStamp]:
        stamps = []
        for root in roots:
            walk = Walk(root, self._stop.is_set)
            for found in walk:
                if found.trouble is None:
                    stamps.append(found.stamp)
                else:
                    self._fail(found.stamp.path, found.trouble)
            for folder, reason in walk.unreadable:
                self._fail(folder, f"the folder can't be read: {reason}")
        return stamps

    def _batches(self, stamps: Iterable[FileStamp]) -> Iterator[list[bytes]]:
        batch: list[bytes] = []
        size = 0
        for stamp in stamps:
            if stamp.size > self._limits.upload_bytes:
                limit = f"{self._limits.upload_bytes:,}"
                self._fail(stamp.path, f"it has more than the {limit} bytes that the server takes")
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
        """Send some files; when it fails for one of them, each by itself, to tell which."""
        try:
            answer = self._client.assets.upload(
                *map(os.fsdecode, batch), collection=self._collection
            )
        except OSError as error:
            if len(batch) == 1:
                self._fail(batch[0], f"it can't be read: {error.strerror or error}")
                return
        except ServerProblem as problem:
            if problem.name not in _OF_ONE_FILE:
                raise
            if len(batch) == 1:
                self._fail(batch[0], problem.detail)
                return
        else:
            self._take(batch, answer)
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
                # The same bytes at another place are one asset there.
                self.report.unchanged += 1
            else:
                self._sent[item.asset.id] = uri_of_path(path)
                if item.status == "existing" and item.asset.state == "indexed":
                    self.report.unchanged += 1
                else:
                    self._new.add(item.asset.id)

    def _wait(self) -> None:
        """Follow the jobs until they have ended, or the user wants no more; raises CannotWork."""
        with progress_bar("indexing") as progress:
            shown = 0
            while (jobs := self._open_jobs()) and not self._stop.wait(_LOOK_SECONDS):
                for id in jobs:
                    self._jobs[id] = self._client.jobs.get(id)
                if progress is not None:
                    done = sum(job.done for job in self._jobs.values())
                    progress.expect(sum(job.total or job.done for job in self._jobs.values()))
                    for _ in range(done - shown):
                        progress.advance()
                    shown = max(shown, done)
        for job in self._jobs.values():
            if job.state in {"failed", "cancelled"}:
                why = f": {job.message}" if job.message else ""
                raise CannotWork(
                    f"the job {job.id} of the server ended as {job.state}{why}",
                    remedy="run the same command to carry on",
                )

    def _open_jobs(self) -> list[str]:
        return [id for id, job in self._jobs.items() if job.state not in ENDED]

    def _settle(self) -> None:
        """Count what became of the assets."""
        report = self.report
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
        self.report.failures.append(Failure(uri_of_path(path), reason))
