"""What people say of photographs, and the catalog as the writer of sidecars sees it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from regard.core.catalog import FileStamp, WriterLease
from regard.core.facts import PhotoFacts


@dataclass(frozen=True, slots=True)
class Annotations:
    """Title, keywords, rating and position of a photograph; None says nothing.

    `rating` is -1 (rejected) to 5, `position` latitude and longitude in decimal degrees, north and
    east positive.
    """

    title: str | None = None
    keywords: tuple[str, ...] | None = None
    rating: int | None = None
    position: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class EditedAsset:
    """An asset with facts by people that its file, as it was read, does not have.

    `title` and `rating` are those that they gave, a rating of 0 takes that of the file away.
    `added_tags` and `removed_tags` are how its tags differ from the file's keywords. `stamp` is
    that of the file then.
    """

    id: int
    stamp: FileStamp
    title: str | None
    rating: int | None
    added_tags: tuple[str, ...]
    removed_tags: tuple[str, ...]

    def applied_to(self, facts: PhotoFacts) -> Annotations:
        """What the file should say, given what it says now."""
        kept = [word for word in facts.keywords if word not in self.removed_tags]
        added = [tag for tag in self.added_tags if tag not in kept]
        latitude, longitude = facts.latitude, facts.longitude
        # A file without a rating need not say that it has none.
        is_rated = self.rating is not None and self.rating != (facts.rating or 0)
        return Annotations(
            title=facts.title if self.title is None else self.title,
            keywords=(*kept, *added) if added or facts.keywords else None,
            rating=self.rating if is_rated else facts.rating,
            position=(None if latitude is None or longitude is None else (latitude, longitude)),
        )


class EditedAssets(Protocol):
    """The edited assets that a call is about; those in the trash are not among them."""

    def writer_lease(self) -> AbstractContextManager[WriterLease]:
        """Hold the lease for the block; raises LeaseHeld, which says who holds it."""

    def count(self) -> int:
        """How many have a file in a folder of this machine."""

    def count_without_folder(self) -> int:
        """How many are uploads, or lie in a bucket."""

    def page(self, after: int, limit: int) -> Sequence[EditedAsset]:
        """The next ones with a file in a folder, by id."""

    def settle(self, asset: EditedAsset, facts: PhotoFacts, sidecar: str | None) -> None:
        """Record that the file and its sidecar, whose stamp is given, say what was said of it.

        What people said since then stays.
        """
