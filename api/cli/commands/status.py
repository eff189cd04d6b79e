"""`regard status`."""

from __future__ import annotations

from pathlib import Path

import click

from regard.api.cli.app import DONE, printable, write_json
from regard.api.cli.options import home_option, json_option, open_library


@click.command()
@home_option
@json_option
def status(home: Path | None, as_json: bool) -> int:
    """Show collections, counts, models and vector indexes.

    \b
    Example: regard status
    """
    with open_library(home) as library:
        found = library.status()
    if as_json:
        write_json(found.to_json())
    else:
        for line in found.lines:
            click.echo(printable(line))
    return DONE
