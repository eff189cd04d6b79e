"""Webhooks as the catalog keeps them: positions, failures, and who may move a position."""

from __future__ import annotations

import pytest
from catalog_samples import Home
from made_assets import Assets

from regard.core.errors import NotFound
from regard.core.webhooks import Webhook
from regard.storage.service.webhooks import SqlWebhooks


@pytest.fixture
def webhooks(home: Home) -> SqlWebhooks:
    return SqlWebhooks(home.catalog)


def only(webhooks: SqlWebhooks) -> Webhook:
    (found,) = webhooks.list()
    return found


def test_a_position_moves_from_where_it_is(assets: Assets, webhooks: SqlWebhooks) -> None:
    assert webhooks.is_empty()
    made = webhooks.create("https://example.org/changes")
    assert not webhooks.is_empty()
    assert made.secret not in repr(made)
    assert made == only(webhooks)
    assets.upload("a")
    start, waiting = made.position, only(webhooks).waiting
    assert waiting > 0
    assert not webhooks.accepted(made.id, start + 1, start + 2)
    assert webhooks.accepted(made.id, start, start + waiting)
    assert not webhooks.accepted(made.id, start, start + waiting)
    assert only(webhooks).waiting == 0


def test_failures_count_until_something_is_accepted(webhooks: SqlWebhooks) -> None:
    made = webhooks.create("http://127.0.0.1:8000")
    at = made.position
    assert webhooks.failed(made.id, at, "it answered 500")
    first = only(webhooks)
    assert (first.failures, first.failure) == (1, "it answered 500")
    assert first.failing_since is not None
    assert webhooks.failed(made.id, at, "x" * 10_000)
    second = only(webhooks)
    assert (second.failures, second.failing_since) == (2, first.failing_since)
    assert len(second.failure or "") < 1000
    assert not webhooks.failed(made.id, at + 1, "of another position")
    assert webhooks.accepted(made.id, at, at)
    assert only(webhooks) == made


def test_a_deleted_webhook_is_gone_and_its_id_is_not_used_again(webhooks: SqlWebhooks) -> None:
    first = webhooks.create("http://127.0.0.1:8000")
    webhooks.delete(first.id)
    assert not webhooks.failed(first.id, first.position, "late")
    assert not webhooks.accepted(first.id, first.position, first.position)
    with pytest.raises(NotFound):
        webhooks.delete(first.id)
    second = webhooks.create("http://127.0.0.1:8000")
    assert second.id > first.id
    assert second.secret != first.secret
