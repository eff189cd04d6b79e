"""`regard albums`: make, fill, list, rename and delete albums."""

from __future__ import annotations

from pathlib import Path

import click

from regard.api.cli.app import DONE, printable, write_json
from regard.api.cli.options import home_option, json_option, open_library
from regard.api.cli.output import counted


@click.group(invoke_without_command=True)
@click.pass_context
def albums(context: click.Context) -> None:
    """Make, fill, list, rename and delete albums; a search names one as album:NAME.

    \b
    Example: regard albums create "Best of 2024" --query "rating:>=4 taken:2024"
    """
    if context.invoked_subcommand is None:
        raise click.UsageError("no command is given", context)


@albums.command("list")
@home_option
@json_option
def list_albums(home: Path | None, as_json: bool) -> int:
    """List all albums.

    \b
    Example: regard albums list
    """
    with open_library(home) as library:
        found = library.albums()
    if as_json:
        write_json({"items": [one.to_json() for one in found]})
        return DONE
    for one in found:
        what = counted(one.assets or 0, "photograph") if one.query is None else one.query
        click.echo(printable(f"{one.name}: {what}"))
    return DONE


@albums.command()
@click.argument("name")
@click.option("--query", help="Make a saved search, which fills itself.")
@home_option
@json_option
def create(name: str, query: str | None, home: Path | None, as_json: bool) -> int:
    """Make an empty album or, with --query, a saved search.

    \b
    Example: regard albums create harbour
    """
    with open_library(home) as library:
        made = library.create_album(name, query)
    if as_json:
        write_json(made.to_json())
    return DONE


@albums.command()
@click.argument("name")
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@home_option
@json_option
def add(name: str, ids: tuple[str, ...], home: Path | None, as_json: bool) -> int:
    """Add photographs, by their ids, to an album.

    \b
    Example: regard albums add harbour a12 a17
    """
    with open_library(home) as library:
        return _tell(library.change_album(name, add=ids), "added", as_json)


@albums.command()
@click.argument("name")
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@home_option
@json_option
def remove(name: str, ids: tuple[str, ...], home: Path | None, as_json: bool) -> int:
    """Take photographs, by their ids, out of an album.

    \b
    Example: regard albums remove harbour a12
    """
    with open_library(home) as library:
        return _tell(library.change_album(name, remove=ids), "removed", as_json)


@albums.command()
@click.argument("name")
@click.argument("new_name")
@home_option
@json_option
def rename(name: str, new_name: str, home: Path | None, as_json: bool) -> int:
    """Rename an album.

    \b
    Example: regard albums rename harbour "The harbour"
    """
    with open_library(home) as library:
        renamed = library.rename_album(name, new_name)
    if as_json:
        write_json(renamed.to_json())
    return DONE


@albums.command()
@click.argument("name")
@home_option
def delete(name: str, home: Path | None) -> int:
    """Delete an album, and none of its photographs.

    \b
    Example: regard albums delete harbour
    """
    with open_library(home) as library:
        library.delete_album(name)
    return DONE


def _tell(count: int, what: str, as_json: bool) -> int:
    if as_json:
        write_json({what: count})
    else:
        click.echo(f"{counted(count, 'photograph')} {what}")
    return DONE
