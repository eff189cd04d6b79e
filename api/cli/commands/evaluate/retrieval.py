"""`regard evaluate retrieval`: how well texts find photographs and regions."""

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
from regard.core.records import Kind, QueryKind, Routes, Target
from regard.evaluation.failures import draw_retrieval_failures
from regard.evaluation.labels import read_labels
from regard.evaluation.retrieval import evaluate_retrieval
from regard.photos.photo_file import decode_file


@click.command()
@coco_options
@pictures_option
@model_options
def retrieval(
    images: Path,
    only: str | None,
    captions: Path | None,
    instances: Path | None,
    pictures: Path | None,
    profile: str | None,
    home: Path | None,
    as_json: bool,
) -> int:
    """Text → image R@1/5/10 per caption, text → region hit@1/10 per distinct text.

    \b
    Example: regard evaluate retrieval --images photos --captions photos/captions.json
             --instances photos/instances.json --pictures failures

    With --home the photographs are kept there, and measuring again is quick.
    """
    labels = read_labels(images, captions=captions, instances=instances, only=only)
    with open_labelled(labels, profile, home) as labelled:
        routes = labelled.home.profile.routes
        kinds = dict.fromkeys(
            weighted.channel.kind for weighted in routes[QueryKind.TEXT, Target.IMAGE]
        )
        ablated = {
            f"without {kind}": labelled.text_searcher(_routes_without(routes, kind))
            for kind in kinds
        }
        report = evaluate_retrieval(labels, labelled.text_searcher(), ablated)
    print_report(report, as_json)
    draw_failures(
        lambda folder: draw_retrieval_failures(report, labels, decode_file, folder), pictures
    )
    return DONE


def _routes_without(routes: Routes, kind: Kind) -> Routes:
    """The routes less the channels of one kind; a route that has no other kind keeps them."""
    return {
        key: tuple(w for w in routed if w.channel.kind is not kind) or routed
        for key, routed in routes.items()
    }
