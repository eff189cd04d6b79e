"""Regions, and pictures of them."""

from __future__ import annotations

from typing import Literal
from urllib.parse import quote

from pydantic import BaseModel

from regard.api.client.connection import Connection, pairs
from regard.api.client.filters import Filters, filter_query
from regard.api.schemas import RegionWithAsset, SearchAnswer


class RunLengths(BaseModel):
    """A mask as COCO's compressed run lengths; `size` is height, width."""

    size: tuple[int, int]
    counts: str


class Regions:
    """`/v1/regions`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def get(self, id: str) -> RegionWithAsset:
        """A region and its asset; raises ServerProblem `not-found`."""
        return self._connection.get(RegionWithAsset, _path(id))

    def crop(self, id: str, size: Literal[256, 512, 1024, 4096] = 512) -> bytes:
        """The photograph inside the region's box, as a WebP of at most `size` pixels a side."""
        return self._connection.content(f"{_path(id)}/crop", pairs(size=size))

    def mask(self, id: str) -> bytes:
        """A PNG of the photograph's size: 255 on the region, 0 elsewhere."""
        return self._connection.content(f"{_path(id)}/mask", pairs(format="png"))

    def mask_run_lengths(self, id: str) -> RunLengths:
        """The mask as run lengths."""
        return self._connection.get(RunLengths, f"{_path(id)}/mask", pairs(format="rle"))

    def similar(
        self,
        id: str,
        filters: Filters | None = None,
        *,
        target: Literal["image", "region"] | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> SearchAnswer:
        """Regions, or assets, that look like a region."""
        query = pairs(target=target, limit=limit, cursor=cursor) + filter_query(filters)
        return self._connection.get(SearchAnswer, f"{_path(id)}/similar", query)


def _path(id: str) -> str:
    return f"/v1/regions/{quote(id, safe='')}"
