"""`regard demo`."""

from __future__ import annotations

import hashlib
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from regard.api.cli.app import DONE, DONE_WITH_FAILURES, INTERRUPTED
from regard.api.cli.options import offline_option
from regard.api.cli.output import print_hits, print_report
from regard.api.cli.progress import progress_bar
from regard.api.cli.sample_photos import gather_sample_photos
from regard.api.library.interface import Library
from regard.api.library.local import LocalLibrary
from regard.api.library.queries import DEFAULT_COLLECTION
from regard.api.library.results import Answer, Hit
from regard.api.library.settings import Settings
from regard.core.errors import CannotWork
from regard.core.geometry import Box
from regard.core.protocols import Profile
from regard.core.records import Image
from regard.evaluation.contact_sheet import Outline, Role, Row, TextCard, Tile, draw_contact_sheet
from regard.models.profiles.registry import load_profile
from regard.photos.files import absolute_path
from regard.photos.photo_file import decode_file

_SAMPLE_TEXTS = ("a cat", "a cup of coffee", "a rocket taking off")
_SAMPLE_REGION_TEXTS = ("a motorcycle", "a coffee cup")
_OWN_TEXTS = 4
_HITS = 4


@dataclass(frozen=True, slots=True)
class _Shown:
    """A query's title and answer; `picture` is what was searched by, if anything."""

    title: str
    answer: Answer
    picture: Hit | None = None


@click.command()
@click.option(
    "--photos",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Your own photographs instead of the samples.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    default=Path("demo-output"),
    show_default=True,
    metavar="DIR",
    help="The folder for the home and the picture of the hits.",
)
@click.option(
    "--profile", metavar="NAME", help="Models to use, by name or TOML file [default: lite]."
)
@offline_option
def demo(photos: Path | None, output: Path, profile: str | None) -> int:
    """Index sample photographs, or your own, and show every way to search them.

    \b
    Example: regard demo --photos ~/Pictures/holiday
    """
    if photos is None:
        folder = output / "photos"
        click.echo(f"{gather_sample_photos(folder)} sample photographs in {folder}")
    else:
        folder = photos.expanduser()
    # Each folder gets its own home, so that all hits are among the photographs that were named.
    digest = hashlib.sha256(absolute_path(folder)).hexdigest()[:12]
    settings = Settings.resolve(output / ("home" if photos is None else f"home-{digest}"), {})
    with LocalLibrary(settings, profile) as library:
        with progress_bar() as progress:
            report = library.index(folder, progress=progress)
        print_report(report)
        if report.interrupted:
            return INTERRUPTED
        if not library.status().contents:
            raise CannotWork(
                "there is nothing to search: no photograph could be indexed",
                remedy="give --photos a folder with photographs",
            )
        started = time.perf_counter()
        texts: Sequence[str] = ()
        if photos is not None:
            texts = _texts_from_captions(library, load_profile(profile or library.status().profile))
        shown = _search(library, texts)
        elapsed = time.perf_counter() - started
    for item in shown:
        click.echo(f"\n{item.title}")
        print_hits(item.answer.hits)
    picture = output / "hits.png"
    _draw(shown, picture)
    click.echo(f"\n{len(shown)} queries in {elapsed:.1f} s; the picture of them: {picture}")
    click.echo(f'search on with: regard search "…" --home {shlex.quote(str(settings.home))}')
    return DONE_WITH_FAILURES if report.failures else DONE


def _search(library: Library, own_texts: Sequence[str]) -> list[_Shown]:
    def ask(title: str, by: Hit | None = None, **query: Any) -> _Shown:
        return _Shown(title, library.search(limit=_HITS, **query), by)

    texts = own_texts or _SAMPLE_TEXTS
    region_texts = own_texts[:2] or _SAMPLE_REGION_TEXTS
    of_photos = [ask(f"“{text}”", text=text) for text in texts]
    of_regions = [ask(f"regions: “{text}”", text=text, target="region") for text in region_texts]
    shown = of_photos + of_regions
    best = next(item.answer.hits[0] for item in shown if item.answer.hits)
    whole = Hit(1, 0.0, None, best.asset, None, ())
    shown.append(ask("by a picture", whole, image=best.asset.path))
    part = next((item.answer.hits[0] for item in of_regions if item.answer.hits), None)
    if part is not None and part.region is not None:
        box = part.region.bbox
        shown.append(ask("by a part of a picture", part, image=part.asset.path, box=box))
        shown.append(ask("regions like that part", like=part.region, target="region"))
    return shown


def _texts_from_captions(library: Library, profile: Profile) -> Sequence[str]:
    """Queries that the photographs suggest: captions that name a thing, spread evenly over all."""
    listed = library.search(f"collection:{DEFAULT_COLLECTION}", limit=1000).hits
    captions = dict.fromkeys(hit.asset.caption for hit in listed if hit.asset.caption)
    named = [caption for caption in captions if profile.names_thing(caption)]
    distinct = named or list(captions) or ["a photograph"]
    step = max(1, len(distinct) // _OWN_TEXTS)
    return [text.rstrip(".") for text in distinct[::step][:_OWN_TEXTS]]


def _draw(shown: Sequence[_Shown], path: Path) -> None:
    """A row for each query: its text or picture, then the hits with their boxes."""
    rows = []
    for item in shown:
        tiles = tuple(_tile(hit, hit.asset.caption or "", Role.FOUND) for hit in item.answer.hits)
        left: TextCard | Tile = TextCard(item.title, f"finds {item.answer.query['target']}s")
        if item.picture is not None:
            left = _tile(item.picture, item.title, Role.QUERY)
        rows.append(Row(tiles, left))
    headings = ("query", *(str(rank) for rank in range(1, _HITS + 1)))
    draw_contact_sheet(rows, title="regard", headings=headings).save(path)


def _tile(hit: Hit, caption: str, role: Role) -> Tile:
    def decode() -> Image:
        return decode_file(hit.asset.path)

    outlines: tuple[Outline, ...] = ()
    if hit.region is not None:
        # A query is a box, whatever the mask in it.
        mask = hit.region.mask() if role is Role.FOUND else None
        outlines = (Outline(None if mask else Box(*hit.region.bbox), mask, role),)
    name = hit.asset.uri.rsplit("/", 1)[-1] if role is Role.FOUND else ""
    return Tile(decode, caption=caption, note=name, outlines=outlines)
