"""Answers for people: a table, or the pictures themselves in the terminal."""

from __future__ import annotations

import os
import sys

from rich.columns import Columns
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from regard.api.cli.app import printable
from regard.core.decoding import decode_file
from regard.core.errors import CannotWork, DecodeError
from regard.search.answers import Answer, Hit
from regard.search.identifiers import asset_identifier, region_identifier

_PREVIEW_COLUMNS = 36


def print_answer(answer: Answer, console: Console | None = None) -> None:
    """One row a hit: what it is, where it lies, and which channels found it."""
    # Piped output has no width of its own; a row should not be folded to an imagined one.
    console = console or Console(width=None if sys.stdout.isatty() else 240)
    if not answer.hits:
        console.print("nothing is indexed that could match")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("#", "score", "id", "photograph", "box", "caption", "found by"):
        table.add_column(name, overflow="fold")
    for hit in answer.hits:
        table.add_row(
            str(hit.rank),
            f"{hit.score:.4f}",
            _identifier(hit),
            Text(printable(hit.asset.uri)),
            _box(hit),
            Text(printable(_caption(hit))),
            ", ".join(f"{match.channel.kind} #{match.rank}" for match in hit.channels),
        )
    console.print(table)


def print_preview(answer: Answer) -> None:
    """The hits as pictures, with the matching region's box drawn, in the terminal's best way."""
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
    for hit in answer.hits:
        label = Text(
            f"{hit.rank}. {printable(hit.asset.uri)}\n{printable(_caption(hit))}", overflow="fold"
        )
        try:
            picture = PillowImage.fromarray(decode_file(hit.asset.path).pixels)
        except DecodeError as error:
            tiles.append(Group(Text(f"[{error.message}]", style="red"), label))
            continue
        if hit.region is not None:
            box = hit.region.box
            width = max(2, max(picture.size) // 150)
            ImageDraw.Draw(picture).rectangle(
                (box.x, box.y, box.right - 1, box.bottom - 1), outline=(255, 194, 10), width=width
            )
        picture.thumbnail((640, 640))
        tiles.append(Group(TerminalImage(picture, width=_PREVIEW_COLUMNS, height="auto"), label))
    console.print(Columns(tiles, width=_PREVIEW_COLUMNS, padding=(1, 2)))


def _identifier(hit: Hit) -> str:
    if hit.region is None:
        return asset_identifier(hit.asset.id)
    return f"{asset_identifier(hit.asset.id)} {region_identifier(hit.region.id)}"


def _caption(hit: Hit) -> str:
    if hit.region is not None and hit.region.caption:
        return hit.region.caption
    return hit.asset.caption or ""


def _box(hit: Hit) -> str:
    if hit.region is None:
        return ""
    return ",".join(map(str, hit.region.box.to_list()))
