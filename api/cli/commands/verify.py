"""`regard verify`."""

from __future__ import annotations

from pathlib import Path

import click

from regard.api.cli.app import CANNOT_WORK, DONE, write_json
from regard.api.cli.options import home_option, json_option, open_library


@click.command()
@home_option
@json_option
def verify(home: Path | None, as_json: bool) -> int:
    """Check that the catalog is complete and that all indexes agree with it.

    \b
    Example: regard verify
    """
    with open_library(home) as library:
        findings = library.verify()
    if as_json:
        messages = [finding.message for finding in findings]
        write_json({"agrees": not findings, "findings": messages})
    elif not findings:
        click.echo("the catalog is complete and its indexes agree with it")
    for finding in findings:
        remedy = "; run: regard rebuild" if finding.in_index else ""
        click.echo(f"regard: {finding.message}{remedy}", err=True)
    return CANNOT_WORK if findings else DONE
