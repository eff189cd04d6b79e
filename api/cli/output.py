"""Results for people, and paths for other programs."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence

import click
from rich.columns import Columns
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from regard.api.cli.app import DONE, DONE_WITH_FAILURES, INTERRUPTED, printable
from regard.api.library.results import Hit, unread_words
from regard.core.errors import CannotWork, DecodeError, NotFound
from regard.indexer.report import IndexReport

_PREVIEW_COLUMNS = 36
_PREVIEW_PIXELS = 640


def exit_code(interrupted: bool, failed: int = 0) -> int:
    """The exit code of a long operation; says how to carry on after an interruption."""
    if interrupted:
        click.echo("regard: interrupted; run the same command to carry on", err=True)
        return INTERRUPTED
    return DONE_WITH_FAILURES if failed else DONE


def print_report(report: IndexReport) -> None:
    """What an indexing run did, with its failures on stderr."""
    counts = {
        "indexed": report.indexed,
        "unchanged": report.unchanged,
        "moved": report.moved,
        "removed": report.removed,
        "left out": report.left_out,
        "failed": len(report.failures),
    }
    parts = [f"{count} {name}" for name, count in counts.items() if count or name == "indexed"]
    rate = f", {report.indexed / report.seconds:.1f} a second" if report.indexed else ""
    click.echo(
        f"{', '.join(parts)}; {report.regions} regions and {report.captions} captions "
        f"in {report.seconds:.1f} s{rate}"
    )
    if report.read:
        click.echo(f"  {report.lines} lines of text in {report.read} photographs")
    if report.damaged_sidecars:
        click.echo(
            f"  sidecars that could not be read, or only in part: {report.damaged_sidecars}",
            err=True,
        )
    if report.skipped_videos:
        click.echo(
            f"  videos that were skipped, as `pip install 'regard[video]'` is missing:"
            f" {report.skipped_videos}",
            err=True,
        )
    for failure in report.failures:
        click.echo(f"  failed: {printable(failure.uri)}: {printable(failure.reason)}", err=True)


def counted(count: int, noun: str) -> str:
    """A number of things, with the noun in its singular or plural."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def write_paths(paths: Iterable[bytes], end: bytes) -> None:
    """Paths as the file system's own bytes."""
    sys.stdout.flush()
    for path in paths:
        sys.stdout.buffer.write(path + end)
    sys.stdout.buffer.flush()


def wide_console() -> Console:
    """A console that does not fold lines where stdout is not a terminal, which has no width."""
    return Console(width=None if sys.stdout.isatty() else 240)


def print_hits(hits: Sequence[Hit], *, is_filtered: bool = False) -> None:
    """A row for each hit: what it is, its path, and which channels found it."""
    console = wide_console()
    if not hits:
        filtered = "nothing passes the filters"
        console.print(filtered if is_filtered else "nothing is indexed that could match")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("#", "score", "right", "id", "photograph", "box", "caption", "found by"):
        table.add_column(name, overflow="fold")
    for hit in hits:
        region = hit.region
        table.add_row(
            str(hit.rank),
            # A photograph that no channel found was only listed.
            f"{hit.score:.4f}" if hit.channels else "",
            "" if hit.relevance is None else f"{hit.relevance:.0%}",
            hit.asset.id if region is None else f"{hit.asset.id} {region.id}",
            Text(printable(hit.asset.uri) + _stack(hit)),
            _box(hit),
            Text(printable(hit.caption)),
            ", ".join(f"{match.kind} #{match.rank}" for match in hit.channels),
        )
    console.print(table)


def _stack(hit: Hit) -> str:
    stack = hit.asset.stack
    return "" if stack is None else f" (1 of {stack.count} in its stack)"


def _box(hit: Hit) -> str:
    if hit.refined is None and hit.region is not None and hit.region.time_ms is not None:
        return f"at {clock_time(hit.region.time_ms)}"
    region = hit.refined or hit.region
    return "" if region is None else ",".join(map(str, region.bbox))


def clock_time(time_ms: int) -> str:
    """A time in a video, such as 1:05 or 2:00:07."""
    minutes, seconds = divmod(time_ms // 1000, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def print_unread(words: Sequence[str], *, has_hits: bool) -> None:
    """The notice for words that the models can't read."""
    notice = unread_words(words)
    wide_console().print(Text(printable(notice if has_hits else f"nothing here matches. {notice}")))


def print_unmatched() -> None:
    """The notice for hits when none is likely enough to be right."""
    wide_console().print("nothing here matches; to see the nearest hits add: --min-relevance 0")


def print_pictures(hits: Sequence[Hit]) -> None:
    """The hits as pictures, with the matching region outlined, as well as the terminal can."""
    if sys.stdout.isatty() and 0 in os.get_terminal_size(sys.stdout.fileno()):
        raise CannotWork(
            "the terminal reports no size to draw pictures in",
            remedy="run: stty cols 80 rows 24, or search without --preview",
        )
    from textual_image.renderable import Image as TerminalImage

    tiles = []
    for hit in hits:
        label = Text(
            f"{hit.rank}. {printable(hit.asset.uri)}\n{printable(hit.caption)}", overflow="fold"
        )
        try:
            picture = hit.picture(_PREVIEW_PIXELS)
        except (DecodeError, NotFound) as error:
            tiles.append(Group(Text(f"[{error.message}]", style="red"), label))
            continue
        tiles.append(Group(TerminalImage(picture, width=_PREVIEW_COLUMNS, height="auto"), label))
    Console().print(Columns(tiles, width=_PREVIEW_COLUMNS, padding=(1, 2)))
