"""`regard reindex`."""

from __future__ import annotations

from pathlib import Path

import click

from regard.api.cli.app import printable, write_json
from regard.api.cli.options import (
    home_option,
    json_option,
    offline_option,
    open_library,
    ray_option,
)
from regard.api.cli.output import exit_code, print_report
from regard.api.cli.progress import progress_bar


@click.command()
@click.option(
    "--profile",
    metavar="NAME",
    help="Models to change to, by name or TOML file [default: the home's own, as installed now].",
)
@home_option
@ray_option
@offline_option
@json_option
def reindex(profile: str | None, home: Path | None, ray: str | None, as_json: bool) -> int:
    """Change the models: analyse all photographs with others, which then go live.

    Searches use the previous models until then. These are kept for `regard rollback`, until
    `regard prune`. Run the command again to carry on after an interruption.

    \b
    Example: regard reindex --profile blip3
    """
    with open_library(home, ray=ray) as library, progress_bar() as progress:
        change = library.reindex(profile, progress=progress)
    name = change.profile or "the profile"
    if as_json:
        write_json(change.to_json())
    elif change.was_live:
        click.echo(f"{name} is live already")
    else:
        if change.report is not None:
            print_report(change.report)
        if change.live:
            click.echo(f"{name} is live; restore the previous models with: regard rollback")
    if change.message is not None:
        click.echo(f"regard: {printable(change.message)}", err=True)
    return exit_code(change.interrupted, change.failed)
