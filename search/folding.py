"""Shows each stack of photographs once: its best hit stands for it."""

from __future__ import annotations

from collections.abc import Iterable

from regard.core.assets import Asset
from regard.search.answers import Scope


class StackFolding:
    """Which hits of an answer are shown, asked for in their order.

    Of an asset that is shown, all hits are: regions of one photograph are hits of their own.
    """

    def __init__(self, scope: Scope, queried: Iterable[Asset] = ()) -> None:
        """The stacks of assets that the query itself names are not shown at all."""
        self._is_on = scope.folds()
        self._shown = {asset.stack_id: asset.id for asset in queried}

    def shows(self, asset: Asset) -> bool:
        """Whether no other asset of its stack was shown before."""
        if not self._is_on or asset.stack_id is None:
            return True
        return self._shown.setdefault(asset.stack_id, asset.id) == asset.id
