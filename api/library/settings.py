"""Where the home is, and which database and vector engine it uses.

Arguments come first, then the environment.

The database password may come from a file, as containers provide secrets, so that it appears in no
environment, process list or compose file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit

import platformdirs

from regard.core.errors import HomeError, UsageError
from regard.photos.formats import MOMENTS_A_MINUTE

HOME_VARIABLE = "REGARD_HOME"
DATABASE_VARIABLE = "REGARD_DATABASE_URL"
PASSWORD_FILE_VARIABLE = "REGARD_DATABASE_PASSWORD_FILE"  # noqa: S105 - a variable's name
VECTORS_VARIABLE = "REGARD_VECTORS"
STORE_VARIABLE = "REGARD_STORE"
MOMENTS_VARIABLE = "REGARD_MOMENTS_A_MINUTE"
TOKEN_FILE_VARIABLE = "REGARD_VECTORS_TOKEN_FILE"  # noqa: S105 - a variable's name

# Frames are compared twice a second.
_MOST_A_MINUTE = 120
_STORE = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[\w.=-]+)*/?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Settings:
    """`home` holds the SQLite file, the vector indexes and thumbnails.

    `database_url` names another SQL database for the catalog; None means the home's own file.
    `ray` is the address of the Ray cluster that analyses; None means this machine.
    `vectors` is the vector engine: `faiss`, `pgvector`, or Milvus by `milvus://host:port` or
    `https://…`, whose token is in `vectors_token_file`. `store` is `s3://bucket/prefix` if uploads
    and shared thumbnails are in a bucket; None means the home. `moments_a_minute` is how many
    moments of a video are kept at most, 1 to 120.
    """

    home: Path
    database_url: str | None = None
    vectors: str = "faiss"
    vectors_token_file: Path | None = None
    store: str | None = None
    ray: str | None = None
    moments_a_minute: int = MOMENTS_A_MINUTE

    @classmethod
    def resolve(
        cls,
        home: Path | None = None,
        environ: Mapping[str, str] | None = None,
        vectors: str | None = None,
    ) -> Settings:
        """Arguments win over the environment, the environment over the defaults.

        Raises UsageError if the home is a file, the password file does not fit the database URL,
        the vector engine is unknown or does not fit, the store is not a bucket, or the number of
        moments is out of range, and HomeError if the password file can't be read.
        """
        environ = os.environ if environ is None else environ
        path = home or Path(
            environ.get(HOME_VARIABLE) or platformdirs.user_data_path("regard", appauthor=False)
        )
        path = Path(os.path.abspath(path.expanduser()))
        if path.exists() and not path.is_dir():
            raise UsageError(f"the home {path} is a file", remedy="give --home a folder")
        database_url = _database_url(environ)
        engine, token_file = _vectors(vectors, environ, database_url)
        moments = environ.get(MOMENTS_VARIABLE) or str(MOMENTS_A_MINUTE)
        if not (moments.isascii() and moments.isdigit() and 1 <= int(moments) <= _MOST_A_MINUTE):
            raise UsageError(
                f"{MOMENTS_VARIABLE} is not a number of moments: {moments}",
                remedy=f"set it to 1 to {_MOST_A_MINUTE}, or unset it",
            )
        return cls(
            *(path, database_url, engine, token_file),
            store=_store(environ),
            moments_a_minute=int(moments),
        )

    @property
    def catalog_file(self) -> Path:
        """The home's own SQLite file."""
        return self.home / "catalog.sqlite3"

    @property
    def indexes(self) -> Path:
        """The folder of the vector indexes."""
        return self.home / "indexes"


def _store(environ: Mapping[str, str]) -> str | None:
    store = environ.get(STORE_VARIABLE) or None
    if store is not None and _STORE.fullmatch(store) is None:
        raise UsageError(
            f"{STORE_VARIABLE} names no bucket: {store}",
            remedy=f"set {STORE_VARIABLE} to s3://bucket/prefix, or unset it to store in the home",
        )
    return store if store is None else store.rstrip("/")


def _database_url(environ: Mapping[str, str]) -> str | None:
    url = environ.get(DATABASE_VARIABLE) or None
    password_file = environ.get(PASSWORD_FILE_VARIABLE) or None
    if password_file is None:
        return url
    if url is None:
        # Using the home's own file instead would hide the mistake.
        raise UsageError(
            f"{PASSWORD_FILE_VARIABLE} is set, but {DATABASE_VARIABLE} is not",
            remedy=f"set {DATABASE_VARIABLE} to postgresql://user@host/name, or unset both",
        )
    scheme, _, rest = url.partition("://")
    credentials, at, place = rest.partition("@")
    user, colon, _ = credentials.partition(":")
    # An @ further on belongs to a path or a parameter.
    if not at or not user or "/" in user or "?" in user:
        raise UsageError(
            f"{PASSWORD_FILE_VARIABLE} is set, but {DATABASE_VARIABLE} names no user",
            remedy=f"set {DATABASE_VARIABLE} to postgresql://user@host/name",
        )
    if colon:
        raise UsageError(
            f"{DATABASE_VARIABLE} holds a password, and {PASSWORD_FILE_VARIABLE} names another",
            remedy="remove one of them",
        )
    return f"{scheme}://{user}:{quote(_password(Path(password_file)), safe='')}@{place}"


def _vectors(
    given: str | None, environ: Mapping[str, str], database_url: str | None
) -> tuple[str, Path | None]:
    """The vector engine and the file with its token."""
    vectors = given or environ.get(VECTORS_VARIABLE) or "faiss"
    token_file = environ.get(TOKEN_FILE_VARIABLE) or None
    if vectors == "pgvector" and not (database_url or "").startswith("postgres"):
        raise UsageError(
            "the vector engine is pgvector, but the catalog is not in PostgreSQL",
            remedy=f"set {DATABASE_VARIABLE} to postgresql://user@host/name",
        )
    is_milvus = _is_milvus(vectors)
    if vectors not in {"faiss", "pgvector"} and not is_milvus:
        raise UsageError(
            "--vectors or REGARD_VECTORS names no vector engine",
            remedy="choose faiss, pgvector, milvus://host:port or https://host",
        )
    if token_file and not is_milvus:
        raise UsageError(
            f"{TOKEN_FILE_VARIABLE} is set, but the vector engine is not Milvus",
            remedy="choose milvus://host:port or https://host, or unset the variable",
        )
    return vectors, Path(os.path.abspath(token_file)) if token_file else None


def _is_milvus(vectors: str) -> bool:
    try:
        parts = urlsplit(vectors)
        is_whole = bool(parts.hostname) and (parts.port is not None or parts.scheme == "https")
    except ValueError:  # a port that is not a number
        return False
    # What a URL holds beside the server would be shown in messages.
    return parts.scheme in {"milvus", "https"} and is_whole and parts.username is None


def _password(file: Path) -> str:
    """The file's text without trailing newlines, as PostgreSQL's own image reads it."""
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
