"""A folder that nothing is read out of, whatever links and `..` say.

Where a path leads is found out first, and then walked from the folder down, name by name, through
descriptors and without following links. So what is opened lies inside even when somebody swaps a
name for a link in between; then the opening fails.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from regard.core.errors import OutsideRoots

# Folders on the way need to be entered only, not to be listed.
_ENTER = getattr(os, "O_PATH", os.O_RDONLY) | getattr(os, "O_DIRECTORY", 0)
LEADS_OUT = "it leads out of the configured root"


@dataclass(frozen=True, slots=True)
class Confinement:
    """What lies in a folder; `root` is its path without links. Made by `confine`."""

    root: bytes

    def holds(self, path: bytes) -> bool:
        """Whether what `path` leads to lies in the folder, or is the folder; it need not exist."""
        return self._contains(os.path.realpath(path))

    @contextmanager
    def entered(self, path: bytes) -> Iterator[tuple[int, bytes]]:
        """The descriptor of the folder that `path` leads into, and the name there, which is no link yet.

        Open it by that descriptor and name with O_NOFOLLOW. Raises OutsideRoots when it leads out, and
        OSError when there is no such folder, or a link has come in its place.
        """
        real = os.path.realpath(path)
        if not self._contains(real):
            raise OutsideRoots(LEADS_OUT)
        names = [name for name in real[len(self.root) :].split(b"/") if name] or [b"."]
        handle = os.open(self.root, _ENTER)
        try:
            for name in names[:-1]:
                below = os.open(name, _ENTER | os.O_NOFOLLOW, dir_fd=handle)
                os.close(handle)
                handle = below
            yield handle, names[-1]
        finally:
            os.close(handle)

    def _contains(self, real: bytes) -> bool:
        return real == self.root or real.startswith(self.root.rstrip(b"/") + b"/")


def confine(root: bytes) -> Confinement:
    """Confine to a folder as it lies now; links that lead to it are resolved."""
    return Confinement(os.path.realpath(root))
