"""Computes signatures for contents that were indexed by versions without them.

Signatures are committed in small portions, so that an interrupted run can be continued. A content
without a file that still has its bytes stays unsigned, and the attempt is recorded.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import BinaryIO

from regard.core.catalog import Failure, FileStamp
from regard.core.duplicates import SignatureStore, Unsigned
from regard.core.errors import CannotWork, DecodeError, StoreUnavailable
from regard.core.records import SIGNATURE_SIDE, Signature
from regard.indexer.report import SILENT, Progress
from regard.photos.decoding import DEFAULT_LIMITS, DecodeLimits, large_file_turn
from regard.photos.files import uri_of_path
from regard.photos.photo_file import PhotoFile, sign

_PORTION = 32
# Decoding a JPEG at four times the signature's size leaves its averages the same.
_REDUCED_TO = 4 * SIGNATURE_SIDE

OpenFile = Callable[[FileStamp], BinaryIO]


@dataclass(slots=True)
class SigningReport:
    """The number of contents `signed`, and those without a usable file.

    `through` is the last content that was tried; `finished` if none is left after it.
    """

    signed: int = 0
    through: int = 0
    finished: bool = False
    unusable: list[Failure] = field(default_factory=list)


def sign_contents(
    store: SignatureStore,
    open_file: OpenFile,
    *,
    after: int = 0,
    limits: DecodeLimits = DEFAULT_LIMITS,
    progress: Progress = SILENT,
) -> SigningReport:
    """Sign every content after id `after`; `open_file` raises CannotWork for a missing file."""
    report = SigningReport(through=after)
    while not progress.should_stop():
        unsigned = store.unsigned(report.through, _PORTION)
        if not unsigned:
            report.finished = True
            break
        signatures: dict[int, Signature | None] = {}
        try:
            for content in unsigned:
                if progress.should_stop():
                    break
                outcome = _signature_of(content, open_file, limits)
                if isinstance(outcome, Failure):
                    report.unusable.append(outcome)
                    signatures[content.content] = None
                else:
                    signatures[content.content] = outcome
                    report.signed += 1
                report.through = content.content
                progress.advance()
        finally:
            store.save_signatures(signatures)
    return report


def _signature_of(
    content: Unsigned, open_file: OpenFile, limits: DecodeLimits
) -> Signature | Failure:
    """Sign the first file that still has the content's bytes, or say why the last one has not."""
    failure = Failure("", "it has no file")
    for stamp in content.files:
        uri = uri_of_path(stamp.path)
        try:
            with large_file_turn(stamp.size):
                with contextlib.closing(open_file(stamp)) as file:
                    data = file.read(limits.max_bytes + 1)
                photo = PhotoFile(data, limits)
                if photo.sha256 != content.sha256:
                    failure = Failure(uri, "the file has changed since it was indexed")
                    continue
                return sign(photo.decode(reduced_to=_REDUCED_TO))
        except StoreUnavailable:
            # It says nothing about the file.
            raise
        except (DecodeError, CannotWork) as error:
            failure = Failure(uri, error.message)
        except OSError as error:
            failure = Failure(uri, error.strerror or str(error))
    return failure
