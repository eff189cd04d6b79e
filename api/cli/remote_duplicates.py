"""`regard duplicates` on a server, in the shapes that a home gives."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import click

from regard.api.cli.commands.duplicates import Listed
from regard.api.cli.options import ChosenServer
from regard.api.cli.remote import open_client, uri_of
from regard.api.client import Client
from regard.api.client.duplicates import DuplicateKindName
from regard.api.http.schemas import DuplicateGroupDocument
from regard.core.duplicates import DuplicateKind

_PAGE = 100
_AGAIN_SECONDS = 0.2


def list_on_server(
    server: ChosenServer,
    kinds: Sequence[DuplicateKind],
    collection: str | None,
    should_stop: Callable[[], bool],
) -> Listed | None:
    """All groups, once the server has compared everything; None where it was interrupted."""
    names: list[DuplicateKindName] = [kind.value for kind in kinds]
    within = [] if collection is None else [collection]
    groups: list[DuplicateGroupDocument] = []
    with open_client(server) as client:
        while client.duplicates.list(names, collection=within, limit=1).waiting:
            if should_stop():
                return None
            time.sleep(_AGAIN_SECONDS)
        cursor = None
        while True:
            page = client.duplicates.list(names, collection=within, limit=_PAGE, cursor=cursor)
            groups += page.groups
            cursor = page.next
            if should_stop():
                return None
            if cursor is None:
                break
    if page.left_out:
        click.echo(
            f"regard: {page.left_out} photographs can't be compared: the server finds no file that still "
            "has their bytes",
            err=True,
        )
    return Listed(
        [_documented(client, group) for group in groups],
        [_paths_of(client, group) for group in groups],
        [],
    )


def _documented(client: Client, group: DuplicateGroupDocument) -> dict[str, Any]:
    """The fields of docs/duplicates.md, in their order."""
    return {
        "kind": group.kind,
        "keeper": group.keeper,
        "reasons": group.reasons,
        "members": [
            {
                "asset": {
                    "id": member.asset.id,
                    "uri": uri_of(client, member.asset),
                    "width": member.asset.width,
                    "height": member.asset.height,
                    "caption": member.asset.caption,
                    "format": member.asset.format,
                    "size": member.asset.size,
                    "collection": member.asset.collection.name,
                },
                "similarity": member.similarity,
                "region": member.region,
            }
            for member in group.members
        ],
    }


def _paths_of(client: Client, group: DuplicateGroupDocument) -> list[bytes]:
    members = sorted(group.members, key=lambda member: member.asset.id != group.keeper)
    return [uri_of(client, member.asset).encode() for member in members]
