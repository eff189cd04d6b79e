"""`regard rebuild`."""

from __future__ import annotations

from pathlib import Path

import click

from regard.api.cli.app import DONE
from regard.api.cli.options import home_option, open_library


@click.command()
@home_option
def rebuild(home: Path | None) -> int:
    """Rebuild vector indexes, the keyword index and counters from the catalog alone.

    \b
    Example: regard rebuild
    """
    with open_library(home) as library:
        rebuilt = library.rebuild()
    click.echo(f"{rebuilt.vectors} vectors in {rebuilt.indexes} indexes")
    return DONE
