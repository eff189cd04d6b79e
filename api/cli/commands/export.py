"""`regard export` and `regard import`."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from regard.api.cli.app import DONE, DONE_WITH_FAILURES, printable, write_json
from regard.api.cli.options import home_option, json_option
from regard.api.cli.progress import progress_bar, stop_request
from regard.api.library.home import Home, open_home_catalog, require_name
from regard.api.library.settings import Settings
from regard.storage.files.originals import Originals

_PATH = click.Path(path_type=Path)


@click.command()
@click.argument("folder", type=_PATH, metavar="DIR")
@home_option
@click.option(
    "--collection",
    "collections",
    multiple=True,
    metavar="NAME",
    help="Only this collection; several may be given [default: all].",
)
@json_option
def export(folder: Path, home: Path | None, collections: tuple[str, ...], as_json: bool) -> int:
    """Write the catalog into DIR, which is new or empty: Parquet tables, .npy vectors, COCO files.

    \b
    Example: regard export ~/regard-export

    The photographs themselves are not copied. docs/export.md specifies every file.
    """
    from regard.storage.export.exporting import export_catalog

    for name in collections:
        require_name(name)
    with open_home_catalog(Settings.resolve(home), make=False) as catalog:
        report = export_catalog(catalog, folder, collections)
    if as_json:
        write_json(dataclasses.asdict(report))
    else:
        click.echo(
            f"{report.assets} assets, {report.contents} contents, {report.regions} regions, "
            f"{report.captions} captions and {report.embeddings} embeddings in {folder}, "
            f"{report.bytes / 1e6:.1f} MB"
        )
    return DONE


@click.command(name="import")
@click.argument("folder", type=_PATH, metavar="DIR")
@home_option
@json_option
def import_(folder: Path, home: Path | None, as_json: bool) -> int:
    """Take what regard export wrote into DIR into a home, new or in use; no model is run.

    \b
    Example: regard import ~/regard-export --home ~/new-home

    All of DIR is looked at before anything is written. What the home has already stays as it is.
    """
    from regard.storage.export.checking import open_export
    from regard.storage.export.importing import import_catalog

    settings = Settings.resolve(home)
    # A home is not made by a mistyped path, or for an export that can't be used.
    checked = open_export(folder)
    originals = Originals(settings.home / "originals")
    with open_home_catalog(settings, make=True) as catalog:
        with stop_request() as stop, progress_bar("importing") as progress:
            if progress is not None:
                progress.expect(checked.export.content_count)
            report = import_catalog(
                catalog,
                checked,
                place_of=originals.path_of,
                should_stop=stop.is_set,
                **({} if progress is None else {"advance": progress.advance}),
            )
        live = catalog.live_pipeline()
        if live is not None:
            indexes = Home(settings, catalog, live).indexes
            indexes.catch_up()
            indexes.snapshot()
    if as_json:
        write_json(
            {
                **dataclasses.asdict(report),
                "conflicts": [{"uri": uri, "reason": why} for uri, why in report.conflicts],
            }
        )
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
