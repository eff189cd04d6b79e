"""A stage works ahead, in order, and no further than it may."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from regard.indexer.lookahead import map_ahead


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(3) as made:
        yield made


def test_results_come_in_order(pool: ThreadPoolExecutor) -> None:
    def slow(number: int) -> int:
        time.sleep(0.002 * (number % 3))
        return -number

    found = map_ahead(pool, slow, range(40), window=5, stopped=lambda: False)
    assert list(found) == [(number, -number) for number in range(40)]


def test_no_more_is_taken_than_the_window_holds(pool: ThreadPoolExecutor) -> None:
    taken = 0

    def items() -> Iterator[int]:
        nonlocal taken
        for number in range(20):
            taken += 1
            yield number

    given = 0
    for _ in map_ahead(pool, abs, items(), window=4, stopped=lambda: False):
        given += 1
        assert taken <= given + 4
    assert given == 20


def test_a_failure_comes_where_its_result_would(pool: ThreadPoolExecutor) -> None:
    found = map_ahead(
        pool, lambda number: 1 // number, [2, 1, 0, 3], window=4, stopped=lambda: False
    )
    assert [next(found)[0], next(found)[0]] == [2, 1]
    with pytest.raises(ZeroDivisionError):
        next(found)


def test_what_was_begun_comes_out_after_a_stop(pool: ThreadPoolExecutor) -> None:
    stop, release = threading.Event(), threading.Event()
    begun: list[int] = []

    def held(number: int) -> int:
        begun.append(number)
        release.wait(120)
        return number

    found = map_ahead(pool, held, range(100), window=6, stopped=stop.is_set)
    timer = threading.Timer(0.1, lambda: (stop.set(), release.set()))
    timer.start()
    done = [item for item, _ in found]
    timer.join()
    # Three threads had begun one each; whatever they began after the release still counts.
    assert set(begun) <= set(range(6))
    assert done == sorted(begun)


def test_nothing_is_taken_once_stopped(pool: ThreadPoolExecutor) -> None:
    assert list(map_ahead(pool, abs, range(5), window=2, stopped=lambda: True)) == []
