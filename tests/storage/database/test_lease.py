"""The writer's lease: one indexing process a home, and what frees it."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from catalog_process import Worker
from catalog_samples import Home, save
from sqlalchemy import update

from regard.core.errors import LeaseHeld
from regard.storage.database import lease as lease_module
from regard.storage.database import schema
from regard.storage.database.lease import hold_writer_lease


@pytest.fixture
def worker(home: Home, tmp_path: Path) -> Iterator[Worker]:
    """Another process that holds the lease."""
    with Worker(home.url, tmp_path / "other") as started:
        started.ask("open")
        assert started.ask("hold") == "done"
        yield started


def set_lease(home: Home, **values: object) -> None:
    home.execute(update(schema.lease).values(**values))


def test_second_holder_learns_who_the_first_is(home: Home, worker: Worker) -> None:
    with pytest.raises(LeaseHeld) as caught, home.writing():
        raise AssertionError("both hold the lease")
    assert f"process {worker.process.pid} on {socket.gethostname()}" in str(caught.value)
    assert caught.value.remedy is not None
    assert worker.ask("release") == "done"
    with home.writing() as writer:
        save(writer, "/p/a.jpg", "a")
        refused = worker.ask("hold")
        assert refused[0] == "LeaseHeld"
        assert f"process {os.getpid()} on" in refused[1]
    assert home.rows(schema.lease) == []


def test_killed_holder_frees_the_lease_at_once(home: Home, worker: Worker) -> None:
    assert worker.ask("save", "/p/a.jpg", "a") == "done"
    worker.process.send_signal(signal.SIGKILL)
    # Nobody has waited for the process, so its id is still taken: a container's first process may
    # leave it so for good.
    os.waitid(os.P_PID, worker.process.pid, os.WEXITED | os.WNOWAIT)
    with home.writing() as writer:
        assert [asset.stamp.path for asset in writer.known_assets(b"/")] == [b"/p/a.jpg"]
    assert home.findings() == []


def test_reused_process_id_frees_it_and_the_old_holder_is_fenced_off(
    home: Home, worker: Worker
) -> None:
    (row,) = home.rows(schema.lease)
    set_lease(home, process_started=row.process_started - 1000)
    with home.writing():
        before = home.counts()
        refused = worker.ask("save", "/p/a.jpg", "a")
        assert refused[0] == "LeaseHeld"
        assert "taken over" in refused[1]
        assert worker.ask("remove", "/") == 0
        assert home.counts() == before
    assert worker.ask("save", "/p/b.jpg", "b")[0] == "LeaseHeld"  # also when it is free again
    assert home.counts() == before


def test_lease_of_another_host_is_free_only_after_it_expired(home: Home) -> None:
    with home.writing():
        set_lease(home, host="elsewhere", pid=os.getpid())
        with pytest.raises(LeaseHeld, match="on elsewhere"), home.writing():
            pass
        set_lease(home, heartbeat_at=time.time() - lease_module.EXPIRY_SECONDS / 2)
        with pytest.raises(LeaseHeld), home.writing():
            pass
        set_lease(home, heartbeat_at=time.time() - lease_module.EXPIRY_SECONDS - 1)
        with home.writing() as successor:
            save(successor, "/p/a.jpg", "a")
    assert home.rows(schema.lease) == []


def test_heart_beats_until_the_lease_is_lost(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease_module, "HEARTBEAT_SECONDS", 0.02)
    with hold_writer_lease(home.catalog.database) as held:
        (first,) = home.rows(schema.lease)
        deadline = time.monotonic() + 60
        while home.rows(schema.lease)[0].heartbeat_at == first.heartbeat_at:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        held.check()
        set_lease(home, token="another's")
        while time.monotonic() < deadline:
            try:
                held.check()
            except LeaseHeld:
                break
            time.sleep(0.01)
        with pytest.raises(LeaseHeld):
            held.check()
    # What is another's stays.
    assert [row.token for row in home.rows(schema.lease)] == ["another's"]


def test_holder_that_lost_its_lease_commits_nothing(home: Home) -> None:
    with home.writing() as writer:
        save(writer, "/p/a.jpg", "a")
        (known,) = writer.known_assets(b"/")
        before = home.counts()
        set_lease(home, token="another's")
        for attempt in (
            lambda: save(writer, "/p/b.jpg", "b"),
            lambda: writer.fail(known.stamp, "it is damaged"),
            lambda: writer.remove([known]),
            lambda: writer.attach(known.stamp, "0" * 64, None),  # type: ignore[arg-type]
        ):
            with pytest.raises(LeaseHeld):
                attempt()
        assert home.counts() == before


def test_of_many_at_once_one_gets_it(home: Home) -> None:
    outcomes: list[str] = []
    at_once, all_tried = threading.Barrier(6), threading.Barrier(6)

    def try_to_hold() -> None:
        at_once.wait()
        try:
            with hold_writer_lease(home.catalog.database):
                outcomes.append("held")
                all_tried.wait(120)
        except LeaseHeld:
            outcomes.append("refused")
            all_tried.wait(120)

    threads = [threading.Thread(target=try_to_hold) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["held"] + ["refused"] * 5
