"""`regard evaluate segmentation`: the zero-shot semantic segmentation score of a profile."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from regard.api.cli.app import DONE, write_json
from regard.api.cli.measured_library import measured_library
from regard.api.cli.options import json_option, offline_option
from regard.api.library.home import Home
from regard.core.errors import CannotWork, UsageError
from regard.core.records import Kind, QueryKind, Target
from regard.core.uris import absolute_path
from regard.evaluation.class_texts import PLAIN, ClassTexts
from regard.evaluation.segmentation import SegmentedPhotograph, evaluate_segmentation
from regard.evaluation.semantic_labels import SemanticSet, read_annotation, read_semantic_set
from regard.storage.retrieval.regions import read_segments

_PATH = click.Path(path_type=Path)


@click.command()
@click.option("--images", type=_PATH, required=True, metavar="DIR", help="The photographs.")
@click.option(
    "--masks", type=_PATH, required=True, metavar="DIR", help="PNG masks of the same names."
)
@click.option(
    "--classes",
    type=_PATH,
    required=True,
    metavar="FILE",
    help="objectInfo150.txt, or one class a line; commas separate synonyms.",
)
@click.option("--only", metavar="GLOB", help="Only photographs whose file name matches.")
@click.option(
    "--prompt",
    default=PLAIN,
    metavar="TEXT",
    show_default=True,
    help="What is encoded of a class; {} is its name.",
)
@click.option("--profile", metavar="NAME", help="Models to measure [default: lite].")
@click.option("--home", type=_PATH, metavar="DIR", help="Keep the photographs' analyses there.")
@offline_option
@json_option
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
            "the prompt has no place for the class' name", remedy="write {} in --prompt"
        )
    labels = read_semantic_set(images, masks, classes, only=only)
    paths = [photograph.path for photograph in labels.photographs]
    with measured_library(paths, profile, home) as (library, collection):
        report = evaluate_segmentation(
            labels.classes, _segmented(library, collection, labels, prompt)
        )
    if as_json:
        write_json(report.to_json())
    else:
        click.echo(report.to_text())
    return DONE


def _segmented(
    library: Home, collection: str, labels: SemanticSet, prompt: str
) -> Iterator[SegmentedPhotograph]:
    """Each photograph with its mask, its regions, and the classes that these are given by text."""
    profile = library.profile
    spaces = {
        weighted.channel.space: weighted.weight
        for weighted in profile.routes.get((QueryKind.TEXT, Target.REGION), ())
        if weighted.channel.kind is Kind.REGION
    }
    if not spaces:
        raise CannotWork(
            f"the profile {profile.name} has no regions that texts can be compared with",
            remedy="choose a --profile with a segmenter and a text encoder",
        )
    texts = ClassTexts(
        labels.classes,
        {space: (profile.encoder(space).encode_texts, weight) for space, weight in spaces.items()},
        prompt,
    )
    by_path = {absolute_path(photograph.path): photograph for photograph in labels.photographs}
    for stored in read_segments(library.catalog, library.pipeline, collection, list(spaces)):
        photograph = by_path[stored.path]
        yield SegmentedPhotograph(
            photograph.file_name,
            read_annotation(photograph, stored.height, stored.width, len(labels.classes)),
            tuple(region.mask for region in stored.regions),
            texts.nearest(stored.region_vectors),
            int(texts.nearest(stored.image_vector)[0]),
        )
