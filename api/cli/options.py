"""Options that several commands share, and the library that they choose."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from regard.api.library.settings import Settings
from regard.core.errors import NotFound, UsageError

if TYPE_CHECKING:
    from regard.api.library.interface import Library

_Function = TypeVar("_Function", bound=Callable[..., Any])

KEY_VARIABLE = "REGARD_API_KEY"
_VECTORS = "regard.vectors"
# These work on no library, or on what only a home has.
_WITHOUT_SERVER = frozenset({"serve", "keys", "webhooks", "profiles", "models", "evaluate", "demo"})


@dataclass(frozen=True, slots=True)
class ChosenServer:
    """The server that a command works on, and the file that holds its key, if any."""

    url: str
    key_file: Path | None
    is_from_environment: bool


def choose_server(context: click.Context, url: str | None, key_file: Path | None) -> None:
    """Remember the server for the command; raises UsageError for commands that never use one."""
    if url is None:
        if key_file is not None:
            raise UsageError("--key-file needs a server", remedy="give --server URL with it")
        return
    command = context.invoked_subcommand
    source = context.get_parameter_source("server")
    is_from_environment = source is not click.core.ParameterSource.COMMANDLINE
    if command in _WITHOUT_SERVER and not is_from_environment:
        raise UsageError(
            f"regard {command} works on a home and not on a server", remedy="leave out --server"
        )
    context.obj = ChosenServer(url, key_file, is_from_environment)


def open_library(home: Path | None, profile: str | None = None, ray: str | None = None) -> Library:
    """The library that the options and the environment choose; the options take precedence."""
    server = _chosen_server(home)
    if server is not None:
        if ray is not None:
            raise UsageError(
                "a server analyses where its own --ray says", remedy="leave out --ray, or --server"
            )
        from regard.api.library.remote import RemoteLibrary

        return RemoteLibrary(server.url, _read_key(server), profile)
    from regard.api.library.local import LocalLibrary

    return LocalLibrary(replace(_settings(home), ray=ray), profile)


def home_settings(home: Path | None) -> Settings:
    """The settings of a home; raises UsageError when the environment chooses a server."""
    if _chosen_server(home) is not None:
        path = click.get_current_context().command_path
        raise UsageError(
            f"{path} works on a home and not on a server, as REGARD_SERVER demands",
            remedy="give --home DIR",
        )
    return _settings(home)


def _settings(home: Path | None) -> Settings:
    return Settings.resolve(home, vectors=click.get_current_context().meta.get(_VECTORS))


def _chosen_server(home: Path | None) -> ChosenServer | None:
    server: ChosenServer | None = click.get_current_context().find_root().obj
    if server is None or home is None:
        if server is not None and click.get_current_context().meta.get(_VECTORS) is not None:
            raise UsageError(
                "a server's own --vectors chooses its engine", remedy="leave out --vectors"
            )
        return server
    if not server.is_from_environment:
        raise UsageError("--home and --server exclude each other", remedy="give one of them")
    return None


def _read_key(server: ChosenServer) -> str | None:
    if server.key_file is None:
        return os.environ.get(KEY_VARIABLE, "").strip() or None
    try:
        key = server.key_file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or "it is not text"
        raise NotFound(
            f"the key can't be read from {server.key_file}: {reason}",
            remedy="give --key-file a file that holds a key and nothing else",
        ) from error
    if not key:
        raise NotFound(f"the file {server.key_file} holds no key", remedy="write the key into it")
    return key


def home_option(function: _Function) -> _Function:
    """`--home DIR`, and `--vectors ENGINE`, which `open_library` and `home_settings` read."""
    home = click.option(
        "--home",
        type=click.Path(path_type=Path),
        metavar="DIR",
        help="The folder of the catalog and its indexes [env: REGARD_HOME].",
    )
    vectors = click.option(
        "--vectors",
        metavar="ENGINE",
        expose_value=False,
        callback=_choose_vectors,
        help="faiss, pgvector, milvus://host:port or https://host [env: REGARD_VECTORS].",
    )
    return home(vectors(function))


def _choose_vectors(context: click.Context, _option: click.Parameter, engine: str | None) -> None:
    context.meta[_VECTORS] = engine


def _check_ray(
    _context: click.Context, _option: click.Parameter, address: str | None
) -> str | None:
    if address is not None:
        from regard.indexer.ray_analysis import check_address

        check_address(address)
    return address


def ray_option(function: _Function) -> _Function:
    """`--ray ADDRESS`."""
    return click.option(
        "--ray",
        metavar="ADDRESS",
        callback=_check_ray,
        help="Analyse on a Ray cluster: local, auto, HOST:PORT or ray://HOST:PORT.",
    )(function)


def json_option(function: _Function) -> _Function:
    """`--json`."""
    return click.option(
        "--json", "as_json", is_flag=True, help="Write JSON to stdout, messages to stderr."
    )(function)


def forbid_network(_context: click.Context, _option: click.Parameter, offline: bool) -> bool:
    """Callback of `--offline`: model libraries in this process must not use the network."""
    if offline:
        # The hub's library and transformers read it when they are imported, which is later.
        os.environ["HF_HUB_OFFLINE"] = "1"
    return offline


def offline_option(function: _Function) -> _Function:
    """`--offline`."""
    return click.option(
        "--offline",
        is_flag=True,
        callback=forbid_network,
        expose_value=False,
        help="Never use the network, whatever a model's library would do.",
    )(function)


class PathArgument(click.ParamType[bytes]):
    """A path as the file system's bytes, which may not be valid text."""

    name = "path"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> bytes:
        """The bytes that the shell passed."""
        encoded: bytes = os.fsencode(value)
        if not encoded:
            self.fail("a path is empty", param, ctx)
        return encoded
