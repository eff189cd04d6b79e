"""Hits as pictures with the matching region's box, for terminals and notebooks."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from regard.api.library.results import BBox, Hit
from regard.core.errors import RegardError

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

_BOX_COLOUR = (255, 194, 10)
_NOTEBOOK_PIXELS = 256
_TILE = (
    "display:inline-block;vertical-align:top;width:256px;margin:4px;"
    "font:12px sans-serif;overflow-wrap:anywhere"
)


def picture_of_hit(hit: Hit, longest: int) -> Picture:
    """The photograph of a hit with the box of its region, at most `longest` pixels a side.

    Raises DecodeError or another RegardError when the photograph can no longer be read.
    """
    if hit.asset.load_picture is None:
        raise ValueError("the hit was not made by a library")
    picture = hit.asset.load_picture(longest)
    if hit.region is not None:
        draw_box(picture, hit.region.bbox, picture.width / hit.asset.width)
    return picture


def draw_box(picture: Picture, bbox: BBox, scale: float) -> None:
    """Draw a box of the unscaled photograph into a picture that was scaled by `scale`."""
    from PIL import ImageDraw

    x, y, width, height = (side * scale for side in bbox)
    corners = x, y, max(x, x + width - 1), max(y, y + height - 1)
    line = max(2, max(picture.size) // 150)
    ImageDraw.Draw(picture).rectangle(corners, outline=_BOX_COLOUR, width=line)


def html_of_hits(hits: Sequence[Hit], notice: str = "") -> str:
    """Hits side by side as HTML with embedded JPEG pictures; text is escaped."""
    tiles = "".join(_tile(hit) for hit in hits) or "Nothing was found."
    return f"<div><p>{notice}</p>{tiles}</div>" if notice else f"<div>{tiles}</div>"


def _tile(hit: Hit) -> str:
    try:
        with io.BytesIO() as file:
            picture_of_hit(hit, _NOTEBOOK_PIXELS).save(file, "JPEG", quality=80)
            data = base64.b64encode(file.getvalue()).decode()
        shown = f'<img src="data:image/jpeg;base64,{data}" alt="">'
    except RegardError as error:
        shown = f"<em>{html.escape(error.message)}</em>"
    name = hit.asset.id if hit.region is None else f"{hit.asset.id} {hit.region.id}"
    relevance = "" if hit.relevance is None else f", {hit.relevance:.0%} likely"
    score = f", score {hit.score:.4f}" if hit.channels else ""
    return (
        f'<div style="{_TILE}" title="{html.escape(hit.asset.uri, quote=True)}">{shown}<br>'
        f"<b>{hit.rank}.</b> {name}{score}{relevance}<br>{html.escape(hit.caption)}</div>"
    )
