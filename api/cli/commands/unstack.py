"""`regard unstack`."""

from __future__ import annotations

from pathlib import Path

import click

from regard.api.cli.app import DONE, write_json
from regard.api.cli.options import home_option, json_option, open_library
from regard.api.cli.output import counted


@click.command()
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@click.option("--reset", is_flag=True, help="Leave them to the rules again instead.")
@home_option
@json_option
def unstack(ids: tuple[str, ...], reset: bool, home: Path | None, as_json: bool) -> int:
    """Take photographs, by their ids, out of their stacks.

    Later runs leave that as it is, unless you --reset it.

    \b
    Example: regard unstack a12
    """
    with open_library(home) as library:
        count = library.restack(ids) if reset else library.unstack(ids)
    if as_json:
        write_json({"reset" if reset else "unstacked": count})
    else:
        done = "left to the rules" if reset else "taken out"
        click.echo(f"{counted(count, 'photograph')} {done}")
    return DONE
