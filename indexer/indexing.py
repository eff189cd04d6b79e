"""Indexes photographs into a collection, and removes those whose files are gone.

    discover ─▶ reader threads: read, hash, decode ─▶ batches ─▶ analyzer threads ─▶ commit

The caller's thread decides and commits; contents that are analysed meanwhile share a transaction.
`regard.indexer.analysis` has the stages around it.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from regard.core.catalog import (
    AnalysedFile,
    ContentHeader,
    Failure,
    IndexingCatalog,
    WriterLease,
)
from regard.core.errors import (
    DecodeError,
    ModelError,
    RegardError,
    RootUnavailable,
    UnstorableValue,
)
from regard.core.facts import PhotoFacts
from regard.core.records import Analysis, Image, Signature
from regard.indexer.analysis import (
    AnalysisSetup,
    AnalysisStages,
    EncodedImage,
    reason_unread,
)
from regard.indexer.discover import (
    compare,
    distinct_roots,
    emptied,
    holds_photo,
    is_gone,
    lies_below,
    parts_by_root,
    require_root,
    walk_type,
)
from regard.indexer.exclusions import NO_EXCLUSION_CHANGE, ExclusionChange, Exclusions
from regard.indexer.removing import in_portions
from regard.indexer.report import SILENT, IndexReport, Progress
from regard.indexer.videos import VideoSource
from regard.indexer.walk import Candidate, Likeness, Status, Walk, WalkEntry
from regard.photos.decoding import DecodeLimits
from regard.photos.files import LEADS_OUT, Confinement, absolute_path, real_path, uri_of_path
from regard.photos.media import open_media
from regard.photos.metadata.reading import read_sidecar
from regard.photos.photo_file import looks_like_photo, sign

_log = logging.getLogger(__name__)

# A batch also closes once this many files are copies of its photographs.
_BATCH_COPIES = 256
_FEW_COPIES, _MOVES_KEPT = 8, 1000
_NO_CONTENT = ContentHeader("", "", 0, 0)


@dataclass(slots=True)
class _Photo:
    """A file as read, on its way to the catalog.

    `is_other` if it is not a photograph, and nothing says that it should be one. `failure_reason`
    says why it can't be used; otherwise `content` and `facts` are set, and `image` and `signature`
    too unless the content was stored already after `commits` of this run. An encoded image has its
    signature, and its size as decoded, after the analysis; a video never has a signature. `image`
    goes once the models have seen it. `copies` are files with the same bytes, read meanwhile.
    """

    entry: WalkEntry
    commits: int
    failure_reason: str | None = None
    is_other: bool = False
    content: ContentHeader = _NO_CONTENT
    facts: PhotoFacts = field(default_factory=PhotoFacts)
    has_damaged_sidecar: bool = False
    image: Image | EncodedImage | VideoSource | None = None
    signature: Signature | None = None
    copies: list[_Photo] = field(default_factory=list)

    @property
    def pixels(self) -> int:
        return self.content.width * self.content.height

    def sign(self, signature: Signature) -> None:
        self.signature = signature
        self.content = replace(self.content, width=signature.width, height=signature.height)


@dataclass(frozen=True, slots=True)
class Indexer:
    """Indexes roots into one collection.

    What lies in `own`, the folders where regard keeps its own files, is never indexed, except for
    named uploads.
    """

    catalog: IndexingCatalog
    setup: AnalysisSetup
    own: Sequence[bytes] = ()

    def run(
        self,
        paths: Sequence[str | bytes | os.PathLike[str]],
        *,
        parts: Sequence[bytes] = (),
        quiet_seconds: float = 0.0,
        retry_failed: bool = False,
        reread: bool = False,
        confined_to: bytes | None = None,
        exclusion_change: ExclusionChange | None = NO_EXCLUSION_CHANGE,
        progress: Progress = SILENT,
    ) -> IndexReport:
        """Index everything at or below the paths, except for what exclusions leave out.

        Exclusions are remembered for later runs; a path that a person names here is never left
        out, nor by later runs over the folders above it. Without an `exclusion_change`, None, no
        person named the paths: those that were removed since are left out.

        Given `parts`, absolute paths of what may have changed below the paths, only what lies at or
        below them is looked at. What changed in the last `quiet_seconds` stays as it is.

        With `reread`, unchanged files are read again for their facts, without the models.

        Once `progress` says so, what is in the models is committed and the report says
        `interrupted`; the next run continues. Files that links lead to outside the folder
        `confined_to` are not read and count as failures. Raises RootUnavailable if a path is
        missing or unreadable, lies in `own`, or has no photograph left although it had some;
        StoreUnavailable if a bucket does not answer; OutsideRoots if a path leads out of
        `confined_to`; UsageError for a malformed pattern; LeaseHeld if another process indexes;
        ModelError if the models can't be loaded.
        """
        started = time.perf_counter()
        roots = distinct_roots(paths)
        confinement = None if confined_to is None else Confinement.to(confined_to)
        for root in roots:
            require_root(root, confinement)
            if exclusion_change is not None or parts:
                self._require_not_own(root)
        with self.catalog.writer_lease() as lease:
            known = self.catalog.exclusions()
            if exclusion_change is None:
                remembered = Exclusions(known)
                roots = [root for root in roots if not remembered.was_removed(root)]
            else:
                forget, add = exclusion_change.changes_to(
                    known, [*map(absolute_path, paths)], confinement
                )
                if forget or add:
                    self.catalog.change_exclusions(forget, add)
                    known = self.catalog.exclusions()
            exclusions = Exclusions(known, self.own)
            for root in roots:
                # Check first: with a disk missing, copies elsewhere would look like moved files.
                walk = walk_type(root)(root, exclusions=exclusions)
                if walk.is_empty() and next(self.catalog.known_assets(root), None):
                    raise emptied(root)
            walked = parts_by_root(frozenset(roots), parts) if parts else dict.fromkeys(roots, ())
            # An unusable index should fail before the work, not after it.
            self.setup.indexes.catch_up()
            run = _Run(
                *(self.catalog, self.setup, lease, roots, walked, quiet_seconds),
                *(retry_failed, reread, confinement, exclusions, progress),
            )
            try:
                run.index()
            except BaseException:
                # An index error must not hide the first one.
                with contextlib.suppress(RegardError):
                    self._keep_indexes()
                raise
            self.catalog.update_stacks()
            self._keep_indexes()
        report = run.report
        report.unseen = list(report.failures)
        report.failures[:0] = self.catalog.failures(parts or roots)
        report.seconds = time.perf_counter() - started
        return report

    def _require_not_own(self, root: bytes) -> None:
        real = real_path(root)
        for own in map(real_path, self.own):
            if real == own or lies_below(real, {own}):
                raise RootUnavailable(
                    f"{uri_of_path(root)} lies in the home or its store of uploads, whose own "
                    "files are not indexed",
                    remedy="choose a folder outside it, or another --home",
                )

    def _keep_indexes(self) -> None:
        self.setup.indexes.catch_up()
        self.setup.indexes.snapshot()


@dataclass(slots=True)
class _Run:
    """One run of an indexer: its decisions, commits and counts.

    `parts` are those of each root that is walked. `pending` has the contents that are on their way
    through the models, by SHA-256; `moves` the moved assets of contents with many files.
    """

    catalog: IndexingCatalog
    setup: AnalysisSetup
    lease: WriterLease
    roots: Sequence[bytes]
    parts: Mapping[bytes, Sequence[bytes]]
    quiet_seconds: float
    retry_failed: bool
    reread: bool
    confinement: Confinement | None
    exclusions: Exclusions
    progress: Progress
    report: IndexReport = field(default_factory=IndexReport)
    commits: int = 0
    pending: dict[str, _Photo] = field(default_factory=dict)
    walks_with_missing: list[Walk] = field(default_factory=list)
    moves: dict[str, Iterator[int]] = field(default_factory=dict)
    known_roots: frozenset[bytes] = field(init=False)
    stages: AnalysisStages = field(init=False)

    def __post_init__(self) -> None:
        self.known_roots = frozenset(self.roots)
        self.stages = AnalysisStages(self.setup, self._is_stopped)

    def index(self) -> None:
        """Index the roots, or parts of them, then remove what is missing there."""
        ended = threading.Event()
        counter = threading.Thread(target=self._count, args=(ended,), daemon=True)
        # Nobody sees the time left otherwise.
        is_followed = self.progress is not SILENT
        if is_followed:
            counter.start()
        ahead = self.setup.ahead_limits
        analysed = self.stages.analyse(
            self._entries(), lambda entry: self._read(entry, ahead), self._batches
        )
        try:
            with contextlib.closing(analysed):
                for pairs in analysed:
                    for photo, _ in pairs:
                        del self.pending[photo.content.sha256]
                    self._save(pairs)
                    self.stages.keep_indexes(self.commits)
            self._remove_missing()
        finally:
            ended.set()
            if is_followed:
                counter.join()

    def _is_stopped(self) -> bool:
        self.lease.check()
        if not self.report.interrupted and self.progress.should_stop():
            self.report.interrupted = True
        return self.report.interrupted

    def _entries(self) -> Iterator[WalkEntry]:
        """The files that must be read; all others are counted here."""
        for root in self.parts:
            walk = self._walk(root, self._is_stopped)
            is_any_there = is_any_missing = is_any_left_out = False
            for candidate in self._compare(walk):
                if walk.is_stopped:
                    return
                entry, status = candidate.entry, candidate.status
                is_any_there |= entry is not None and entry.likeness is Likeness.PHOTO
                if status is Status.UNCHANGED:
                    self.report.unchanged += 1
                elif status is Status.LEFT_OUT:
                    is_any_left_out = True
                elif entry is None:
                    is_any_missing = True
                elif status is Status.UNREACHABLE:
                    self._report_unseen(entry.stamp.path, entry.failure_reason or "")
                elif status not in {Status.STILL_FAILED, Status.UNSETTLED}:
                    yield entry.named(candidate.known)
            self.report.left_out += walk.left_out
            self.report.skipped_videos += walk.skipped_videos
            # Files that are left out are there, so the disk is too.
            if (
                is_any_missing
                and not (is_any_there or is_any_left_out)
                and not (walk.parts and holds_photo(self._whole_walk(root)))
            ):
                raise emptied(root)
            if is_any_missing or is_any_left_out:
                self.walks_with_missing.append(walk)
            for folder, reason in walk.unreadable:
                self._report_unseen(folder, f"the folder can't be read: {reason}")
            for link in walk.outside:
                self._report_unseen(link, LEADS_OUT)

    def _walk(self, root: bytes, stopped: Callable[[], bool]) -> Walk:
        return walk_type(root)(
            *(root, stopped, self.confinement, self.exclusions),
            *(self.parts[root], self.quiet_seconds),
        )

    def _whole_walk(self, root: bytes) -> Walk:
        return walk_type(root)(root, confinement=self.confinement, exclusions=self.exclusions)

    def _report_unseen(self, path: bytes, reason: str) -> None:
        self.report.failures.append(Failure(uri_of_path(path), reason))

    def _compare(self, walk: Walk) -> Iterator[Candidate]:
        return compare(
            walk, self.catalog.known_assets, retry_failed=self.retry_failed, reread=self.reread
        )

    def _remove_missing(self) -> None:
        """Remove assets whose file is missing or left out.

        A second walk finds them, because moved ones were updated meanwhile. It costs less memory
        than a list, which could be as long as the library.
        """
        for walk in self.walks_with_missing:
            again = walk.again()
            missing = (
                candidate.known
                for candidate in self._compare(again)
                if candidate.known is not None
                and candidate.status in {Status.MISSING, Status.LEFT_OUT}
            )
            for assets in in_portions(missing):
                if self._is_stopped():
                    return
                again.require_root()
                self.report.removed += self.catalog.remove(assets)

    def _count(self, ended: threading.Event) -> None:
        """Count the files that must be read, ahead of the run, to estimate the time left."""
        total = 0
        try:
            for root in self.parts:
                walk = self._walk(root, ended.is_set)
                for candidate in self._compare(walk):
                    if walk.is_stopped:
                        return
                    total += candidate.status in {Status.NEW, Status.CHANGED, Status.RETRY}
        except (OSError, RegardError) as error:
            # The run itself meets the same error and reports it.
            _log.debug("counting stopped: %s", error)
            return
        self.progress.expect(total)

    def _read(self, entry: WalkEntry, limits: DecodeLimits) -> _Photo:
        """Read identity and facts, and the pixels too unless the content is stored."""
        photo = _Photo(entry, self.commits, entry.failure_reason)
        if entry.failure_reason is not None:
            return photo
        path = entry.stamp.path
        if entry.likeness is Likeness.UNKNOWN and not looks_like_photo(path, self.confinement):
            photo.is_other = True
            return photo
        try:
            with open_media(path, limits, self.confinement, entry.file_name) as file:
                photo.entry = entry.as_read(file.object_status)
                if not self.catalog.is_analysed(file.sha256):
                    photo.image = self.setup.image_of(file, path, self.confinement)
                decoded = photo.image if isinstance(photo.image, Image) else None
                if decoded is not None:
                    photo.signature = sign(decoded)
                photo.content = file.content(decoded)
                sidecar = None
                if entry.sidecar is not None:
                    sidecar = read_sidecar(entry.sidecar, self.confinement)
                    photo.has_damaged_sidecar = not sidecar.is_whole
                photo.facts = file.facts(sidecar)
        except DecodeError as error:
            photo.failure_reason = error.message
        except RegardError:
            raise
        except Exception as error:  # noqa: BLE001 - one file must not stop the run
            _log.info("reading failed", exc_info=True)
            photo.failure_reason = reason_unread(error)
        return photo

    def _batches(self, photos: Iterable[_Photo]) -> Iterator[list[_Photo]]:
        """Batches of new contents; failures and stored contents are committed on the way."""
        batch: list[_Photo] = []
        for photo in photos:
            new = self._new_content(photo)
            if new is not None:
                self.pending[new.content.sha256] = new
                batch.append(new)
            copies = sum(len(photo.copies) for photo in batch)
            if self.setup.is_full(batch) or copies >= _BATCH_COPIES:
                yield batch
                batch = []
        if batch:
            yield batch

    def _new_content(self, photo: _Photo) -> _Photo | None:
        """The photograph if the models must see it; otherwise it is committed here."""
        self.report.damaged_sidecars += photo.has_damaged_sidecar
        if photo.is_other:
            self.progress.advance()
            return None
        if photo.entry.failure_reason is not None:
            self._fail(photo.entry, photo.entry.failure_reason)
            return None
        if photo.failure_reason is None:
            if self._attach_if_stored(photo):
                return None
            if photo.image is not None:
                return photo
        # It may be a giant, or its content was stored when it was read and is no longer.
        return self.stages.read_giant(lambda: self._read_again(photo.entry))

    def _read_again(self, entry: WalkEntry) -> _Photo | None:
        photo = self._read(entry, self.setup.limits)
        self.report.damaged_sidecars += photo.has_damaged_sidecar
        if photo.failure_reason is not None:
            self._fail(entry, photo.failure_reason)
        elif not self._attach_if_stored(photo):
            return photo
        return None

    def _attach_if_stored(self, photo: _Photo) -> bool:
        """Make the file an asset of its content, if that is stored or pending; return whether."""
        pending = self.pending.get(photo.content.sha256)
        if pending is not None:
            photo.image = photo.signature = None
            pending.copies.append(photo)
            return True
        if photo.image is not None and photo.commits == self.commits:
            # Nothing was committed since the reader looked.
            return False
        if not self.catalog.is_analysed(photo.content.sha256):
            return False
        self._attach(photo)
        return True

    def _save(self, pairs: Sequence[tuple[_Photo, Analysis | str]]) -> None:
        """Commit contents and all their files, or the reasons why they failed."""
        analysed = []
        for photo, analysis in pairs:
            if isinstance(analysis, str):
                self._fail_all(photo, analysis)
            else:
                analysed.append((photo, analysis))
        if not analysed:
            return
        try:
            self.catalog.save([_analysed_file(photo, photo, one) for photo, one in analysed])
        except (ModelError, UnstorableValue):
            # Only the contents that can't be stored fail.
            for photo, analysis in analysed:
                self._save_alone(photo, analysis)
            return
        for photo, analysis in analysed:
            self._count_saved(analysis)
            for copy in photo.copies:
                self._attach(copy)

    def _save_alone(self, photo: _Photo, analysis: Analysis) -> None:
        files = iter((photo, *photo.copies))
        for file in files:
            try:
                self.catalog.save([_analysed_file(photo, file, analysis)])
            except ModelError as error:
                # The models gave an invalid vector; only this content is affected.
                self._fail_all(photo, error.message)
                return
            except UnstorableValue as error:
                # Perhaps only this file's facts; its copies have their own.
                self._fail(file.entry, error.message)
                continue
            self._count_saved(analysis)
            break
        for copy in files:
            self._attach(copy)

    def _count_saved(self, analysis: Analysis) -> None:
        self._advance()
        self.report.indexed += 1
        self.report.regions += len(analysis.regions)
        self.report.captions += len(analysis.captions)

    def _attach(self, photo: _Photo) -> None:
        """Commit an asset of a stored content: its file is a copy, was moved, or was touched."""
        stamp, sha256 = photo.entry.stamp, photo.content.sha256
        is_same = self.catalog.has_asset(stamp.path, sha256)
        moved_from = None if is_same else next(self._moved(sha256), None)
        try:
            self.catalog.attach(stamp, sha256, photo.facts, moved_from=moved_from)
        except UnstorableValue as error:
            self._fail(photo.entry, error.message)
            return
        self._advance()
        if is_same:
            self.report.unchanged += 1
        elif moved_from is not None:
            self.report.moved += 1
        else:
            self.report.indexed += 1

    def _moved(self, sha256: str) -> Iterator[int]:
        """The content's assets whose files are gone from the roots: they were moved.

        Of a content with many files, each is looked at once in a run, not once for each copy.
        """
        if sha256 in self.moves:
            return self.moves[sha256]
        assets = self.catalog.assets_of_content(sha256)
        first = list(itertools.islice(assets, _FEW_COPIES))
        moved = (
            asset.id
            for asset in itertools.chain(first, assets)
            if lies_below(asset.stamp.path, self.known_roots) and is_gone(asset.stamp.path)
        )
        if len(first) == _FEW_COPIES:
            if len(self.moves) == _MOVES_KEPT:
                del self.moves[next(iter(self.moves))]
            self.moves[sha256] = moved
        return moved

    def _fail_all(self, photo: _Photo, reason: str) -> None:
        for failed in (photo, *photo.copies):
            self._fail(failed.entry, reason)

    def _fail(self, entry: WalkEntry, reason: str) -> None:
        try:
            self.catalog.fail(entry.stamp, reason)
        except UnstorableValue as error:
            # Not even a failure can be stored, such as one with too long a path.
            self._report_unseen(entry.stamp.path, error.message)
        self._advance()

    def _advance(self) -> None:
        self.commits += 1
        self.progress.advance()


def _analysed_file(photo: _Photo, file: _Photo, analysis: Analysis) -> AnalysedFile:
    """A file of an analysed photograph: its own, or that of a copy."""
    return AnalysedFile(file.entry.stamp, photo.content, file.facts, analysis, photo.signature)
