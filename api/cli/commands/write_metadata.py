"""`regard write-metadata`."""

from __future__ import annotations

from pathlib import Path

import click

from regard.api.cli.app import printable, write_json
from regard.api.cli.options import home_option, json_option, open_library
from regard.api.cli.output import exit_code
from regard.api.cli.progress import progress_bar


@click.command("write-metadata")
@click.argument("query", required=False)
@click.option("--collection", metavar="NAME", help="Write those of one collection only.")
@click.option("--dry-run", is_flag=True, help="List the sidecars, and write nothing.")
@home_option
@json_option
def write_metadata(
    query: str | None, collection: str | None, dry_run: bool, home: Path | None, as_json: bool
) -> int:
    """Write tags, titles and ratings that people gave into XMP sidecars.

    Photographs are never touched, and whatever else a sidecar has stays in it. QUERY are filters;
    without it, all edited photographs are meant.

    \b
    Example: regard write-metadata 'tag:lake taken:2024' --dry-run
    """
    with open_library(home) as library, progress_bar() as progress:
        report = library.write_metadata(
            query, collection=collection, dry_run=dry_run, progress=progress
        )
    if as_json:
        write_json(report.to_json())
        return exit_code(report.interrupted, len(report.failures))
    if dry_run:
        for sidecar in report.sidecars:
            click.echo(printable(sidecar))
    click.echo(
        f"{len(report.sidecars)} {'would be written' if dry_run else 'written'}, "
        f"{report.unchanged} unchanged, {len(report.failures)} failed"
    )
    if report.without_folder:
        click.echo(
            f"  without a sidecar: {report.without_folder}, which are uploads or lie in a bucket",
            err=True,
        )
    for failure in report.failures:
        click.echo(f"  failed: {printable(failure.uri)}: {printable(failure.reason)}", err=True)
    return exit_code(report.interrupted, len(report.failures))
