"""`regard evaluate relevance`: how well relevance tells right hits from wrong ones, and its
fit."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import click

from regard.api.cli.app import DONE
from regard.api.cli.commands.evaluate.labelled_library import (
    PATH,
    LabelledLibrary,
    analyses_home_option,
    coco_options,
    open_labelled,
    print_report,
    profile_option,
)
from regard.api.cli.options import json_option, offline_option
from regard.api.library.relevance import calibrate
from regard.core.errors import CannotWork, NotFound
from regard.core.filters import AssetFilter
from regard.core.geometry import Box
from regard.core.records import Kind, QueryKind, Routes, Target
from regard.core.relevance import CurrentCalibrations, Form, RelevanceSource
from regard.evaluation.labels import read_labels
from regard.evaluation.relevance import RelevanceReport, evaluate_relevance
from regard.evaluation.relevance_fitting import JudgedAnswer, JudgedHit
from regard.evaluation.relevance_queries import LabelledQuery, LabelledTerm
from regard.evaluation.reliability import draw_reliability
from regard.evaluation.retrieval import IOU_THRESHOLD, Answer
from regard.models.profiles.calibration import write_calibrations
from regard.photos.files import absolute_path
from regard.search.answers import Answer as SearchAnswer
from regard.search.answers import LikeQuery, Reference, Scope, Term, TextQuery
from regard.search.language.planning import compose_query
from regard.storage.retrieval.regions import SqlRegions


@click.command()
@coco_options
@click.option(
    "--absent", type=PATH, metavar="FILE", help="Texts, one per line, that no photograph shows."
)
@profile_option
@click.option("--fit", type=PATH, metavar="FILE", help="Fit a calibration and write it there.")
@click.option(
    "--library",
    is_flag=True,
    help="Measure a calibration made on the photographs without their labels, not the profile's.",
)
@click.option("--picture", type=PATH, metavar="FILE", help="Draw the reliability as a PNG.")
@analyses_home_option
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
    library: bool,
    picture: Path | None,
    home: Path | None,
    as_json: bool,
) -> int:
    """AUROC and calibration of relevance, and how well the cut-off detects absence.

    \b
    Example: regard evaluate relevance --images photos --captions photos/captions.json
             --absent absent.txt --fit lite.relevance.json

    A calibration belongs beside its profile's file, as NAME.relevance.json.
    """
    labels = read_labels(images, captions=captions, instances=instances, only=only)
    absent_texts = [] if absent is None else _read_lines(absent)
    with open_labelled(labels, profile, home) as labelled:
        spaces = _spaces_by_form(labelled.home.profile.routes)
        calibrations = labelled.home.profile.calibrations or {}
        source = RelevanceSource.PROFILE
        if library:
            calibrations = calibrate(labelled.home, labelled.assets) or {}
            source = RelevanceSource.LIBRARY
        search = _Searcher(labelled, CurrentCalibrations(source, lambda: calibrations))
        report = evaluate_relevance(labels, search, spaces, absent_texts, source)
    print_report(report, as_json)
    for path, write in ((fit, _write_calibration), (picture, _draw_reliability)):
        if path is not None:
            try:
                write(report, path)
            except OSError as error:
                raise CannotWork(f"{path} cannot be written: {error.strerror}") from error
            click.echo(f"written: {path}", err=True)
    return DONE


class _Searcher:
    """Answers labelled queries over the labelled photographs."""

    def __init__(self, labelled: LabelledLibrary, calibrations: CurrentCalibrations) -> None:
        home, self._labels = labelled.home, labelled.labels
        self._engine = home.engine(calibrations=calibrations)
        self._assets = labelled.assets
        self._names = labelled.names
        assets = home.search_catalog.newest(self._assets, 0, len(self._labels.images))
        self._asset_ids = {self._names[asset.path]: asset.id for asset in assets}
        names_by_content = {asset.content_id: self._names[asset.path] for asset in assets}
        self._regions: dict[str, Sequence[tuple[int, Box]]] = {}
        for stored in SqlRegions(home.catalog, home.pipeline).content_regions(self._assets):
            boxes = [region.box for region in stored.regions]
            name = names_by_content[stored.content]
            self._regions[name] = list(zip(stored.ids, boxes, strict=True))

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
            answers = self._engine.search_texts(
                texts, Scope(target, limit, self._assets, fold_stacks=False)
            )
            return [_judge(answer, self._names) for answer in answers]
        return [
            self._search(
                query, Scope(target, limit, self._assets_without(excluded), fold_stacks=False)
            )
            for query, excluded in zip(queries, without, strict=True)
        ]

    def _search(self, query: LabelledQuery, scope: Scope) -> JudgedAnswer | None:
        terms = [found for term in query.terms if (found := self._term(term)) is not None]
        if len(terms) < len(query.terms):
            return None
        return _judge(self._engine.search(compose_query(terms), scope), self._names)

    def _assets_without(self, names: Collection[str]) -> AssetFilter:
        if not names:
            return self._assets
        paths = (absolute_path(str(self._labels.path(name))) for name in sorted(names))
        return replace(self._assets, without=(AssetFilter(path_prefixes=tuple(paths)),))

    def _term(self, term: LabelledTerm) -> Term | None:
        if term.kind is QueryKind.TEXT:
            return Term(TextQuery(term.text), term.weight, term.negative)
        if term.box is None:
            reference = Reference(self._asset_ids[term.file_name], is_region=False)
        else:
            # The stored region that stands for the object, as a person would click on it.
            overlaps = [(box.iou(term.box), id) for id, box in self._regions[term.file_name]]
            overlap, region = max(overlaps, default=(0.0, 0))
            if overlap < IOU_THRESHOLD:
                return None
            reference = Reference(region, is_region=True)
        return Term(LikeQuery(reference), term.weight, term.negative)


def _judge(answer: SearchAnswer, names: Mapping[bytes, str]) -> JudgedAnswer:
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


def _spaces_by_form(routes: Routes) -> dict[tuple[Form, Target], frozenset[str]]:
    """The spaces in which queries of each form are matched, where the profile answers them."""
    spaces: dict[tuple[Form, Target], frozenset[str]] = {}
    for target in Target:
        by_kind = {
            kind: frozenset(
                weighted.channel.space
                for weighted in routes.get((kind, target), ())
                if weighted.channel.kind is not Kind.KEYWORD
            )
            for kind in QueryKind
        }
        spaces |= {(Form(kind), target): names for kind, names in by_kind.items()}
        spaces[Form.TEXTS, target] = by_kind[QueryKind.TEXT]
        if by_kind[QueryKind.TEXT] and by_kind[QueryKind.IMAGE]:
            spaces[Form.MIXED, target] = frozenset[str]().union(*by_kind.values())
    return {key: names for key, names in spaces.items() if names}


def _write_calibration(report: RelevanceReport, path: Path) -> None:
    write_calibrations(path, {key: form.fitted for key, form in report.forms.items()})


def _draw_reliability(report: RelevanceReport, path: Path) -> None:
    draw_reliability(
        [
            (f"{form} to {target}, cross-validated", of_form.cross_validated.bins)
            for (form, target), of_form in report.forms.items()
        ],
        path,
    )


def _read_lines(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise NotFound(f"{path} does not exist", remedy="name a file of texts") from None
    except (OSError, UnicodeDecodeError) as error:
        raise CannotWork(f"{path} cannot be read as UTF-8 text", remedy="name another") from error
    return [line.strip() for line in lines if line.strip()]
