"""Contact sheets: one picture of many photographs with boxes, masks, captions and verdicts.

A sheet is a list of rows. A row is either a query (a text or a photograph) with its hits beside
it, or just photographs. The colours are from Okabe and Ito's palette for colour-blind readers,
every line has a dark outline so that it shows on any photograph, and no verdict relies on colour
alone: right has a tick, wrong a cross.
"""

from __future__ import annotations

import math
from bisect import bisect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache

from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from regard.core.errors import RegardError
from regard.core.geometry import Box, Mask
from regard.core.records import Image
from regard.photos.rendering import draw_outline

_PAPER = "#FFFFFF"
_INK = "#1B1F24"
_FAINT_INK = "#5B6570"
_MAT = "#E9ECEF"
_RULE = "#D5DAE0"
_LINE_SHADOW = "#101418"

_MARGIN = 24
_GAP = 12
_QUERY_GAP = 22
_ROW_GAP = 22
_CAPTION_GAP = 6
_CAPTION_LINES = 2
_TITLE_SIZE, _HEADING_SIZE, _QUERY_SIZE, _TEXT_SIZE = 26, 15, 20, 15
_BADGE = 28
# Pillow's own font holds little more than ASCII. Dashes are spelled with what it has; a text that
# needs more is drawn in the first of these system fonts that draws most of it.
_DASHES = str.maketrans({"–": "-", "—": " - ", "−": "-"})
_FALLBACK_FONTS = ("DejaVuSans.ttf", "NotoSansCJK-Regular.ttc", "Arial Unicode.ttf", "arial.ttf")
_UNASSIGNED = "\U0010ffff"
_OVERSAMPLING = 4


class Role(StrEnum):
    """What an outline marks; the value appears in the legend."""

    QUERY = "query"
    FOUND = "found"
    LABELLED = "labelled"


class Verdict(StrEnum):
    """Whether a tile is a right answer to its query."""

    RIGHT = "right"
    WRONG = "wrong"


_ROLE_COLOURS = {Role.QUERY: "#CC79A7", Role.FOUND: "#F0E442", Role.LABELLED: "#56B4E9"}
_VERDICT_COLOURS = {Verdict.RIGHT: "#009E73", Verdict.WRONG: "#D55E00"}


@dataclass(frozen=True, slots=True)
class Outline:
    """A box, a mask or both, in pixels of the tile's photograph as it is handed over."""

    box: Box | None = None
    mask: Mask | None = None
    role: Role = Role.FOUND


@dataclass(frozen=True, slots=True)
class TextCard:
    """A text query in a photograph's place, with a smaller `note` below it."""

    text: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Tile:
    """A photograph with outlines, a caption and a fainter note below, perhaps a verdict.

    A `photo` given as a function is loaded only while its tile is drawn, so a sheet never holds
    many photographs at once; one that can't be loaded leaves a grey tile that says so.
    """

    photo: Image | Callable[[], Image]
    caption: str = ""
    note: str = ""
    outlines: tuple[Outline, ...] = ()
    verdict: Verdict | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """Tiles side by side; `query`, when given, stands before them, set off."""

    tiles: tuple[Tile, ...]
    query: TextCard | Tile | None = None


def grid(tiles: Sequence[Tile], columns: int) -> list[Row]:
    """The tiles in rows of `columns`, without queries."""
    return [Row(tuple(tiles[i : i + columns])) for i in range(0, len(tiles), columns)]


