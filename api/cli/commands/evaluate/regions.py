"""`regard evaluate regions`: how well regions cover labelled objects."""

from __future__ import annotations

from pathlib import Path

import click

from regard.api.cli.app import DONE
from regard.api.cli.commands.evaluate.labelled_library import (
    coco_options,
    draw_failures,
    model_options,
    open_labelled,
    pictures_option,
    print_report,
)
from regard.evaluation.failures import draw_region_failures
from regard.evaluation.labels import read_labels
from regard.evaluation.regions import evaluate_regions
from regard.photos.photo_file import decode_file


@click.command()
@coco_options
@pictures_option
@model_options
def regions(
    images: Path,
    only: str | None,
    captions: Path | None,
    instances: Path | None,
    pictures: Path | None,
    profile: str | None,
    home: Path | None,
    as_json: bool,
) -> int:
    """Share of labelled objects that regions cover, and how well masks fit.

    \b
    Example: regard evaluate regions --images photos --instances photos/instances.json

    With --home the photographs are kept there, and measuring again is quick.
    """
    labels = read_labels(images, captions=captions, instances=instances, only=only)
    with open_labelled(labels, profile, home) as labelled:
        stored = {name: analysis.regions for name, analysis in labelled.analyses()}
        report = evaluate_regions(labels, stored)
    print_report(report, as_json)
    draw_failures(
        lambda folder: draw_region_failures(report, labels, decode_file, folder), pictures
    )
    return DONE
