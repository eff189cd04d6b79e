"""`regard index`."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
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
from regard.core.errors import UsageError
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
@ray_option
@offline_option
@click.option("--retry-failed", is_flag=True, help="Try failed files that have not changed again.")
@click.option(
    "--reread",
    is_flag=True,
    help="Read metadata of unchanged files again, as after an upgrade; analyse nothing again.",
)
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
@click.option(
    "--watch",
    "is_watched",
    is_flag=True,
    help="Then index what changes below PATHS, until Ctrl-C.",
)
@click.option(
    "--poll",
    is_flag=True,
    help="With --watch: look for changes again and again, where the file system tells of none.",
)
@click.option(
    "--read/--no-read",
    default=True,
    help="Then read the text in photographs, if the profile has a reader [default: read].",
)
@json_option
def index(
    paths: tuple[bytes, ...],
    home: Path | None,
    collection: str,
    profile: str | None,
    ray: str | None,
    retry_failed: bool,
    reread: bool,
    exclude: tuple[str, ...],
    include: tuple[str, ...],
    clear_exclusions: bool,
    is_watched: bool,
    poll: bool,
    read: bool,
    as_json: bool,
) -> int:
    """Index the photographs at or below PATHS; unchanged ones cost no time.

    \b
    Example: regard index ~/Pictures --exclude 'drafts/'
             regard index s3://bucket/photos
             regard index ~/Pictures --watch
    """
    require_name(collection)
    if poll and not is_watched:
        raise UsageError("--poll needs --watch", remedy="give both, or leave out --poll")
    with open_library(home, profile, ray) as library, contextlib.ExitStack() as watching:
        runs: Iterator[IndexReport] = iter(())
        if is_watched:
            # What can't be watched is refused before anything is indexed.
            notes = watching.enter_context(progress_bar(is_shown=False))
            runs = library.watch(
                *paths, collection=collection, poll=poll, read=read, progress=notes
            )
        with progress_bar() as progress:
            report = library.index(
                *paths,
                collection=collection,
                retry_failed=retry_failed,
                reread=reread,
                exclude=exclude,
                include=include,
                clear_exclusions=clear_exclusions,
                read=read,
                progress=progress,
            )
        _write(report, as_json=as_json)
        if is_watched and not report.interrupted:
            notes.note("watching for changes until Ctrl-C")
            for report in runs:
                _write(report, as_json=as_json)
            return exit_code(interrupted=True)
    return exit_code(report.interrupted, len(report.failures))


def _write(report: IndexReport, *, as_json: bool) -> None:
    if as_json:
        write_json(report.to_json())
    else:
        print_report(report)
    sys.stdout.flush()
