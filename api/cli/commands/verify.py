"""`regard verify`."""

from __future__ import annotations

from pathlib import Path

import click

from regard.api.cli.app import CANNOT_WORK, DONE, write_json
from regard.api.cli.options import home_option, json_option, open_library


@click.command()
@click.option(
    "--recall", is_flag=True, help="Measure how many of the nearest vectors searches find."
)
@home_option
@json_option
def verify(recall: bool, home: Path | None, as_json: bool) -> int:
    """Check that the catalog is complete and that all indexes agree with it.

    \b
    Examples: regard verify
              regard verify --recall
    """
    report = None
    with open_library(home) as library:
        findings = library.verify()
        if recall and not findings:
            report = library.measure_recall()
    if as_json:
        document = {
            "agrees": not findings,
            "findings": [finding.message for finding in findings],
        }
        if recall:
            document["recall"] = None if report is None else report.to_json()
        write_json(document)
    elif not findings:
        click.echo("the catalog is complete and its indexes agree with it")
        for channel in () if report is None else report.channels:
            click.echo(f"  {channel}")
    for finding in findings:
        remedy = "; run: regard rebuild" if finding.in_index else ""
        click.echo(f"regard: {finding.message}{remedy}", err=True)
    return CANNOT_WORK if findings else DONE
