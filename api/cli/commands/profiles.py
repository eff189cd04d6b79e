"""`regard profiles`."""

from __future__ import annotations

from typing import Any

import click

from regard.api.cli.app import DONE, write_json
from regard.api.cli.options import json_option
from regard.core.errors import RegardError, UnanswerableQuery, UsageError
from regard.models.checkpoints.source import format_bytes
from regard.models.profiles.composed import ComposedProfile
from regard.models.profiles.recommending import Machine, recommend
from regard.models.profiles.registry import load_profile, profile_file, profile_files


@click.command()
@click.option("--show", metavar="NAME", help="Print a profile's file, to change a copy of it.")
@json_option
def profiles(show: str | None, as_json: bool) -> int:
    """List the model profiles, which can run here and which is recommended.

    \b
    Example: regard profiles
    Example: regard profiles --show blip3 > mine.toml
    """
    if show is not None:
        click.echo(profile_file(show).read_text(encoding="utf-8"), nl=False)
        return DONE
    described = {name: _describe(name) for name in profile_files()}
    advice = recommend(Machine.here())
    for name, document in described.items():
        document["recommended"] = advice.reason if name == advice.name else None
    if as_json:
        write_json(described)
        return DONE
    width = max(len(name) for name in described)
    for name, document in described.items():
        state = "ready" if document["ready"] else "not ready"
        click.echo(f"{name:{width}}  {state}: {document['description']}")
        if document["needs"] and not document["ready"]:
            click.echo(f"{'':{width}}  - {document['needs']}")
        for problem in document["problems"]:
            remedy = f"; {problem['remedy']}" if problem["remedy"] else ""
            click.echo(f"{'':{width}}  - {problem['message']}{remedy}")
        if document["refine"] is not None:
            click.echo(f"{'':{width}}  - search --refine: {document['refine']}")
    click.echo(f"\nrecommended for this machine: {advice.name}: {advice.reason}")
    return DONE


def _describe(name: str) -> dict[str, Any]:
    try:
        profile = load_profile(name)
        problems: list[RegardError] = list(profile.problems())
    except RegardError as error:
        return _unusable(error)
    except Exception as error:  # noqa: BLE001 - a broken file must not hide the others
        said = f"{type(error).__name__}: {' '.join(str(error).split())}"
        return _unusable(UsageError(f"the profile {name} can't be read: {said}"))
    return {
        "description": profile.definition.description,
        "ready": not problems,
        "needs": _needs(profile),
        "refine": _refining(profile),
        "problems": [_problem(problem) for problem in problems],
    }


def _unusable(error: RegardError) -> dict[str, Any]:
    """The description of a profile that could not be read."""
    return {
        "description": "",
        "ready": False,
        "needs": None,
        "refine": None,
        "problems": [_problem(error)],
    }


def _problem(error: RegardError) -> dict[str, str | None]:
    return {"message": error.message, "remedy": error.remedy}


def _refining(profile: ComposedProfile) -> str | None:
    """Whether searches can be refined with a profile; None if it has no models for that."""
    problem = profile.grounding_problem()
    if problem is None:
        return "ready"
    if not profile.refining_sources and not isinstance(problem, UnanswerableQuery):
        return "needs no other files"
    if isinstance(problem, UnanswerableQuery):
        return None
    count = sum(source.download_bytes for source in profile.refining_sources)
    size = f"takes about {format_bytes(count)} of files; " if count else ""
    return f"{size}{problem.remedy or problem.message}"


def _needs(profile: ComposedProfile) -> str | None:
    """What a profile needs of a machine, according to its file."""
    sizes = {
        "of files": sum(source.download_bytes for source in profile.sources),
        "of memory on a GPU": profile.definition.gpu_memory_bytes,
    }
    parts = [f"about {format_bytes(count)} {what}" for what, count in sizes.items() if count]
    return f"it takes {' and '.join(parts)}" if parts else None
