"""Opens a library by its location."""

from __future__ import annotations

import os
from pathlib import Path

from regard.api.library.arguments import checked
from regard.api.library.interface import Library
from regard.api.library.settings import Settings
from regard.core.errors import UsageError


@checked
def open(
    location: str | os.PathLike[str] | None = None,
    *,
    key: str | None = None,
    profile: str | None = None,
) -> Library:
    """Open the home in a folder, or the server at an http:// or https:// URL.

    None is the home that the command line uses: REGARD_HOME, else the platform's data folder. A
    home is made when something is first indexed into it, with the models of `profile`, else of
    `lite`. `key` is for a server.

    Raises UsageError.
    """
    if isinstance(location, str) and location.startswith(("http://", "https://")):
        from regard.api.library.remote import RemoteLibrary

        return RemoteLibrary(location, key, profile)
    if key is not None:
        raise UsageError("a home takes no key", remedy="leave it out, or give a server's URL")
    from regard.api.library.local import LocalLibrary

    return LocalLibrary(Settings.resolve(None if location is None else Path(location)), profile)
