"""Writes what people said of photographs into XMP sidecars; the photographs are never touched.

What is written is what the file and its sidecar say now, with the edits on top. So nothing is lost
that another program wrote since the photograph was indexed, and a call that was killed is made
good by the next one.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from regard.core.annotations import EditedAsset, EditedAssets
from regard.core.catalog import Failure, FileStamp, WriterLease
from regard.core.errors import DecodeError, RegardError
from regard.core.facts import PhotoFacts
from regard.indexer.report import SILENT, Progress
from regard.photos.files import uri_of_path
from regard.photos.formats import PhotoFormat
from regard.photos.media import open_media
from regard.photos.metadata.xmp import XmpPacket, read_xmp
from regard.photos.metadata.xmp_writing import says, writable, write_xmp
from regard.photos.sidecars import SidecarFolder

_log = logging.getLogger(__name__)

_PAGE = 1000


@dataclass(slots=True)
class SidecarReport:
    """What a call of `write_sidecars` did.

    `sidecars` are the paths of those that were written, or would be in a dry run. `unchanged`
    counts edited photographs whose files say it all, `without_folder` those that are uploads or
    lie in a bucket, where no sidecar is written.
    """

    sidecars: list[str] = field(default_factory=list)
    unchanged: int = 0
    without_folder: int = 0
    seconds: float = 0.0
    interrupted: bool = False
    failures: list[Failure] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """The documented JSON form."""
        return {
            "written": len(self.sidecars),
            "unchanged": self.unchanged,
            "without_folder": self.without_folder,
            "failed": len(self.failures),
            "seconds": round(self.seconds, 3),
            "sidecars": self.sidecars,
            "failures": [asdict(failure) for failure in self.failures],
        }


def write_sidecars(
    assets: EditedAssets, *, dry_run: bool = False, progress: Progress = SILENT
) -> SidecarReport:
    """Write the sidecars of all edited assets whose files don't say what was said of them.

    A file or folder that can't be used is a failure, and the others go on. Raises LeaseHeld while
    another process indexes.
    """
    started = time.monotonic()
    report = SidecarReport(without_folder=assets.count_without_folder())
    progress.expect(assets.count())
    with (
        contextlib.nullcontext() if dry_run else assets.writer_lease() as lease,
        contextlib.ExitStack() as opened,
    ):
        writer = _Writer(assets, lease, opened, report)
        for asset in _pages(assets):
            if progress.should_stop():
                report.interrupted = True
                break
            writer.write(asset)
            progress.advance()
    report.seconds = time.monotonic() - started
    return report


def _pages(assets: EditedAssets) -> Iterator[EditedAsset]:
    page = assets.page(0, _PAGE)
    while page:
        yield from page
        page = assets.page(page[-1].id, _PAGE)


class _Writer:
    """Writes one sidecar after another; without a `lease`, only tells which."""

    def __init__(
        self,
        assets: EditedAssets,
        lease: WriterLease | None,
        opened: contextlib.ExitStack,
        report: SidecarReport,
    ) -> None:
        self._assets = assets
        self._lease = lease
        self._opened = opened
        self._report = report
        self._last: SidecarFolder | None = None

    def write(self, asset: EditedAsset) -> None:
        """Write the sidecar of an asset, and report what became of it."""
        try:
            settled = self._write(asset)
        except DecodeError as error:
            self._fail(asset, error.message)
        except RegardError:
            raise
        except OSError as error:
            self._fail(asset, f"its sidecar can't be written: {error.strerror or error}")
        except Exception as error:  # noqa: BLE001 - one file must not stop the run
            _log.info("writing a sidecar failed", exc_info=True)
            self._fail(asset, f"its sidecar can't be written: {type(error).__name__}: {error}")
        else:
            if settled is not None:
                self._assets.settle(asset, *settled)

    def _fail(self, asset: EditedAsset, reason: str) -> None:
        self._report.failures.append(Failure(uri_of_path(asset.stamp.path), reason))

    def _write(self, asset: EditedAsset) -> tuple[PhotoFacts, str | None] | None:
        """What the file says now, and its sidecar's stamp; None if the next run must read it."""
        path = asset.stamp.path
        name = os.path.basename(path)
        with open_media(path, name=os.fsdecode(name)) as file:
            status = os.stat(path)
            folder = self._folder(os.path.dirname(path))
            sidecar = folder.find(name, is_raw=file.format is PhotoFormat.RAW)
            packet = XmpPacket() if sidecar.packet is None else read_xmp(sidecar.packet)
            facts = file.facts(packet)
            stamp = FileStamp(path, status.st_size, status.st_mtime_ns, sidecar.stamp)
            wanted = writable(asset.applied_to(facts))
            written = sidecar.stamp
            if says(facts, wanted):
                self._report.unchanged += 1
            else:
                new = write_xmp(sidecar.packet, wanted)
                facts = file.facts(read_xmp(new))
                if not says(facts, wanted):
                    raise DecodeError("its sidecar would still say something else")
                if self._lease is not None:
                    self._lease.check()
                    written = folder.write(sidecar, new)
                self._report.sidecars.append(uri_of_path(os.path.join(folder.path, sidecar.name)))
        is_current = self._lease is not None and stamp.is_unchanged_since(asset.stamp)
        return (facts, written) if is_current else None

    def _folder(self, path: bytes) -> SidecarFolder:
        """The folder, listed once for its photographs that follow each other."""
        if self._last is None or self._last.path != path:
            self._opened.close()
            self._last = None
            self._last = self._opened.enter_context(contextlib.closing(SidecarFolder(path)))
        return self._last
