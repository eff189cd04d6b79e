"""`regard evaluate`: measures search, regions and captions on labelled photographs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import click

from regard.api.cli.app import DONE, write_json
from regard.api.cli.comparing import compare, text_searcher
from regard.api.cli.evaluating_duplicates import duplicates
from regard.api.cli.evaluating_relevance import relevance
from regard.api.cli.measured_library import measured_library
from regard.api.cli.objects import objects
from regard.api.cli.options import json_option, offline_option
from regard.api.cli.segmenting import segmentation
from regard.api.library.home import Home
from regard.core.records import Float32Array, Image, Kind, QueryKind, Routes, Target
from regard.core.uris import absolute_path
from regard.evaluation.captions import WrittenCaption, evaluate_captions
from regard.evaluation.failures import (
    draw_caption_failures,
    draw_region_failures,
    draw_retrieval_failures,
)
from regard.evaluation.labels import LabelledSet, read_labels
from regard.evaluation.regions import evaluate_regions
from regard.evaluation.retrieval import Searcher, evaluate_retrieval
from regard.photos.photo_file import decode_file
from regard.storage.pipelines.analyses import StoredAnalysis, read_analyses

_Function = TypeVar("_Function", bound=Callable[..., Any])


class _Report(Protocol):
    def to_json(self) -> Mapping[str, Any]: ...

    def to_text(self) -> str: ...


@dataclass(frozen=True, slots=True)
class _Subject:
    """What is measured: the labels, and the library that holds their photographs as `collection`."""

    labels: LabelledSet
    library: Home
    collection: str
    pictures: Path | None
    as_json: bool

    def searcher(self, without: Kind | None = None) -> Searcher:
        """Text search over the labelled photographs, perhaps without one kind of channel."""
        routes = _without(self.library.profile.routes, without)
        return text_searcher(self.library.engine(routes), self.labels, self.collection)

    def analyses(self) -> Iterator[tuple[str, StoredAnalysis]]:
        """What is stored about each labelled photograph, by its file name."""
        names = self._names()
        library = self.library
        for analysis in read_analyses(library.catalog, library.pipeline, self.collection):
            yield names[analysis.path], analysis

    def show(self, report: _Report, draw: Callable[[Path], Sequence[Path]]) -> None:
        """Print the report, and draw its failures where that was asked for."""
        if self.as_json:
            write_json(report.to_json())
        else:
            click.echo(report.to_text())
        if self.pictures is not None:
            self.pictures.mkdir(parents=True, exist_ok=True)
            for path in draw(self.pictures):
                click.echo(f"drawn: {path}", err=True)

    def _names(self) -> dict[bytes, str]:
        return {absolute_path(path): name for path, name in self.labels.by_path().items()}


@click.group(invoke_without_command=True)
@click.pass_context
def evaluate(context: click.Context) -> None:
    """Measure quality on photographs with labels in COCO's form.

    \b
    Example: regard evaluate retrieval --images photos --only 'singles/*'
             --captions photos/captions.json --instances photos/instances.json
    """
    if context.invoked_subcommand is None:
        raise click.UsageError("no measurement is given", context)


def _common(function: _Function) -> _Function:
    """The options that the measurements in COCO's form share."""
    path = click.Path(path_type=Path)
    for option in reversed(
        (
            click.option(
                "--images", type=path, required=True, metavar="DIR", help="The photographs."
            ),
            click.option("--only", metavar="GLOB", help="Only images whose file_name matches."),
            click.option("--captions", type=path, metavar="FILE", help="COCO captions."),
            click.option("--instances", type=path, metavar="FILE", help="COCO instances."),
            click.option("--profile", metavar="NAME", help="Models to measure [default: lite]."),
            click.option("--pictures", type=path, metavar="DIR", help="Draw the failures there."),
            click.option(
                "--home", type=path, metavar="DIR", help="Keep the photographs' analyses there."
            ),
            offline_option,
            json_option,
        )
    ):
        function = option(function)
    return function


@evaluate.command()
@_common
def retrieval(**options: Any) -> int:
    """Text → image R@1/5/10 a caption, text → region hit@1/10 a distinct text.

    \b
    Example: regard evaluate retrieval --images photos --captions photos/captions.json
             --instances photos/instances.json --pictures failures

    With --home the photographs are kept there, and measuring again is quick.
    """
    with _subject(**options) as subject:
        routed = subject.library.profile.routes[QueryKind.TEXT, Target.IMAGE]
        kinds = dict.fromkeys(weighted.channel.kind for weighted in routed)
        ablated = {f"without {kind}": subject.searcher(kind) for kind in kinds}
        report = evaluate_retrieval(subject.labels, subject.searcher(), ablated)
        subject.show(
            report,
            lambda folder: draw_retrieval_failures(report, subject.labels, _read_image, folder),
        )
    return DONE


@evaluate.command()
@_common
def regions(**options: Any) -> int:
    """Share of labelled objects that regions cover, and how well masks fit.

    \b
    Example: regard evaluate regions --images photos --instances photos/instances.json

    With --home the photographs are kept there, and measuring again is quick.
    """
    with _subject(**options) as subject:
        stored = {name: analysis.regions for name, analysis in subject.analyses()}
        report = evaluate_regions(subject.labels, stored)
        subject.show(
            report,
            lambda folder: draw_region_failures(report, subject.labels, _read_image, folder),
        )
    return DONE


@evaluate.command()
@_common
def captions(**options: Any) -> int:
    """CIDEr, BLEU-4 and SPICE, and how often captions name a thing and are right.

    \b
    Example: regard evaluate captions --images photos --captions photos/captions.json

    With --home the photographs are kept there, and measuring again is quick.
    """
    with _subject(**options) as subject:
        profile = subject.library.profile
        written = {
            name: WrittenCaption(text, bool(text) and profile.names_thing(text))
            for name, analysis in subject.analyses()
            for text in [analysis.caption or ""]
        }
        report = evaluate_captions(subject.labels, written, _embed_sentences)
        subject.show(
            report,
            lambda folder: draw_caption_failures(report, subject.labels, _read_image, folder),
        )
    return DONE


evaluate.add_command(segmentation)
evaluate.add_command(objects)
evaluate.add_command(duplicates)
evaluate.add_command(relevance)
evaluate.add_command(compare)


@contextmanager
def _subject(
    *,
    images: Path,
    only: str | None,
    captions: Path | None,
    instances: Path | None,
    profile: str | None,
    pictures: Path | None,
    home: Path | None,
    as_json: bool,
) -> Iterator[_Subject]:
    """Index the labelled photographs into a collection of their own, and hand all over."""
    labels = read_labels(images, captions=captions, instances=instances, only=only)
    paths = [labels.path(image.file_name) for image in labels.images]
    with measured_library(paths, profile, home) as (library, collection):
        yield _Subject(labels, library, collection, pictures, as_json)


def _read_image(path: Path) -> Image:
    return decode_file(path)


def _embed_sentences(sentences: Sequence[str]) -> Float32Array:
    """MiniLM judges captions of every profile, so that their figures compare."""
    from regard.models.lite.sentences import SentenceEncoder

    return SentenceEncoder().encode(sentences)


def _without(routes: Routes, kind: Kind | None) -> Routes:
    """The routes less the channels of a kind; a route that has no other keeps them."""
    if kind is None:
        return routes
    return {
        key: tuple(w for w in routed if w.channel.kind is not kind) or routed
        for key, routed in routes.items()
    }
