"""`regard evaluate`: measures quality on labelled photographs."""

from __future__ import annotations

import click

from regard.api.cli.commands.evaluate.captions import captions
from regard.api.cli.commands.evaluate.compare import compare
from regard.api.cli.commands.evaluate.duplicates import duplicates
from regard.api.cli.commands.evaluate.objects import objects
from regard.api.cli.commands.evaluate.published import published
from regard.api.cli.commands.evaluate.regions import regions
from regard.api.cli.commands.evaluate.relevance import relevance
from regard.api.cli.commands.evaluate.retrieval import retrieval
from regard.api.cli.commands.evaluate.segmentation import segmentation
from regard.api.cli.commands.evaluate.text import text

_MEASUREMENTS = (
    *(
        retrieval,
        regions,
        captions,
        relevance,
        duplicates,
        objects,
        segmentation,
        text,
        published,
        compare,
    ),
)


@click.group(invoke_without_command=True)
@click.pass_context
def evaluate(context: click.Context) -> None:
    """Measure quality on labelled photographs.

    \b
    Example: regard evaluate retrieval --images photos --only 'singles/*'
             --captions photos/captions.json --instances photos/instances.json
    """
    if context.invoked_subcommand is None:
        raise click.UsageError("no measurement is given", context)


for _measurement in _MEASUREMENTS:
    evaluate.add_command(_measurement)
