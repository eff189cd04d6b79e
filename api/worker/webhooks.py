"""Sends the log of assets to webhooks, in order and at least once.

A webhook's position moves when its address has accepted what was sent. An attempt that fails, or
whose sender dies, is repeated; the next part of the log waits until then. Webhooks do not wait for
each other. Messages are those of Standard Webhooks (https://www.standardwebhooks.com).
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import logging
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from regard.core.errors import RegardError

if TYPE_CHECKING:
    import httpx

    from regard.core.assets import AssetChange
    from regard.core.webhooks import Webhook
    from regard.storage.database.catalog import Catalog

_log = logging.getLogger(__name__)

_MOST_CHANGES = 500
_LOOK_SECONDS = 0.5
# Of one attempt, from the connection to the status of the answer.
_ATTEMPT_SECONDS = 15.0
# After trouble with the catalog.
_PAUSE_SECONDS = 10.0
_FIRST_DELAY_SECONDS, _LAST_DELAY_SECONDS = 1.0, 300.0


class WebhookSender:
    """Sends to the webhooks of a catalog; at most one process at a time should."""

    def __init__(self, catalog: Catalog) -> None:
        from regard.storage.assets.collections import SqlCollections
        from regard.storage.service.webhooks import SqlWebhooks

        self._webhooks = SqlWebhooks(catalog)
        self._collections = SqlCollections(catalog)
        self._source = catalog.uuid.split("-", maxsplit=1)[0]

    def keep_sending(self, stop: threading.Event) -> None:
        """Send what changes until `stop`."""
        while not stop.wait(_LOOK_SECONDS):
            try:
                is_needed = not self._webhooks.is_empty()
            except RegardError as error:
                _log.warning("webhooks have to wait: %s", error)
                continue
            if is_needed:
                asyncio.run(self._send(stop))

    async def _send(self, stop: threading.Event) -> None:
        """Start a task for each webhook that is behind the log, until `stop`."""
        import httpx

        sending: dict[int, asyncio.Task[None]] = {}
        async with httpx.AsyncClient(timeout=_ATTEMPT_SECONDS) as client:
            while not stop.is_set():
                try:
                    webhooks = {webhook.id: webhook for webhook in self._webhooks.list()}
                    for id in sending.keys() - webhooks.keys():
                        sending.pop(id).cancel()
                    for id, webhook in webhooks.items():
                        if webhook.waiting and (id not in sending or sending[id].done()):
                            sending[id] = asyncio.create_task(self._send_to(webhook, client))
                except RegardError as error:
                    _log.warning("webhooks have to wait: %s", error)
                await asyncio.sleep(_LOOK_SECONDS)
            for task in sending.values():
                task.cancel()
            await asyncio.gather(*sending.values(), return_exceptions=True)

    async def _send_to(self, webhook: Webhook, client: httpx.AsyncClient) -> None:
        """Send all that a webhook has not accepted yet, as long as it takes."""
        since, more = webhook.position, True
        try:
            while more:
                changes, through, more = self._collections.changes(since, limit=_MOST_CHANGES)
                if changes:
                    body = _body(changes, through)
                    name = f"regard_{self._source}_{webhook.id}_{since}_{through}"
                    if not await self._insist(webhook, client, since, name, body):
                        return
                if not self._webhooks.accepted(webhook.id, since, through):
                    return
                since = through
        except RegardError as error:
            _log.warning("the webhook %d has to wait: %s", webhook.id, error)
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _insist(
        self, webhook: Webhook, client: httpx.AsyncClient, since: int, name: str, body: bytes
    ) -> bool:
        """Send a message until it is accepted; False if the webhook was deleted meanwhile."""
        delay = _FIRST_DELAY_SECONDS
        while (failure := await _attempt(webhook, client, name, body)) is not None:
            if not self._webhooks.failed(webhook.id, since, failure):
                return False
            _log.warning("the webhook %d: %s; tried again in %.0f s", webhook.id, failure, delay)
            await asyncio.sleep(delay)
            delay = min(2 * delay, _LAST_DELAY_SECONDS)
        return True


async def _attempt(
    webhook: Webhook, client: httpx.AsyncClient, name: str, body: bytes
) -> str | None:
    """Why an address did not accept a message, None if it did."""
    import httpx

    at = int(time.time())
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "regard",
        "webhook-id": name,
        "webhook-timestamp": str(at),
        "webhook-signature": _signature(webhook.secret, name, at, body),
    }
    try:
        async with (
            asyncio.timeout(_ATTEMPT_SECONDS),
            # What it answers besides the status is not read.
            client.stream("POST", webhook.url, content=body, headers=headers) as response,
        ):
            return None if response.is_success else f"it answered {response.status_code}"
    except (TimeoutError, httpx.TimeoutException):
        return f"it did not answer within {_ATTEMPT_SECONDS:.0f} s"
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
        return str(error) or type(error).__name__


def _body(changes: Sequence[AssetChange], through: int) -> bytes:
    from regard.api.http.documents import change, utc

    document = {
        "type": "changes",
        "timestamp": utc(changes[-1].at),
        "data": {"changes": [change(one) for one in changes], "next": through},
    }
    return json.dumps(document, separators=(",", ":")).encode()


def _signature(secret: str, name: str, at: int, body: bytes) -> str:
    key = base64.b64decode(secret.removeprefix("whsec_"))
    digest = hmac.digest(key, b"%s.%d.%s" % (name.encode(), at, body), hashlib.sha256)
    return f"v1,{base64.b64encode(digest).decode()}"
