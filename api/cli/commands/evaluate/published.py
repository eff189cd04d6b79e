"""`regard evaluate published`: the measures that are published of models, on the sets they are
published for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click
import numpy as np

from regard.api.cli.app import DONE
from regard.api.cli.commands.evaluate.labelled_library import (
    PATH,
    LabelledLibrary,
    Report,
    model_options,
    open_labelled,
    open_measured_home,
    print_report,
    text_encoders,
)
from regard.api.cli.commands.evaluate.segmentation import segmented_photographs
from regard.api.library.home import Home
from regard.core.records import Kind, Target
from regard.evaluation.caption_pairs import CAPTIONS_EACH, PairReport, evaluate_pairs
from regard.evaluation.captions import score_captions
from regard.evaluation.labels import read_labels, require_photographs
from regard.evaluation.published_sets import (
    PUBLISHED_SETS,
    CaptionedPhotograph,
    PublishedReport,
    read_karpathy,
)
from regard.evaluation.regions import RegionReport, evaluate_regions
from regard.evaluation.segmentation import PLAIN, evaluate_segmentation
from regard.evaluation.semantic_labels import read_semantic_set
from regard.photos.files import absolute_path
from regard.storage.retrieval.regions import read_image_vectors


@click.command()
@click.argument("name", metavar="SET", type=click.Choice(tuple(PUBLISHED_SETS)))
@click.option("--data", type=PATH, required=True, metavar="DIR", help="The set's files.")
@model_options
def published(name: str, data: Path, profile: str | None, home: Path | None, as_json: bool) -> int:
    """Measure as published, and show published figures beside.

    SET is flickr30k, coco5k, coco-captions, ade20k or lvis. What of it is missing is named, with
    the place to download it from.

    \b
    Example: regard evaluate published coco5k --data coco --profile blip3

    With --home the photographs are kept there, and measuring again is quick.
    """
    found = PUBLISHED_SETS[name]
    found.require_parts(data)
    measured_with, measured = _MEASURES[name](data, profile, home)
    print_report(PublishedReport(found, measured_with, measured), as_json)
    return DONE


_Measured = tuple[str, dict[str, Report]]


def _flickr30k(data: Path, profile: str | None, home: Path | None) -> _Measured:
    photographs = read_karpathy(data / "dataset_flickr30k.json", "flickr30k-images")
    with _opened(data, photographs, profile, home) as (opened, collection):
        return opened.profile.name, {"retrieval": _pairs(opened, collection, data, photographs)}


def _coco5k(data: Path, profile: str | None, home: Path | None) -> _Measured:
    photographs = read_karpathy(data / "dataset_coco.json")
    labels = read_labels(
        data / "val2014",
        instances=data / "annotations" / "instances_val2014.json",
        only=_names_in_coco(photographs),
    )
    with _opened(data, photographs, profile, home) as (opened, collection):
        return opened.profile.name, {
            "retrieval": _pairs(opened, collection, data, photographs),
            "regions": _regions(LabelledLibrary(labels, opened, collection)),
        }


def _coco_captions(data: Path, profile: str | None, home: Path | None) -> _Measured:
    labels = read_labels(
        data / "val2014",
        captions=data / "annotations" / "captions_val2014.json",
        only=_names_in_coco(read_karpathy(data / "dataset_coco.json")),
    )
    with open_labelled(labels, profile, home) as labelled:
        written = {name: analysis.caption or "" for name, analysis in labelled.analyses()}
        scores = score_captions(
            [written[image.file_name] for image in labels.images],
            [image.captions for image in labels.images],
        )
        return labelled.home.profile.name, {"captions": scores}


def _ade20k(data: Path, profile: str | None, home: Path | None) -> _Measured:
    labels = read_semantic_set(
        data / "images" / "validation",
        data / "annotations" / "validation",
        data / "objectInfo150.txt",
    )
    paths = [photograph.path for photograph in labels.photographs]
    with open_measured_home(paths, profile, home) as (opened, collection):
        photographs = segmented_photographs(opened, collection, labels, PLAIN)
        report = evaluate_segmentation(labels.classes, photographs)
        return opened.profile.name, {"segmentation": report}


def _lvis(data: Path, profile: str | None, home: Path | None) -> _Measured:
    labels = read_labels(data, instances=data / "lvis_v1_val.json")
    with open_labelled(labels, profile, home) as labelled:
        return labelled.home.profile.name, {"regions": _regions(labelled)}


_MEASURES: dict[str, Callable[[Path, str | None, Path | None], _Measured]] = {
    "flickr30k": _flickr30k,
    "coco5k": _coco5k,
    "coco-captions": _coco_captions,
    "ade20k": _ade20k,
    "lvis": _lvis,
}


@contextmanager
def _opened(
    data: Path,
    photographs: Sequence[CaptionedPhotograph],
    profile: str | None,
    home: Path | None,
) -> Iterator[tuple[Home, str]]:
    names = [photograph.file_name for photograph in photographs]
    require_photographs(data, names)
    with open_measured_home([data / name for name in names], profile, home) as opened:
        yield opened


def _names_in_coco(photographs: Sequence[CaptionedPhotograph]) -> set[str]:
    """The names as COCO's own files have them, without the folder."""
    return {photograph.file_name.rpartition("/")[2] for photograph in photographs}


def _pairs(
    home: Home, collection: str, data: Path, photographs: Sequence[CaptionedPhotograph]
) -> PairReport:
    captions = [photograph.captions[:CAPTIONS_EACH] for photograph in photographs]
    texts = [text for own in captions for text in own]
    rows = {absolute_path(data / one.file_name): row for row, one in enumerate(photographs)}
    images, queries = [], []
    for space, (encode, weight) in text_encoders(home.profile, Target.IMAGE, Kind.IMAGE).items():
        stored = dict(read_image_vectors(home.catalog, home.pipeline, collection, space))
        images.append(np.stack([stored[path] for path in rows]))
        queries.append(weight * encode(texts))
    owners = [row for row, own in enumerate(captions) for _ in own]
    # The scores of several spaces add up.
    return evaluate_pairs(np.hstack(images), np.hstack(queries), owners)


def _regions(labelled: LabelledLibrary) -> RegionReport:
    return evaluate_regions(
        labelled.labels, {name: analysis.regions for name, analysis in labelled.analyses()}
    )
