"""`regard index`."""

from __future__ import annotations

from pathlib import Path

import click

from regard.api.cli.app import write_json
from regard.api.cli.options import (
    PathArgument,
    home_option,
    json_option,
    offline_option,
    open_library,
    ray_option,
)
from regard.api.cli.output import exit_code, print_report
from regard.api.cli.progress import progress_bar
from regard.api.library.queries import DEFAULT_COLLECTION, require_name


@click.command()
@click.argument("paths", nargs=-1, required=True, type=PathArgument())
@home_option
@click.option("--collection", default=DEFAULT_COLLECTION, metavar="NAME", show_default=True)
@click.option(
    "--profile",
    metavar="NAME",
    help="Models to use in a new home, by name or TOML file [default: lite].",
)
@ray_option
@offline_option
@click.option("--retry-failed", is_flag=True, help="Try failed files that have not changed again.")
@click.option(
    "--exclude",
    multiple=True,
    metavar="PATTERN",
    help="Leave out what matches, as in .gitignore, below PATHS; remembered for later runs.",
)
@click.option(
    "--include",
    multiple=True,
    metavar="PATTERN",
    help="Don't leave out what matches, such as what was removed; remembered for later runs.",
)
@click.option(
    "--clear-exclusions",
    is_flag=True,
    help="First forget all exclusions, inclusions and removals at or below PATHS.",
)
@json_option
def index(
    paths: tuple[bytes, ...],
    home: Path | None,
    collection: str,
    profile: str | None,
    ray: str | None,
    retry_failed: bool,
    exclude: tuple[str, ...],
    include: tuple[str, ...],
    clear_exclusions: bool,
    as_json: bool,
) -> int:
    """Index the photographs at or below PATHS; unchanged ones cost no time.

    \b
    Example: regard index ~/Pictures --exclude 'drafts/'
             regard index s3://bucket/photos
    """
    require_name(collection)
    with open_library(home, profile, ray) as library, progress_bar() as progress:
        report = library.index(
            *paths,
            collection=collection,
            retry_failed=retry_failed,
            exclude=exclude,
            include=include,
            clear_exclusions=clear_exclusions,
            progress=progress,
        )
    if as_json:
        write_json(report.to_json())
    else:
        print_report(report)
    return exit_code(report.interrupted, len(report.failures))
