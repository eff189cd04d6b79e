"""`regard index` and `regard remove`."""

from __future__ import annotations

from pathlib import Path

import click

from regard.api.cli.app import DONE, DONE_WITH_FAILURES, INTERRUPTED, printable, write_json
from regard.api.cli.options import (
    PathArgument,
    chosen_server,
    home_option,
    json_option,
    offline_option,
)
from regard.api.cli.progress import progress_bar, stop_request
from regard.api.library.home import (
    DEFAULT_COLLECTION,
    open_home,
    open_or_make_home,
    require_name,
)
from regard.api.library.settings import Settings
from regard.core.errors import UsageError
from regard.indexer.discover import distinct_roots, require_root
from regard.indexer.report import IndexReport


@click.command()
@click.argument("paths", nargs=-1, required=True, type=PathArgument())
@home_option
@click.option("--collection", default=DEFAULT_COLLECTION, metavar="NAME", show_default=True)
@click.option(
    "--profile",
    metavar="NAME",
    help="Models to use in a new home, by name or TOML file [default: lite].",
)
@offline_option
@click.option("--retry-failed", is_flag=True, help="Try again what failed and has not changed.")
@json_option
def index(
    paths: tuple[bytes, ...],
    home: Path | None,
    collection: str,
    profile: str | None,
    retry_failed: bool,
    as_json: bool,
) -> int:
    """Index the photographs at or below PATHS; what is indexed and unchanged costs no time.

    \b
    Example: regard index ~/Pictures
    """
    server = chosen_server()
    require_name(collection)
    if server is not None:
        from regard.api.cli.remote_indexing import index_on_server

        if profile is not None:
            raise UsageError("a server has its models already", remedy="leave out --profile")
        return index_on_server(server, paths, collection, as_json=as_json)
    settings = Settings.resolve(home)
    for root in distinct_roots(paths):
        # A home is not made, and no profile chosen for it, by a mistyped path.
        require_root(root)
    with open_or_make_home(settings, profile) as library:
        indexer = library.indexer(collection)
        with stop_request() as stop, progress_bar("indexing") as progress:
            report = indexer.run(
                paths, retry_failed=retry_failed, progress=progress, should_stop=stop.is_set
            )
    if as_json:
        write_json(report.to_json())
    else:
        describe_report(report)
    if report.interrupted:
        click.echo("regard: interrupted; run the same command to carry on", err=True)
        return INTERRUPTED
    return DONE_WITH_FAILURES if report.failures else DONE


@click.command()
@click.argument("paths", nargs=-1, required=True, type=PathArgument())
@home_option
@click.option("--collection", default=DEFAULT_COLLECTION, metavar="NAME", show_default=True)
@json_option
def remove(paths: tuple[bytes, ...], home: Path | None, collection: str, as_json: bool) -> int:
    """Forget what is indexed at or below PATHS; no file is touched.

    \b
    Example: regard remove ~/Pictures/old
    """
    require_name(collection)
    with open_home(Settings.resolve(home)) as library:
        removed = library.indexer(collection).remove(paths)
    if as_json:
        write_json({"removed": removed})
    else:
        click.echo(f"{removed} forgotten")
    return DONE


def describe_report(report: IndexReport) -> None:
    """Say in words what a run did, and list its failures on stderr."""
    counts = {
        "indexed": report.indexed,
        "unchanged": report.unchanged,
        "moved": report.moved,
        "removed": report.removed,
        "failed": len(report.failures),
    }
    parts = [f"{count} {name}" for name, count in counts.items() if count or name == "indexed"]
    rate = f", {report.indexed / report.seconds:.1f} a second" if report.indexed else ""
    click.echo(
        f"{', '.join(parts)}; {report.regions} regions and {report.captions} captions "
        f"in {report.seconds:.1f} s{rate}"
    )
    for failure in report.failures:
        click.echo(f"  failed: {printable(failure.uri)}: {printable(failure.reason)}", err=True)
