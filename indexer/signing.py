"""Signatures for contents that were indexed before there were any: their files are read once more.

A content at a time, committed a few at once, so that whoever is interrupted goes on from there. A file
that has gone, or is another one by now, is passed over: its content stays without signature, and it is
noted that this was tried.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import BinaryIO

from regard.core.catalog import Failure, FileStamp
from regard.core.duplicates import SignatureStore, Unsigned
from regard.core.errors import CannotWork, DecodeError
from regard.core.signatures import SIGNATURE_SIDE, Signature
from regard.core.uris import uri_of_path
from regard.indexer.report import Progress
from regard.photos.decoding import DEFAULT_LIMITS, DecodeLimits, decode_bytes, large_file_turn
from regard.photos.signatures import sign

_AT_ONCE = 32
# A JPEG may be decoded smaller: four times the signature leaves its averages the same.
_REDUCED_TO = 4 * SIGNATURE_SIDE

OpenFile = Callable[[FileStamp], BinaryIO]


@dataclass(slots=True)
class SigningReport:
    """What was done: contents `signed`, and those of which no file could be used.

    `through` is the last content that was looked at; `finished` says that none is left after it.
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
    progress: Progress | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> SigningReport:
    """Give every content after one its signature; `open_file` raises CannotWork for a file that is gone."""
    report = SigningReport(through=after)
    while not should_stop():
        unsigned = store.unsigned(report.through, _AT_ONCE)
        if not unsigned:
            report.finished = True
            break
        made: dict[int, Signature | None] = {}
        try:
            for content in unsigned:
                if should_stop():
                    break
                outcome = _signature_of(content, open_file, limits)
                if isinstance(outcome, Failure):
                    report.unusable.append(outcome)
                    made[content.content] = None
                else:
                    made[content.content] = outcome
                    report.signed += 1
                report.through = content.content
                if progress is not None:
                    progress.advance()
        finally:
            store.save_signatures(made)
    return report


def _signature_of(
    content: Unsigned, open_file: OpenFile, limits: DecodeLimits
) -> Signature | Failure:
    """By the first of its files that still holds its bytes; else why the last does not."""
    failure = Failure("", "it has no file")
    for stamp in content.files:
        uri = uri_of_path(stamp.path)
        try:
            with large_file_turn(stamp.size):
                with contextlib.closing(open_file(stamp)) as file:
                    data = file.read(limits.max_bytes + 1)
                if hashlib.sha256(data).hexdigest() != content.sha256:
                    failure = Failure(uri, "the file has changed since it was indexed")
                    continue
                return sign(decode_bytes(data, limits, reduced_to=_REDUCED_TO))
        except (DecodeError, CannotWork) as error:
            failure = Failure(uri, error.message)
        except OSError as error:
            failure = Failure(uri, error.strerror or str(error))
    return failure
