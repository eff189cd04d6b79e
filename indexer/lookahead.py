"""A stage of a pipeline: a function over a stream, worked ahead of its reader by a thread pool."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def map_ahead(
    pool: Executor,
    function: Callable[[_Item], _Result],
    items: Iterable[_Item],
    *,
    window: int,
    stopped: Callable[[], bool],
) -> Iterator[tuple[_Item, _Result]]:
    """Yield (item, function(item)) in order, with up to `window` of them begun or done ahead.

    Once `stopped` is true no item is taken any more and those that no thread has begun are dropped;
    what was begun still comes out. An exception of the function is raised where its result would be.
    """
    source = iter(items)
    begun: deque[tuple[_Item, Future[_Result]]] = deque()
    exhausted = False
    while True:
        while not exhausted and len(begun) < window:
            if stopped():
                break
            try:
                item = next(source)
            except StopIteration:
                exhausted = True
                break
            # The source may have waited long for this item.
            if not stopped():
                begun.append((item, pool.submit(function, item)))
        if not begun:
            return
        item, future = begun.popleft()
        if stopped() and future.cancel():
            continue
        yield item, future.result()
