"""`regard mcp`."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import click

from regard.api.cli.app import DONE, INTERRUPTED
from regard.api.cli.options import home_option, offline_option, open_library
from regard.core.errors import MissingDependency


@click.command()
@click.option(
    "--allow-changes", is_flag=True, help="Also let models make and fill albums, and give stars."
)
@home_option
@offline_option
def mcp(allow_changes: bool, home: Path | None) -> int:
    """Let language models search the library, by the Model Context Protocol over stdio.

    Programs start this command themselves; docs/mcp.md says what to write into their settings.

    \b
    Example: regard mcp --home ~/photo-index
    """
    try:
        from regard.api.mcp.server import make_server
    except ModuleNotFoundError as error:
        raise MissingDependency(
            f"the package {error.name} is not installed",
            remedy="install it with: pip install 'regard[mcp]'",
        ) from error
    # The SDK would wait for its thread that reads stdin, which nothing interrupts.
    signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))
    with open_library(home) as library:
        make_server(library, allow_changes=allow_changes).run("stdio")
    return DONE
