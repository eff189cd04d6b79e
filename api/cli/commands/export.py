"""`regard export`."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from regard.api.cli.app import DONE, write_json
from regard.api.cli.options import home_option, json_option, open_library


@click.command()
@click.argument("folder", type=click.Path(path_type=Path), metavar="DIR")
@home_option
@click.option(
    "--collection",
    "collections",
    multiple=True,
    metavar="NAME",
    help="Only this collection; may be given several times [default: all].",
)
@json_option
def export(folder: Path, home: Path | None, collections: tuple[str, ...], as_json: bool) -> int:
    """Write the catalog into DIR, which is new or empty: Parquet tables, .npy vectors, COCO files.

    \b
    Example: regard export ~/regard-export

    The photographs themselves are not copied. docs/export.md specifies every file.
    """
    with open_library(home) as library:
        report = library.export(folder, collections)
    if as_json:
        write_json(dataclasses.asdict(report))
    else:
        click.echo(
            f"{report.assets} assets, {report.contents} contents, {report.regions} regions, "
            f"{report.captions} captions and {report.embeddings} embeddings in {folder}, "
            f"{report.bytes / 1e6:.1f} MB"
        )
    return DONE
