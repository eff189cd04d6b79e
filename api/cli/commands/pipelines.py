"""`regard reindex`, `rollback`, `prune` and `pipelines`: a home's models, changed while it is searched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from regard.api.cli.app import DONE, DONE_WITH_FAILURES, INTERRUPTED, printable, write_json
from regard.api.cli.commands.index import describe_report
from regard.api.cli.options import chosen_server, home_option, json_option, offline_option
from regard.api.cli.progress import progress_bar, stop_request
from regard.api.library.home import open_home_catalog
from regard.api.library.settings import Settings
from regard.storage.pipelines.overview import PipelineState, read_pipelines
from regard.storage.pipelines.stored import SHORT_FINGERPRINT

_MEANING = {
    PipelineState.LIVE: "live",
    PipelineState.KEPT: "kept, to go back to",
    PipelineState.UNFINISHED: "unfinished",
    PipelineState.DELETING: "deleted halfway",
}


@click.command()
@click.option(
    "--profile",
    metavar="NAME",
    help="Models to change to, by name or TOML file [default: the home's own, as they are today].",
)
@home_option
@offline_option
@json_option
def reindex(profile: str | None, home: Path | None, as_json: bool) -> int:
    """Change a home's models: analyse all photographs anew, beside what is there, then have that live.

    Searches go on unchanged until then. What was made before is kept for `regard rollback`, until
    `regard prune`. A command that was killed carries on when it is given again.

    \b
    Example: regard reindex --profile blip3
    """
    server = chosen_server()
    if server is not None:
        from regard.api.cli.remote_pipelines import reindex_on_server

        return reindex_on_server(server, profile, as_json=as_json)
    from regard.api.library.reindexing import is_live, target_profile
    from regard.api.library.reindexing import reindex as build

    settings = Settings.resolve(home)
    with open_home_catalog(settings, make=False) as catalog:
        target = target_profile(settings, catalog, profile)
        was_live = is_live(catalog, target)
        with stop_request() as stop, progress_bar("reindexing") as progress:
            report = build(
                settings,
                catalog,
                target,
                progress=progress,
                should_stop=stop.is_set,
                waits=lambda sentence: click.echo(f"regard: {sentence}", err=True),
            )
    if as_json:
        document = {"profile": target.name, "fingerprint": target.spec.fingerprint}
        write_json({**document, "live": not report.interrupted, **report.to_json()})
    elif was_live:
        click.echo(f"the home has the models of {target.name} already")
    else:
        describe_report(report)
        if not report.interrupted:
            click.echo(f"{target.name} is live; go back with: regard rollback")
    if report.interrupted:
        click.echo("regard: interrupted; run the same command to carry on", err=True)
        return INTERRUPTED
    return DONE_WITH_FAILURES if report.failures else DONE


@click.command()
@click.option(
    "--at-once",
    is_flag=True,
    help="Even without photographs that were indexed since; they count as not indexed then.",
)
@home_option
@offline_option
@json_option
def rollback(at_once: bool, home: Path | None, as_json: bool) -> int:
    """Go back to the models that were live before; given again, it goes forth.

    Photographs that were indexed since are analysed first, unless --at-once is given.

    \b
    Example: regard rollback
    """
    server = chosen_server()
    if server is not None:
        from regard.api.cli.remote_pipelines import roll_back_on_server

        return roll_back_on_server(server, at_once=at_once, as_json=as_json)
    from regard.api.library.reindexing import reindex as build
    from regard.api.library.reindexing import target_profile
    from regard.storage.pipelines.switching import roll_back

    settings = Settings.resolve(home)
    interrupted = False
    failures: list[Any] = []
    with open_home_catalog(settings, make=False) as catalog:
        found = roll_back(catalog, at_once=at_once)
        if not found.is_live:
            click.echo(f"regard: {found.missing} photographs are analysed first", err=True)
            target = target_profile(settings, catalog, found.pipeline.profile)
            with stop_request() as stop, progress_bar("catching up") as progress:
                report = build(
                    settings,
                    catalog,
                    target,
                    only=found.pipeline.fingerprint,
                    progress=progress,
                    should_stop=stop.is_set,
                    waits=lambda sentence: click.echo(f"regard: {sentence}", err=True),
                )
            interrupted, failures = report.interrupted, report.failures
    left_out = found.missing if found.is_live else len(failures)
    if as_json:
        write_json(
            {
                "profile": found.pipeline.profile,
                "fingerprint": found.pipeline.fingerprint,
                "live": not interrupted,
                "missing": left_out,
            }
        )
    elif not interrupted:
        click.echo(f"{found.pipeline.profile} ({found.pipeline.short}) is live again")
    if interrupted:
        click.echo("regard: interrupted; run the same command to carry on", err=True)
        return INTERRUPTED
    if left_out:
        click.echo(
            f"regard: {left_out} photographs are not in it; index their folders again", err=True
        )
        return DONE_WITH_FAILURES
    return DONE


@click.command()
@click.argument("fingerprints", nargs=-1, metavar="[PIPELINE]...")
@click.option("--unfinished", is_flag=True, help="Those that never went live, too.")
@home_option
@json_option
def prune(fingerprints: tuple[str, ...], unfinished: bool, home: Path | None, as_json: bool) -> int:
    """Delete what former models made: all that is not live, or the PIPELINEs that begin so.

    \b
    Example: regard prune
    """
    server = chosen_server()
    if server is not None:
        from regard.api.cli.remote_pipelines import prune_on_server

        return prune_on_server(server, fingerprints, unfinished=unfinished, as_json=as_json)
    from regard.storage.pipelines.pruning import prune as delete

    settings = Settings.resolve(home)
    with open_home_catalog(settings, make=False) as catalog, stop_request() as stop:
        gone = delete(
            catalog,
            settings.indexes,
            fingerprints,
            unfinished=unfinished,
            should_stop=stop.is_set,
        )
    if as_json:
        write_json({"pruned": gone})
    else:
        shown = ", ".join(one[:SHORT_FINGERPRINT] for one in gone)
        click.echo(f"{len(gone)} deleted{': ' if gone else ''}{shown}")
    if stop.is_set():
        click.echo("regard: interrupted; run the same command to carry on", err=True)
        return INTERRUPTED
    return DONE


@click.command()
@home_option
@json_option
def pipelines(home: Path | None, as_json: bool) -> int:
    """List the models that a home keeps, and how many photographs each has analysed.

    \b
    Example: regard pipelines
    """
    server = chosen_server()
    if server is not None:
        from regard.api.cli.remote_pipelines import list_on_server

        return list_on_server(server, as_json=as_json)
    with open_home_catalog(Settings.resolve(home), make=False) as catalog:
        found = [one.to_json() for one in read_pipelines(catalog)]
    if as_json:
        write_json({"pipelines": found})
    else:
        show_pipelines(found)
    return DONE


def show_pipelines(found: list[dict[str, Any]]) -> None:
    """One line a pipeline, in its JSON form."""
    for one in found:
        missing = f", {one['missing']} missing" if one["missing"] else ""
        failed = f", {one['failed']} not analysable" if one["failed"] else ""
        click.echo(
            f"  pipeline {one['fingerprint'][:SHORT_FINGERPRINT]} {printable(one['profile'])}: "
            f"{_MEANING[PipelineState(one['state'])]}; {one['analysed']} contents{missing}{failed}"
        )
