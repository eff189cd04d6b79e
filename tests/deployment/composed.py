"""Runs the built image as docker-compose.yml says, in a network that holds it and PostgreSQL alone.

Users, read-only roots, tmpfs, volumes, secrets, variables and commands are taken from the compose file.
A real PostgreSQL stands in for its image; the image's entry script is the one part of that which does
not run.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from clean_root import CleanRoot, Walls
from compose_file import Service, read_compose
from image_build import REPOSITORY, Image

# Every sign that means something in a URL.
PASSWORD = "a:b/c?d#e@f%41"
PGDATA = "/var/lib/postgresql/18/docker"
# Asks the server inside its own network, with the image's own Python, as `curl` would on the host.
_ASK = """
import json, sys, httpx
method, path, key, host, *file = sys.argv[1:]
headers = {"Host": host} | ({"Authorization": "Bearer " + key} if key else {})
files = {"file": open(file[0], "rb")} if file else None
answer = httpx.request(method, "http://127.0.0.1:8420" + path, files=files, headers=headers, timeout=60)
kind = answer.headers.get("content-type", "")
print(json.dumps([answer.status_code, answer.json() if "json" in kind else answer.text]))
"""


class Composed:
    """The two services; what is put on `stack` ends them and their network."""

    def __init__(self, image: Image, folder: Path, programs: Path, stack: ExitStack) -> None:
        """`programs` is where PostgreSQL's are installed: a folder with `bin`, `lib` and `share`."""
        services = read_compose(REPOSITORY / "docker-compose.yml").services
        self.image = image
        self.service = services["regard"]
        self._database_service = services["postgres"]
        self.data, self.photos, self._database, self._secrets = (
            folder / name for name in ("data", "photos", "database", "secrets")
        )
        for made in (self.photos, self._database, self._secrets):
            made.mkdir()
        self._log = folder / "log"
        (self._secrets / "postgres_password").write_text(PASSWORD + "\n")
        (self._secrets / "postgres_password").chmod(0o444)
        # A new volume takes over the folder where it is mounted, owner and rights too.
        subprocess.run(["cp", "-a", image.root.path("/data"), self.data], check=True)
        # What Docker makes: places for its mounts, and the name by which the database is known.
        for place in ("/photos", "/run/secrets"):
            image.root.path(place).mkdir(exist_ok=True)
        image.root.write("/etc/hosts", "127.0.0.1 localhost postgres\n")
        self._network = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", "ip link set lo up && echo up && exec sleep 1800"],
            stdout=subprocess.PIPE,
        )
        stack.callback(self._network.wait)
        stack.callback(self._network.kill)
        assert self._network.stdout is not None
        with self._network.stdout as said:
            assert said.readline() == b"up\n"
        self._programs = programs
        self._database_root = self._make_database_root(folder / "postgres-root")
        self._prepare_database()
        database = self._start_database()
        stack.callback(database.wait, 30)
        stack.callback(database.send_signal, signal.SIGINT)
        self._create_database(database)

    def start(self, command: list[str]) -> subprocess.Popen[bytes]:
        """What `docker compose up` starts; what it says goes to the log."""
        with self._log.open("ab") as log:
            return self._start([*self.image.stage.last("ENTRYPOINT").words, *command], output=log)

    def run(self, *command: str, entrypoint: str | None = None, given: Path | None = None) -> bytes:
        """What `docker compose run` prints, `given` its stdin; raises AssertionError when it fails."""
        words = [entrypoint] if entrypoint else self.image.stage.last("ENTRYPOINT").words
        return self._done(self._start, [*words, *command], given)

    def run_in_database(self, *command: str, given: Path | None = None) -> bytes:
        """What `docker compose exec postgres` prints, over TCP where that uses the socket."""
        words = [command[0], "--host=127.0.0.1", *command[1:]]
        return self._done(self._start_in_database, words, given)

    @property
    def log(self) -> str:
        return self._log.read_text() if self._log.exists() else ""

    def wait_until_healthy(self, server: subprocess.Popen[bytes], seconds: float) -> None:
        """Run the image's own health check until it passes, as Docker does."""
        check = self.image.stage.last("HEALTHCHECK").value.split("CMD ", 1)[1]
        deadline = time.monotonic() + seconds
        while True:
            code, said = self.inside(server, json.loads(check))
            if code == 0:
                return
            assert server.poll() is None, self.log
            assert time.monotonic() < deadline, said + self.log
            time.sleep(0.2)

    def ask(
        self,
        server: subprocess.Popen[bytes],
        method: str,
        path: str,
        *,
        key: str = "",
        host: str = "localhost:8420",
        file: str | None = None,
    ) -> tuple[int, Any]:
        """Status and document of one call to the server, from inside its network."""
        words = [method, path, key, host, *([file] if file else [])]
        code, said = self.inside(server, ["python", "-c", _ASK, *words])
        assert code == 0, said + self.log
        status, document = json.loads(said)
        return status, document

    def inside(self, process: subprocess.Popen[bytes], command: list[str]) -> tuple[int, str]:
        """Exit code and output of a command beside a running one, as `docker exec` gives them."""
        user, _, group = self.service["user"].partition(":")
        variables = [f"{name}={value}" for name, value in self.image.environment.items()]
        ran = subprocess.run(
            [
                *("nsenter", f"--target={process.pid}", "--mount", "--net", "--root", "--wd"),
                *(f"--setuid={user}", f"--setgid={group}", "--", "env", "-i", *variables),
                *command,
            ],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        return ran.returncode, ran.stdout + ran.stderr

    def _walls(
        self, service: Service, volumes: dict[Path, str], read_only_volumes: dict[Path, str]
    ) -> Walls:
        return Walls(
            user=service["user"],
            network=self._network.pid,
            tmpfs=service["tmpfs"],
            volumes=volumes,
            read_only_volumes=read_only_volumes,
        )

    def _make_database_root(self, folder: Path) -> CleanRoot:
        """A file system as that of PostgreSQL's image: its user, and the folders that it owns."""
        libraries = [path for path in self._programs.parent.parent.glob("*.libs") if path.is_dir()]
        root = CleanRoot(folder, [self._programs, *libraries])
        user, _, group = self._database_service["user"].partition(":")
        root.write("/etc/passwd", f"postgres:x:{user}:{group}::/var/lib/postgresql:/bin/sh\n")
        root.path("/var/run").symlink_to("../run")
        for place in ("/run/postgresql", "/run/secrets", "/var/lib/postgresql"):
            root.path(place).mkdir(parents=True)
        shutil.chown(self._database, int(user), int(group))
        return root

    def _start(self, words: list[str], **streams: Any) -> subprocess.Popen[bytes]:
        return self.image.root.start(
            words,
            environment={**self.image.environment, **self.service["environment"]},
            walls=self._walls(
                self.service,
                volumes={self.data: "/data"},
                read_only_volumes={self.photos: "/photos", self._secrets: "/run/secrets"},
            ),
            folder=self.image.stage.last("WORKDIR").value,
            **streams,
        )

    def _start_in_database(self, words: list[str], **streams: Any) -> subprocess.Popen[bytes]:
        return self._database_root.start(
            [str(self._programs / "bin" / words[0]), *words[1:]],
            environment={"PGPASSWORD": PASSWORD},
            walls=self._walls(
                self._database_service,
                volumes={self._database: "/var/lib/postgresql"},
                read_only_volumes={self._secrets: "/run/secrets"},
            ),
            folder="/",
            **streams,
        )

    def _done(
        self, start: Callable[..., subprocess.Popen[bytes]], words: list[str], given: Path | None
    ) -> bytes:
        with (
            self._log.open("ab") as log,
            tempfile.TemporaryFile() as output,
            Path(given or os.devnull).open("rb") as source,
        ):
            code = start(words, output=output, errors=log, given=source).wait(120)
            output.seek(0)
            said = output.read()
        assert code == 0, (words, said, self.log)
        return said

    def _prepare_database(self) -> None:
        variables = self._database_service["environment"]
        options = [f"--pwfile={variables['POSTGRES_PASSWORD_FILE']}", "--auth=scram-sha-256"]
        options += [f"--username={variables['POSTGRES_USER']}", "--no-locale", "--encoding=UTF8"]
        self._done(self._start_in_database, ["initdb", f"--pgdata={PGDATA}", *options], None)

    def _start_database(self) -> subprocess.Popen[bytes]:
        settings = ["listen_addresses=127.0.0.1", "unix_socket_directories=/var/run/postgresql"]
        options = [word for setting in settings for word in ("-c", setting)]
        with self._log.open("ab") as log:
            return self._start_in_database(["postgres", "-D", PGDATA, *options], output=log)

    def _create_database(self, database: subprocess.Popen[bytes]) -> None:
        """Wait by the compose file's health check, then make the database as the image does."""
        _, *check = self._database_service["healthcheck"]["test"]
        deadline = time.monotonic() + 60
        with self._log.open("ab") as log:
            while self._start_in_database(check, output=log).wait(30) != 0:
                assert database.poll() is None, self.log
                assert time.monotonic() < deadline, self.log
                time.sleep(0.1)
        variables = self._database_service["environment"]
        user = f"--username={variables['POSTGRES_USER']}"
        self.run_in_database("createdb", user, variables["POSTGRES_DB"])
