"""Hits as pictures with the matching region outlined, for terminals and notebooks."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

    from regard.core.geometry import Mask

_OUTLINE_COLOUR = (255, 194, 10)
NOTEBOOK_PIXELS = 256
_TILE = (
    "display:inline-block;vertical-align:top;width:256px;margin:4px;"
    "font:12px sans-serif;overflow-wrap:anywhere"
)


def draw_region(picture: Picture, bbox: Sequence[float], mask: Mask | None, scale: float) -> None:
    """Outline a mask of the unscaled photograph, or else a box, in a picture scaled by `scale`."""
    from PIL import ImageDraw

    from regard.photos.rendering import draw_outline

    draw = ImageDraw.Draw(picture)
    line = max(2, max(picture.size) // 150)
    if mask is not None:
        draw_outline(draw, mask, scale, _OUTLINE_COLOUR, line)
        return
    x, y, width, height = (side * scale for side in bbox)
    corners = x, y, max(x, x + width - 1), max(y, y + height - 1)
    draw.rectangle(corners, outline=_OUTLINE_COLOUR, width=line)


def html_tile(shown: Picture | str, title: str, label: str, caption: str) -> str:
    """A picture, or the reason why there is none, over two lines of text.

    Text is escaped; the picture is embedded as JPEG.
    """
    if isinstance(shown, str):
        head = f"<em>{html.escape(shown)}</em>"
    else:
        with io.BytesIO() as file:
            shown.save(file, "JPEG", quality=80)
            data = base64.b64encode(file.getvalue()).decode()
        head = f'<img src="data:image/jpeg;base64,{data}" alt="">'
    return (
        f'<div style="{_TILE}" title="{html.escape(title, quote=True)}">{head}<br>'
        f"{html.escape(label)}<br>{html.escape(caption)}</div>"
    )
