"""`regard serve`."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import socket
import sys
import threading
import webbrowser
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click

from regard.api.cli.app import DONE, INTERRUPTED
from regard.api.cli.options import (
    PathArgument,
    home_option,
    home_settings,
    offline_option,
    ray_option,
)
from regard.core.errors import CannotWork, UsageError
from regard.photos.buckets import is_object, require_installed
from regard.photos.files import absolute_path, uri_of_path

if TYPE_CHECKING:
    from regard.api.http.service import Service
    from regard.api.worker.process import WorkerProcess

DEFAULT_PORT = 8420
_ALL_ADDRESSES = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104 - named, not listened at
_BACKLOG = 512
# How long answers may still take when the server ends.
_GRACE_SECONDS = 5.0
_SWITCH_SECONDS = 0.0005


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=DEFAULT_PORT,
    show_default=True,
    help="Port; 0 is any free one.",
)
@home_option
@click.option(
    "--root",
    "roots",
    multiple=True,
    metavar="NAME=DIR",
    help="A folder, or s3://bucket/prefix, that may be imported, under this name; may be given"
    " several times.",
)
@click.option(
    "--import",
    "imported",
    type=PathArgument(),
    metavar="DIR",
    help="Index this folder, or s3://bucket/prefix, while serving; it becomes a root too.",
)
@click.option(
    "--watch",
    "is_watched",
    is_flag=True,
    help="With --import: index what changes there, too.",
)
@click.option(
    "--poll",
    is_flag=True,
    help="With --watch: look for changes again and again, where the file system tells of none.",
)
@click.option(
    "--allow-host",
    "allow_hosts",
    multiple=True,
    metavar="NAME",
    help="Another host name of the server, such as a proxy's; may be given several times.",
)
@click.option(
    "--cors-origin",
    "cors_origins",
    multiple=True,
    metavar="URL",
    help="A site whose pages may read answers, such as https://dam.example; may be repeated.",
)
@click.option(
    "--without-keys", is_flag=True, help="Require no keys: a proxy in front authenticates."
)
@click.option("--profile", metavar="NAME", help="Models of a new home [default: lite].")
@ray_option
@click.option(
    "--max-upload-bytes",
    type=click.IntRange(min=1),
    default=None,
    metavar="N",
    help="Largest photograph of an upload [default: 200 MiB].",
)
@click.option(
    "--max-video-bytes",
    type=click.IntRange(min=1),
    default=None,
    metavar="N",
    help="Largest video of an upload [default: 10 GiB].",
)
@click.option(
    "--max-upload-files",
    type=click.IntRange(1, 1000),
    default=None,
    metavar="N",
    help="Most files of one upload [default: 100].",
)
@click.option(
    "--root-path",
    metavar="PATH",
    default="",
    help="The sub-path that a proxy gives this server, such as /photos.",
)
@click.option(
    "--drain",
    type=click.IntRange(0, 60),
    default=0,
    metavar="SECONDS",
    help="After SIGTERM, go on answering so long, while /readyz is 503: for a load balancer.",
)
@click.option("--open", "open_page", is_flag=True, help="Open the page in a browser.")
@offline_option
def serve(
    host: str,
    port: int,
    home: Path | None,
    roots: tuple[str, ...],
    imported: bytes | None,
    is_watched: bool,
    poll: bool,
    allow_hosts: tuple[str, ...],
    cors_origins: tuple[str, ...],
    without_keys: bool,
    profile: str | None,
    ray: str | None,
    max_upload_bytes: int | None,
    max_video_bytes: int | None,
    max_upload_files: int | None,
    root_path: str,
    drain: int,
    open_page: bool,
) -> int:
    """Serve a home over HTTP, with a web page, until Ctrl-C.

    Where keys are required, the pictures of uploads are shown, and those of files below --root and
    --import.

    \b
    Example: regard serve --open
             regard serve --root photos=/srv/photos
             regard serve --import ~/Pictures --watch
    """
    if is_watched and imported is None:
        raise UsageError("--watch needs --import", remedy="name the folder with --import DIR")
    if poll and not is_watched:
        raise UsageError("--poll needs --watch", remedy="give both, or leave out --poll")
    # The worker gets the environment without the changes made below.
    environ = dict(os.environ)
    _one_thread_a_call()
    # A thread that waits for the interpreter asks for it after this time: the default of 5 ms adds
    # up in a search, which changes between threads several times.
    sys.setswitchinterval(_SWITCH_SECONDS)
    from regard.api.http import service as parts
    from regard.api.http.access import check_may_start
    from regard.api.http.sub_path import read_prefix
    from regard.api.library.home import open_or_make_home
    from regard.api.library.queries import DEFAULT_COLLECTION
    from regard.api.worker.process import WorkerProcess
    from regard.core.jobs import JobKind
    from regard.storage.service.keys import SqlKeys

    _allow_many_files()
    settings = home_settings(home)
    folders = _read_roots(roots)
    import_root = None if imported is None else _import_root(imported, folders)
    with (
        open_or_make_home(settings, profile, to_search=True) as library,
        _listening(host, port) as listener,
    ):
        required = check_may_start(
            SqlKeys(library.catalog), host, allow_hosts, without_keys=without_keys
        )
        options = parts.ServiceOptions(
            allowed_hosts=[*_own_names(host), *allow_hosts],
            roots=folders,
            cors_origins=cors_origins,
            keys_required=required,
            upload_bytes=max_upload_bytes or parts.DEFAULT_UPLOAD_BYTES,
            upload_files=max_upload_files or parts.DEFAULT_UPLOAD_FILES,
            video_bytes=max_video_bytes or parts.DEFAULT_VIDEO_BYTES,
            prefix=read_prefix(root_path),
        )
        worker = WorkerProcess(
            replace(settings, ray=ray),
            roots=folders,
            profile=profile,
            environ=environ,
            watched=import_root if is_watched else None,
            is_polled=poll,
        )
        service = parts.Service(library, options, worker.wake)
        service.take_up()
        hidden = service.first_hidden()
        if hidden is not None:
            click.echo(
                f"regard: warning: {uri_of_path(hidden)} lies outside --root and --import, so its"
                " pictures are not shown, perhaps others' too; add --root NAME=DIR",
                err=True,
            )
        if import_root is not None:
            service.jobs.add(JobKind.IMPORT, DEFAULT_COLLECTION, root=import_root, path="")
        worker.start()
        try:
            address = _address(host, listener)

            def announce() -> None:
                click.echo(f"regard serves {settings.home} at {address}")
                if open_page:
                    webbrowser.open(address)

            stopped_by = _run(service, listener, announce, worker, drain)
        finally:
            worker.stop()
    return INTERRUPTED if stopped_by == signal.SIGINT else DONE


def _run(
    service: Service,
    listener: socket.socket,
    announce: Callable[[], None],
    worker: WorkerProcess,
    drain: int,
) -> int:
    """Serve until a signal; returns its number. Requests and the worker end at the same time.

    SIGTERM first lets load balancers turn to other servers, for `drain` seconds.

    The process ends soon after the signal even if a request can't be interrupted: a killed process
    loses nothing that it has committed.
    """
    import uvicorn

    from regard.api.http.app import create_app

    class Server(uvicorn.Server):
        stopped_by = 0

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                announce()

        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            # uvicorn would raise the signal again afterwards, and the worker would be left behind.
            numbers = (signal.SIGINT, signal.SIGTERM)
            former = {number: signal.signal(number, self.handle_exit) for number in numbers}
            try:
                yield
            finally:
                for number, handler in former.items():
                    signal.signal(number, handler)

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            is_first = not self.stopped_by
            self.stopped_by = sig
            service.drain()
            worker.terminate()
            wait = drain if sig == signal.SIGTERM and is_first else 0
            _later(wait + _GRACE_SECONDS, _end_now, worker, sig)
            if wait:
                _later(wait, self._end_requests, sig)
            else:
                self._end_requests(sig)

        def _end_requests(self, sig: int) -> None:
            service.close()
            super().handle_exit(sig, None)

    config = uvicorn.Config(
        create_app(service),
        log_level="warning",
        access_log=False,
        server_header=False,
    )
    server = Server(config)
    server.run([listener])
    return server.stopped_by


def _later(seconds: float, do: Callable[..., None], *arguments: object) -> None:
    timer = threading.Timer(seconds, do, arguments)
    timer.daemon = True
    timer.start()


def _end_now(worker: WorkerProcess, number: int) -> None:
    worker.stop()
    os._exit(INTERRUPTED if number == signal.SIGINT else DONE)


def _one_thread_a_call() -> None:
    """Keep concurrent searches from each using every core.

    Numerical libraries read the variables when they are loaded, which is later.
    """
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")


def _allow_many_files() -> None:
    """Raise the limit of open files: an upload needs two for each file."""
    import resource

    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


@contextlib.contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    """A listening socket; raises CannotWork when the address is not available."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With TCP named, asyncio sends small answers at once instead of collecting them.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except (OSError, OverflowError) as error:
        listener.close()
        reason = getattr(error, "strerror", None) or str(error)
        is_of_host = isinstance(error, socket.gaierror) or (
            isinstance(error, OSError) and error.errno == errno.EADDRNOTAVAIL
        )
        raise CannotWork(
            f"the server can't listen at {host} port {port}: {reason}",
            remedy="give --host a name or address of this machine, or 0.0.0.0 for all of them"
            if is_of_host
            else "choose another with --port, or --port 0 for any free one",
        ) from error
    with listener:
        yield listener


