"""Changes of models that are killed at each transaction, and at any time: nothing is lost or
mixed."""

from __future__ import annotations

import contextlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from made_library import Library, Outcome

pytestmark = [pytest.mark.campaign, pytest.mark.timeout(1800)]

# Everything is imported once; a child is forked for each command, which may end itself at a
# transaction.
_NURSERY = """
import contextlib, json, os, signal, sys
from regard.api.cli import main
import regard.api.cli.commands.index, regard.api.cli.commands.pipelines
import regard.api.library.reindexing, regard.models.fake
from regard.storage.pipelines import pruning
from regard.storage.database.connection import Database

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def die_at(number, before):
    writing, begun = Database.writing, 0

    @contextlib.contextmanager
    def frail(self):
        nonlocal begun
        begun += 1
        mine = begun
        with writing(self) as connection:
            yield connection
            if mine == number and before:
                die()
        if mine == number:
            die()

    Database.writing = frail

pruning._NOTICED_SECONDS = 0.0
pruning._CONTENTS_AT_ONCE = 2
for line in sys.stdin:
    order = json.loads(line)
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        if order["number"]:
            die_at(order["number"], order["before"])
        os._exit(main(order["arguments"]))
    print(child, flush=True)
    print(os.waitpid(child, 0)[1], flush=True)
"""
_TURNED = """
description = "other numbers for the same colours"
batch_size = 1
[encoder]
kind = "fake"
parameters = { turn = 5 }
[segmenter]
kind = "fake"
"""


