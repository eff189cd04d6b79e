"""What the file system tells of changes below folders, by watchfiles."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Sequence

import psutil
from watchfiles import watch
from watchfiles.main import FileChange

from regard.photos.files import real_path

# How long to wait for an event, for those that come with it, and at most for all of them.
_WAIT_MS, _STEP_MS, _TOGETHER_MS = 200, 50, 400
# They tell nothing of what other machines do, or nothing at all.
_WITHOUT_EVENTS = frozenset(
    {
        *("nfs", "nfs4", "cifs", "smb3", "smbfs", "afpfs", "webdav", "davfs", "afs", "ceph"),
        *("9p", "virtiofs", "vboxsf", "prl_fs", "lustre", "glusterfs", "fakeowner"),
        *("fuse.sshfs", "fuse.rclone", "fuse.davfs2", "fuse.s3fs", "fuse.gcsfuse", "fuse.smbnetfs"),
        *("fuse.ceph", "fuse.glusterfs", "fuse.vmhgfs-fuse", "fuse.osxfs", "fuse.grpcfuse"),
    }
)


class EventsUnavailable(Exception):
    """The file system can't be followed; the message says why."""


class EventsLost(Exception):
    """What happened since the last call is unknown, and no more events come."""


class _Stop:
    """The form in which watchfiles asks whether to stop."""

    def __init__(self, is_set: Callable[[], bool]) -> None:
        self.is_set = is_set


class FolderEvents:
    """The events below folders since it was made; for one thread."""

    def __init__(self, folders: Sequence[bytes], stopped: Callable[[], bool]) -> None:
        """Raises EventsUnavailable."""
        try:
            try:
                self._begin(folders, stopped, ignores_denied=False)
            except PermissionError:
                # Of a folder below, which walks report. Then a limit that is reached goes unnoticed.
                self._begin(folders, stopped, ignores_denied=True)
        except (OSError, RuntimeError, UnicodeError) as error:
            # What follows are the folder and Rust's own form of the error.
            raise EventsUnavailable(str(error).partition(". about [")[0]) from error

    def _begin(
        self, folders: Sequence[bytes], stopped: Callable[[], bool], *, ignores_denied: bool
    ) -> None:
        self._changes: Generator[set[FileChange], None, None] = watch(
            *map(os.fsdecode, folders),
            watch_filter=None,
            debounce=_TOGETHER_MS,
            step=_STEP_MS,
            rust_timeout=_WAIT_MS,
            yield_on_timeout=True,
            force_polling=False,
            ignore_permission_denied=ignores_denied,
            stop_event=_Stop(stopped),
        )
        # It follows the folders from the first call on.
        self._early: set[FileChange] = next(self._changes, set())

    def wait(self) -> set[bytes]:
        """The paths of the events since the last call; waits a moment if there are none.

        Raises EventsLost.
        """
        early, self._early = self._early, set()
        try:
            changes = early or next(self._changes, set())
        except (OSError, RuntimeError, UnicodeError) as error:
            # Such as a name that is not UTF-8.
            raise EventsLost(str(error)) from error
        return {os.fsencode(path) for _, path in changes}

    def close(self) -> None:
        """Follow the folders no longer."""
        self._changes.close()


def lacks_events(folder: bytes) -> bool:
    """Whether a folder, or a disk mounted below it, is of a kind that tells too little."""
    real = real_path(folder).rstrip(b"/") + b"/"
    below, above = [], {b"": ""}
    for partition in psutil.disk_partitions(all=True):
        mount = os.fsencode(partition.mountpoint).rstrip(b"/") + b"/"
        if real.startswith(mount):
            above[mount] = partition.fstype
        elif mount.startswith(real):
            below.append(partition.fstype)
    own = above[max(above, key=len)]
    return any(kind.lower() in _WITHOUT_EVENTS for kind in (own, *below))