def _own_names(host: str) -> Sequence[str]:
    from regard.api.http.access import is_loopback
    from regard.api.http.guards import LOOPBACK_HOSTS

    # Of all addresses of this machine, --allow-host names those that clients use.
    if host in _ALL_ADDRESSES:
        return sorted(LOOPBACK_HOSTS)
    return sorted({*LOOPBACK_HOSTS, host}) if is_loopback(host) else [host]


def _address(host: str, listener: socket.socket) -> str:
    port = listener.getsockname()[1]
    shown = _ALL_ADDRESSES.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{shown}:{port}/"


def _read_roots(given: Sequence[str]) -> dict[str, bytes]:
    """Folders by name; raises UsageError for other forms than NAME=DIR, CannotWork for no
    folder."""
    roots: dict[str, bytes] = {}
    for text in given:
        name, equals, folder = text.partition("=")
        if not equals or not name or not folder or "/" in name:
            raise UsageError(
                f"{text!r} is not a root", remedy="give --root NAME=DIR, as in photos=/srv/photos"
            )
        if name in roots:
            raise UsageError(f"two roots are named {name}", remedy="give each its own name")
        roots[name] = _folder(os.fsencode(folder))
    return roots


def _import_root(folder: bytes, roots: dict[str, bytes]) -> str:
    """The name under which a folder is a root; adds it to the roots when it is not one yet."""
    found = _folder(folder)
    for name, root in roots.items():
        if root == found:
            return name
    name = base = os.fsdecode(os.path.basename(found)) or "root"
    number = 2
    while name in roots:
        name, number = f"{base}-{number}", number + 1
    roots[name] = found
    return name


def _folder(path: bytes) -> bytes:
    absolute = absolute_path(path if is_object(path) else os.path.expanduser(path))
    if is_object(absolute):
        # Its imports wait while the bucket is away.
        require_installed()
    elif not os.path.isdir(absolute):
        raise CannotWork(
            f"there is no folder {uri_of_path(absolute)}", remedy="name an existing folder"
        )
    return absolute
