"""`regard models`."""

from __future__ import annotations

import click

from regard.api.cli.app import CANNOT_WORK, DONE
from regard.api.cli.options import forbid_network
from regard.core.errors import RegardError
from regard.models.checkpoints.source import format_bytes
from regard.models.profiles.registry import load_profile


@click.group(invoke_without_command=True)
@click.pass_context
def models(context: click.Context) -> None:
    """Download the models of a profile to this machine.

    \b
    Example: regard models fetch siglip
    """
    if context.invoked_subcommand is None:
        raise click.UsageError("no command is given", context)


@models.command()
@click.argument("profile")
@click.option("--refine", is_flag=True, help="Also what regard search --refine needs.")
@click.option(
    "--offline",
    is_flag=True,
    callback=forbid_network,
    help="Only check that everything is there, without the network.",
)
def fetch(profile: str, refine: bool, offline: bool) -> int:
    """Download the models of PROFILE to the hub's cache; what is there already is not fetched
    again.

    \b
    Example: regard models fetch siglip
             regard models fetch siglip --refine
    """
    from regard.models.checkpoints.fetching import fetch, missing_bytes, require_disk

    chosen = load_profile(profile)
    wanted = (*chosen.sources, *(chosen.refining_sources if refine else ()))
    sources = [source for source in wanted if source.path is None]
    if not offline and sources:
        missing = sum(missing_bytes(source) for source in sources)
        require_disk(missing)
        click.echo(f"{format_bytes(missing)} to download", err=True)
        for source in sources:
            checkpoint = fetch(source)
            click.echo(f"{source.model}: {checkpoint.path}")
    chosen = load_profile(profile)
    problems: list[RegardError] = [*chosen.problems()]
    if refine and (problem := chosen.grounding_problem()) is not None:
        problems.append(problem)
    for problem in problems:
        remedy = f"; {problem.remedy}" if problem.remedy else ""
        click.echo(f"regard: {problem.message}{remedy}", err=True)
    if not problems:
        click.echo(f"{chosen.name} is ready")
    return CANNOT_WORK if problems else DONE
