"""`regard evaluate compare`: two profiles, or two pipelines that a home keeps, on labelled photographs."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path

import click

from regard.api.cli.app import DONE, write_json
from regard.api.cli.measured_library import measured_library
from regard.api.cli.options import json_option, offline_option
from regard.api.library.home import Home, load_ready_profile
from regard.core.assets import AssetState
from regard.core.errors import CannotWork, NotFound
from regard.core.filters import AssetFilter
from regard.core.records import PipelineSpec, Target
from regard.core.uris import absolute_path
from regard.evaluation.comparison import compare_retrieval
from regard.evaluation.labels import LabelledSet, read_labels
from regard.evaluation.retrieval import Answer, RetrievalReport, Searcher, evaluate_retrieval
from regard.search.answers import Scope, TextQuery
from regard.search.engine import SearchEngine
from regard.storage.assets.reading import SqlAssetReading

_PATH = click.Path(path_type=Path)


@click.command()
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@click.option("--images", type=_PATH, required=True, metavar="DIR", help="The photographs.")
@click.option("--only", metavar="GLOB", help="Only images whose file_name matches.")
@click.option("--captions", type=_PATH, metavar="FILE", help="COCO captions.")
@click.option("--instances", type=_PATH, metavar="FILE", help="COCO instances.")
@click.option(
    "--home", type=_PATH, metavar="DIR", help="A and B are pipelines of this home, see pipelines."
)
@offline_option
@json_option
def compare(
    first: str,
    second: str,
    images: Path,
    only: str | None,
    captions: Path | None,
    instances: Path | None,
    home: Path | None,
    as_json: bool,
) -> int:
    """What two profiles reach in text search, and where they differ.

    \b
    Example: regard evaluate compare lite blip3 --images photos
             --captions photos/captions.json --instances photos/instances.json

    With --home, A and B are profiles or fingerprints of pipelines that it keeps, as after a
    reindex.
    """
    labels = read_labels(images, captions=captions, instances=instances, only=only)
    paths = [labels.path(image.file_name) for image in labels.images]
    names = (first, second)
    seconds = None
    if home is None:
        reports, seconds = _measured(labels, paths, names)
    else:
        with measured_library(paths, None, home) as (library, collection):
            reports = [
                evaluate_retrieval(labels, text_searcher(kept.engine(), labels, collection))
                for kept in [_kept(library, collection, name) for name in names]
            ]
    report = compare_retrieval(names, reports[0], reports[1], seconds)
    if as_json:
        write_json(report.to_json())
    else:
        click.echo(report.to_text())
    return DONE


def text_searcher(engine: SearchEngine, labels: LabelledSet, collection: str) -> Searcher:
    """Text search over the labelled photographs, which are all that a collection holds."""
    names = {absolute_path(path): name for path, name in labels.by_path().items()}

    def search(texts: Sequence[str], target: Target, limit: int) -> Sequence[Sequence[Answer]]:
        scope = Scope(target, limit, AssetFilter(collections=(collection,)))
        answers = engine.search_texts([TextQuery(text) for text in texts], scope)
        return [
            [
                Answer(names[hit.asset.path], None if hit.region is None else hit.region.box)
                for hit in answer.hits
            ]
            for answer in answers
        ]

    return search


def _measured(
    labels: LabelledSet, paths: Sequence[Path], names: tuple[str, str]
) -> tuple[list[RetrievalReport], tuple[float, float]]:
    """What two profiles reach, and the seconds that either took to load and to index the
    photographs.

    Where they differ in the weights of their channels alone, what one has indexed serves both.
    """
    reports, seconds = [], []
    other = load_ready_profile(names[1], None)
    for name in names:
        started = time.perf_counter()
        with measured_library(paths, name, None) as (library, collection):
            seconds.append(time.perf_counter() - started)
            searched = [library]
            if name == names[0] and _writes_alike(library.profile.spec, other.spec):
                searched.append(Home(library.settings, library.catalog, library.pipeline, other))
            reports += [
                evaluate_retrieval(labels, text_searcher(one.engine(), labels, collection))
                for one in searched
            ]
        if len(searched) > 1:
            seconds *= 2
            break
    return reports, (seconds[0], seconds[1])


def _writes_alike(one: PipelineSpec, other: PipelineSpec) -> bool:
    return dataclasses.replace(one, profile=other.profile) == other


def _kept(library: Home, collection: str, name: str) -> Home:
    """The home with a pipeline that it keeps; raises NotFound, CannotWork when it lacks photographs."""
    found = [
        one
        for one in library.catalog.pipelines()
        if one.profile == name or (len(name) >= 4 and one.fingerprint.startswith(name))
    ]
    if len(found) != 1:
        raise NotFound(
            f"{'no' if not found else 'more than one'} pipeline of this home is {name!r}",
            remedy="give the beginning of a fingerprint of: regard pipelines",
        )
    kept = Home(library.settings, library.catalog, found[0])
    reading = SqlAssetReading(library.catalog, found[0])
    chosen = AssetFilter(collections=(collection,))
    if reading.page(chosen, state=AssetState.PENDING, limit=1):
        raise CannotWork(
            f"the pipeline {found[0].short} has not analysed all of the labelled photographs",
            remedy=f"have it catch up with: regard reindex --profile {found[0].profile}",
        )
    return kept
