"""One photograph from disk to records, in one call of a worker thread."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from regard.core.catalog import ContentHeader
from regard.core.facts import PhotoFacts
from regard.core.records import Image
from regard.core.signatures import Signature
from regard.photos.confinement import Confinement
from regard.photos.decoding import (
    DEFAULT_LIMITS,
    DecodeLimits,
    decode_bytes,
    large_file_turn,
    oriented_size,
    probe,
)
from regard.photos.files import FilePath, file_size, read_file
from regard.photos.metadata.reading import facts_of
from regard.photos.signatures import sign


@dataclass(frozen=True, slots=True)
class Photo:
    """A photograph as read: `size` in bytes; no `image` and no `signature` of a content known already."""

    content: ContentHeader
    size: int
    facts: PhotoFacts
    image: Image | None
    signature: Signature | None = None


def read_photo(
    path: FilePath,
    limits: DecodeLimits = DEFAULT_LIMITS,
    *,
    sidecar: FilePath | None = None,
    is_known: Callable[[str], bool] | None = None,
    within: Confinement | None = None,
) -> Photo:
    """Read the file once, hash it, and decode it unless `is_known` says so of its SHA-256 (hex).

    The facts are read either way, since a file beside it, `sidecar`, has a say in them; one that
    can't be read is ignored. Neither is read when it leads out of `within`. The file's bytes are let go
    on return. Raises DecodeError.
    """
    with large_file_turn(file_size(path, within)):
        data = read_file(path, limits.max_bytes, within)
        sha256 = hashlib.sha256(data).hexdigest()
        header = probe(data, limits)
        if is_known is not None and is_known(sha256):
            image, (width, height) = None, oriented_size(data, limits)
        else:
            image = decode_bytes(data, limits)
            width, height = image.width, image.height
        facts = facts_of(header, sidecar, within)
    content = ContentHeader(sha256, str(header.format), width, height)
    return Photo(content, len(data), facts, image, None if image is None else sign(image))


def inspect_photo(data: bytes, sha256: str, limits: DecodeLimits = DEFAULT_LIMITS) -> Photo:
    """Identity, form and facts of a photograph in memory, its pixels not decoded; raises DecodeError."""
    with large_file_turn(len(data)):
        header = probe(data, limits)
        width, height = oriented_size(data, limits)
        facts = facts_of(header)
    return Photo(ContentHeader(sha256, str(header.format), width, height), len(data), facts, None)
