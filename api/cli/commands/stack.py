"""`regard stack`."""

from __future__ import annotations

from pathlib import Path

import click

from regard.api.cli.app import DONE, write_json
from regard.api.cli.options import home_option, json_option, open_library
from regard.api.cli.output import counted


@click.command()
@click.argument("ids", nargs=-1, required=True, metavar="ID ID...")
@home_option
@json_option
def stack(ids: tuple[str, ...], home: Path | None, as_json: bool) -> int:
    """Put photographs of one folder, with their stacks, into one stack.

    Later runs leave that as it is.

    \b
    Example: regard stack a3 a4
    """
    with open_library(home) as library:
        count = library.stack(ids)
    if as_json:
        write_json({"stacked": count})
    else:
        click.echo(f"{counted(count, 'photograph')} in the stack")
    return DONE
