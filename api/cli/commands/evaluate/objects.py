"""`regard evaluate objects`: how well the same object in different photographs is found."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np

from regard.api.cli.app import DONE, write_json
from regard.api.cli.commands.evaluate.labelled_library import (
    PATH,
    LabelledLibrary,
    images_option,
    model_options,
    only_option,
    open_labelled,
)
from regard.api.library.duplicates import thing_comparer
from regard.core.errors import UsageError
from regard.core.same_objects import ContentRegions
from regard.evaluation.labels import LabelledSet, read_labels
from regard.evaluation.same_objects import (
    NEGATIVES_WEIGHT_IN_HALF,
    Half,
    Identities,
    ObjectReport,
    fit_logistic,
    identify,
    measure_groups,
    split,
    training_pairs,
)
from regard.search.same_objects.evidence import SIGNS, Weights
from regard.search.same_objects.finder import Compared
from regard.storage.retrieval.regions import SqlRegions


@click.command()
@images_option
@click.option(
    "--instances",
    type=PATH,
    required=True,
    metavar="FILE",
    help="COCO instances with masks; the same text is the same object.",
)
@only_option
@click.option(
    "--halves",
    type=click.IntRange(min=0),
    default=0,
    metavar="N",
    help="Fit on half of the objects and measure on the other, over N random splits.",
)
@click.option(
    "--part",
    type=click.IntRange(min=2),
    metavar="N",
    help="Measure N photographs drawn at random, as a smaller library would hold.",
)
@click.option(
    "--draws",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="K",
    help="How many parts to draw; their counts are added up.",
)
@click.option("--without-colours", is_flag=True, help="Measure as if models gave no colours.")
@model_options
def objects(
    images: Path,
    instances: Path,
    only: str | None,
    halves: int,
    part: int | None,
    draws: int,
    without_colours: bool,
    profile: str | None,
    home: Path | None,
    as_json: bool,
) -> int:
    """Precision and recall of groups of regions that show one object in different photographs.

    \b
    Example: regard evaluate objects --images photos --instances photos/instances.json
             --halves 10

    With --halves the weights are fitted for each half, and the weights fitted to all pairs are
    shown. With --part and several --draws, --home saves analysing the photographs again for each.
    """
    if part is not None and halves:
        raise UsageError("--part and --halves exclude each other", remedy="give one of them")
    if part is None and draws > 1:
        raise UsageError("--draws needs --part", remedy="add --part N")
    labels = read_labels(images, instances=instances, only=only)

    def compare(selected: LabelledSet) -> tuple[Compared, Identities]:
        with open_labelled(selected, profile, home) as labelled:
            opened = labelled.home
            comparer = thing_comparer(opened, use_colours=not without_colours)
            regions = SqlRegions(opened.catalog, opened.pipeline)
            contents = list(regions.content_regions(labelled.assets))
            compared = comparer.compare_all(contents, labelled.assets)
            return compared, _identities(labelled, contents)

    weights: dict[str, float] = {}
    if part is not None:
        parts = (compare(_draw_part(labels, part, seed)) for seed in range(draws))
        reports = [measure_groups(known, _groups(compared, None)) for compared, known in parts]
        report = ObjectReport.mean(reports, runs=1)
    else:
        compared, identities = compare(labels)
        report = measure_groups(identities, _groups(compared, None))
    if halves:
        reports = []
        for seed in range(halves):
            one, other = split(identities, seed)
            for fitted_on, measured_on in ((one, other), (other, one)):
                fitted = _fit(compared, identities, fitted_on)
                groups = _groups(compared, fitted)
                reports.append(measure_groups(identities, groups, measured_on))
        report = ObjectReport.mean(reports, halves)
        fitted = _fit(compared, identities, None)
        weights = {
            "intercept": fitted.intercept,
            **dict(zip(SIGNS, fitted.weights, strict=False)),
        }
    if as_json:
        document: dict[str, Any] = report.to_json()
        write_json({**document, "weights": weights} if weights else document)
    else:
        click.echo(report.to_text())
        for name, weight in weights.items():
            click.echo(f"fitted on all pairs: {name} {weight:.2f}")
    return DONE


def _draw_part(labels: LabelledSet, count: int, seed: int) -> LabelledSet:
    """Up to `count` of the photographs, drawn at random; the same seed draws the same."""
    order = np.random.default_rng(seed).permutation(len(labels.images))
    return replace(labels, images=tuple(labels.images[place] for place in sorted(order[:count])))


def _fit(compared: Compared, identities: Identities, half: Half | None) -> Weights:
    regions, found = compared.things.regions, compared.found
    pairs = list(zip(regions[found.first].tolist(), regions[found.second].tolist(), strict=True))
    used, same = training_pairs(identities, pairs, half)
    negatives_weight = 1.0 if half is None else NEGATIVES_WEIGHT_IN_HALF
    return Weights(*fit_logistic(found.signs[used], same[used], negatives_weight))


def _groups(compared: Compared, weights: Weights | None) -> Iterator[list[int]]:
    for group in compared.same_objects(weights):
        yield [sighting.region for sighting in group.sightings]


def _identities(labelled: LabelledLibrary, stored: Sequence[ContentRegions]) -> Identities:
    """What the stored regions show; of a content at several paths, the last path counts."""
    home, names = labelled.home, labelled.names
    records = home.search_catalog.hit_records(
        [regions.content for regions in stored], (), labelled.assets
    )
    masks = {
        names[asset.path]: {
            id: region.mask for id, region in zip(regions.ids, regions.regions, strict=True)
        }
        for regions in stored
        for asset in records.assets.get(regions.content, ())
    }
    return identify(labelled.labels, masks)
