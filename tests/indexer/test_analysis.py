"""map_ahead keeps order, works no further ahead than its window, and stops in order."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from regard.indexer.analysis import map_ahead


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(3) as made:
        yield made


def test_results_keep_their_order_when_later_ones_finish_first(pool: ThreadPoolExecutor) -> None:
    finished = [threading.Event() for _ in range(40)]

    def wait_for_next(number: int) -> int:
        # Each even number ends only after the odd one behind it.
        if number % 2 == 0:
            assert finished[number + 1].wait(60)
        finished[number].set()
        return -number

    results = map_ahead(pool, wait_for_next, range(40), window=5, stopped=lambda: False)
    assert list(results) == [-number for number in range(40)]


def test_no_more_is_taken_than_the_window_holds(pool: ThreadPoolExecutor) -> None:
    taken = 0

    def items() -> Iterator[int]:
        nonlocal taken
        for number in range(20):
            taken += 1
            yield number

    yielded = 0
    for _ in map_ahead(pool, abs, items(), window=4, stopped=lambda: False):
        yielded += 1
        assert taken <= yielded + 4
    assert yielded == 20


def test_an_exception_is_raised_in_place_of_its_result(pool: ThreadPoolExecutor) -> None:
    results = map_ahead(
        pool, lambda number: 1 // number, [2, 1, 0, 3], window=4, stopped=lambda: False
    )
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_calls_that_run_come_out_after_a_stop(pool: ThreadPoolExecutor) -> None:
    stop, release = threading.Event(), threading.Event()
    running: list[int] = []

    def hold(number: int) -> int:
        running.append(number)
        if len(running) == 3:
            stop.set()
            release.set()
        assert release.wait(60)
        return number

    results = list(map_ahead(pool, hold, range(100), window=6, stopped=stop.is_set))
    # Threads may take more of the window after the release; nothing beyond it starts.
    assert set(running) <= set(range(6))
    assert results == sorted(running)


def test_nothing_is_started_once_stopped(pool: ThreadPoolExecutor) -> None:
    assert list(map_ahead(pool, abs, range(5), window=2, stopped=lambda: True)) == []
