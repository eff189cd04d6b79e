"""`regard evaluate segmentation`: how well texts label regions, pixel by pixel."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from regard.api.cli.app import DONE
from regard.api.cli.commands.evaluate.labelled_library import (
    PATH,
    images_option,
    model_options,
    open_measured_home,
    print_report,
    text_encoders,
)
from regard.api.library.home import Home
from regard.core.errors import UsageError
from regard.core.records import Kind, Target
from regard.evaluation.segmentation import (
    PLAIN,
    ClassTexts,
    SegmentedPhotograph,
    evaluate_segmentation,
)
from regard.evaluation.semantic_labels import SemanticSet, read_annotation, read_semantic_set
from regard.photos.files import absolute_path
from regard.storage.retrieval.regions import read_segments


@click.command()
@images_option
@click.option("--masks", type=PATH, required=True, metavar="DIR", help="PNG masks, same names.")
@click.option(
    "--classes",
    type=PATH,
    required=True,
    metavar="FILE",
    help="objectInfo150.txt, or one class per line; commas separate synonyms.",
)
@click.option("--only", metavar="GLOB", help="Only photographs whose file name matches.")
@click.option(
    "--prompt",
    default=PLAIN,
    metavar="TEXT",
    show_default=True,
    help="The text encoded for a class; {} stands for its name.",
)
@model_options
def segmentation(
    images: Path,
    masks: Path,
    classes: Path,
    only: str | None,
    prompt: str,
    profile: str | None,
    home: Path | None,
    as_json: bool,
) -> int:
    """mIoU of regions labelled by text, against masks in ADE20K's layout.

    \b
    Example: regard evaluate segmentation --images ADE/images/validation
             --masks ADE/annotations/validation --classes ADE/objectInfo150.txt

    With --home the photographs are kept there, and measuring again is quick.
    """
    if PLAIN not in prompt:
        raise UsageError(
            "the prompt has no place for the name of the class", remedy="write {} in --prompt"
        )
    labels = read_semantic_set(images, masks, classes, only=only)
    paths = [photograph.path for photograph in labels.photographs]
    with open_measured_home(paths, profile, home) as (opened, collection):
        photographs = segmented_photographs(opened, collection, labels, prompt)
        report = evaluate_segmentation(labels.classes, photographs)
    print_report(report, as_json)
    return DONE


def segmented_photographs(
    home: Home, collection: str, labels: SemanticSet, prompt: str
) -> Iterator[SegmentedPhotograph]:
    """Each photograph with its mask, its regions, and the classes that texts give to these."""
    encoders = text_encoders(home.profile, Target.REGION, Kind.REGION)
    texts = ClassTexts(labels.classes, encoders, prompt)
    by_path = {absolute_path(photograph.path): photograph for photograph in labels.photographs}
    for stored in read_segments(home.catalog, home.pipeline, collection, list(encoders)):
        photograph = by_path[stored.path]
        yield SegmentedPhotograph(
            photograph.file_name,
            read_annotation(photograph, stored.height, stored.width, len(labels.classes)),
            tuple(region.mask for region in stored.regions),
            texts.nearest(stored.region_vectors),
            int(texts.nearest(stored.image_vector)[0]),
        )
