"""Shows each stack of photographs and each video once: its best hit stands for it."""

from __future__ import annotations

from collections.abc import Iterable

from regard.core.assets import Asset, StoredRegion
from regard.search.answers import Scope


class Folding:
    """Which hits of an answer are shown, asked for in their order.

    Of an asset that is shown, all hits are: regions of one photograph are hits of their own. Of the
    moments of a video only the best one is.
    """

    def __init__(self, scope: Scope, queried: Iterable[Asset] = ()) -> None:
        """The stacks of assets that the query itself names are not shown at all."""
        self._is_on = scope.folds()
        self._shown = {asset.stack_id: asset.id for asset in queried}
        self._moments: dict[int, int] = {}

    def shows(self, asset: Asset, region: StoredRegion | None) -> bool:
        """Whether no other asset of its stack, nor moment of the video, was shown before."""
        if not self._is_on:
            return True
        stack = asset.stack_id
        if stack is not None and self._shown.setdefault(stack, asset.id) != asset.id:
            return False
        if region is None or region.time_ms is None:
            return True
        return self._moments.setdefault(asset.id, region.id) == region.id
