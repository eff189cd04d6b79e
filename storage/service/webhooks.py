"""Webhooks in the catalog: where the log of assets is sent to, and how far each is.

The position is stored with the catalog, so that a sender continues where another one ended. Only
one that starts from the stored position can move it.
"""

from __future__ import annotations

import base64
import secrets
from urllib.parse import urlsplit

from sqlalchemy import Connection, Row, delete, exists, func, insert, select, update

from regard.core.errors import NotFound, UsageError
from regard.core.webhooks import Webhook
from regard.storage.database import schema
from regard.storage.database.catalog import Catalog
from regard.storage.database.change_log import assets_version
from regard.storage.database.clock import utc_now

# Standard Webhooks: the prefix of a secret; 24 to 64 random bytes.
_PREFIX, _SECRET_BYTES = "whsec_", 32
_LONGEST_FAILURE = 500
_hook = schema.webhook.c


class SqlWebhooks:
    """The webhooks of a catalog; each method is one transaction."""

    def __init__(self, catalog: Catalog) -> None:
        self._database = catalog.database

    def create(self, url: str) -> Webhook:
        """Send what changes from now on to an address; raises UsageError for what is none."""
        _require_address(url)
        secret = _PREFIX + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()
        with self._database.writing() as connection:
            now = assets_version(connection)
            row = connection.execute(
                insert(schema.webhook)
                .values(url=url, secret=secret, position=now, created_at=utc_now(), failures=0)
                .returning(schema.webhook)
            ).one()
            return _webhook(row, now)

    def list(self) -> tuple[Webhook, ...]:
        """All webhooks, in the order of creation."""
        with self._database.reading() as connection:
            return _read(connection)

    def is_empty(self) -> bool:
        """Whether there is none."""
        with self._database.reading() as connection:
            return not connection.execute(select(exists(select(_hook.id)))).scalar_one()

    def delete(self, webhook: int) -> None:
        """Send it nothing more; raises NotFound."""
        with self._database.writing() as connection:
            if not connection.execute(delete(schema.webhook).where(_hook.id == webhook)).rowcount:
                raise NotFound(
                    f"no webhook has the id {webhook}",
                    remedy="take an id from: regard webhooks list",
                )

    def accepted(self, webhook: int, since: int, through: int) -> bool:
        """Move a webhook's position; False if it is not at `since`, or was deleted."""
        with self._database.writing() as connection:
            moved = connection.execute(
                update(schema.webhook)
                .where(_hook.id == webhook, _hook.position == since)
                .values(position=through, failures=0, failing_since=None, failure=None)
            )
            return moved.rowcount == 1

    def failed(self, webhook: int, since: int, reason: str) -> bool:
        """Note an attempt that failed; False if the position is not `since`, or it was deleted."""
        now = utc_now()
        with self._database.writing() as connection:
            noted = connection.execute(
                update(schema.webhook)
                .where(_hook.id == webhook, _hook.position == since)
                .values(
                    failures=_hook.failures + 1,
                    failure=reason[:_LONGEST_FAILURE],
                    failing_since=func.coalesce(_hook.failing_since, now),
                )
            )
            return noted.rowcount == 1


def _read(connection: Connection) -> tuple[Webhook, ...]:
    rows = connection.execute(select(schema.webhook).order_by(_hook.id)).all()
    if not rows:
        return ()
    now = assets_version(connection)
    return tuple(_webhook(row, now) for row in rows)


def _webhook(row: Row[tuple[object, ...]], now: int) -> Webhook:
    return Webhook(
        row.id,
        row.url,
        row.secret,
        row.position,
        now - row.position,
        row.created_at,
        row.failures,
        row.failing_since,
        row.failure,
    )


def _require_address(url: str) -> None:
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in {"http", "https"} and bool(parts.hostname)
        # Raises ValueError for what is not a number.
        _ = parts.port
    except ValueError:
        is_address = False
    if not is_address or not url.isascii() or not url.isprintable() or " " in url:
        raise UsageError(
            f"{url!r} is not an address", remedy="give one such as https://example.org/changes"
        )
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise UsageError(
            "the address has a user, a password or a fragment",
            remedy="leave it out: the signature says who sends",
        )
