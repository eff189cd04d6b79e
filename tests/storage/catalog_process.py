"""Another process at the same catalog, told what to do line by line.

Run as `python catalog_process.py URL FOLDER`; each line of JSON on stdin is one command with its
arguments, each line on stdout what came of it. `Worker` is the other end.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from made_processes import Forked

HERE = Path(__file__)


class Worker:
    """A process that carries out commands."""

    def __init__(self, url: str, folder: Path, *, ready: bool = True) -> None:
        self.process = Forked(
            [sys.executable, "-W", "error", HERE, url, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=HERE.parent,
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._in, self._out = self.process.stdin, self.process.stdout
        if ready:
            self.answer()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with contextlib.suppress(BrokenPipeError):
            self._in.close()
        self._out.close()
        if kind is not None:
            self.process.kill()
        self.process.wait(120)

    def ask(self, *command: str) -> Any:
        """Give a command and wait for what comes of it."""
        self.tell(*command)
        return self.answer()

    def tell(self, *command: str) -> None:
        """Give a command."""
        self._in.write(json.dumps(command) + "\n")
        self._in.flush()

    def answer(self) -> Any:
        """What came of the command given before."""
        return json.loads(self._out.readline())


def _work(url: str, folder: Path) -> None:
    from catalog_samples import open_home, save

    from regard.core.errors import RegardError

    print(json.dumps("running"), flush=True)
    if sys.stdin.readline() == "":
        return
    with contextlib.ExitStack() as stack:
        home = stack.enter_context(open_home(url, folder))
        print(json.dumps(home.catalog.uuid), flush=True)
        writer = home.writer()
        leases = contextlib.ExitStack()
        stack.callback(leases.close)
        for line in sys.stdin:
            answer: Any = "done"
            try:
                match json.loads(line):
                    case ["hold"]:
                        leases.enter_context(writer.writer_lease())
                    case ["release"]:
                        leases.close()
                    case ["save", path, name]:
                        save(writer, path, name)
                    case ["remove", root]:
                        answer = writer.remove(list(writer.known_assets(root.encode())))
            except RegardError as error:
                answer = [type(error).__name__, str(error)]
            print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    _work(sys.argv[1], Path(sys.argv[2]))
