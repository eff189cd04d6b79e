"""Deleting gives the space of an SQLite file back."""

from __future__ import annotations

from pathlib import Path

import pytest
from catalog_samples import Home, open_home, save_all

from regard.api.library.purging import Purging
from regard.storage.database.schema import collection
from regard.storage.files.originals import Originals
from regard.storage.files.thumbnails import Thumbnails


def _size(home: Home) -> int:
    """Bytes of the database and its log."""
    file = Path(home.url.removeprefix("sqlite:///"))
    return file.stat().st_size + Path(f"{file}-wal").stat().st_size


@pytest.mark.parametrize("is_new", [True, False])
def test_a_purge_shrinks_the_file(
    tmp_path: Path, is_new: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_home(f"sqlite:///{tmp_path / 'catalog.sqlite3'}", tmp_path) as home:
        database = home.catalog.database
        database.give_back_space()
        empty = _size(home)
        if not is_new:
            # As regard made files before they could shrink.
            database.read_once("PRAGMA auto_vacuum=NONE")
            connection = database.engine.raw_connection()
            connection.cursor().execute("PRAGMA auto_vacuum=NONE")
            connection.cursor().execute("VACUUM")
            connection.close()
        with home.writing() as writer:
            save_all(writer, [(f"/p/{number}.jpg", str(number), 12) for number in range(210)])
        full = _size(home)
        (number,) = (row.id for row in home.rows(collection))
        # Each step commits, and so waits for the disk.
        steps: list[int] = []
        give_back = database.give_back_space
        monkeypatch.setattr(
            database,
            "give_back_space",
            lambda should_stop: give_back(lambda: bool(steps.append(1)) or should_stop()),
        )
        assert Purging(
            home.catalog, Originals(tmp_path / "originals"), Thumbnails(tmp_path / "thumbnails")
        ).purge(number, trashed_only=False)
        assert database.read_once("PRAGMA freelist_count") == [(0,)]
        assert len(steps) == (2 if is_new else 0)
        # Exclusions and the log of assets stay.
        assert _size(home) - empty < (full - empty) / 2
