"""`regard read`."""

from __future__ import annotations

from pathlib import Path

import click

from regard.api.cli.app import printable, write_json
from regard.api.cli.options import home_option, json_option, open_library
from regard.api.cli.output import exit_code
from regard.api.cli.progress import progress_bar


@click.command()
@home_option
@json_option
def read(home: Path | None, as_json: bool) -> int:
    """Read the text in photographs that were not read yet, without analysing them again.

    \b
    Example: regard read
    """
    with open_library(home) as library, progress_bar() as progress:
        report = library.read(progress=progress)
    if as_json:
        write_json(report.to_json())
    else:
        click.echo(
            f"{report.read} read, {len(report.failures)} failed; {report.lines} lines of text "
            f"in {report.seconds:.1f} s"
        )
        for failure in report.failures:
            click.echo(f"  failed: {printable(failure.uri)}: {printable(failure.reason)}", err=True)
    return exit_code(report.interrupted, len(report.failures))
