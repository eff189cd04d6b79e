"""`regard status`, `verify` and `rebuild`."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path

import click

from regard.api.cli.app import CANNOT_WORK, DONE, write_json
from regard.api.cli.commands.pipelines import show_pipelines
from regard.api.cli.options import chosen_server, home_option, json_option
from regard.api.library.home import Home, open_home
from regard.api.library.settings import Settings
from regard.core.uris import uri_of_path
from regard.storage.assets.overview import read_overview
from regard.storage.pipelines.overview import read_pipelines
from regard.storage.retrieval.channel_indexes import ChannelIndexes
from regard.storage.retrieval.keyword_maintenance import rebuild_keywords, verify_keywords
from regard.storage.retrieval.verification import verify_catalog


@click.command()
@home_option
@json_option
def status(home: Path | None, as_json: bool) -> int:
    """Show what a home holds: collections, counts and vector indexes.

    \b
    Example: regard status
    """
    server = chosen_server()
    if server is not None:
        from regard.api.cli.remote import show_status

        return show_status(server, as_json=as_json)
    settings = Settings.resolve(home)
    with open_home(settings) as library:
        overview = read_overview(library.catalog)
        channels = library.indexes.stats()
        kept = [one.to_json() for one in read_pipelines(library.catalog)]
    if as_json:
        document = {
            "home": uri_of_path(os.fsencode(settings.home)),
            "profile": library.pipeline.profile,
            "pipeline": library.pipeline.fingerprint,
            **dataclasses.asdict(overview),
            "channels": channels,
            "pipelines": kept,
        }
        write_json(document)
        return DONE
    click.echo(f"home     {settings.home}")
    click.echo(f"profile  {library.pipeline.profile} ({library.pipeline.fingerprint[:16]})")
    for collection in overview.collections:
        failed = f", {collection.failed} failed" if collection.failed else ""
        click.echo(f"  collection {collection.name}: {collection.indexed} photographs{failed}")
    click.echo(
        f"  {overview.contents} contents, {overview.regions} regions, "
        f"{overview.captions} captions, {overview.embeddings} embeddings"
    )
    if len(kept) > 1:
        show_pipelines(kept)
    for name, stats in channels.items():
        click.echo(f"  index {name}: {stats['rows']} rows in {stats['segments']} segments")
    return DONE


@click.command()
@home_option
@json_option
def verify(home: Path | None, as_json: bool) -> int:
    """Check that the catalog is whole, and that the vector indexes of all models it keeps agree with it.

    \b
    Example: regard verify
    """
    with open_home(Settings.resolve(home)) as library:
        findings = [
            *verify_catalog(library.catalog, library.pipeline),
            *(finding for indexes in _all_indexes(library) for finding in indexes.verify()),
            *verify_keywords(library.catalog.database),
        ]
    if as_json:
        document = {"agrees": not findings, "findings": [f.message for f in findings]}
        write_json(document)
    elif not findings:
        click.echo("the catalog is whole and its indexes agree with it")
    for finding in findings:
        remedy = "; run: regard rebuild" if finding.in_index else ""
        click.echo(f"regard: {finding.message}{remedy}", err=True)
    return CANNOT_WORK if findings else DONE


@click.command()
@home_option
def rebuild(home: Path | None) -> int:
    """Make the vector indexes and the keyword index anew from the catalog; no photograph is read.

    \b
    Example: regard rebuild
    """
    with open_home(Settings.resolve(home)) as library:
        rebuild_keywords(library.catalog.database)
        count = rows = 0
        for indexes in _all_indexes(library):
            indexes.rebuild()
            stats = indexes.stats().values()
            count += len(stats)
            rows += sum(int(one["rows"]) for one in stats)
    click.echo(f"{rows} vectors in {count} indexes")
    return DONE


def _all_indexes(library: Home) -> Iterator[ChannelIndexes]:
    """Those of the live pipeline, of what is kept to go back to, and of what is being built."""
    for pipeline in library.catalog.pipelines():
        if pipeline.id == library.pipeline.id:
            yield library.indexes
        else:
            yield ChannelIndexes(library.catalog, pipeline, library.settings.indexes)
