"""`regard evaluate objects`: how well the same object in different photographs is found."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np

from regard.api.cli.app import DONE, write_json
from regard.api.cli.measured_library import measured_library
from regard.api.cli.options import json_option, offline_option
from regard.api.library.duplicates import new_object_finder
from regard.api.library.home import Home
from regard.core.errors import UsageError
from regard.core.filters import AssetFilter
from regard.core.uris import absolute_path
from regard.evaluation.labels import LabelledSet, read_labels
from regard.evaluation.same_objects import (
    OTHERS_IN_A_HALF,
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

_PATH = click.Path(path_type=Path)


@click.command()
@click.option("--images", type=_PATH, required=True, metavar="DIR", help="The photographs.")
@click.option(
    "--instances",
    type=_PATH,
    required=True,
    metavar="FILE",
    help="COCO instances with masks; the same text is the same object.",
)
@click.option("--only", metavar="GLOB", help="Only images whose file_name matches.")
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
    help="Only N of the photographs at a time, drawn at random: how it is in a smaller library.",
)
@click.option(
    "--draws",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="K",
    help="How often a part is drawn; all draws are counted together.",
)
@click.option("--without-colours", is_flag=True, help="As for models that tell no colours.")
@click.option("--profile", metavar="NAME", help="Models to measure [default: lite].")
@click.option("--home", type=_PATH, metavar="DIR", help="Keep the photographs' analyses there.")
@offline_option
@json_option
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

    With --halves the weights are fitted anew each time; those that all pairs give are shown. With
    --part and several --draws a --home saves analysing the photographs anew for each.
    """
    if part is not None and halves:
        raise UsageError("--part and --halves exclude each other", remedy="give one")
    if part is None and draws > 1:
        raise UsageError("--draws is about parts", remedy="add --part N")
    labels = read_labels(images, instances=instances, only=only)
    result: dict[str, Any] = {}
    if part is not None:
        drawn = (_drawn(labels, part, seed) for seed in range(draws))
        found = (_compared(one, profile, home, use_colours=not without_colours) for one in drawn)
        reports = [measure_groups(known, _groups(one, None)) for one, known in found]
        report = ObjectReport.mean(reports, runs=1)
    else:
        compared, identities = _compared(labels, profile, home, use_colours=not without_colours)
        report = measure_groups(identities, _groups(compared, None))
    if halves:
        reports = []
        for seed in range(halves):
            one, other = split(identities, seed)
            reports += [
                _measured(compared, identities, fitted_on=one, measured_on=other),
                _measured(compared, identities, fitted_on=other, measured_on=one),
            ]
        report = ObjectReport.mean(reports, halves)
        weights = _fit(compared, identities, None)
        result["weights"] = {
            "intercept": weights.intercept,
            **dict(zip(SIGNS, weights.weights, strict=False)),
        }
    if as_json:
        write_json({**report.to_json(), **result})
    else:
        click.echo(report.to_text())
        for name, weight in result.get("weights", {}).items():
            click.echo(f"fitted on all pairs: {name} {weight:.2f}")
    return DONE


def _drawn(labels: LabelledSet, count: int, seed: int) -> LabelledSet:
    """Some of the photographs, drawn at random; the same seed draws the same. All where there are fewer."""
    order = np.random.default_rng(seed).permutation(len(labels.images))
    return replace(labels, images=tuple(labels.images[place] for place in sorted(order[:count])))


def _compared(
    labels: LabelledSet, profile: str | None, home: Path | None, *, use_colours: bool
) -> tuple[Compared, Identities]:
    """The photographs' things and pairs, and what they show."""
    paths = [labels.path(image.file_name) for image in labels.images]
    with measured_library(paths, profile, home) as (library, collection):
        chosen = AssetFilter(collections=(collection,))
        compared = new_object_finder(library, use_colours=use_colours).compare(chosen, {})
        assert compared is not None  # since nothing stops it
        return compared, _identities(library, labels, chosen)


def _measured(
    compared: Compared, identities: Identities, *, fitted_on: Half, measured_on: Half
) -> ObjectReport:
    weights = _fit(compared, identities, fitted_on)
    return measure_groups(identities, _groups(compared, weights), measured_on)


def _fit(compared: Compared, identities: Identities, half: Half | None) -> Weights:
    regions, found = compared.things.regions, compared.found
    pairs = list(zip(regions[found.first].tolist(), regions[found.second].tolist(), strict=True))
    used, same = training_pairs(identities, pairs, half)
    others = 1.0 if half is None else OTHERS_IN_A_HALF
    return Weights(*fit_logistic(found.signs[used], same[used], others))


def _groups(compared: Compared, weights: Weights | None) -> Iterator[list[int]]:
    for found in compared.same_objects(weights):
        yield [sighting.region for sighting in found.sightings]


def _identities(library: Home, labels: LabelledSet, chosen: AssetFilter) -> Identities:
    """What the stored regions show; of one content at several paths the last one counts."""
    names = {absolute_path(path): name for path, name in labels.by_path().items()}
    stored = list(SqlRegions(library.catalog, library.pipeline).content_regions(chosen))
    records = library.search_catalog.hit_records([of.content for of in stored], (), chosen)
    masks = {
        names[asset.path]: {
            region: found.mask for region, found in zip(of.ids, of.regions, strict=True)
        }
        for of in stored
        for asset in records.assets.get(of.content, ())
    }
    return identify(labels, masks)
