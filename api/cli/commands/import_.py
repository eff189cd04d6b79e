"""`regard import`."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from regard.api.cli.app import DONE, DONE_WITH_FAILURES, printable, write_json
from regard.api.cli.options import home_option, json_option, open_library
from regard.api.cli.progress import progress_bar


@click.command(name="import")
@click.argument("folder", type=click.Path(path_type=Path), metavar="DIR")
@home_option
@json_option
def import_(folder: Path, home: Path | None, as_json: bool) -> int:
    """Import what regard export wrote into DIR into a home, new or in use; no model is run.

    \b
    Example: regard import ~/regard-export --home ~/new-home

    All of DIR is checked before anything is written. What the home has already stays as it is.
    """
    with open_library(home) as library, progress_bar() as progress:
        report = library.import_(folder, progress=progress)
    if as_json:
        conflicts = [{"uri": uri, "reason": why} for uri, why in report.conflicts]
        write_json({**dataclasses.asdict(report), "conflicts": conflicts})
    else:
        click.echo(
            f"{report.assets} assets imported, {report.unchanged} unchanged; "
            f"{report.contents} contents, {report.regions} regions, {report.captions} captions "
            f"and {report.embeddings} embeddings are new"
        )
    if report.waiting:
        click.echo(
            f"regard: {report.waiting} contents are not analysed by the models of this home; "
            "see whose they are with: regard pipelines",
            err=True,
        )
    for uri, why in report.conflicts:
        click.echo(f"  left out: {printable(uri)}: {printable(why)}", err=True)
    return DONE_WITH_FAILURES if report.conflicts else DONE
