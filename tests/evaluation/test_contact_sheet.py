"""Contact sheets: what is drawn where, and that no text or file spoils a sheet."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pillow

from regard.core.errors import DecodeError
from regard.core.geometry import Box
from regard.core.records import Image
from regard.evaluation.contact_sheet import (
    Outline,
    Role,
    Row,
    TextCard,
    Tile,
    Verdict,
    draw_contact_sheet,
    grid,
    wrap,
)
from regard.photos.masks import encode_mask, mask_from_box

YELLOW, BLUE = (0xF0, 0xE4, 0x42), (0x56, 0xB4, 0xE9)
GREEN, VERMILION = (0x00, 0x9E, 0x73), (0xD5, 0x5E, 0x00)
MARGIN = 24


def black(width: int = 128, height: int = 96) -> Image:
    return Image(np.zeros((height, width, 3), np.uint8))


def drawn_in(sheet: Pillow.Image, colour: tuple[int, int, int]) -> tuple[int, int, int, int] | None:
    """Left, top, right, bottom of all pixels of a colour, or None."""
    rows, columns = np.nonzero((np.asarray(sheet) == colour).all(axis=2))
    if not rows.size:
        return None
    return int(columns.min()), int(rows.min()), int(columns.max()), int(rows.max())


def test_a_box_is_drawn_round_what_it_holds() -> None:
    box = Box(32, 24, 64, 48)
    sheet = draw_contact_sheet([Row((Tile(black(), outlines=(Outline(box),)),))])
    # Photographs are enlarged twice, to 256 × 192; the coloured line runs just round the box.
    left, top, right, bottom = drawn_in(sheet, YELLOW) or (0, 0, 0, 0)
    assert (left, top) == (MARGIN + 64 - 1, MARGIN + 48 - 1)
    assert (right, bottom) == (MARGIN + 192, MARGIN + 144)


@pytest.mark.parametrize("box", [Box(0, 0, 128, 96), Box(-50, -50, 500, 500), Box(127, 95, 1, 1)])
def test_a_box_at_the_edge_stays_on_the_photograph(box: Box) -> None:
    sheet = draw_contact_sheet([Row((Tile(black(), outlines=(Outline(box),)),))])
    left, top, right, bottom = drawn_in(sheet, YELLOW) or (0, 0, 0, 0)
    assert left > MARGIN
    assert top > MARGIN
    assert right < MARGIN + 256
    assert bottom < MARGIN + 192


def test_a_mask_is_outlined_not_filled() -> None:
    mask = mask_from_box(96, 128, Box(32, 24, 64, 48))
    sheet = draw_contact_sheet([Row((Tile(black(), outlines=(Outline(mask=mask),)),))])
    edge = (MARGIN + 64, MARGIN + 48, MARGIN + 191, MARGIN + 143)
    assert drawn_in(sheet, YELLOW) == pytest.approx(edge, abs=2)
    assert sheet.getpixel((MARGIN + 128, MARGIN + 96)) == (0, 0, 0)


def test_holes_and_single_pixels_of_a_mask_are_outlined() -> None:
    pixels = np.zeros((96 * 8, 128 * 8), np.bool_)
    pixels[100:600, 100:600] = True
    pixels[200:500, 200:500] = False
    pixels[300, 900] = True
    mask = encode_mask(pixels)
    sheet = draw_contact_sheet([Row((Tile(black(1024, 768), outlines=(Outline(mask=mask),)),))])
    # Photographs are reduced to a quarter.
    for x, y in ((25, 100), (50, 100), (125, 100), (150, 100), (225, 75)):
        around = sheet.crop((MARGIN + x - 2, MARGIN + y - 2, MARGIN + x + 3, MARGIN + y + 3))
        assert drawn_in(around, YELLOW) is not None


def test_right_and_wrong_differ_by_more_than_colour() -> None:
    sheets = {
        verdict: np.asarray(draw_contact_sheet([Row((Tile(black(), verdict=verdict),))]))
        for verdict in Verdict
    }
    assert drawn_in(Pillow.fromarray(sheets[Verdict.RIGHT]), GREEN)
    assert drawn_in(Pillow.fromarray(sheets[Verdict.WRONG]), VERMILION)
    white = [(sheet == 255).all(axis=2) for sheet in sheets.values()]
    assert (white[0] != white[1]).any()


def test_roles_have_their_colours_and_a_legend() -> None:
    box = Box(32, 24, 64, 48)
    tile = Tile(black(), outlines=(Outline(box, role=Role.LABELLED),))
    sheet = draw_contact_sheet([Row((tile, Tile(black())))], title="Title")
    found = drawn_in(sheet, BLUE)
    assert found is not None
    # The legend stands above the photographs, at the right.
    assert found[1] < MARGIN + 26
    assert found[2] > MARGIN + 256


def test_photographs_load_one_by_one_while_drawn() -> None:
    loaded: list[int] = []

    def loader(number: int) -> Callable[[], Image]:
        def load() -> Image:
            loaded.append(number)
            return black()

        return load

    rows = grid([Tile(loader(i)) for i in range(5)], columns=2)
    assert [len(row.tiles) for row in rows] == [2, 2, 1]
    assert loaded == []
    draw_contact_sheet(rows)
    assert loaded == [0, 1, 2, 3, 4]


def test_a_photograph_that_cannot_be_read_leaves_a_tile() -> None:
    def broken() -> Image:
        raise DecodeError("the file is cut off")

    box = Outline(Box(0, 0, 5, 5))
    sheet = draw_contact_sheet([Row((Tile(broken, outlines=(box,), verdict=Verdict.WRONG),))])
    assert drawn_in(sheet, (0xE9, 0xEC, 0xEF)) is not None
    assert drawn_in(sheet, VERMILION) is not None


@pytest.mark.parametrize("size", [(1, 1), (1000, 1), (1, 1000), (37, 90)])
def test_photographs_of_any_shape_are_shown_whole(size: tuple[int, int]) -> None:
    sheet = draw_contact_sheet([Row((Tile(black(*size)),))])
    left, top, right, bottom = drawn_in(sheet, (0, 0, 0)) or (0, 0, 0, 0)
    assert (right - left + 1 == 256) or (bottom - top + 1 == 192)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \n\t ",
        "猫が木に登る",
        "فيل",
        "e\u0301 ä – → ≠ 👍",
        "bad \udc80 byte",
        "x" * 500,
        "ä\x00\x07",
    ],
)
def test_any_text_can_be_drawn_anywhere(text: str) -> None:
    rows = [
        Row((Tile(black(), caption=text, note=text),), query=TextCard(text, text)),
        Row((), query=Tile(black(), caption=text)),
    ]
    sheet = draw_contact_sheet(rows, title=text, headings=[text, text])
    assert sheet.mode == "RGB"
    assert sheet.width == 2 * MARGIN + 2 * 256 + 22


def test_a_sheet_without_rows() -> None:
    assert draw_contact_sheet([], title="Nothing").size[0] > 0


def test_headings_and_queries_take_their_own_columns() -> None:
    tile = Tile(black())
    plain = draw_contact_sheet([Row((tile, tile))])
    headed = draw_contact_sheet([Row((tile,), query=TextCard("a frog"))], headings=["query", "hit"])
    assert headed.width == plain.width + 10
    assert headed.height == plain.height + 27


def test_wrapping_breaks_at_spaces_and_cuts_with_an_ellipsis() -> None:
    assert wrap("a frog on a log", 15, 10_000, 2) == ["a frog on a log"]
    assert wrap("a   frog\n on\u2028a log", 15, 10_000, 2) == ["a frog on a log"]
    lines = wrap("a frog sits on a log in the middle of a pond", 15, 90, 2)
    assert len(lines) == 2
    assert lines[-1].endswith("…")
    assert " ".join(wrap("a frog sits on a log", 15, 90, 9)) == "a frog sits on a log"
    assert "".join(wrap("x" * 100, 15, 90, 99)) == "x" * 100
    assert wrap("", 15, 90, 2) == []
    assert wrap("wide", 15, 1, 99) == list("wide")


@given(st.text(), st.integers(1, 200), st.integers(1, 4))
def test_wrapped_text_can_be_drawn(text: str, width: int, lines: int) -> None:
    assert len(wrap(text, 15, width, lines)) <= lines
    sheet = draw_contact_sheet([Row((), query=TextCard(text))], tile_size=(200, 60))
    assert sheet.height == 60 + 2 * MARGIN
