"""`regard keys`: the keys with which clients on the network authenticate."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from regard.api.cli.app import DONE, printable, write_json
from regard.api.cli.options import home_option, home_settings, json_option
from regard.api.library.home import open_home_catalog
from regard.api.library.queries import is_text, require_name
from regard.core.errors import UsageError
from regard.core.keys import AccessScope, ApiKey
from regard.storage.service.keys import SqlKeys


@click.group(invoke_without_command=True)
@click.pass_context
def keys(context: click.Context) -> None:
    """Make, list and revoke keys of the service.

    \b
    Example: regard keys create holiday-page --scope read --collection holiday
    """
    if context.invoked_subcommand is None:
        raise click.UsageError("no command is given", context)


@keys.command()
@click.argument("name")
@click.option(
    "--scope",
    type=click.Choice([scope.value for scope in AccessScope]),
    required=True,
    help="read: search, list, get. write: also upload, edit and run jobs. admin: everything.",
)
@click.option(
    "--collection",
    "collections",
    multiple=True,
    metavar="NAME",
    help="Restrict the key to this collection; may be given several times [default: all].",
)
@home_option
@json_option
def create(
    name: str, scope: str, collections: tuple[str, ...], home: Path | None, as_json: bool
) -> int:
    """Make a key and print it once; NAME says later whose it is.

    \b
    Example: regard keys create backend --scope write > key.txt
    """
    if not is_text(name):
        raise UsageError("the key's name is not text", remedy="give NAME in UTF-8")
    bound = [require_name(collection) for collection in collections] or None
    with open_home_catalog(home_settings(home), make=True) as catalog:
        key, secret = SqlKeys(catalog).create(name, AccessScope(scope), bound)
    if as_json:
        write_json({**_document(key), "key": secret})
        return DONE
    click.echo(secret)
    click.echo(
        f"This is the key {key.id} ({printable(name)}, {scope}), shown only once; "
        "send it as the header Authorization: Bearer KEY.",
        err=True,
    )
    return DONE


@keys.command("list")
@home_option
@json_option
def list_keys(home: Path | None, as_json: bool) -> int:
    """List all keys, including revoked ones, without their secrets, which are not stored.

    \b
    Example: regard keys list
    """
    with open_home_catalog(home_settings(home), make=False) as catalog:
        found = SqlKeys(catalog).list()
    if as_json:
        write_json({"keys": [_document(key) for key in found]})
        return DONE
    if not found:
        click.echo(
            "there are no keys; make one with: regard keys create NAME --scope read", err=True
        )
    for key in found:
        collections = "all" if key.collections is None else json.dumps(key.collections)
        state = "revoked" if key.revoked_at else f"last used {_time(key.last_used_at) or 'never'}"
        click.echo(f"{key.id}  {key.scope:5}  {printable(key.name)}  {collections}  {state}")
    return DONE


@keys.command()
@click.argument("key", metavar="ID", type=click.IntRange(min=1, max=2**63 - 1))
@home_option
@json_option
def revoke(key: int, home: Path | None, as_json: bool) -> int:
    """Revoke the key with this ID; a running server refuses it within a second.

    \b
    Example: regard keys revoke 3
    """
    with open_home_catalog(home_settings(home), make=False) as catalog:
        revoked = SqlKeys(catalog).revoke(key)
    if as_json:
        write_json(_document(revoked))
        return DONE
    click.echo(f"the key {revoked.id} ({printable(revoked.name)}) is revoked", err=True)
    return DONE


def _document(key: ApiKey) -> dict[str, Any]:
    return {
        "id": str(key.id),
        "name": key.name,
        "scope": key.scope.value,
        "collections": None if key.collections is None else list(key.collections),
        "created_at": _time(key.created_at),
        "last_used_at": _time(key.last_used_at),
        "revoked_at": _time(key.revoked_at),
    }


def _time(moment: datetime | None) -> str | None:
    """ISO 8601 in UTC, to the second."""
    return None if moment is None else moment.isoformat(timespec="seconds") + "Z"
