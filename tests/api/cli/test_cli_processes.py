"""What shows only between real processes: freshness, signals, streams, imports, memory of nothing
heavy."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from made_gate import Gate
from made_library import Library, command, regard, regard_process, without_root_rights
from made_processes import Forked

pytestmark = pytest.mark.slow

_SEARCH_SERVER = """
import json, sys
from pathlib import Path
from regard.api.library.home import open_home
from regard.api.library.settings import Settings
from regard.search.answers import Scope, TextQuery

with open_home(Settings.resolve(Path(sys.argv[1]))) as library:
    engine = library.engine()
    for line in sys.stdin:
        hits = engine.search(TextQuery(line.strip()), Scope(limit=100000)).hits
        print(json.dumps([hit.asset.uri for hit in hits]), flush=True)
"""


@pytest.fixture
def library(tmp_path: Path) -> Library:
    made = Library(tmp_path)
    for number in range(30):
        made.photo(f"{number:03}.png", number)
    return made


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    """Before the models of the processes that are started with its environment."""
    made = Gate(tmp_path / "gate")
    yield made
    made.open()


def _index_arguments(library: Library, *more: str) -> list[Any]:
    return ["index", library.photos, "--home", library.home, "--profile", "fake", *more]


def _start_index(library: Library, gate: Gate) -> subprocess.Popen[bytes]:
    return Forked(
        command(*_index_arguments(library)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **gate.environ},
    )


def _wait_for_commits(library: Library, count: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            if len(library.asset_ids()) >= count:
                return
        except Exception:  # noqa: BLE001 - no database, or no table yet
            time.sleep(0.01)
        time.sleep(0.01)
    raise AssertionError("nothing was committed")


@pytest.fixture
def searcher(library: Library) -> Iterator[subprocess.Popen[str]]:
    library.index()
    process = Forked(
        [sys.executable, "-W", "error", "-c", _SEARCH_SERVER, str(library.home)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    yield process
    process.communicate(timeout=200)
    assert process.returncode == 0


def _ask(process: subprocess.Popen[str]) -> set[str]:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("red\n")
    process.stdin.flush()
    return {os.path.basename(uri) for uri in json.loads(process.stdout.readline())}


def test_an_open_search_sees_what_another_process_commits(
    library: Library, searcher: subprocess.Popen[str], gate: Gate
) -> None:
    assert len(_ask(searcher)) == 30
    for number in range(40, 60):
        library.photo(f"{number:03}.png", number)
    gate.let(1)
    indexing = _start_index(library, gate)
    _wait_for_commits(library, 38)
    # The run goes on, and nothing but SQL has been written: its indexes are not on disk yet.
    assert len(_ask(searcher)) == 38
    assert indexing.poll() is None
    gate.open()
    indexing.communicate(timeout=200)
    assert indexing.returncode == 0
    assert len(_ask(searcher)) == 50
    for number in range(10):
        os.unlink(library.photos / f"{number:03}.png")
    assert regard_process(*_index_arguments(library)).code == 0
    left = _ask(searcher)
    assert len(left) == 40
    assert "000.png" not in left


def test_a_second_indexer_is_told_who_is_first(library: Library, gate: Gate) -> None:
    gate.let(1)
    first = _start_index(library, gate)
    _wait_for_commits(library, 1)
    second = regard("index", *_index_arguments(library, "--json")[1:])
    removal = regard("remove", library.photos, "--home", library.home)
    assert first.poll() is None
    second.expect_sentence(3, str(first.pid), "wait for it to end")
    removal.expect_sentence(3, str(first.pid))
    first.kill()
    first.communicate(timeout=200)
    # The lease of a process that is gone is free at once.
    assert regard_process(*_index_arguments(library)).code == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_signal_ends_a_run_in_order(
    library: Library, gate: Gate, number: signal.Signals
) -> None:
    for extra in range(100, 150):
        library.photo(f"{extra}.png", extra)
    gate.let(1)
    process = _start_index(library, gate)
    _wait_for_commits(library, 8)
    process.send_signal(number)
    assert process.stderr is not None
    assert b"Ctrl-C again" in process.stderr.readline()
    gate.open()
    out, err = process.communicate(timeout=200)
    assert process.returncode == 130
    assert err == b"regard: interrupted; run the same command to carry on\n"
    assert b"indexed" in out
    kept = len(library.asset_ids())
    # What was in the models comes out, and nothing is begun.
    assert 8 <= kept <= 8 * 4
    library.verify()
    # What was interrupted was not taken for the whole, and its snapshot is on disk.
    assert len(list(library.home.rglob("manifest.json"))) == 3
    report = library.index()
    assert (report["indexed"], report["unchanged"], report["removed"]) == (80 - kept, kept, 0)
    library.verify()


def test_a_second_signal_ends_it_at_once(library: Library, gate: Gate) -> None:
    gate.let(1)
    process = _start_index(library, gate)
    _wait_for_commits(library, 1)
    assert process.stderr is not None
    process.send_signal(signal.SIGINT)
    assert b"Ctrl-C again" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=200)
    assert process.returncode == 130
    assert err == b"regard: interrupted\n"
    # Its models were not waited for.
    assert gate.passed == 1
    library.verify()
    assert library.index()["failed"] == 0
    assert len(library.asset_ids()) == 30
    library.verify()


def test_a_search_is_interrupted_without_words_of_python(library: Library, tmp_path: Path) -> None:
    library.index()
    os.mkfifo(tmp_path / "queries")
    process = Forked(
        command("search", "--queries", tmp_path / "queries", "--home", library.home),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with open(tmp_path / "queries", "wb", buffering=0) as queries:
        queries.write(b"red\n")
        # Not while it still starts: only once it has read the line does it wait for the next one.
        while int.from_bytes(fcntl.ioctl(queries, termios.FIONREAD, bytes(4)), sys.byteorder):
            assert process.poll() is None
            time.sleep(0.05)
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=200)
    assert process.returncode == 130
    assert err == b"regard: interrupted\n"


def test_a_terminal_gets_a_bar_and_a_pipe_gets_none(library: Library, gate: Gate) -> None:
    quiet = regard_process(*_index_arguments(library))
    assert quiet.err == ""
    for number in range(100, 130):
        library.photo(f"{number}.png", number)
    gate.open(pause=0.2)
    terminal, theirs = pty.openpty()
    process = Forked(
        command(*_index_arguments(library)),
        stdout=subprocess.PIPE,
        stderr=theirs,
        env={**os.environ, **gate.environ, "TERM": "xterm", "COLUMNS": "100"},
    )
    os.close(theirs)
    shown = bytearray()
    while select.select([terminal], [], [], 60)[0]:
        try:
            part = os.read(terminal, 65536)
        except OSError:
            break
        if not part:
            break
        shown += part
    os.close(terminal)
    assert process.wait(timeout=200) == 0
    assert process.stdout is not None
    process.stdout.close()
    assert b"indexing" in shown
    assert b"30/30" in shown
    assert b"Traceback" not in shown


_HEAVY = (
    "torch",
    "transformers",
    "tokenizers",
    "safetensors",
    "skimage",
    "efficientnet_lite_pytorch",
)


def test_the_fake_profile_imports_nothing_heavy(library: Library) -> None:
    home = ["--home", str(library.home)]
    light = ("faiss", "sqlalchemy", "numpy", "PIL")
    commands = (
        ["--help"],
        [*map(str, _index_arguments(library))],
        ["search", "red", *home],
        ["status", *home],
        ["verify", *home],
    )
    script = (
        "import sys\n"
        "from regard.api.cli import main\n"
        f"for arguments in {commands!r}:\n"
        "    assert main(arguments) == 0, arguments\n"
        f"    not_yet = {light!r} if arguments == ['--help'] else ()\n"
        f"    heavy = [name for name in (*{_HEAVY!r}, *not_yet) if name in sys.modules]\n"
        "    assert not heavy, (arguments, heavy)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, check=False, timeout=200
    )
    assert (done.returncode, done.stderr) == (0, b"")


def test_faiss_is_missed_with_the_command_that_installs_it(library: Library) -> None:
    library.index()
    commands = [
        ["search", "red", "--json", "--home", str(library.home)],
        ["rebuild", "--home", str(library.home)],
        [*map(str, _index_arguments(library, "--json"))],
    ]
    script = (
        "import sys\n"
        "sys.modules['faiss'] = None\n"
        "from regard.api.cli import main\n"
        f"for arguments in {commands!r}:\n"
        "    assert main(arguments) == 3, arguments\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, ""), done
    sentences = done.stderr.splitlines()
    assert len(sentences) == len(commands)
    for sentence in sentences:
        assert sentence.startswith("regard: ")
        assert "FAISS" in sentence
        assert "pip install 'regard[cpu]'" in sentence


def test_a_reader_that_has_seen_enough(library: Library) -> None:
    library.index()
    queries = b"red\n" * 3000
    process = Forked(
        command("search", "--queries", "-", "--home", library.home),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    with process.stdin, process.stderr:
        process.stdin.write(queries)
        process.stdin.close()
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=200) == 0


def test_streams_that_are_closed_or_full(library: Library) -> None:
    def shell(line: str) -> subprocess.CompletedProcess[bytes]:
        start = f"{sys.executable} -W error -m regard.api.cli"
        script = line.replace("regard ", f"{start} ").replace("HOME", str(library.home))
        return subprocess.run(["bash", "-c", script], capture_output=True, check=False, timeout=200)

    done = shell(f"regard index {library.photos} --home HOME --profile fake >&- 2>&- <&-")
    assert (done.returncode, done.stderr) == (0, b"")
    library.verify()
    assert len(library.asset_ids()) == 30
    done = shell("regard search red --paths0 --home HOME >&-")
    assert (done.returncode, done.stderr) == (0, b"")
    for arguments in ("red --paths0", "--queries /etc/hostname"):
        with open("/dev/full", "wb") as full:
            process = Forked(
                command("search", *arguments.split(), "--home", library.home),
                stdout=full,
                stderr=subprocess.PIPE,
            )
        _, err = process.communicate(timeout=200)
        assert process.returncode == 3
        assert err.startswith(b"regard: the system failed: No space left on device")
        assert err.count(b"\n") == 1
    done = shell("regard search --queries - --home HOME <&-")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_a_disk_without_space_loses_nothing(library: Library, tmp_path: Path) -> None:
    library.index()
    for number in range(200, 500):
        library.photo(f"{number}.png", number)
    limit = (library.home / "catalog.sqlite3").stat().st_size + 300_000
    site = tmp_path / "limited"
    site.mkdir()
    # A file may not grow beyond this, as on a full disk; Python ignores the signal of it.
    (site / "sitecustomize.py").write_text(
        "import resource\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, resource.RLIM_INFINITY))\n"
    )
    done = regard_process(*_index_arguments(library, "--json"), environ={"PYTHONPATH": str(site)})
    done.expect_sentence(3, "catalog.sqlite3", "free space")
    kept = len(library.asset_ids())
    assert 30 < kept < 330
    library.verify()
    assert library.index()["unchanged"] == kept
    library.verify()


def test_a_home_that_may_not_be_written(library: Library, tmp_path: Path) -> None:
    library.index()
    for path in (library.home, *library.home.rglob("*")):
        os.chmod(path, 0o555 if path.is_dir() else 0o444)

    environ = without_root_rights(tmp_path / "site")
    library.photo("another.png", 99)
    done = regard_process(*_index_arguments(library, "--json"), environ=environ)
    done.expect_sentence(3, "writable")
    done = regard_process("search", "red", "--home", library.home, "--json", environ=environ)
    # SQLite's write-ahead log needs a file beside the database even for reading.
    done.expect_sentence(3, "writable")
    done = regard_process(
        *("index", library.photos, "--home", library.home / "below", "--profile", "fake"),
        environ=environ,
    )
    done.expect_sentence(3, "can't be made")
    for path in (library.home, *library.home.rglob("*")):
        os.chmod(path, 0o755)


def test_output_in_an_encoding_that_lacks_characters(library: Library) -> None:
    library.photo("bücher-日本.png", 77)
    library.index()
    arguments = ("search", "é red", "--limit", "100", "--home", library.home)
    document = regard(*arguments, "--json", encoding="ascii").document
    assert document["query"]["text"] == "é red"
    assert any(hit["asset"]["uri"].endswith("bücher-日本.png") for hit in document["hits"])
    done = regard_process(*arguments, environ={"PYTHONIOENCODING": "ascii"}, popen=subprocess.Popen)
    assert done.code == 0
    assert b"b\\xfccher" in done.out
