"""What this process may use of its machine, and how searches share it."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def usable_cores() -> int:
    """The number of cores this process may run on, which may be fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def has_network() -> bool:
    """Whether a route leads out of this machine; nothing is sent to find out."""
    for family, address in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        # Connecting a datagram socket only looks up the route; the addresses are of nobody.
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as end:
            end.connect((address, 9))
            return True
    return False


# One for each core but the caller's own; no thread starts before it is needed.
_helpers = ThreadPoolExecutor(max(1, usable_cores() - 1), thread_name_prefix="regard-helper")
_idle_cores = threading.Semaphore(usable_cores() - 1)


def share_work(work: Callable[[_Item], _Result], items: Sequence[_Item]) -> list[_Result]:
    """The results of work that releases the GIL, for each item in order.

    The calling thread takes turns with a helper for each idle core. Work may share its own work.
    Raises what `work` raises.
    """
    if len(items) == 1:
        return [work(items[0])]
    results: dict[int, _Result] = {}
    turns = iter(range(len(items)))

    def take_turns() -> None:
        for place in turns:
            results[place] = work(items[place])

    def help_and_leave() -> None:
        try:
            take_turns()
        finally:
            _idle_cores.release()

    helpers: list[Future[None]] = []
    while len(helpers) < len(items) - 1 and _idle_cores.acquire(blocking=False):
        helpers.append(_helpers.submit(help_and_leave))
    try:
        take_turns()
    finally:
        for helper in helpers:
            if helper.cancel():
                _idle_cores.release()
        # After an error, too: what they use may be closed next.
        wait(helpers)
    for helper in helpers:
        if not helper.cancelled():
            helper.result()
    return [results[place] for place in range(len(items))]
