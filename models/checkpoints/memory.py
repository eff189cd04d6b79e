"""Memory available for models."""

from __future__ import annotations

import contextlib
from pathlib import Path

import psutil

_CGROUP = Path("/sys/fs/cgroup")


def available_memory() -> int:
    """Bytes that can be allocated without swapping: the machine's, or its cgroup's if fewer."""
    free = int(psutil.virtual_memory().available)
    with contextlib.suppress(OSError, ValueError):
        limit = int(_CGROUP.joinpath("memory.max").read_text())
        used = int(_CGROUP.joinpath("memory.current").read_text())
        free = min(free, max(0, limit - used + _inactive_file_bytes()))
    return free


def _inactive_file_bytes() -> int:
    # The page cache counts as used, but the kernel frees it on demand.
    for line in _CGROUP.joinpath("memory.stat").read_text().splitlines():
        name, _, count = line.partition(" ")
        if name == "inactive_file":
            return int(count)
    return 0
