"""`regard webhooks`: addresses that a server tells of changes."""

from __future__ import annotations

from pathlib import Path

import click

from regard.api.cli.app import DONE, printable, write_json
from regard.api.cli.options import home_option, home_settings, json_option
from regard.api.library.home import open_home_catalog
from regard.storage.service.webhooks import SqlWebhooks


@click.group(invoke_without_command=True)
@click.pass_context
def webhooks(context: click.Context) -> None:
    """Make, list and delete webhooks: addresses that regard serve tells of changes.

    \b
    Example: regard webhooks create https://example.org/changes > secret.txt
    """
    if context.invoked_subcommand is None:
        raise click.UsageError("no command is given", context)


@webhooks.command()
@click.argument("url")
@home_option
@json_option
def create(url: str, home: Path | None, as_json: bool) -> int:
    """Send what changes from now on to URL, and print the secret that signs it once.

    \b
    Example: regard webhooks create https://example.org/changes > secret.txt
    """
    with open_home_catalog(home_settings(home), make=True) as catalog:
        webhook = SqlWebhooks(catalog).create(url)
    if as_json:
        write_json({**webhook.to_json(), "secret": webhook.secret})
        return DONE
    click.echo(webhook.secret)
    click.echo(
        f"This is the secret of the webhook {webhook.id}, shown only once; "
        "the receiver checks signatures with it.",
        err=True,
    )
    return DONE


@webhooks.command("list")
@home_option
@json_option
def list_webhooks(home: Path | None, as_json: bool) -> int:
    """List all webhooks, how much waits for each, and why it fails.

    \b
    Example: regard webhooks list
    """
    with open_home_catalog(home_settings(home), make=False) as catalog:
        found = SqlWebhooks(catalog).list()
    if as_json:
        write_json({"webhooks": [webhook.to_json() for webhook in found]})
        return DONE
    for webhook in found:
        click.echo(printable(str(webhook)))
    return DONE


@webhooks.command()
@click.argument("webhook", metavar="ID", type=click.IntRange(min=1, max=2**63 - 1))
@home_option
def delete(webhook: int, home: Path | None) -> int:
    """Send nothing more to the webhook with this ID.

    \b
    Example: regard webhooks delete 3
    """
    with open_home_catalog(home_settings(home), make=False) as catalog:
        SqlWebhooks(catalog).delete(webhook)
    click.echo(f"the webhook {webhook} is deleted", err=True)
    return DONE
