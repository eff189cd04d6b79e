"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

_Function = TypeVar("_Function", bound=Callable[..., Any])


def home_option(function: _Function) -> _Function:
    """`--home DIR`."""
    return click.option(
        "--home",
        type=click.Path(path_type=Path),
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
