"""Draws failures for people to look at: a page of failures says more than a share.

Pages are named `<kind>-001.jpg`, `<kind>-002.jpg`, …, the worst failures first. Pages of the same
kind from an earlier run are replaced, also when there are fewer now.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path

from regard.core.errors import CannotWork
from regard.core.records import Image
from regard.evaluation.captions import CaptionReport, JudgedCaption
from regard.evaluation.contact_sheet import (
    Outline,
    Role,
    Row,
    TextCard,
    Tile,
    Verdict,
    draw_contact_sheet,
    grid,
)
from regard.evaluation.labels import LabelledSet
from regard.evaluation.regions import ObjectCoverage, RegionReport
from regard.evaluation.retrieval import (
    Answer,
    RankedQuery,
    RetrievalReport,
    boxes_by_text,
    images_by_caption,
    is_right_region,
)

# The decoder: a photograph's path → its pixels; a RegardError leaves a grey tile.
ReadImage = Callable[[Path], Image]

_HITS = 4
_QUERY_ROWS = 12
_COLUMNS = 6
_GRID_ROWS = 4
_MAX_PAGES = 20


def draw_retrieval_failures(
    report: RetrievalReport, labels: LabelledSet, read_image: ReadImage, folder: Path
) -> list[Path]:
    """Pages `retrieval-images-…` and `retrieval-regions-…`: queries whose first hit is wrong.

    Each row: the query, a right image with the labelled boxes, the first four hits.
    """
    boxes, bearers = boxes_by_text(labels), images_by_caption(labels)

    def row(query: RankedQuery, right: Collection[str], is_right: Callable[[Answer], bool]) -> Row:
        truth = min(right)
        others = f"and {len(right) - 1} more" if len(right) > 1 else ""
        labelled = boxes.get(query.text, {}).get(truth, [])
        outlines = tuple(Outline(box=box, role=Role.LABELLED) for box in labelled)
        tiles = [Tile(_photo(labels, read_image, truth), truth, others, outlines)]
        for rank, answer in enumerate(query.answers[:_HITS], start=1):
            found = (Outline(box=answer.box, mask=answer.mask),)
            tiles.append(
                Tile(
                    photo=_photo(labels, read_image, answer.file_name),
                    caption=f"{rank}. {answer.file_name}",
                    outlines=found,
                    verdict=Verdict.RIGHT if is_right(answer) else Verdict.WRONG,
                )
            )
        rank_note = "not found" if query.rank is None else f"rank {query.rank}"
        return Row(tuple(tiles), TextCard(query.text, rank_note))

    def image_row(query: RankedQuery) -> Row:
        right = bearers[query.text]
        return row(query, right, lambda answer: answer.file_name in right)

    def region_row(query: RankedQuery) -> Row:
        right = boxes[query.text]
        return row(query, right, lambda answer: is_right_region(answer, right))

    headings = ["query", "right", *(f"hit {i}" for i in range(1, _HITS + 1))]
    return [
        *_write_pages(
            folder,
            "retrieval-images",
            [image_row(query) for query in report.fused.images.failures()],
            title="Text to image: first hit wrong",
            headings=headings,
        ),
        *_write_pages(
            folder,
            "retrieval-regions",
            [region_row(query) for query in report.fused.regions.failures()],
            title="Text to region: first hit wrong",
            headings=headings,
        ),
    ]


def draw_region_failures(
    report: RegionReport, labels: LabelledSet, read_image: ReadImage, folder: Path
) -> list[Path]:
    """Pages `regions-…`: objects that no region covers, with the region that comes nearest."""

    def tile(missed: ObjectCoverage) -> Tile:
        thing, best = missed.object, missed.best_region
        outlines = [Outline(box=thing.box, role=Role.LABELLED)]
        note = "no region touches it"
        if best is not None:
            outlines.append(Outline(box=best.box, mask=best.mask))
            note = f"IoU {max(missed.box_ious):.2f}"
        photo = _photo(labels, read_image, missed.file_name)
        return Tile(photo, thing.text, f"{note}, {missed.file_name}", tuple(outlines))

    rows = grid([tile(missed) for missed in report.failures()], _COLUMNS)
    return _write_pages(folder, "regions", rows, title="Objects that no region covers")


def draw_caption_failures(
    report: CaptionReport, labels: LabelledSet, read_image: ReadImage, folder: Path
) -> list[Path]:
    """Pages `captions-…`: captions that name a wrong thing, then those that name none."""

    def tile(caption: JudgedCaption) -> Tile:
        return Tile(
            photo=_photo(labels, read_image, caption.file_name),
            caption=caption.text or "(no caption)",
            note=f"{caption.similarity:.2f} to “{caption.reference}”",
            verdict=Verdict.WRONG if caption.names_thing else None,
        )

    rows = grid([tile(caption) for caption in report.failures()], _COLUMNS)
    return _write_pages(folder, "captions", rows, title="Captions that name a wrong thing, or none")


def _photo(labels: LabelledSet, read_image: ReadImage, file_name: str) -> Callable[[], Image]:
    return partial(read_image, labels.path(file_name))


def _write_pages(
    folder: Path, kind: str, rows: Sequence[Row], *, title: str, headings: Sequence[str] = ()
) -> list[Path]:
    """Write up to 20 pages of rows and return their paths.

    A row with a query is one failure, a row without one holds a failure a tile.
    """
    sizes = [len(row.tiles) if row.query is None else 1 for row in rows]
    height = _QUERY_ROWS if headings else _GRID_ROWS
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.iterdir():
            if re.fullmatch(rf"{kind}-\d{{3}}\.jpg", old.name):
                old.unlink()
        pages: list[Path] = []
        for first in range(0, len(rows), height)[:_MAX_PAGES]:
            before, through = sum(sizes[:first]), sum(sizes[: first + height])
            sheet = draw_contact_sheet(
                rows[first : first + height],
                title=f"{title} ({before + 1} to {through} of {sum(sizes)})",
                headings=headings,
            )
            path = folder / f"{kind}-{len(pages) + 1:03d}.jpg"
            sheet.save(path, quality=88, subsampling=0)
            pages.append(path)
    except OSError as error:
        raise CannotWork(
            f"no pictures can be written to {folder}: {error.strerror or error}",
            remedy="name another folder for --pictures",
        ) from error
    return pages
