"""Work shared among cores: all of it is done, in order, whichever thread does it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from regard.core.machine import share_work


def test_results_come_in_the_order_of_the_items() -> None:
    assert share_work(lambda item: item * item, range(50)) == [item * item for item in range(50)]
    assert share_work(str, []) == []


def test_shared_work_may_share_its_own_from_many_threads_at_once() -> None:
    def total(size: int) -> int:
        return sum(share_work(lambda item: sum(share_work(abs, range(item))), range(size)))

    with ThreadPoolExecutor(8) as callers:
        found = list(callers.map(total, [20] * 40))
    assert found == [sum(sum(range(item)) for item in range(20))] * 40


def test_an_error_of_any_item_reaches_the_caller() -> None:
    def fail(item: int) -> None:
        if item == 7:
            raise ValueError("the seventh")

    for _ in range(200):
        with pytest.raises(ValueError, match="the seventh"):
            share_work(fail, range(8))
    # Cores are given back after errors, too.
    assert share_work(abs, range(8)) == list(range(8))
