"""Hits as pictures with the matching region's box, for terminals and notebooks."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

_BOX_COLOUR = (255, 194, 10)
NOTEBOOK_PIXELS = 256
_TILE = (
    "display:inline-block;vertical-align:top;width:256px;margin:4px;"
    "font:12px sans-serif;overflow-wrap:anywhere"
)


def draw_box(picture: Picture, bbox: Sequence[float], scale: float) -> None:
    """Draw a box of the unscaled photograph into a picture that was scaled by `scale`."""
    from PIL import ImageDraw

    x, y, width, height = (side * scale for side in bbox)
    corners = x, y, max(x, x + width - 1), max(y, y + height - 1)
    line = max(2, max(picture.size) // 150)
    ImageDraw.Draw(picture).rectangle(corners, outline=_BOX_COLOUR, width=line)


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
