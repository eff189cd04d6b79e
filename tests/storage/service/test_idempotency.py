"""Repeated requests: one does the work, the others get its answer, whatever dies on the way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from catalog_samples import Home
from made_processes import Forked
from sqlalchemy import update

from regard.core.errors import KeyInUse, KeyReused, UsageError
from regard.core.keys import LOCAL, AccessScope, Caller
from regard.storage.database import schema
from regard.storage.database.catalog import open_catalog
from regard.storage.database.lease import EXPIRY_SECONDS
from regard.storage.service.idempotency import Answer, SqlIdempotency

ONE, OTHER = "1" * 64, "2" * 64
HOLDER = Caller(AccessScope.WRITE, None, 7)
ANSWER = Answer(201, '{"id": "c1", "name": "Größe"}')

_RESERVE = """
import sys, time
from regard.core.keys import LOCAL
from regard.storage.database.catalog import open_catalog
from regard.storage.service.idempotency import SqlIdempotency

assert SqlIdempotency(open_catalog(sys.argv[1])).recall(LOCAL, "k", "1" * 64) is None
print("reserved", flush=True)
time.sleep(60)
"""


@pytest.fixture
def answers(home: Home) -> SqlIdempotency:
    return SqlIdempotency(home.catalog)


@pytest.fixture
def elsewhere(home: Home) -> Iterator[SqlIdempotency]:
    catalog = open_catalog(home.url)
    yield SqlIdempotency(catalog)
    catalog.close()


def test_the_first_answer_is_given_again(
    answers: SqlIdempotency, elsewhere: SqlIdempotency
) -> None:
    assert answers.recall(LOCAL, "k", ONE) is None
    answers.remember(LOCAL, "k", ANSWER)
    assert answers.recall(LOCAL, "k", ONE) == ANSWER
    assert elsewhere.recall(LOCAL, "k", ONE) == ANSWER


def test_another_request_under_the_same_key_is_refused(answers: SqlIdempotency) -> None:
    assert answers.recall(LOCAL, "k", ONE) is None
    with pytest.raises(KeyReused):
        answers.recall(LOCAL, "k", OTHER)  # while the first is being answered, too
    answers.remember(LOCAL, "k", ANSWER)
    with pytest.raises(KeyReused):
        answers.recall(LOCAL, "k", OTHER)


def test_keys_of_others_and_other_keys_do_not_matter(answers: SqlIdempotency) -> None:
    assert answers.recall(LOCAL, "k", ONE) is None
    answers.remember(LOCAL, "k", ANSWER)
    assert answers.recall(HOLDER, "k", OTHER) is None
    assert answers.recall(LOCAL, "K", OTHER) is None


def test_work_that_failed_may_be_tried_again(answers: SqlIdempotency) -> None:
    assert answers.recall(LOCAL, "k", ONE) is None
    answers.forget(LOCAL, "k")
    assert answers.recall(LOCAL, "k", ONE) is None
    answers.remember(LOCAL, "k", ANSWER)
    answers.forget(LOCAL, "k")  # too late: it was answered
    assert answers.recall(LOCAL, "k", ONE) == ANSWER


def test_of_many_at_once_one_does_the_work(
    answers: SqlIdempotency, elsewhere: SqlIdempotency
) -> None:
    worked: list[str] = []
    got: list[Answer] = []
    at_once = threading.Barrier(6)

    def ask(which: SqlIdempotency) -> None:
        at_once.wait()
        answer = which.recall(LOCAL, "k", ONE)
        if answer is None:
            time.sleep(0.2)
            worked.append("worked")
            which.remember(LOCAL, "k", ANSWER)
        else:
            got.append(answer)

    threads = [threading.Thread(target=ask, args=(which,)) for which in (answers, elsewhere) * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert worked == ["worked"]
    assert got == [ANSWER] * 5


def test_waiting_request_runs_when_the_first_failed(answers: SqlIdempotency) -> None:
    assert answers.recall(LOCAL, "k", ONE) is None
    timer = threading.Timer(0.2, answers.forget, (LOCAL, "k"))
    timer.start()
    assert answers.recall(LOCAL, "k", ONE) is None
    timer.join()


def test_waiting_ends_while_the_work_goes_on(answers: SqlIdempotency) -> None:
    assert answers.recall(LOCAL, "k", ONE) is None
    with pytest.raises(KeyInUse):
        answers.recall(LOCAL, "k", ONE, wait_seconds=0.1)
    answers.remember(LOCAL, "k", ANSWER)
    assert answers.recall(LOCAL, "k", ONE) == ANSWER


def test_a_killed_process_gives_its_reservation_back(home: Home, answers: SqlIdempotency) -> None:
    process = Forked(
        [sys.executable, "-W", "error", "-c", _RESERVE, home.url],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent,
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "reserved\n"
        with pytest.raises(KeyInUse):
            answers.recall(LOCAL, "k", ONE, wait_seconds=0)
    finally:
        process.kill()
        process.communicate()
    assert answers.recall(LOCAL, "k", ONE, wait_seconds=0) is None
    answers.remember(LOCAL, "k", ANSWER)
    assert answers.recall(LOCAL, "k", ONE) == ANSWER


def test_another_hosts_reservation_holds_for_a_while(home: Home, answers: SqlIdempotency) -> None:
    assert answers.recall(LOCAL, "k", ONE) is None

    def reserved_elsewhere(seconds: float) -> None:
        holder = {"host": "elsewhere", "pid": os.getpid(), "started": 1.0}
        reserved_at = datetime.now(UTC).replace(tzinfo=None) - timedelta(seconds=seconds)
        home.execute(
            update(schema.idempotency).values(answer=json.dumps(holder), created_at=reserved_at)
        )

    reserved_elsewhere(EXPIRY_SECONDS / 2)
    with pytest.raises(KeyInUse):
        answers.recall(LOCAL, "k", ONE, wait_seconds=0)
    # It was taken over, so what this process says of it comes too late.
    answers.forget(LOCAL, "k")
    answers.remember(LOCAL, "k", ANSWER)
    with pytest.raises(KeyInUse):
        answers.recall(LOCAL, "k", ONE, wait_seconds=0)
    reserved_elsewhere(EXPIRY_SECONDS + 1)
    assert answers.recall(LOCAL, "k", ONE, wait_seconds=0) is None


def test_answers_are_kept_for_a_day(home: Home, answers: SqlIdempotency) -> None:
    def age(key: str, hours: float) -> None:
        then = datetime.now(UTC).replace(tzinfo=None) - timedelta(hours=hours)
        column = schema.idempotency.c
        home.execute(update(schema.idempotency).where(column.key == key).values(created_at=then))

    for key, hours in (("old", 24.1), ("older", 500), ("young", 23.9)):
        assert answers.recall(LOCAL, key, ONE) is None
        answers.remember(LOCAL, key, ANSWER)
        age(key, hours)
    assert answers.recall(LOCAL, "young", ONE) == ANSWER
    assert [row.key for row in home.rows(schema.idempotency)] == ["young"]
    assert answers.recall(LOCAL, "old", OTHER) is None


@pytest.mark.parametrize("key", ["", "k" * 256, "ключ", "a\nb", "a\0b"])
def test_what_is_no_key_is_refused(answers: SqlIdempotency, key: str) -> None:
    with pytest.raises(UsageError, match="255"):
        answers.recall(LOCAL, key, ONE)


def test_the_longest_key_is_taken(answers: SqlIdempotency) -> None:
    assert answers.recall(LOCAL, "k" * 255, ONE) is None
