"""A file system with nothing in it but this machine's programs, in the place of an image's base.

Image steps run in it by chroot in a mount namespace of their own, as root or as any user, with the
privileges of a container that drops all. It stands in for `python:3.11-slim`: the Python that runs the
tests lies at /usr/local there too, /usr is this machine's and read-only, everything else is new and empty.
Needs root and Linux's unshare.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

_COPIED = (
    "ssl",
    "ca-certificates",
    "nsswitch.conf",
    "resolv.conf",
    "login.defs",
    "xdg",
    "pip.conf",
)
_FOLDERS = ("dev", "etc", "opt", "proc", "root", "run", "srv", "tmp", "usr", "var/tmp")
_PATH = "/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin"


@dataclass(frozen=True)
class Walls:
    """What a container is shut in by: paths of this machine and where they show inside, and so on.

    `user` is UID:GID, `tmpfs` are lines of a compose file, `network` is a process whose network is used.
    """

    user: str
    network: int
    tmpfs: Sequence[str]
    volumes: Mapping[Path, str]
    read_only_volumes: Mapping[Path, str]


class CleanRoot:
    """One such file system in a folder; `shared` are folders of this machine that it shows, read-only."""

    def __init__(self, folder: Path, shared: Sequence[Path] = ()) -> None:
        self.folder = folder
        self._shared = [*shared]
        for name in _FOLDERS:
            (folder / name).mkdir(parents=True)
        for name in ("tmp", "var/tmp"):
            (folder / name).chmod(0o1777)
        for name in ("bin", "sbin", "lib", "lib64"):
            if Path("/", name).is_symlink():
                (folder / name).symlink_to(Path("/", name).readlink())
        for name in _COPIED:
            source = Path("/etc", name)
            if source.is_dir():
                shutil.copytree(source, folder / "etc" / name, symlinks=True)
            elif source.exists():
                shutil.copy(source, folder / "etc" / name)
        self.write("/etc/passwd", "root:x:0:0:root:/root:/bin/sh\n")
        self.write("/etc/group", "root:x:0:\n")
        self.write("/etc/shadow", "root:*:::::::\n")
        self.write("/etc/hosts", "127.0.0.1 localhost\n")
        self.write("/etc/ld.so.conf", "/usr/local/lib\n")
        for path in self._shared:
            self.path(path).mkdir(parents=True, exist_ok=True)
        self.run(["ldconfig"])

    def path(self, inside: str | Path) -> Path:
        """Where a path inside lies outside."""
        return self.folder / str(inside).lstrip("/")

    def write(self, inside: str, text: str) -> None:
        self.path(inside).write_text(text)

    def run(
        self,
        command: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        folder: str = "/",
    ) -> None:
        """Run a command as root, as a build step does; raises CalledProcessError with what it said."""
        subprocess.run(
            self._entered(command, environment or {}, folder), check=True, text=True, timeout=1500
        )

    def start(
        self,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        walls: Walls,
        folder: str,
        output: IO[bytes],
        errors: IO[bytes] | int = subprocess.STDOUT,
        given: IO[bytes] | int = subprocess.DEVNULL,
    ) -> subprocess.Popen[bytes]:
        """Start a command as a container does with a read-only root and no capability.

        `given` is its stdin; stderr goes where stdout goes, unless `errors` is another place.
        """
        mounts = []
        for source, inside in [*walls.volumes.items(), *walls.read_only_volumes.items()]:
            target = self.path(inside)
            assert target.exists(), f"there is no {inside} to mount at"
            mounts.append(f"mount --bind {shlex.quote(str(source))} {shlex.quote(str(target))}")
        mounts += [_read_only(self.path(inside)) for inside in walls.read_only_volumes.values()]
        sealing = [*mounts, _read_only(self.folder)]
        for memory in walls.tmpfs:
            inside, _, options = memory.partition(":")
            target = shlex.quote(str(self.path(inside)))
            # What Docker adds of itself.
            options += ",noexec,nosuid,nodev"
            sealing.append(f"mount -t tmpfs -o {options} tmpfs {target}")
        number, _, group = walls.user.partition(":")
        drop = [
            *("setpriv", f"--reuid={number}", f"--regid={group}", "--clear-groups"),
            *("--no-new-privs", "--bounding-set=-all", "--inh-caps=-all"),
        ]
        entered = self._entered([*drop, *command], environment, folder, sealing)
        return subprocess.Popen(
            ["nsenter", f"--target={walls.network}", "--net", *entered],
            stdin=given,
            stdout=output,
            stderr=errors,
        )

    def _entered(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        folder: str,
        sealing: Sequence[str] = (),
    ) -> list[str]:
        root = shlex.quote(str(self.folder))
        lines = ["set -e", f"mount --bind {root} {root}"]
        for source, inside in self._programs():
            target = self.path(inside)
            lines += [f"mount --bind {shlex.quote(str(source))} {shlex.quote(str(target))}"]
            lines += [_read_only(target)]
        lines += [f"mount --rbind /{name} {root}/{name}" for name in ("dev", "proc")]
        lines += sealing
        variables = {"PATH": _PATH, "HOME": "/root", **environment}
        words = ["env", "-i", *(f"{name}={value}" for name, value in variables.items())]
        words += ["sh", "-c", 'cd "$0" && exec "$@"', folder, *command]
        lines.append(f"exec chroot {root} {shlex.join(words)}")
        return ["unshare", "--mount", "--propagation=private", "sh", "-c", "\n".join(lines)]

    def _programs(self) -> list[tuple[Path, str]]:
        python = Path(sys.base_prefix)
        if python == Path("/usr"):
            # There Debian's own has no `python`, and no /usr/local is needed for it.
            local = self.folder.with_name(f"{self.folder.name}-local")
            (local / "bin").mkdir(parents=True, exist_ok=True)
            link = local / "bin" / "python"
            if not link.is_symlink():
                link.symlink_to(os.path.realpath(sys.executable))
            python = local
        shown = [(Path("/usr"), "/usr"), (python, "/usr/local")]
        return shown + [(path, str(path)) for path in self._shared]


def _read_only(target: Path) -> str:
    return f"mount -o remount,bind,ro {shlex.quote(str(target))}"
