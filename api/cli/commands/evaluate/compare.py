"""`regard evaluate compare`: two profiles, or two pipelines that a home keeps."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import click

from regard.api.cli.app import DONE
from regard.api.cli.commands.evaluate.labelled_library import (
    PATH,
    LabelledLibrary,
    coco_options,
    open_labelled,
    print_report,
)
from regard.api.cli.options import json_option, offline_option
from regard.api.library.home import Home, load_ready_profile
from regard.core.assets import AssetState
from regard.core.errors import CannotWork, NotFound
from regard.core.records import PipelineSpec
from regard.evaluation.comparison import compare_retrieval
from regard.evaluation.labels import LabelledSet, read_labels
from regard.evaluation.retrieval import RetrievalReport, evaluate_retrieval
from regard.storage.assets.reading import SqlAssetReading


@click.command()
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@coco_options
@click.option(
    "--home", type=PATH, metavar="DIR", help="A and B are pipelines of this home, see pipelines."
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
    """Text search of two profiles side by side, and where they differ.

    \b
    Example: regard evaluate compare lite blip3 --images photos
             --captions photos/captions.json --instances photos/instances.json

    With --home, A and B are profiles or fingerprints of pipelines that it keeps, as after a
    reindex.
    """
    labels = read_labels(images, captions=captions, instances=instances, only=only)
    names = (first, second)
    seconds = None
    if home is None:
        reports, seconds = _measure_profiles(labels, names)
    else:
        with open_labelled(labels, None, home) as labelled:
            reports = [_measure(_with_pipeline(labelled, name)) for name in names]
    print_report(compare_retrieval(names, reports[0], reports[1], seconds), as_json)
    return DONE


def _measure(labelled: LabelledLibrary) -> RetrievalReport:
    return evaluate_retrieval(labelled.labels, labelled.text_searcher())


def _measure_profiles(
    labels: LabelledSet, names: tuple[str, str]
) -> tuple[list[RetrievalReport], tuple[float, float]]:
    """Retrieval with two profiles, and the seconds each took to load and to index the photographs.

    Profiles that differ only in the weights of their channels share one index.
    """
    reports, seconds = [], []
    second = load_ready_profile(names[1], None)
    for name in names:
        started = time.perf_counter()
        with open_labelled(labels, name, None) as labelled:
            seconds.append(time.perf_counter() - started)
            home = labelled.home
            reports.append(_measure(labelled))
            if name == names[0] and _writes_same_records(home.profile.spec, second.spec):
                shared = Home(home.settings, home.catalog, home.pipeline, second)
                reports.append(_measure(dataclasses.replace(labelled, home=shared)))
                seconds *= 2
                break
    return reports, (seconds[0], seconds[1])


def _writes_same_records(one: PipelineSpec, other: PipelineSpec) -> bool:
    return dataclasses.replace(one, profile=other.profile) == other


def _with_pipeline(labelled: LabelledLibrary, name: str) -> LabelledLibrary:
    """The same photographs through another pipeline of the home.

    Raises NotFound when not exactly one pipeline has this name, CannotWork when it lacks
    photographs.
    """
    home = labelled.home
    matches = [
        pipeline
        for pipeline in home.catalog.pipelines()
        if pipeline.profile == name or (len(name) >= 4 and pipeline.fingerprint.startswith(name))
    ]
    if len(matches) != 1:
        raise NotFound(
            f"{'no' if not matches else 'more than one'} pipeline of this home is {name!r}",
            remedy="give the beginning of a fingerprint from: regard pipelines",
        )
    pipeline = matches[0]
    reading = SqlAssetReading(home.catalog, pipeline)
    if reading.page(labelled.assets, state=AssetState.PENDING, limit=1):
        raise CannotWork(
            f"the pipeline {pipeline.short} has not analysed all labelled photographs",
            remedy=f"bring it up to date with: regard reindex --profile {pipeline.profile}",
        )
    kept = Home(home.settings, home.catalog, pipeline)
    return dataclasses.replace(labelled, home=kept)
