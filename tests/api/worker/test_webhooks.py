"""Webhooks: real receivers get each change, in order, whatever happens to them or the sender."""

from __future__ import annotations

import contextlib
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from made_library import Library
from made_local_server import LocalServer
from made_processes import Forked
from made_receiver import Receiver
from made_tls import self_signed

from regard.api.worker import webhooks as sending
from regard.api.worker.webhooks import WebhookSender
from regard.core.assets import AssetEdit
from regard.core.errors import NotFound
from regard.core.webhooks import Webhook
from regard.storage.assets.collections import SqlCollections
from regard.storage.assets.editing import SqlAssetEditing
from regard.storage.database.catalog import Catalog, open_catalog
from regard.storage.service.webhooks import SqlWebhooks

pytestmark = pytest.mark.slow


class Home:
    """A home with two photographs, and changes of them."""

    def __init__(self, folder: Path) -> None:
        self.library = Library(folder)
        for number in range(2):
            self.library.photo(f"{number}.png", number)
        self.library.index()
        self.catalog: Catalog = open_catalog(self.library.home / "catalog.sqlite3")
        self.webhooks = SqlWebhooks(self.catalog)
        self._editing = SqlAssetEditing(self.catalog)
        self._edits = 0

    def change(self, times: int = 1) -> None:
        """That many entries in the log."""
        for _ in range(times):
            self._edits += 1
            edit = AssetEdit(frozenset({"title"}), title=f"edit {self._edits}")
            self._editing.edit(1 + self._edits % 2, edit)

    def positions(self, since: int) -> list[int]:
        changes, _, more = SqlCollections(self.catalog).changes(since, limit=100_000)
        assert not more
        return [change.position for change in changes]

    def send_to(self, receiver: Receiver) -> Webhook:
        webhook = self.webhooks.create(receiver.url)
        receiver.trust(webhook.secret)
        return webhook

    def now(self, webhook: Webhook) -> Webhook:
        return next(one for one in self.webhooks.list() if one.id == webhook.id)

    @contextmanager
    def sender(self) -> Iterator[None]:
        """One that sends from this process."""
        stop = threading.Event()
        thread = threading.Thread(target=WebhookSender(self.catalog).keep_sending, args=(stop,))
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(30)
            assert not thread.is_alive()

    @contextmanager
    def worker(self) -> Iterator[subprocess.Popen[bytes]]:
        """A worker in a process of its own."""
        with Forked(
            [sys.executable, "-m", "regard.api.worker", "--home", str(self.library.home)],
            stdin=subprocess.PIPE,
        ) as process:
            try:
                yield process
            finally:
                process.kill()


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    made = Home(tmp_path)
    yield made
    made.catalog.close()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Senders of this process wait less."""
    monkeypatch.setattr(sending, "_ATTEMPT_SECONDS", 0.5)
    monkeypatch.setattr(sending, "_FIRST_DELAY_SECONDS", 0.05)
    monkeypatch.setattr(sending, "_LAST_DELAY_SECONDS", 0.1)


def test_each_change_arrives_once_and_in_order(home: Home, tmp_path: Path) -> None:
    home.change(3)  # before there is a webhook
    with Receiver(tmp_path / "receiver") as receiver:
        webhook = home.send_to(receiver)
        assert webhook.waiting == 0
        home.change(1200)
        expected = home.positions(webhook.position)
        assert len(expected) == 1200
        with home.sender():
            receiver.until(lambda: home.now(webhook).waiting == 0)
            home.change()
            receiver.until(lambda: len(receiver.accepted()) > len(expected))
    messages = receiver.messages()
    assert [len(message.positions) for message in messages] == [500, 500, 200, 1]
    assert all(message.is_signed for message in messages)
    assert len({message.id for message in messages}) == 4
    assert receiver.accepted() == home.positions(webhook.position)


@pytest.mark.usefixtures("impatient")
def test_a_receiver_that_refuses_hangs_or_is_away_gets_all_when_it_is_back(
    home: Home, tmp_path: Path
) -> None:
    receiver = Receiver(tmp_path / "receiver")
    other = Receiver(tmp_path / "other")
    webhook, unhindered = home.send_to(receiver), home.send_to(other)

    def failure() -> str:
        """Why an attempt failed that began after this call."""
        before = home.now(webhook).failures
        receiver.until(lambda: home.now(webhook).failures > before + 1)
        return home.now(webhook).failure or ""

    with home.sender(), other:
        home.change(5)
        assert "connect" in failure().lower()
        for status, words in ((500, "it answered 500"), (302, "302"), (0, "did not answer")):
            receiver.answer(status)
            with receiver:
                assert words in failure()
        other.until(lambda: home.now(unhindered).waiting == 0)
        assert home.now(webhook).failing_since is not None
        status = home.library.run("status")
        assert f"webhook {webhook.id} ".encode() in status.out
        assert f"webhook {unhindered.id} ".encode() not in status.out
        receiver.answer(204)
        with receiver:
            receiver.until(lambda: home.now(webhook).waiting == 0)
    after = home.now(webhook)
    assert (after.failures, after.failing_since, after.failure) == (0, None, None)
    # A message keeps its id in all attempts.
    assert len({(message.id, *message.positions) for message in receiver.messages()}) == 1


def test_nothing_is_sent_to_one_that_shows_a_wrong_certificate(home: Home, tmp_path: Path) -> None:
    # Not impatient: httpcore leaves a connection to the collector whose handshake is cut short.
    with Receiver(tmp_path / "receiver", self_signed(tmp_path)) as receiver:
        webhook = home.send_to(receiver)
        home.change()
        with home.sender():
            receiver.until(lambda: home.now(webhook).failures)
        assert "certificate" in (home.now(webhook).failure or "")
        assert receiver.messages() == []


@pytest.mark.usefixtures("impatient")
def test_a_deleted_webhook_gets_nothing_more(home: Home, tmp_path: Path) -> None:
    with Receiver(tmp_path / "receiver") as receiver, home.sender():
        receiver.answer(500)
        webhook = home.send_to(receiver)
        home.change()
        receiver.until(lambda: home.now(webhook).failures)
        home.webhooks.delete(webhook.id)
        with pytest.raises(NotFound):
            home.webhooks.delete(webhook.id)
        second = home.webhooks.create(receiver.url)
        receiver.trust(second.secret)
        home.change()
        # The look at the webhooks that finds the second one misses the first.
        receiver.until(lambda: home.now(second).failures)
        receiver.answer(200)
        receiver.until(lambda: home.now(second).waiting == 0)
        assert receiver.accepted() == home.positions(second.position)
        assert second.id > webhook.id


@pytest.mark.parametrize("seed", range(2))
def test_killed_senders_lose_nothing_and_keep_the_order(
    home: Home, tmp_path: Path, seed: int
) -> None:
    """Two workers at a time, one of them sending, are killed while photographs change."""
    chance = random.Random(seed)
    with Receiver(tmp_path / "receiver") as receiver, contextlib.ExitStack() as workers:
        webhook = home.send_to(receiver)
        running = [workers.enter_context(home.worker()) for _ in range(2)]
        for _ in range(6):
            before = len(receiver.messages())
            home.change(chance.randrange(1, 40))
            receiver.until(lambda before=before: len(receiver.messages()) > before)
            home.change(chance.randrange(700))
            time.sleep(chance.random() * 0.3)
            # Whichever has the worker's role, or both.
            for place in chance.sample(range(2), chance.randrange(1, 3)):
                running[place].send_signal(signal.SIGKILL)
                running[place].wait(60)
                running[place] = workers.enter_context(home.worker())
        receiver.until(lambda: home.now(webhook).waiting == 0)
    assert receiver.accepted() == home.positions(webhook.position)


def test_metrics_tell_what_waits_and_fails(home: Home, tmp_path: Path) -> None:
    receiver = Receiver(tmp_path / "receiver")
    webhook = home.send_to(receiver)
    home.change(2)
    with LocalServer(home.library.home) as server:
        receiver.until(lambda: home.now(webhook).failures)
        metrics = httpx.get(f"{server.url}/metrics", trust_env=False).text
        assert f'regard_webhook_waiting{{webhook="{webhook.id}"}} 2.0' in metrics
        assert f'regard_webhook_failures{{webhook="{webhook.id}"}} 0.0' not in metrics
        with receiver:
            receiver.until(lambda: home.now(webhook).waiting == 0)


def test_the_command_line_makes_lists_and_deletes_them(tmp_path: Path) -> None:
    library = Library(tmp_path)
    url = "https://example.org/changes"
    made = library.run("webhooks", "create", url)
    assert (made.code, made.out[:6]) == (0, b"whsec_"), made
    also = library.run("webhooks", "create", f"{url}?two", "--json").document
    assert also["secret"].startswith("whsec_")
    listed = library.run("webhooks", "list")
    assert listed.out.decode().splitlines() == [
        f"webhook 1 {url}: nothing waits",
        f"webhook 2 {url}?two: nothing waits",
    ]
    documents = library.run("webhooks", "list", "--json").document["webhooks"]
    assert documents[1] == {name: also[name] for name in also if name != "secret"}
    assert library.run("webhooks", "delete", "1").code == 0
    assert library.run("webhooks", "delete", "1").code == 3
    assert len(library.run("webhooks", "list", "--json").document["webhooks"]) == 1


@pytest.mark.parametrize(
    "url",
    ["example.org", "ftp://example.org", "https://", "https://a:b@example.org", "http://x:y/",
     "https://example.org/#part", "https://exa mple.org", "https://exämple.org", "http://[::1"],
)  # fmt: skip
def test_what_is_no_address_is_refused(tmp_path: Path, url: str) -> None:
    assert Library(tmp_path).run("webhooks", "create", url).code == 2
