"""`regard profiles` and `regard models`: which models there are, whether they can run, fetching them."""

from __future__ import annotations

from typing import Any

import click

from regard.api.cli.app import CANNOT_WORK, DONE, write_json
from regard.api.cli.options import forbid_network, json_option
from regard.core.errors import RegardError, UsageError
from regard.models.checkpoints.source import format_bytes
from regard.models.profiles.composed import ComposedProfile
from regard.models.profiles.registry import load_profile, profile_file, profile_files


@click.command()
@click.option("--show", metavar="NAME", help="Print a profile's file, to change a copy of it.")
@json_option
def profiles(show: str | None, as_json: bool) -> int:
    """List the model profiles, whether each can run here, and what to do where it can't.

    \b
    Example: regard profiles
    Example: regard profiles --show blip3 > mine.toml
    """
    if show is not None:
        click.echo(profile_file(show).read_text(encoding="utf-8"), nl=False)
        return DONE
    described = {name: _describe(name) for name in profile_files()}
    if as_json:
        write_json(described)
        return DONE
    width = max(len(name) for name in described)
    for name, document in described.items():
        state = "ready" if document["ready"] else "can't run here"
        click.echo(f"{name:{width}}  {state}: {document['description']}")
        if document["needs"] and not document["ready"]:
            click.echo(f"{'':{width}}  - {document['needs']}")
        for problem in document["problems"]:
            remedy = f"; {problem['remedy']}" if problem["remedy"] else ""
            click.echo(f"{'':{width}}  - {problem['message']}{remedy}")
    return DONE


@click.group(invoke_without_command=True)
@click.pass_context
def models(context: click.Context) -> None:
    """Bring the models of a profile to this machine.

    \b
    Example: regard models fetch blip3-small
    """
    if context.invoked_subcommand is None:
        raise click.UsageError("no command is given", context)


@models.command()
@click.argument("profile")
@click.option(
    "--offline",
    is_flag=True,
    callback=forbid_network,
    help="Only check that all is there, without the network.",
)
def fetch(profile: str, offline: bool) -> int:
    """Download the models of PROFILE to the hub's cache; what is there already is not fetched again.

    \b
    Example: regard models fetch blip3
    """
    from regard.models.checkpoints.fetching import fetch, missing_bytes, require_disk

    chosen = load_profile(profile)
    sources = [source for source in chosen.sources if source.path is None]
    if not offline and sources:
        missing = sum(missing_bytes(source) for source in sources)
        require_disk(missing)
        click.echo(f"{format_bytes(missing)} to download", err=True)
        for source in sources:
            checkpoint = fetch(source)
            click.echo(f"{source.model}: {checkpoint.path}")
    problems = load_profile(profile).problems()
    for problem in problems:
        remedy = f"; {problem.remedy}" if problem.remedy else ""
        click.echo(f"regard: {problem.message}{remedy}", err=True)
    if not problems:
        click.echo(f"{chosen.name} is ready")
    return CANNOT_WORK if problems else DONE


def _describe(name: str) -> dict[str, Any]:
    try:
        profile = load_profile(name)
        problems: list[RegardError] = list(profile.problems())
    except RegardError as error:
        return _unusable(error)
    except Exception as error:  # noqa: BLE001 - one file must not hide the others, whatever it sets off
        said = f"{type(error).__name__}: {' '.join(str(error).split())}"
        return _unusable(UsageError(f"the profile {name} can't be looked at: {said}"))
    return {
        "description": profile.definition.description,
        "ready": not problems,
        "needs": _needs(profile),
        "problems": [_problem(problem) for problem in problems],
    }


def _unusable(error: RegardError) -> dict[str, Any]:
    """What is said of a profile that could not be looked at."""
    return {"description": "", "ready": False, "needs": None, "problems": [_problem(error)]}


def _problem(error: RegardError) -> dict[str, str | None]:
    return {"message": error.message, "remedy": error.remedy}


def _needs(profile: ComposedProfile) -> str | None:
    """What a profile takes of a machine, as its file tells it."""
    sizes = {
        "of files": sum(source.download_bytes for source in profile.sources),
        "of GPU memory": profile.definition.gpu_memory_bytes,
    }
    parts = [f"about {format_bytes(count)} {what}" for what, count in sizes.items() if count]
    return f"it takes {' and '.join(parts)}" if parts else None
