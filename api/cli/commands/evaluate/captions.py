"""`regard evaluate captions`: how well captions describe photographs."""

from __future__ import annotations

from collections.abc import Sequence
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
from regard.core.records import Float32Array
from regard.evaluation.captions import WrittenCaption, evaluate_captions
from regard.evaluation.failures import draw_caption_failures
from regard.evaluation.labels import read_labels
from regard.photos.photo_file import decode_file


@click.command()
@coco_options
@pictures_option
@model_options
def captions(
    images: Path,
    only: str | None,
    captions: Path | None,
    instances: Path | None,
    pictures: Path | None,
    profile: str | None,
    home: Path | None,
    as_json: bool,
) -> int:
    """CIDEr, BLEU-4 and SPICE, and how often captions name a thing and are right.

    \b
    Example: regard evaluate captions --images photos --captions photos/captions.json

    With --home the photographs are kept there, and measuring again is quick.
    """
    labels = read_labels(images, captions=captions, instances=instances, only=only)
    with open_labelled(labels, profile, home) as labelled:
        names_thing = labelled.home.profile.names_thing
        written = {
            name: WrittenCaption(text, bool(text) and names_thing(text))
            for name, analysis in labelled.analyses()
            for text in [analysis.caption or ""]
        }
    report = evaluate_captions(labels, written, _embed_sentences)
    print_report(report, as_json)
    draw_failures(
        lambda folder: draw_caption_failures(report, labels, decode_file, folder), pictures
    )
    return DONE


def _embed_sentences(sentences: Sequence[str]) -> Float32Array:
    """Embed by MiniLM whatever profile wrote the captions, so that figures of profiles compare."""
    from regard.models.lite.sentences import SentenceEncoder

    return SentenceEncoder().encode(sentences)
