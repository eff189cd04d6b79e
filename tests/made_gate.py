"""A gate before the fake models of other processes, for events that must happen during their work.

No more batches pass than a test has let through, in all processes together, however quick they are
and however long the test itself is held up. Nor need anything sleep: what waits goes on as soon as
it may.
"""

from __future__ import annotations

import os
from pathlib import Path

# Runs at the start of each process that has the gate's environment. A worker whose server was killed
# goes on, to end after its batch. What nobody lets through for minutes goes on, too: its test is long
# over, and it should be.
_AT_START = """
import os
import time
from pathlib import Path
from regard.models.fake import FakeSegmenter

FOLDER = Path({folder!r})
segment = FakeSegmenter.segment

def hold(self, images):
    allowed, passed, until = FOLDER / "allowed", FOLDER / "passed", time.monotonic() + 250
    parent = os.getppid()
    while passed.stat().st_size >= int(allowed.read_text()):
        if os.getppid() != parent or time.monotonic() > until:
            break
        time.sleep(0.005)
    with passed.open("ab") as file:
        file.write(b".")
    time.sleep(float((FOLDER / "pause").read_text()))
    return segment(self, images)

FakeSegmenter.segment = hold
"""
_EVERYTHING = 10**9
_WORKERS_AT_ONCE = Path(__file__).parent / "workers_at_once" / "sitecustomize.py"


class Gate:
    """Stands open until it is told otherwise; `environ` is for the processes that it is to hold.

    Models that run in several threads may pass by as many batches more.
    """

    def __init__(self, folder: Path, also: str = "") -> None:
        """`also` is run by these processes too, before anything else."""
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        (folder / "passed").touch()
        self.open()
        (folder / "sitecustomize.py").write_text(
            _WORKERS_AT_ONCE.read_text() + also + _AT_START.format(folder=str(folder))
        )
        earlier = os.environ.get("PYTHONPATH")
        self.environ = {"PYTHONPATH": f"{folder}:{earlier}" if earlier else str(folder)}

    @property
    def passed(self) -> int:
        """How many batches were let through."""
        return (self._folder / "passed").stat().st_size

    @property
    def allowed(self) -> int:
        """How many batches may pass in all."""
        return int((self._folder / "allowed").read_text())

    def let(self, batches: int, pause: float = 0.0) -> None:
        """Let so many more through, each after a pause in seconds, and then no more."""
        self._write("pause", pause)
        self._write("allowed", self.passed + batches)

    def open(self, pause: float = 0.0) -> None:
        """Let everything through, each batch after a pause in seconds."""
        self._write("pause", pause)
        self._write("allowed", _EVERYTHING)

    def _write(self, name: str, value: float) -> None:
        aside = self._folder / f"{name}.aside"
        aside.write_text(str(value))
        aside.replace(self._folder / name)
