"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from regard.core.errors import UsageError

_Function = TypeVar("_Function", bound=Callable[..., Any])

_ON_SERVERS = frozenset(
    {"duplicates", "index", "search", "status", "reindex", "rollback", "prune", "pipelines"}
)


@dataclass(frozen=True, slots=True)
class ChosenServer:
    """The server that a command is to work on, and where the key for it lies, if any."""

    url: str
    key_file: Path | None
    is_from_environment: bool


def choose_server(context: click.Context, url: str | None, key_file: Path | None) -> None:
    """Remember the server for the command; raises UsageError for a command that works on homes alone."""
    if url is None:
        if key_file is not None:
            raise UsageError("--key-file needs a server", remedy="give --server URL with it")
        return
    command = context.invoked_subcommand
    source = context.get_parameter_source("server")
    is_from_environment = source is not click.core.ParameterSource.COMMANDLINE
    if command not in _ON_SERVERS and not is_from_environment:
        raise UsageError(
            f"regard {command} works on a home and not on a server", remedy="leave out --server"
        )
    context.obj = ChosenServer(url, key_file, is_from_environment)


def chosen_server() -> ChosenServer | None:
    """The server that the command is to work on; None for a home."""
    server: ChosenServer | None = click.get_current_context().find_root().obj
    return server


def _home_or_server(
    context: click.Context, _option: click.Parameter, home: Path | None
) -> Path | None:
    """Callback of `--home`: what the command line says goes before what the environment says."""
    root = context.find_root()
    server: ChosenServer | None = root.obj
    if server is None:
        return home
    if home is not None:
        if not server.is_from_environment:
            raise UsageError("--home and --server exclude each other", remedy="give one of them")
        root.obj = None
    elif context.command.name not in _ON_SERVERS:
        raise UsageError(
            f"{context.command_path} works on a home and not on a server, as REGARD_SERVER wants",
            remedy="give --home DIR",
        )
    return home


def home_option(function: _Function) -> _Function:
    """`--home DIR`."""
    return click.option(
        "--home",
        type=click.Path(path_type=Path),
        callback=_home_or_server,
        metavar="DIR",
        help="Where the catalog and its indexes lie [env: REGARD_HOME].",
    )(function)


def json_option(function: _Function) -> _Function:
    """`--json`."""
    return click.option(
        "--json", "as_json", is_flag=True, help="Write JSON to stdout, messages to stderr."
    )(function)


def forbid_network(_context: click.Context, _option: click.Parameter, offline: bool) -> bool:
    """Callback of `--offline`: from here on, nothing in this process may use the network."""
    import os

    if offline:
        # Read by the hub's library and by transformers when they are imported, which is later.
        os.environ["HF_HUB_OFFLINE"] = "1"
    return offline


def offline_option(function: _Function) -> _Function:
    """`--offline`."""
    return click.option(
        "--offline",
        is_flag=True,
        callback=forbid_network,
        expose_value=False,
        help="Never touch the network, whatever a model's library would do.",
    )(function)


class PathArgument(click.ParamType[bytes]):
    """A path as the file system's bytes, which may be no valid text."""

    name = "path"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> bytes:
        """The bytes of what the shell handed over."""
        import os

        encoded: bytes = os.fsencode(value)
        if not encoded:
            self.fail("a path is empty", param, ctx)
        return encoded
