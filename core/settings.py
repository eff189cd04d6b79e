"""Where a home lies and which database it uses: from arguments first, then from the environment.

A database's password may come from a file, as containers hand out secrets: then no environment, process
list or compose file holds it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import platformdirs

from regard.core.errors import HomeError, UsageError

HOME_VARIABLE = "REGARD_HOME"
DATABASE_VARIABLE = "REGARD_DATABASE_URL"
PASSWORD_FILE_VARIABLE = "REGARD_DATABASE_PASSWORD_FILE"  # noqa: S105 - a variable's name


@dataclass(frozen=True, slots=True)
class Settings:
    """`home` holds the SQLite file, the vector indexes and thumbnails.

    `database_url` names another SQL database for the catalog; None means the home's own file.
    """

    home: Path
    database_url: str | None = None

    @classmethod
    def resolve(
        cls, home: Path | None = None, environ: Mapping[str, str] | None = None
    ) -> Settings:
        """The settings of this call: an argument wins over the environment, that over the default.

        Raises UsageError for a home that is a file and for a password file that doesn't fit the
        database URL, HomeError for one that can't be read.
        """
        environ = os.environ if environ is None else environ
        chosen = home or Path(
            environ.get(HOME_VARIABLE) or platformdirs.user_data_path("regard", appauthor=False)
        )
        chosen = Path(os.path.abspath(chosen.expanduser()))
        if chosen.exists() and not chosen.is_dir():
            raise UsageError(f"the home {chosen} is a file", remedy="give --home a folder")
        return cls(home=chosen, database_url=_database_url(environ))

    @property
    def catalog_file(self) -> Path:
        """The home's own SQLite file."""
        return self.home / "catalog.sqlite3"

    @property
    def indexes(self) -> Path:
        """The folder of the vector indexes."""
        return self.home / "indexes"


def _database_url(environ: Mapping[str, str]) -> str | None:
    url = environ.get(DATABASE_VARIABLE) or None
    password_file = environ.get(PASSWORD_FILE_VARIABLE) or None
    if password_file is None:
        return url
    if url is None:
        # Going on with the home's own file would hide that the database is not the one meant.
        raise UsageError(
            f"{PASSWORD_FILE_VARIABLE} is set, but {DATABASE_VARIABLE} is not",
            remedy=f"set {DATABASE_VARIABLE} to postgresql://user@host/name, or unset both",
        )
    scheme, _, rest = url.partition("://")
    credentials, at, place = rest.partition("@")
    user, colon, _ = credentials.partition(":")
    # A later @ belongs to a path or a parameter.
    if not at or not user or "/" in user or "?" in user:
        raise UsageError(
            f"{PASSWORD_FILE_VARIABLE} is set, but {DATABASE_VARIABLE} names no user",
            remedy=f"set {DATABASE_VARIABLE} to postgresql://user@host/name",
        )
    if colon:
        raise UsageError(
            f"{DATABASE_VARIABLE} holds a password, and {PASSWORD_FILE_VARIABLE} names another",
            remedy="leave one of them out",
        )
    return f"{scheme}://{user}:{quote(_password(Path(password_file)), safe='')}@{place}"


def _password(file: Path) -> str:
    """What PostgreSQL's own image reads from the same file: all of it but the newlines at its end."""
    remedy = f"let {PASSWORD_FILE_VARIABLE} name a text file that this user may read"
    try:
        password = file.read_bytes().decode().rstrip("\n")
    except OSError as error:
        raise HomeError(
            f"the database's password file {file} can't be read: {error.strerror}", remedy=remedy
        ) from error
    except UnicodeDecodeError as error:
        raise HomeError(
            f"the database's password file {file} is not UTF-8 text", remedy=remedy
        ) from error
    if not password:
        raise HomeError(f"the database's password file {file} is empty", remedy=remedy)
    return password
