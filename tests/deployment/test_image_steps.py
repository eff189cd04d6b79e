"""The steps of the Dockerfile, run word for word in a chroot; no container engine is needed.

The root holds only this machine's programs, read-only, in place of the base image. Needs root,
since it mounts and changes users, and installs all dependencies, which takes minutes.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
SYSTEM_FILES = (
    *("ssl", "ca-certificates", "nsswitch.conf", "resolv.conf", "login.defs", "xdg", "pip.conf"),
)
SERVE = """
ip link set lo up
user="setpriv --reuid=10001 --regid=10001 --clear-groups --no-new-privs"
$user regard keys create operator --scope admin --json > /dev/null
$user regard serve --host 0.0.0.0 --port 8420 --home /data & server=$!
for turn in $(seq 120); do HEALTHCHECK && break; sleep 1; done
HEALTHCHECK
$user touch /opt/regard/new 2> /dev/null && exit 9
kill -TERM $server
wait $server
"""

pytestmark = [
    pytest.mark.campaign,
    pytest.mark.skipif(
        not sys.platform.startswith("linux") or os.geteuid() != 0 or not shutil.which("unshare"),
        reason="needs root on Linux, to mount and to change users",
    ),
]


class Chroot:
    """An empty root with this machine's programs; `shared` are folders it shows read-only."""

    def __init__(self, folder: Path, shared: list[Path]) -> None:
        self.folder = folder
        for name in ("dev", "etc", "proc", "root", "tmp", "usr", "src", *map(str, shared)):
            self.path(name).mkdir(parents=True)
        self.path("tmp").chmod(0o1777)
        for name in ("bin", "sbin", "lib", "lib64"):
            if Path("/", name).is_symlink():
                self.path(name).symlink_to(Path("/", name).readlink())
        for name in SYSTEM_FILES:
            if (source := Path("/etc", name)).exists():
                copy = shutil.copytree if source.is_dir() else shutil.copy
                copy(source, self.path("etc") / name)
        for file in ("passwd", "group"):
            self.path(f"etc/{file}").write_text("root:x:0:0:root:/root:/bin/sh\n")
        self.path("etc/ld.so.conf").write_text("/usr/local/lib\n")
        programs = {Path("/usr"): "/usr", Path(sys.base_prefix): "/usr/local"}
        self._mounts = [f"mount --bind {shlex.quote(str(folder))} {shlex.quote(str(folder))}"]
        for source, place in (programs | {path: str(path) for path in shared}).items():
            target = shlex.quote(str(self.path(place)))
            self._mounts += [f"mount --bind {shlex.quote(str(source))} {target}"]
            self._mounts += [f"mount -o remount,bind,ro {target}"]
        for name in ("dev", "proc"):
            self._mounts.append(f"mount --rbind /{name} {shlex.quote(str(self.path(name)))}")
        self.run("ldconfig", {})

    def path(self, inside: str) -> Path:
        return self.folder / inside.lstrip("/")

    def run(
        self, script: str, environment: Mapping[str, str], place: str = "/", *, network: bool = True
    ) -> None:
        """Run a shell script as root; raises CalledProcessError when it fails."""
        path = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
        variables = {"PATH": path, "HOME": "/root", **environment}
        variables["PATH"] = variables["PATH"].replace("$PATH", path)
        entered = shlex.join(
            [
                *("chroot", str(self.folder), "env", "-i"),
                *(f"{name}={value}" for name, value in variables.items()),
                *("sh", "-ec", f"cd {place}\n{script}"),
            ]
        )
        lines = "\n".join(["set -e", *self._mounts, f"exec {entered}"])
        isolation = ["--mount", "--propagation=private", *([] if network else ["--net"])]
        command = ["unshare", *isolation, "sh", "-c", lines]
        subprocess.run(command, check=True, timeout=1500)


def instructions() -> Iterator[tuple[str, str]]:
    """Each instruction of the Dockerfile and its argument, lines joined and comments left out."""
    text = re.sub(r"^#.*\n", "", (REPOSITORY / "Dockerfile").read_text(), flags=re.MULTILINE)
    for line in text.replace("\\\n", "").splitlines():
        if line.strip():
            word, _, argument = line.partition(" ")
            yield word, argument.strip()


def copy_context(target: Path) -> None:
    """Copy what .dockerignore lets through."""
    for line in (REPOSITORY / ".dockerignore").read_text().splitlines():
        if line.startswith("!"):
            source = REPOSITORY / line[1:]
            if source.is_dir():
                ignore = shutil.ignore_patterns("__pycache__")
                shutil.copytree(source, target / line[1:], ignore=ignore, dirs_exist_ok=True)
            else:
                shutil.copy(source, target)


def pip_settings() -> dict[str, str]:
    """How this machine's pip finds packages, as environment variables."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    pairs = [line.partition("=")[::2] for line in listed.splitlines()]
    return {
        "PIP_" + name.rpartition(".")[2].replace("-", "_").upper(): value.strip("'")
        for name, value in pairs
    }


def test_image_steps_install_a_service_that_becomes_healthy_and_stops(tmp_path: Path) -> None:
    pip = pip_settings()
    local = [Path(word.removeprefix("file://")) for value in pip.values() for word in value.split()]
    shared = [path.parent if path.name == "simple" else path for path in local if path.is_dir()]
    root = Chroot(tmp_path / "root", shared)
    # One root serves all stages, so copies from one stage to another are already in place.
    arguments = {"EXTRAS": "cpu,milvus,ray"}
    image: dict[str, str] = {}
    place, health_check = "/", ""
    for word, argument in instructions():
        if word == "ARG":
            name, _, default = argument.partition("=")
            arguments.setdefault(name, default)
            if name == "TORCH_CPU_INDEX" and "PIP_EXTRA_INDEX_URL" in pip:
                arguments[name] = pip["PIP_EXTRA_INDEX_URL"]
        elif word == "ENV":
            image |= dict(pair.split("=", 1) for pair in argument.split())
        elif word == "WORKDIR":
            place = argument
        elif word == "COPY" and argument == ". .":
            copy_context(root.path(place))
        elif word == "RUN":
            root.run(argument, {**pip, **arguments}, place)
        elif word == "HEALTHCHECK":
            code = re.search(r'"-c", "(.*)"\]', argument)
            assert code is not None
            health_check = f"python -c {shlex.quote(code[1])}"
    try:
        root.run(SERVE.replace("HEALTHCHECK", health_check), image, place, network=False)
    finally:
        shutil.rmtree(root.folder)  # gigabytes, which pytest would keep for three runs
