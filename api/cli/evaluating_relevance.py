"""`regard evaluate relevance`: how well relevance tells right hits from wrong ones; and the fit of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from regard.api.cli.app import DONE, write_json
from regard.api.cli.measured_library import measured_library
from regard.api.cli.options import json_option, offline_option
from regard.core.errors import CannotWork, NotFound
from regard.core.filters import AssetFilter
from regard.core.records import Target
from regard.core.uris import absolute_path
from regard.evaluation.labels import LabelledSet, read_labels
from regard.evaluation.relevance import (
    JudgedAnswer,
    JudgedHit,
    JudgedSearcher,
    RelevanceReport,
    evaluate_relevance,
)
from regard.evaluation.reliability import draw_reliability
from regard.evaluation.retrieval import Answer
from regard.models.profiles.calibration import write_calibrations
from regard.search.answers import Answer as Found
from regard.search.answers import Scope, TextQuery
from regard.search.engine import SearchEngine

_PATH = click.Path(path_type=Path)


@click.command()
@click.option("--images", type=_PATH, required=True, metavar="DIR", help="The photographs.")
@click.option("--only", metavar="GLOB", help="Only images whose file_name matches.")
@click.option("--captions", type=_PATH, metavar="FILE", help="COCO captions.")
@click.option("--instances", type=_PATH, metavar="FILE", help="COCO instances.")
@click.option(
    "--absent", type=_PATH, metavar="FILE", help="Texts, a line each, of what no photograph shows."
)
@click.option("--profile", metavar="NAME", help="Models to measure [default: lite].")
@click.option("--fit", type=_PATH, metavar="FILE", help="Fit a calibration and write it there.")
@click.option("--picture", type=_PATH, metavar="FILE", help="Draw the reliability, a PNG.")
@click.option("--home", type=_PATH, metavar="DIR", help="Keep the photographs' analyses there.")
@offline_option
@json_option
def relevance(
    images: Path,
    only: str | None,
    captions: Path | None,
    instances: Path | None,
    absent: Path | None,
    profile: str | None,
    fit: Path | None,
    picture: Path | None,
    home: Path | None,
    as_json: bool,
) -> int:
    """AUROC and calibration of relevance, and what the cut-off tells to be absent.

    \b
    Example: regard evaluate relevance --images photos --captions photos/captions.json
             --absent absent.txt --fit lite.relevance.json

    A calibration belongs beside its profile's file, as NAME.relevance.json.
    """
    labels = read_labels(images, captions=captions, instances=instances, only=only)
    texts = [] if absent is None else _lines(absent)
    paths = [labels.path(image.file_name) for image in labels.images]
    with measured_library(paths, profile, home) as (library, collection):
        space = library.profile.spaces[0].name
        search = _searcher(labels, library.engine(), collection)
        report = evaluate_relevance(labels, search, space, texts)
    if as_json:
        write_json(report.to_json())
    else:
        click.echo(report.to_text())
    for path, write in ((fit, _write), (picture, _draw)):
        if path is not None:
            try:
                write(report, path)
            except OSError as error:
                raise CannotWork(f"{path} can't be written: {error.strerror}") from error
            click.echo(f"written: {path}", err=True)
    return DONE


def _searcher(labels: LabelledSet, engine: SearchEngine, collection: str) -> JudgedSearcher:
    names = {absolute_path(path): name for path, name in labels.by_path().items()}

    def search(
        texts: Sequence[str], target: Target, limit: int, without: Sequence[frozenset[str]]
    ) -> Sequence[JudgedAnswer]:
        everything = Scope(target, limit, AssetFilter(collections=(collection,)))
        if not any(without):
            answers = engine.search_texts([TextQuery(text) for text in texts], everything)
        else:
            answers = []
            for text, left_out in zip(texts, without, strict=True):
                own = tuple(absolute_path(str(labels.path(name))) for name in sorted(left_out))
                others = AssetFilter(
                    collections=(collection,), without=(AssetFilter(path_prefixes=own),)
                )
                answers += engine.search_texts([TextQuery(text)], Scope(target, limit, others))
        return [_judged(answer, names) for answer in answers]

    return search


def _judged(answer: Found, names: dict[bytes, str]) -> JudgedAnswer:
    assert answer.judgement is not None
    return JudgedAnswer(
        tuple(
            JudgedHit(
                Answer(names[hit.asset.path], None if hit.region is None else hit.region.box),
                hit.score,
                hit.evidence or {},
                hit.relevance,
            )
            for hit in answer.hits
        ),
        answer.judgement.evidence,
        answer.matched,
    )


def _write(report: RelevanceReport, path: Path) -> None:
    write_calibrations(path, {target: found.fitted for target, found in report.targets.items()})


def _draw(report: RelevanceReport, path: Path) -> None:
    draw_reliability(
        [
            (f"text → {target}, cross-validated".replace("→", "to"), found.cross_validated[0].bins)
            for target, found in report.targets.items()
        ],
        path,
    )


def _lines(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise NotFound(f"{path} does not exist", remedy="name a file of texts") from None
    except (OSError, UnicodeDecodeError) as error:
        raise CannotWork(f"{path} can't be read as UTF-8 text", remedy="name another") from error
    return [line.strip() for line in lines if line.strip()]
