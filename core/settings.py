"""Where a home lies and which database it uses: from arguments first, then from the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from regard.core.errors import UsageError

HOME_VARIABLE = "REGARD_HOME"
DATABASE_VARIABLE = "REGARD_DATABASE_URL"


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

        Raises UsageError for a home that is a file.
        """
        environ = os.environ if environ is None else environ
        chosen = home or Path(
            environ.get(HOME_VARIABLE) or platformdirs.user_data_path("regard", appauthor=False)
        )
        chosen = Path(os.path.abspath(chosen.expanduser()))
        if chosen.exists() and not chosen.is_dir():
            raise UsageError(f"the home {chosen} is a file", remedy="give --home a folder")
        return cls(home=chosen, database_url=environ.get(DATABASE_VARIABLE) or None)

    @property
    def catalog_file(self) -> Path:
        """The home's own SQLite file."""
        return self.home / "catalog.sqlite3"

    @property
    def indexes(self) -> Path:
        """The folder of the vector indexes."""
        return self.home / "indexes"
