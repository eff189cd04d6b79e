"""`regard remove`."""

from __future__ import annotations

from pathlib import Path

import click

from regard.api.cli.app import DONE, write_json
from regard.api.cli.options import PathArgument, home_option, json_option, open_library
from regard.api.library.queries import DEFAULT_COLLECTION


@click.command()
@click.argument("paths", nargs=-1, required=True, type=PathArgument())
@home_option
@click.option("--collection", default=DEFAULT_COLLECTION, metavar="NAME", show_default=True)
@json_option
def remove(paths: tuple[bytes, ...], home: Path | None, collection: str, as_json: bool) -> int:
    """Forget what is indexed at or below PATHS, and leave it out of later runs.

    No file is touched. To have it back, index the path itself.

    \b
    Example: regard remove ~/Pictures/old
    """
    with open_library(home) as library:
        removed = library.remove(*paths, collection=collection)
    if as_json:
        write_json({"removed": removed})
    else:
        click.echo(f"{removed} forgotten")
    return DONE