def draw_contact_sheet(
    rows: Sequence[Row],
    *,
    title: str = "",
    headings: Sequence[str] = (),
    tile_size: tuple[int, int] = (256, 192),
) -> Pillow.Image:
    """Draw the rows as one RGB picture.

    `headings` stand over the columns, the query's column included; `tile_size` is the (width,
    height) in pixels that each photograph is fitted into, whole and with its proportions kept.
    """
    sheet = _Layout(rows, bool(title), bool(headings), tile_size)
    picture = Pillow.new("RGB", sheet.size, _PAPER)
    draw = ImageDraw.Draw(picture)
    roles = _roles(rows)
    if title:
        _draw_legend(draw, roles, sheet.size[0] - _MARGIN, _MARGIN + _TITLE_SIZE // 2)
        room = sheet.size[0] - 2 * _MARGIN - _legend_width(roles)
        for line in wrap(title, _TITLE_SIZE, room, 1):
            draw.text((_MARGIN, _MARGIN), line, fill=_INK, font=_font(_TITLE_SIZE, line))
    for column, heading in enumerate(headings):
        position = (sheet.left(column), sheet.heading_top)
        for line in wrap(heading, _HEADING_SIZE, tile_size[0], 1):
            draw.text(position, line, fill=_FAINT_INK, font=_font(_HEADING_SIZE, line))
    for index, row in enumerate(rows):
        top = sheet.top(index)
        if index and sheet.has_queries:
            y = top - _ROW_GAP // 2
            draw.line((_MARGIN, y, sheet.size[0] - _MARGIN, y), fill=_RULE)
        cells: list[TextCard | Tile | None] = list(row.tiles)
        if sheet.has_queries:
            cells.insert(0, row.query)
        for column, cell in enumerate(cells):
            if isinstance(cell, TextCard):
                _draw_card(picture, cell, (sheet.left(column), top), tile_size)
            elif cell is not None:
                _draw_tile(picture, cell, (sheet.left(column), top), tile_size)
    return picture


class _Layout:
    """The position of each cell of a sheet, in pixels."""

    def __init__(
        self, rows: Sequence[Row], titled: bool, headed: bool, tile_size: tuple[int, int]
    ) -> None:
        self._tile_width, tile_height = tile_size
        self.has_queries = any(row.query is not None for row in rows)
        columns = max((len(row.tiles) for row in rows), default=1) + self.has_queries
        lines = max((len(_lines_below(tile, tile_size[0])) for tile in _tiles(rows)), default=0)
        caption_height = _CAPTION_GAP + lines * _line_height(_TEXT_SIZE) if lines else 0
        self._row_height = tile_height + caption_height + _ROW_GAP
        self.heading_top = _MARGIN + (_TITLE_SIZE + 22 if titled else 0)
        self._first_top = self.heading_top + (_HEADING_SIZE + 12 if headed else 0)
        bottom = self._first_top + len(rows) * self._row_height - _ROW_GAP
        self.size = (
            self.left(columns - 1) + self._tile_width + _MARGIN,
            max(bottom, self._first_top) + _MARGIN,
        )

    def left(self, column: int) -> int:
        """Left edge of a column."""
        extra = _QUERY_GAP - _GAP if column and self.has_queries else 0
        return _MARGIN + column * (self._tile_width + _GAP) + extra

    def top(self, row: int) -> int:
        """Top edge of a row's photographs."""
        return self._first_top + row * self._row_height


def _draw_tile(
    picture: Pillow.Image, tile: Tile, position: tuple[int, int], size: tuple[int, int]
) -> None:
    draw = ImageDraw.Draw(picture)
    (left, top), (width, height) = position, size
    draw.rectangle((left, top, left + width - 1, top + height - 1), fill=_MAT)
    try:
        photo = tile.photo if isinstance(tile.photo, Image) else tile.photo()
    except RegardError as error:
        lines = wrap(error.message, _TEXT_SIZE, width - 24, 4)
        y = top + (height - len(lines) * _line_height(_TEXT_SIZE)) // 2
        for line in lines:
            font = _font(_TEXT_SIZE, line)
            x = left + (width - font.getlength(line)) / 2
            draw.text((x, y), line, fill=_FAINT_INK, font=font)
            y += _line_height(_TEXT_SIZE)
    else:
        drawn = _outlined(photo, tile.outlines, size)
        picture.paste(
            drawn, (left + (width - drawn.width) // 2, top + (height - drawn.height) // 2)
        )
    if tile.verdict is not None:
        colour = _VERDICT_COLOURS[tile.verdict]
        draw.rectangle((left, top, left + width - 1, top + height - 1), outline=colour, width=4)
        badge = _badge(tile.verdict)
        picture.paste(badge, (left + width - _BADGE - 8, top + 8), badge)
    y = top + height + _CAPTION_GAP
    for line, ink in _lines_below(tile, width):
        draw.text((left, y), line, fill=ink, font=_font(_TEXT_SIZE, line))
        y += _line_height(_TEXT_SIZE)


def _draw_card(
    picture: Pillow.Image, card: TextCard, position: tuple[int, int], size: tuple[int, int]
) -> None:
    draw = ImageDraw.Draw(picture)
    (left, top), (width, height) = position, size
    corners = (left, top, left + width - 1, top + height - 1)
    draw.rounded_rectangle(corners, radius=8, fill="#F6F7F9", outline=_RULE)
    note = wrap(card.note, _TEXT_SIZE, width - 32, 2)
    note_height = len(note) * _line_height(_TEXT_SIZE)
    room = max((height - 32 - note_height) // _line_height(_QUERY_SIZE), 1)
    text = wrap(card.text, _QUERY_SIZE, width - 32, room)
    y = top + (height - len(text) * _line_height(_QUERY_SIZE) - note_height) // 2
    for lines, points, ink in ((text, _QUERY_SIZE, _INK), (note, _TEXT_SIZE, _FAINT_INK)):
        for line in lines:
            draw.text((left + 16, y), line, fill=ink, font=_font(points, line))
            y += _line_height(points)


def _outlined(photo: Image, outlines: Sequence[Outline], size: tuple[int, int]) -> Pillow.Image:
    """The photograph fitted into `size` (width, height), with its outlines."""
    scale = min(size[0] / photo.width, size[1] / photo.height)
    fitted = (max(round(photo.width * scale), 1), max(round(photo.height * scale), 1))
    drawn = Pillow.fromarray(photo.pixels).resize(fitted, Pillow.Resampling.LANCZOS)
    draw = ImageDraw.Draw(drawn)
    for outline in outlines:
        colour = _ROLE_COLOURS[outline.role]
        if outline.mask is not None:
            # A coloured line between two dark ones.
            draw_outline(draw, outline.mask, scale, _LINE_SHADOW, 5)
            draw_outline(draw, outline.mask, scale, colour, 3)
        if outline.box is not None:
            _draw_box(draw, outline.box, scale, fitted, colour)
    return drawn


def _draw_box(
    draw: ImageDraw.ImageDraw, box: Box, scale: float, size: tuple[int, int], colour: str
) -> None:
    """A coloured rectangle on a wider dark one, moved inside the picture where it would be cut."""
    width, height = size
    left = min(max(round(box.x * scale) - 2, 0), width - 1)
    top = min(max(round(box.y * scale) - 2, 0), height - 1)
    right = max(min(round(box.right * scale) + 1, width - 1), left)
    bottom = max(min(round(box.bottom * scale) + 1, height - 1), top)
    _draw_frame(draw, (left, top, right, bottom), colour)


def _draw_frame(draw: ImageDraw.ImageDraw, corners: tuple[int, int, int, int], colour: str) -> None:
    left, top, right, bottom = corners
    draw.rectangle(corners, outline=_LINE_SHADOW, width=5)
    if right - left >= 2 and bottom - top >= 2:
        draw.rectangle((left + 1, top + 1, right - 1, bottom - 1), outline=colour, width=3)


def _roles(rows: Sequence[Row]) -> list[Role]:
    """The roles that the sheet's outlines have, in the palette's order."""
    used = {outline.role for tile in _tiles(rows) for outline in tile.outlines}
    return [role for role in Role if role in used]


def _tiles(rows: Sequence[Row]) -> list[Tile]:
    return [tile for row in rows for tile in (*row.tiles, row.query) if isinstance(tile, Tile)]


def _legend_width(roles: Sequence[Role]) -> int:
    return sum(round(_font(_TEXT_SIZE).getlength(role)) + 54 for role in roles)


def _draw_legend(draw: ImageDraw.ImageDraw, roles: Sequence[Role], right: int, middle: int) -> None:
    x = right - _legend_width(roles)
    for role in roles:
        x += 24
        _draw_frame(draw, (x, middle - 8, x + 22, middle + 8), _ROLE_COLOURS[role])
        draw.text((x + 30, middle), role, fill=_INK, font=_font(_TEXT_SIZE), anchor="lm")
        x += 30 + round(_font(_TEXT_SIZE).getlength(role))


@cache
def _badge(verdict: Verdict) -> Pillow.Image:
    """A round RGBA mark with a tick or a cross, drawn large and reduced for smooth edges."""
    side = _BADGE * _OVERSAMPLING
    badge = Pillow.new("RGBA", (side, side))
    draw = ImageDraw.Draw(badge)
    edge = side // 14
    draw.ellipse((0, 0, side - 1, side - 1), fill=_PAPER)
    disc = (edge, edge, side - 1 - edge, side - 1 - edge)
    draw.ellipse(disc, fill=_VERDICT_COLOURS[verdict])
    strokes = (
        [((0.27, 0.53), (0.44, 0.69), (0.74, 0.34))]
        if verdict is Verdict.RIGHT
        else [((0.32, 0.32), (0.68, 0.68)), ((0.32, 0.68), (0.68, 0.32))]
    )
    for stroke in strokes:
        points = [(x * side, y * side) for x, y in stroke]
        draw.line(points, fill=_PAPER, width=side // 9, joint="curve")
    return badge.resize((_BADGE, _BADGE), Pillow.Resampling.LANCZOS)


def _lines_below(tile: Tile, width: int) -> list[tuple[str, str]]:
    """Lines of the caption and the note, each with its colour."""
    return [
        (line, ink)
        for text, ink in ((tile.caption, _INK), (tile.note, _FAINT_INK))
        for line in wrap(text, _TEXT_SIZE, width, _CAPTION_LINES)
    ]


def wrap(text: str, points: int, width: int, lines: int) -> list[str]:
    """Break `text`, drawn at `points`, into at most `lines` lines of `width` pixels.

    "…" ends what is cut short. White space of any kind counts as one space; a word wider than a
    line is broken inside.
    """
    # A file name may hold undecodable bytes and a caption control characters: no font draws them.
    decodable = text.encode("utf-8", "replace").decode("utf-8").translate(_DASHES)
    words = "".join(c for c in decodable if c.isprintable() or c.isspace()).split()
    font = _font(points, "".join(words))
    wrapped: list[str] = []
    line = ""
    while words:
        word = words.pop(0)
        longer = f"{line} {word}" if line else word
        if font.getlength(longer) <= width:
            line = longer
            continue
        if not line:
            kept = _fitting(word, font, width)
            line, rest = word[:kept], word[kept:]
            words[:0] = [rest] if rest else []
        else:
            words.insert(0, word)
        wrapped.append(line)
        line = ""
        if len(wrapped) > lines:
            break
    wrapped += [line] if line else []
    if len(wrapped) <= lines:
        return wrapped
    last = wrapped[lines - 1]
    while last and font.getlength(f"{last}…") > width:
        last = last[:-1].rstrip()
    return [*wrapped[: lines - 1], f"{last}…"]


def _fitting(word: str, font: ImageFont.FreeTypeFont, width: int) -> int:
    """How many of the word's characters fit into `width` pixels, at least one."""

    def length(characters: int) -> int:
        return math.ceil(font.getlength(word[:characters]))

    return max(bisect(range(len(word)), width, key=length) - 1, 1)


def _line_height(points: int) -> int:
    return round(points * 1.3)


def _font(points: int, text: str = "") -> ImageFont.FreeTypeFont:
    """The font for a text: Pillow's own, which looks the same everywhere, where that suffices."""
    fonts = filter(None, (_open_font(name, points) for name in (None, *_FALLBACK_FONTS)))
    own = next(fonts)
    characters = set(text) - {" "}
    if text.isascii() or _drawn(own, characters) == len(characters):
        return own
    return max((own, *fonts), key=lambda font: _drawn(font, characters))


def _drawn(font: ImageFont.FreeTypeFont, characters: set[str]) -> int:
    """How many of the characters the font has a glyph for."""
    missing = bytes(font.getmask(_UNASSIGNED))
    return sum(bytes(font.getmask(character)) != missing for character in characters)


@cache
def _open_font(name: str | None, points: int) -> ImageFont.FreeTypeFont | None:
    """A system font by file name, or Pillow's own; None where the system lacks it."""
    if name is None:
        own = ImageFont.load_default(size=points)
        assert isinstance(own, ImageFont.FreeTypeFont)
        return own
    try:
        return ImageFont.truetype(name, points)
    except OSError:
        return None
