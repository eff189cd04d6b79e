"""`regard evaluate captions`: how well captions describe photographs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from regard.api.cli.app import DONE
from regard.api.cli.commands.evaluate.labelled_library import (
    PATH,
    coco_options,
    draw_failures,
    model_options,
    open_labelled,
    pictures_option,
    print_report,
)
from regard.core.geometry import Box
from regard.core.records import Float32Array
from regard.evaluation.captions import NO_CAPTION, WrittenCaption, evaluate_captions
from regard.evaluation.failures import draw_caption_failures
from regard.evaluation.labels import read_labels
from regard.evaluation.wordnet import WordNet
from regard.photos.photo_file import decode_file


@click.command()
@coco_options
@pictures_option
@click.option("--wordnet", type=PATH, metavar="DIR", help="WordNet's database, to judge names.")
@model_options
def captions(
    images: Path,
    only: str | None,
    captions: Path | None,
    instances: Path | None,
    pictures: Path | None,
    wordnet: Path | None,
    profile: str | None,
    home: Path | None,
    as_json: bool,
) -> int:
    """CIDEr, BLEU-4 and SPICE, and how often captions name a thing and are right.

    With --wordnet, a name is right if it is a synonym or a hypernym of what the reference names;
    with --instances as well, the captions of regions are judged too.

    \b
    Example: regard evaluate captions --images photos --captions photos/captions.json

    With --home the photographs are kept there, and measuring again is quick.
    """
    labels = read_labels(images, captions=captions, instances=instances, only=only)
    nouns = None if wordnet is None else WordNet(wordnet)
    with open_labelled(labels, profile, home) as labelled:
        names_thing = labelled.home.profile.names_thing

        def written(text: str | None) -> WrittenCaption:
            return WrittenCaption(text, names_thing(text)) if text else NO_CAPTION

        wholes: dict[str, WrittenCaption] = {}
        regions: dict[str, list[tuple[Box, WrittenCaption]]] = {}
        for name, analysis in labelled.analyses():
            wholes[name] = written(analysis.caption)
            boxes = [region.box for region in analysis.regions]
            regions[name] = list(zip(boxes, map(written, analysis.region_captions), strict=True))
    report = evaluate_captions(
        labels,
        wholes,
        _embed_sentences,
        wordnet=nouns,
        regions=None if instances is None else regions,
    )
    print_report(report, as_json)
    draw_failures(
        lambda folder: draw_caption_failures(report, labels, decode_file, folder), pictures
    )
    return DONE


def _embed_sentences(sentences: Sequence[str]) -> Float32Array:
    """Embed by MiniLM whatever profile wrote the captions, so that figures of profiles compare."""
    from regard.models.lite.sentences import SentenceEncoder

    return SentenceEncoder().encode(sentences)
