"""`regard prune`."""

from __future__ import annotations

from pathlib import Path

import click

from regard.api.cli.app import write_json
from regard.api.cli.options import home_option, json_option, open_library
from regard.api.cli.output import exit_code
from regard.api.cli.progress import progress_bar


@click.command()
@click.argument("fingerprints", nargs=-1, metavar="[PIPELINE]...")
@click.option("--unfinished", is_flag=True, help="Include models that never went live.")
@home_option
@json_option
def prune(fingerprints: tuple[str, ...], unfinished: bool, home: Path | None, as_json: bool) -> int:
    """Delete what previous models made: all that are not live, or the PIPELINEs that begin so.

    \b
    Example: regard prune
    """
    with open_library(home) as library, progress_bar() as progress:
        pruned = library.prune(fingerprints, unfinished=unfinished, progress=progress)
    if as_json:
        write_json(pruned.to_json())
    else:
        shown = ", ".join(one[:12] for one in pruned.fingerprints)
        click.echo(f"{len(pruned.fingerprints)} deleted{': ' if shown else ''}{shown}")
    return exit_code(pruned.interrupted)
