"""Removes assets that a person names from the catalog."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence

from regard.core.catalog import DerivedIndexes, Exclusion, IndexingCatalog, KnownAsset
from regard.core.errors import NotFound
from regard.indexer.discover import distinct_roots, lies_below
from regard.photos.files import uri_of_path

_AT_ONCE = 1000


def remove_assets(
    catalog: IndexingCatalog,
    indexes: DerivedIndexes,
    paths: Sequence[str | bytes | os.PathLike[str]],
) -> int:
    """Remove all assets at or below the paths from the catalog; no file is touched.

    Later runs leave the paths out until they are named or included. Returns the number of assets
    removed; raises NotFound if a path has none.
    """
    removed = 0
    with catalog.writer_lease():
        roots = distinct_roots(paths)
        for root in roots:
            if next(catalog.known_assets(root), None) is None:
                raise NotFound(
                    f"the collection holds nothing at or below {uri_of_path(root)}",
                    remedy="list what it holds with: regard status",
                )
        for root in roots:
            removed += sum(map(catalog.remove, in_portions(catalog.known_assets(root))))
        # Paths below that a person named before would otherwise still be reached.
        gone = frozenset(roots)
        former = {
            one.id
            for one in catalog.exclusions()
            if one.pattern is None
            and (one.path in gone or (not one.is_left_out and lies_below(one.path, gone)))
        }
        catalog.change_exclusions(
            former, [Exclusion(root, None, is_left_out=True) for root in roots]
        )
        catalog.update_stacks()
        indexes.catch_up()
        indexes.snapshot()
    return removed


def in_portions(assets: Iterator[KnownAsset]) -> Iterator[list[KnownAsset]]:
    """The assets in lists that are removed at once, so that memory does not grow with them."""
    while portion := list(itertools.islice(assets, _AT_ONCE)):
        yield portion
