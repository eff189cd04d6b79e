"""`regard demo`: indexes sample photographs, or one's own, and shows every way to search them."""

from __future__ import annotations

import hashlib
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from regard.api.cli.app import DONE, DONE_WITH_FAILURES, INTERRUPTED
from regard.api.cli.commands.index import describe_report
from regard.api.cli.options import offline_option
from regard.api.cli.output import print_answer
from regard.api.cli.progress import progress_bar, stop_request
from regard.api.cli.sample_photos import gather_sample_photos
from regard.api.library.home import DEFAULT_COLLECTION, Home, open_or_make_home
from regard.api.library.settings import Settings
from regard.core.errors import CannotWork
from regard.core.records import Image, Target
from regard.core.uris import absolute_path, uri_of_path
from regard.evaluation.contact_sheet import Outline, Role, Row, TextCard, Tile, draw_contact_sheet
from regard.photos.decoding import decode_file
from regard.search.answers import Answer, Hit, ImageQuery, LikeQuery, Query, Scope, TextQuery
from regard.search.engine import SearchEngine
from regard.search.identifiers import Reference
from regard.storage.pipelines.analyses import read_analyses

_SAMPLE_TEXTS = ("a cat", "a cup of coffee", "a rocket taking off")
_SAMPLE_REGION_TEXTS = ("a motorcycle", "a coffee cup")
_OWN_TEXTS = 4
_HITS = 4


@dataclass(frozen=True, slots=True)
class _Shown:
    """A query, how the picture calls it, and its answer."""

    title: str
    answer: Answer


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
    help="Where the home and the picture of the hits go.",
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
    # Each folder has a home of its own, so that the hits are from the photographs that were named.
    digest = hashlib.sha256(absolute_path(folder)).hexdigest()[:12]
    settings = Settings.resolve(output / ("home" if photos is None else f"home-{digest}"), {})
    with open_or_make_home(settings, profile) as library:
        with stop_request() as stop, progress_bar("indexing") as progress:
            report = library.indexer(DEFAULT_COLLECTION).run(
                [folder], progress=progress, should_stop=stop.is_set
            )
        describe_report(report)
        if report.interrupted:
            return INTERRUPTED
        started = time.perf_counter()
        shown = _search(library, own=photos is not None)
        elapsed = time.perf_counter() - started
        for item in shown:
            click.echo(f"\n{item.title}")
            print_answer(item.answer)
    picture = output / "hits.png"
    _draw(shown, picture)
    click.echo(f"\n{len(shown)} queries in {elapsed:.1f} s; the picture of them: {picture}")
    click.echo(f'search on with: regard search "…" --home {shlex.quote(str(settings.home))}')
    return DONE_WITH_FAILURES if report.failures else DONE


def _search(library: Home, *, own: bool) -> list[_Shown]:
    engine = library.engine()
    texts = _texts_from_captions(library) if own else _SAMPLE_TEXTS
    region_texts = texts[:2] if own else _SAMPLE_REGION_TEXTS
    shown = [_ask(engine, f"“{text}”", TextQuery(text), Target.IMAGE) for text in texts]
    shown += [
        _ask(engine, f"regions: “{text}”", TextQuery(text), Target.REGION) for text in region_texts
    ]
    best = next((item.answer.hits[0] for item in shown if item.answer.hits), None)
    if best is None:
        raise CannotWork(
            "there is nothing to search: no photograph could be indexed",
            remedy="give --photos a folder with photographs",
        )
    picture = ImageQuery(_decode(best), best.asset.uri)
    shown.append(_ask(engine, "by a picture", picture, Target.IMAGE))
    answers = (item.answer for item in shown if item.answer.target is Target.REGION)
    part = next((answer.hits[0] for answer in answers if answer.hits), None)
    if part is not None and part.region is not None:
        picture = ImageQuery(_decode(part), part.asset.uri, part.region.box)
        shown.append(_ask(engine, "by a part of a picture", picture, Target.IMAGE))
        like = LikeQuery(Reference(part.region.id, is_region=True))
        shown.append(_ask(engine, "regions like that part", like, Target.REGION))
    return shown


def _texts_from_captions(library: Home) -> list[str]:
    """Queries that the photographs themselves suggest: captions that name something, spread evenly."""
    captions = [
        analysis.caption
        for analysis in read_analyses(library.catalog, library.pipeline, DEFAULT_COLLECTION)
        if analysis.caption
    ]
    named = [caption for caption in captions if library.profile.names_thing(caption)]
    distinct = list(dict.fromkeys(named or captions)) or ["a photograph"]
    step = max(1, len(distinct) // _OWN_TEXTS)
    return [text.rstrip(".") for text in distinct[::step][:_OWN_TEXTS]]


def _ask(engine: SearchEngine, title: str, query: Query, target: Target) -> _Shown:
    return _Shown(title, engine.search(query, Scope(target, _HITS)))


def _decode(hit: Hit) -> Image:
    return decode_file(hit.asset.path)


def _draw(shown: Sequence[_Shown], path: Path) -> None:
    """One row a query: what was asked, then the hits with the matching regions' boxes."""
    rows = []
    for item in shown:
        tiles = tuple(_tile(hit) for hit in item.answer.hits)
        query = item.answer.query
        left: TextCard | Tile = TextCard(item.title, f"finds {item.answer.target}s")
        if isinstance(query, ImageQuery):
            asked = () if query.box is None else (Outline(query.box, role=Role.QUERY),)
            left = Tile(query.image, caption=item.title, outlines=asked)
        rows.append(Row(tiles, left))
    headings = ("query", *(str(rank) for rank in range(1, _HITS + 1)))
    draw_contact_sheet(rows, title="regard", headings=headings).save(path)


def _tile(hit: Hit) -> Tile:
    name = uri_of_path(hit.asset.path).rsplit("/", 1)[-1]
    outlines = () if hit.region is None else (Outline(hit.region.box, role=Role.FOUND),)
    return Tile(lambda: _decode(hit), caption=hit.asset.caption or "", note=name, outlines=outlines)
