"""Labelled photographs, indexed into a collection that holds exactly them; the options for
that."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import click

from regard.api.cli.app import write_json
from regard.api.cli.options import json_option, offline_option
from regard.api.cli.progress import progress_bar
from regard.api.library.home import Home, open_or_make_home
from regard.api.library.settings import Settings
from regard.core.errors import CannotWork
from regard.core.filters import AssetFilter
from regard.core.protocols import Profile
from regard.core.records import Kind, QueryKind, Routes, Target
from regard.evaluation.labels import LabelledSet
from regard.evaluation.retrieval import Answer, Searcher
from regard.evaluation.segmentation import EncodeTexts
from regard.photos.files import absolute_path
from regard.search.answers import Scope, TextQuery
from regard.storage.pipelines.analyses import StoredAnalysis, read_analyses

Function = TypeVar("Function", bound=Callable[..., Any])
PATH = click.Path(path_type=Path)

images_option = click.option(
    "--images", type=PATH, required=True, metavar="DIR", help="The photographs."
)
only_option = click.option("--only", metavar="GLOB", help="Only images whose file_name matches.")
captions_option = click.option("--captions", type=PATH, metavar="FILE", help="COCO captions.")
instances_option = click.option("--instances", type=PATH, metavar="FILE", help="COCO instances.")
pictures_option = click.option(
    "--pictures", type=PATH, metavar="DIR", help="Draw the failures there."
)
profile_option = click.option(
    "--profile", metavar="NAME", help="Models to measure [default: lite]."
)
analyses_home_option = click.option(
    "--home", type=PATH, metavar="DIR", help="Keep the photographs' analyses there."
)


def model_options(function: Function) -> Function:
    """`--profile`, `--home`, `--offline`, `--json`: which models to measure, and how."""
    for option in (json_option, offline_option, analyses_home_option, profile_option):
        function = option(function)
    return function


def coco_options(function: Function) -> Function:
    """`--images`, `--only`, `--captions`, `--instances`: labelled photographs in COCO's format."""
    for option in (instances_option, captions_option, only_option, images_option):
        function = option(function)
    return function


class Report(Protocol):
    """What a measurement gives."""

    def to_json(self) -> Mapping[str, Any]:
        """All measures as plain JSON values."""

    def to_text(self) -> str:
        """The measures as text for people."""


@dataclass(frozen=True, slots=True)
class LabelledLibrary:
    """Labelled photographs, and a home that holds exactly these in `collection`."""

    labels: LabelledSet
    home: Home
    collection: str

    @property
    def assets(self) -> AssetFilter:
        """Selects the labelled photographs."""
        return AssetFilter(collections=(self.collection,))

    @property
    def names(self) -> dict[bytes, str]:
        """Stored path → the file name in the labels."""
        return {absolute_path(path): name for path, name in self.labels.by_path().items()}

    def text_searcher(self, routes: Routes | None = None) -> Searcher:
        """Text search over the labelled photographs, by the profile's own routes or by others."""
        engine, names, assets = self.home.engine(routes), self.names, self.assets

        def search(texts: Sequence[str], target: Target, limit: int) -> Sequence[Sequence[Answer]]:
            queries = [TextQuery(text) for text in texts]
            return [
                [
                    Answer(names[hit.asset.path], None if hit.region is None else hit.region.box)
                    for hit in answer.hits
                ]
                for answer in engine.search_texts(
                    queries, Scope(target, limit, assets, fold_stacks=False)
                )
            ]

        return search

    def analyses(self) -> Iterator[tuple[str, StoredAnalysis]]:
        """The stored analysis of each labelled photograph, by its file name."""
        names, home = self.names, self.home
        for analysis in read_analyses(home.catalog, home.pipeline, self.collection):
            yield names[analysis.path], analysis


@contextmanager
def open_labelled(
    labels: LabelledSet, profile: str | None, home: Path | None
) -> Iterator[LabelledLibrary]:
    """Index the photographs of `labels` as `open_measured_home` does."""
    paths = [labels.path(image.file_name) for image in labels.images]
    with open_measured_home(paths, profile, home) as (opened, collection):
        yield LabelledLibrary(labels, opened, collection)


@contextmanager
def open_measured_home(
    photographs: Sequence[Path], profile: str | None, home: Path | None
) -> Iterator[tuple[Home, str]]:
    """A home, and the name of its collection that holds exactly these photographs.

    Photographs that the home has analysed already, in any collection, cost no model time. Without
    `home` a temporary one is made, and deleted when the block ends.

    Raises CannotWork when a photograph cannot be indexed.
    """
    # Each selection is a collection of its own, so that a search meets exactly these photographs.
    selection = "\0".join(os.fspath(path) for path in photographs)
    digest = hashlib.sha256(selection.encode(errors="surrogateescape")).hexdigest()
    collection = f"evaluation {digest[:16]}"
    scratch = tempfile.TemporaryDirectory(prefix="regard-evaluation-", ignore_cleanup_errors=True)
    with scratch:
        # A temporary home ignores the environment, so that no database named there is touched.
        settings = Settings.resolve(home or Path(scratch.name), {} if home is None else None)
        with open_or_make_home(settings, profile) as opened:
            with progress_bar(scratch.cleanup) as progress:
                report = opened.indexer(collection).run(photographs, progress=progress)
            if report.interrupted:
                raise KeyboardInterrupt
            if report.failures:
                failure = report.failures[0]
                raise CannotWork(
                    f"{len(report.failures)} of the labelled photographs could not be indexed, "
                    f"the first is {failure.uri}: {failure.reason}",
                    remedy="repair them, or leave them out with --only",
                )
            yield opened, collection


def text_encoders(
    profile: Profile, target: Target, kind: Kind
) -> Mapping[str, tuple[EncodeTexts, float]]:
    """The encoder of texts, and its weight, of each space in which these are compared with texts.

    Raises CannotWork when there is none.
    """
    encoders = {
        weighted.channel.space: (
            profile.encoder(weighted.channel.space).encode_texts,
            weighted.weight,
        )
        for weighted in profile.routes.get((QueryKind.TEXT, target), ())
        if weighted.channel.kind is kind
    }
    if not encoders:
        raise CannotWork(
            f"the profile {profile.name} has no {kind}s that can be compared with texts",
            remedy="choose a --profile with a text encoder"
            + (" and a segmenter" if kind is Kind.REGION else ""),
        )
    return encoders


def print_report(report: Report, as_json: bool) -> None:
    """Write a report to stdout, as one line of JSON or as text."""
    if as_json:
        write_json(report.to_json())
    else:
        click.echo(report.to_text())


def draw_failures(draw: Callable[[Path], Sequence[Path]], folder: Path | None) -> None:
    """Draw what went wrong where `--pictures` asks for it, and name the files on stderr."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        for path in draw(folder):
            click.echo(f"drawn: {path}", err=True)