class Nursery:
    """Runs commands of its home in forked children."""

    def __init__(self, said: Path, environ: dict[str, str]) -> None:
        self.said = said
        with open(said, "wb") as errors:
            self._process = self._start(errors, environ)

    @staticmethod
    def _start(errors: BinaryIO, environ: dict[str, str]) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-W", "error", "-c", _NURSERY],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, **environ},
        )

    def start(self, *arguments: object, number: int = 0, before: bool = False) -> int:
        """The process id of a command that ends itself at its transaction of this number, 0 for
        none."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        order = {"arguments": [str(one) for one in arguments], "number": number, "before": before}
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def wait(self) -> int:
        """Its exit code, or the negative number of the signal that ended it."""
        assert self._process.stdout is not None
        return os.waitstatus_to_exitcode(int(self._process.stdout.readline()))

    def run(self, *arguments: object, number: int = 0, before: bool = False) -> int:
        self.start(*arguments, number=number, before=before)
        return self.wait()

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()


@pytest.fixture
def nursery(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Nursery]]:
    """Makes nurseries; `turned` is a profile that they know, and so does this process."""
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "turned.toml").write_text(_TURNED)
    monkeypatch.setenv("REGARD_PROFILES", str(tmp_path / "profiles"))
    made: list[Nursery] = []

    def make(**environ: str) -> Nursery:
        made.append(Nursery(tmp_path / f"said{len(made)}", environ))
        return made[-1]

    yield make
    for one in made:
        one.close()


def told(library: Library) -> tuple[str, list[Any]]:
    """The models that answer, and what they answer."""
    hits = library.search("red", "--limit", "1000")
    spaces = {one["space"] for hit in hits for one in hit["channels"] if "space" in one}
    assert len(spaces) == 1, spaces
    return spaces.pop(), sorted((hit["asset"]["uri"], hit["score"]) for hit in hits)


def done(library: Library, *arguments: str) -> Outcome:
    outcome = library.run(*arguments)
    assert outcome.code == 0, outcome
    return outcome


@pytest.mark.parametrize("before", [True, False], ids=["rolled back", "committed"])
@pytest.mark.parametrize("command", ["reindex", "rollback", "rollback --at-once", "prune"])
def test_a_kill_at_each_transaction(
    nursery: Callable[..., Nursery], tmp_path: Path, command: str, before: bool
) -> None:
    """Afterwards the home is as before or as after; the same command brings it to the end."""
    made = Library(tmp_path / "made", count=5)
    made.index()
    arguments = command.split()
    if command == "reindex":
        arguments += ["--profile", "turned"]
    else:
        done(made, "reindex", "--profile", "turned")
    if command.startswith("rollback"):
        made.photo("late.png", 77)
        assert made.run("index", made.photos).code == 0
    whole = [told(made)]
    ended = Library(tmp_path / "ended")
    ended.photos = made.photos
    shutil.copytree(made.home, ended.home, dirs_exist_ok=True)
    run = nursery().run
    code = run(*arguments, "--home", ended.home)
    assert code == (1 if "--at-once" in arguments else 0)
    whole.append(told(ended))
    for number in range(1, 200):
        frail = Library(tmp_path / f"frail{number}")
        frail.photos = made.photos
        shutil.copytree(made.home, frail.home, dirs_exist_ok=True)
        killed = run(*arguments, "--home", frail.home, number=number, before=before)
        if killed != -signal.SIGKILL:
            assert killed == code
            break
        assert told(frail) in whole, number
        frail.verify()
        assert len([one for one in _pipelines(frail) if one["state"] == "live"]) == 1
        if command.startswith("rollback"):
            # Given again after it was done, it would go forth.
            if told(frail)[0] != whole[1][0]:
                assert run(*arguments, "--home", frail.home) == code
        else:
            assert run(*arguments, "--home", frail.home) == code
        assert told(frail) == whole[1], number
        frail.verify()
        assert _pipelines(frail) == _pipelines(ended)
        shutil.rmtree(frail.home)
    assert number > 3


@pytest.mark.parametrize("database", ["sqlite", "postgresql", "pgvector"])
def test_kills_at_any_time(
    nursery: Callable[..., Nursery], tmp_path: Path, database: str, request: pytest.FixtureRequest
) -> None:
    """Sixty commands that change models or photographs, most of them killed; then what is left to
    do."""
    environ = {}
    if database != "sqlite":
        environ["REGARD_VECTORS"] = "pgvector" if database == "pgvector" else "faiss"
        environ["REGARD_DATABASE_URL"] = request.getfixturevalue("postgres_url")()
    library, chance = Library(tmp_path), random.Random(5)
    for number in range(25):
        library.photo(f"{number:02}.png", number)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environ.items():
            patch.setenv(name, value)
        library.index()
        home, made = nursery(**environ), 25
        killed = 0
        # How long each command takes here, as far as one was left to end: kills are to fall
        # within.
        seconds: dict[str, float] = {}
        for _ in range(60):
            command = chance.choice(
                [
                    ["reindex", "--profile", "turned"],
                    ["reindex", "--profile", "fake"],
                    ["rollback"],
                    ["rollback", "--at-once"],
                    ["prune"],
                    ["prune", "--unfinished"],
                    ["index", str(library.photos), "--retry-failed"],
                ]
            )
            if command[0] == "index":
                library.photo(f"{made:02}.png", made)
                made += 1
                names = sorted(library.photos.iterdir())
                chance.choice(names).unlink()
            began = time.monotonic()
            pid = home.start(*command, "--home", library.home)
            if command[0] in seconds and chance.random() < 0.8:
                time.sleep(chance.uniform(0, seconds[command[0]]))
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                code = home.wait()
            else:
                code = home.wait()
                seconds[command[0]] = time.monotonic() - began
            killed += code == -signal.SIGKILL
            assert code in {0, 1, 3, -signal.SIGKILL}, (command, code, home.said.read_text())
            told(library)
            library.verify()
        assert killed > 10
        assert library.run("index", library.photos, "--retry-failed").code == 0
        for profile in ("turned", "fake", "turned"):
            done(library, "reindex", "--profile", profile)
            assert len(told(library)[1]) == len(list(library.photos.iterdir()))
        time.sleep(3.1)
        done(library, "prune", "--unfinished")
        library.verify()
        assert [one["profile"] for one in _pipelines(library)] == ["turned"]


@pytest.mark.parametrize("command", ["reindex --profile turned", "rollback", "prune"])
def test_a_disk_that_fills_up(
    nursery: Callable[..., Nursery], tmp_path: Path, command: str
) -> None:
    """No file can grow beyond a size, which stands for the disk's; with more space it goes on."""
    library = Library(tmp_path)
    for number in range(30):
        library.photo(f"{number:02}.png", number)
    library.index()
    # For its profile.
    nursery()
    if command != "reindex --profile turned":
        done(library, "reindex", "--profile", "turned")
        time.sleep(3.1)
    catalog = (library.home / "catalog.sqlite3").stat().st_size
    before = told(library)
    refused = 0
    for size in (catalog // 50, catalog // 4, catalog, catalog + 50_000, 100 * catalog):
        ended = subprocess.run(
            [sys.executable, "-m", "regard.api.cli", *command.split(), "--home", library.home],
            capture_output=True,
            text=True,
            check=False,
            preexec_fn=partial(resource.setrlimit, resource.RLIMIT_FSIZE, (size, size)),
        )
        library.verify()
        if ended.returncode == 0:
            break
        refused += 1
        assert ended.returncode == 3
        assert ended.stderr.startswith("regard: "), ended.stderr
        assert ended.stderr.count("\n") == 1, ended.stderr
        assert told(library) == before
    assert refused > 0
    assert len(told(library)[1]) == 30


def _pipelines(library: Library) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = done(library, "pipelines", "--json").document["pipelines"]
    for one in found:
        del one["live_since"], one["replaced_at"]
    return found
