"""`regard pipelines`."""

from __future__ import annotations

from pathlib import Path

import click

from regard.api.cli.app import DONE, printable, write_json
from regard.api.cli.options import home_option, json_option, open_library


@click.command()
@home_option
@json_option
def pipelines(home: Path | None, as_json: bool) -> int:
    """List the models that are kept, and how many photographs each has analysed.

    \b
    Example: regard pipelines
    """
    with open_library(home) as library:
        found = library.pipelines()
    if as_json:
        write_json(found.to_json())
        return DONE
    for one in found.items:
        click.echo(printable(str(one)))
    if found.serving is not None and found.items and found.serving != found.items[0].fingerprint:
        click.echo(f"  the server still answers from {found.serving[:12]}")
    return DONE
