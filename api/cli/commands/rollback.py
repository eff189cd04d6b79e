"""`regard rollback`."""

from __future__ import annotations

from pathlib import Path

import click

from regard.api.cli.app import printable, write_json
from regard.api.cli.options import home_option, json_option, offline_option, open_library
from regard.api.cli.output import exit_code
from regard.api.cli.progress import progress_bar


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
    """Restore the previous models; a second time restores the later ones.

    Photographs that were indexed since are analysed first, unless --at-once is given.

    \b
    Example: regard rollback
    """
    with open_library(home) as library, progress_bar() as progress:
        change = library.rollback(at_once=at_once, progress=progress)
    if as_json:
        write_json(change.to_json())
    elif change.live:
        click.echo(printable(f"{change.profile} is live again"))
    if change.message is not None:
        click.echo(f"regard: {printable(change.message)}", err=True)
    if change.live and change.missing:
        click.echo(
            f"regard: {change.missing} photographs are not in it; index their folders again",
            err=True,
        )
    return exit_code(change.interrupted, change.missing or change.failed)
