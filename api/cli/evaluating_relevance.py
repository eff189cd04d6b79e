"""`regard evaluate relevance`: how well relevance tells right hits from wrong ones; and the fit of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import click

from regard.api.cli.app import DONE, write_json
from regard.api.cli.measured_library import measured_library
from regard.api.cli.options import json_option, offline_option
from regard.api.library.home import Home
from regard.core.errors import CannotWork, NotFound
from regard.core.filters import AssetFilter
from regard.core.geometry import Box
from regard.core.records import Kind, QueryKind, Routes, Target
from regard.core.relevance import Form
from regard.core.uris import absolute_path
from regard.evaluation.labels import LabelledSet, read_labels
from regard.evaluation.relevance import RelevanceReport, evaluate_relevance
from regard.evaluation.relevance_fitting import JudgedAnswer, JudgedHit
from regard.evaluation.relevance_queries import LabelledQuery, LabelledTerm
from regard.evaluation.reliability import draw_reliability
from regard.evaluation.retrieval import IOU_THRESHOLD, Answer
from regard.models.profiles.calibration import write_calibrations
from regard.search.answers import Answer as Found
from regard.search.answers import LikeQuery, Scope, Term, TextQuery
from regard.search.identifiers import Reference
from regard.search.language.meaning import as_query
from regard.storage.retrieval.regions import SqlRegions

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
        search = _Searcher(labels, library, collection)
        spaces = _spaces(library.profile.routes)
        report = evaluate_relevance(labels, search, spaces, texts)
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


class _Searcher:
    """Asks labelled queries of the photographs in one collection."""

    def __init__(self, labels: LabelledSet, library: Home, collection: str) -> None:
        self._labels = labels
        self._engine = library.engine()
        self._everything = AssetFilter(collections=(collection,))
        self._names = {absolute_path(path): name for path, name in labels.by_path().items()}
        assets = library.search_catalog.newest(self._everything, 0, len(labels.images))
        self._assets = {self._names[asset.path]: asset.id for asset in assets}
        self._regions: dict[str, Sequence[tuple[int, Box]]] = {}
        contents = {asset.content_id: self._names[asset.path] for asset in assets}
        stored = SqlRegions(library.catalog, library.pipeline).content_regions(self._everything)
        for found in stored:
            boxes = [region.box for region in found.regions]
            self._regions[contents[found.content]] = list(zip(found.ids, boxes, strict=True))

    def __call__(
        self,
        queries: Sequence[LabelledQuery],
        target: Target,
        limit: int,
        without: Sequence[Collection[str]],
    ) -> list[JudgedAnswer | None]:
        """Judged answers; None where no stored region stands for a labelled object."""
        if not any(without) and all(query.is_text for query in queries):
            texts = [TextQuery(query.terms[0].text) for query in queries]
            answers = self._engine.search_texts(texts, Scope(target, limit, self._everything))
            return [_judged(answer, self._names) for answer in answers]
        answered: list[JudgedAnswer | None] = []
        for query, left_out in zip(queries, without, strict=True):
            chosen = self._everything
            if left_out:
                paths = (self._labels.path(name) for name in sorted(left_out))
                others = AssetFilter(path_prefixes=tuple(absolute_path(str(p)) for p in paths))
                chosen = replace(chosen, without=(others,))
            terms = [self._term(term) for term in query.terms]
            if None in terms:
                answered.append(None)
                continue
            asked = as_query([term for term in terms if term is not None])
            answer = self._engine.search(asked, Scope(target, limit, chosen))
            answered.append(_judged(answer, self._names))
        return answered

    def _term(self, term: LabelledTerm) -> Term | None:
        if term.kind is QueryKind.TEXT:
            return Term(TextQuery(term.text), term.weight, term.negative)
        if term.box is None:
            reference = Reference(self._assets[term.file_name], is_region=False)
        else:
            # The stored region that stands for the object, as a person would click on it.
            overlaps = [(box.iou(term.box), id) for id, box in self._regions[term.file_name]]
            overlap, region = max(overlaps, default=(0.0, 0))
            if overlap < IOU_THRESHOLD:
                return None
            reference = Reference(region, is_region=True)
        return Term(LikeQuery(reference), term.weight, term.negative)


def _judged(answer: Found, names: Mapping[bytes, str]) -> JudgedAnswer:
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


def _spaces(routes: Routes) -> dict[tuple[Form, Target], frozenset[str]]:
    """The spaces that queries of each form meet, where the profile answers them."""
    spaces: dict[tuple[Form, Target], frozenset[str]] = {}
    for target in Target:
        met = {
            kind: frozenset(
                item.channel.space
                for item in routes.get((kind, target), ())
                if item.channel.kind is not Kind.KEYWORD
            )
            for kind in QueryKind
        }
        spaces |= {(Form(kind), target): of_kind for kind, of_kind in met.items()}
        spaces[Form.TEXTS, target] = met[QueryKind.TEXT]
        if met[QueryKind.TEXT] and met[QueryKind.IMAGE]:
            spaces[Form.MIXED, target] = frozenset[str]().union(*met.values())
    return {key: found for key, found in spaces.items() if found}


def _write(report: RelevanceReport, path: Path) -> None:
    write_calibrations(path, {key: found.fitted for key, found in report.forms.items()})


def _draw(report: RelevanceReport, path: Path) -> None:
    draw_reliability(
        [
            (f"{form} to {target}, cross-validated", found.cross_validated[0].bins)
            for (form, target), found in report.forms.items()
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
