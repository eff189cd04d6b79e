"""Answers for people: a table, or the pictures themselves in the terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.columns import Columns
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from regard.api.cli.app import printable
from regard.core.errors import CannotWork, DecodeError
from regard.core.records import Image
from regard.search.answers import Answer

JsonHit = Mapping[str, Any]

_PREVIEW_COLUMNS = 36


def print_answer(answer: Answer, console: Console | None = None) -> None:
    """One row a hit: what it is, where it lies, and which channels found it."""
    print_hits(answer.to_json()["hits"], console)


def print_hits(
    hits: Sequence[JsonHit], console: Console | None = None, *, is_filtered: bool = False
) -> None:
    """The same for hits in the documented JSON form, whoever found them."""
    # Piped output has no width of its own; a row should not be folded to an imagined one.
    console = console or Console(width=None if sys.stdout.isatty() else 240)
    if not hits:
        filtered = "nothing passes the filters"
        console.print(filtered if is_filtered else "nothing is indexed that could match")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("#", "score", "right", "id", "photograph", "box", "caption", "found by"):
        table.add_column(name, overflow="fold")
    for hit in hits:
        table.add_row(
            str(hit["rank"]),
            # What no channel found was only listed.
            f"{hit['score']:.4f}" if hit["channels"] else "",
            "" if hit["relevance"] is None else f"{hit['relevance']:.0%}",
            _identifier(hit),
            Text(printable(hit["asset"]["uri"])),
            _box(hit),
            Text(printable(_caption(hit))),
            ", ".join(f"{match['kind']} #{match['rank']}" for match in hit["channels"]),
        )
    console.print(table)


def print_unmatched() -> None:
    """What is said where there are hits, but none that is likely enough to be right."""
    console = Console(width=None if sys.stdout.isatty() else 240)
    console.print("nothing here matches; to see what comes nearest add: --min-relevance 0")


def print_pictures(hits: Sequence[JsonHit], pictures: Sequence[Callable[[], Image]]) -> None:
    """The hits as pictures, with the matching region's box drawn, in the terminal's best way.

    `pictures` get the picture of each hit, at any size. A DecodeError from one of them stands in the place
    of its picture.
    """
    from PIL import Image as PillowImage
    from PIL import ImageDraw

    if sys.stdout.isatty() and 0 in os.get_terminal_size(sys.stdout.fileno()):
        raise CannotWork(
            "the terminal tells no size to draw pictures in",
            remedy="run: stty cols 80 rows 24, or search without --preview",
        )
    from textual_image.renderable import Image as TerminalImage

    console = Console()
    tiles = []
    for hit, get_picture in zip(hits, pictures, strict=True):
        label = Text(
            f"{hit['rank']}. {printable(hit['asset']['uri'])}\n{printable(_caption(hit))}",
            overflow="fold",
        )
        try:
            picture = PillowImage.fromarray(get_picture().pixels)
        except DecodeError as error:
            tiles.append(Group(Text(f"[{error.message}]", style="red"), label))
            continue
        if hit["region"] is not None:
            scale = picture.width / hit["asset"]["width"]
            x, y, width, height = (side * scale for side in hit["region"]["bbox"])
            line = max(2, max(picture.size) // 150)
            corners = x, y, max(x, x + width - 1), max(y, y + height - 1)
            ImageDraw.Draw(picture).rectangle(corners, outline=(255, 194, 10), width=line)
        picture.thumbnail((640, 640))
        tiles.append(Group(TerminalImage(picture, width=_PREVIEW_COLUMNS, height="auto"), label))
    console.print(Columns(tiles, width=_PREVIEW_COLUMNS, padding=(1, 2)))


def _identifier(hit: JsonHit) -> str:
    asset: str = hit["asset"]["id"]
    return asset if hit["region"] is None else f"{asset} {hit['region']['id']}"


def _caption(hit: JsonHit) -> str:
    of_region = hit["region"]["caption"] if hit["region"] is not None else None
    return of_region or hit["asset"]["caption"] or ""


def _box(hit: JsonHit) -> str:
    return "" if hit["region"] is None else ",".join(map(str, hit["region"]["bbox"]))
