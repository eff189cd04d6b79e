"""New SQLite catalogs are copies of one that was migrated, which takes a tenth of the time.

The tests of migrations run them each time.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from pathlib import Path

from regard.storage.database.connection import Database
from regard.storage.database.upgrading import upgrade

# The environment variable that names the migrated catalog to processes that tests fork.
MIGRATED = "REGARD_TEST_MIGRATED"


def copy_or_upgrade(migrated: Path, database: Database) -> None:
    """What `upgrade` does, but a file that is not there becomes a copy of `migrated`."""
    file = database.engine.url.database
    if database.is_sqlite and file is not None and not os.path.exists(file):
        # As another thread or process may, too, and then the first one's stays.
        aside = f"{file}.{os.getpid()}.{threading.get_ident()}"
        with contextlib.suppress(OSError):
            shutil.copyfile(migrated, aside)
            os.link(aside, file)
        with contextlib.suppress(OSError):
            os.unlink(aside)
    upgrade(database)
