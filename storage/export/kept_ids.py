"""The ids of an export, which a new home takes over, so that whatever names them still fits.

A mark in `catalog_info` says which export is on its way into the home, and how far it is. All its ids are
reserved at once: whoever else writes before an import that was killed carries on gets others.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, delete, exists, func, insert, select, text, update

from regard.storage.database import schema
from regard.storage.database.change_log import moment

_MARK = "import"
_info = schema.catalog_info


@dataclass(slots=True)
class KeptIds:
    """The ids of the contents after `through`, the last that is in, and of what belongs to them.

    Those before were given to contents that may have gone since, and are never used again.
    """

    export: str
    through: int

    def keeps(self, content: int) -> bool:
        """Whether a content of the export keeps its ids."""
        return content > self.through

    def advance(self, connection: Connection, through: int) -> None:
        """Contents up to this one are in, once the transaction is committed."""
        self.through = max(self.through, through)
        said = json.dumps({"export": self.export, "through": self.through})
        connection.execute(update(_info).where(_info.c.key == _MARK).values(value=said))

    @staticmethod
    def end(connection: Connection) -> None:
        """All is in: no later import keeps ids."""
        connection.execute(delete(_info).where(_info.c.key == _MARK))


def take_over_ids(
    connection: Connection, export: str, highest: Mapping[str, int], *, is_sqlite: bool
) -> KeptIds | None:
    """The ids of an export for a new home, or for one that the export was on its way into; else None.

    `highest` are its highest ids by table.
    """
    said = connection.execute(
        select(_info.c.value).where(_info.c.key == _MARK)
    ).scalar_one_or_none()
    if said is not None:
        kept = KeptIds(**json.loads(said))
        return kept if kept.export == export else None
    if not _is_new(connection):
        return None
    for table, number in highest.items():
        if number:
            _reserve(connection, table, number, is_sqlite=is_sqlite)
    connection.execute(insert(_info).values(key=_MARK, value=""))
    kept = KeptIds(export, 0)
    kept.advance(connection, 0)
    return kept


def _is_new(connection: Connection) -> bool:
    """Whether nothing was ever in the home, so that no id was given out."""
    now = moment(connection)
    rows = select(exists().where(schema.asset.c.id > 0), exists().where(schema.content.c.id > 0))
    return not (now.embeddings or now.assets or any(connection.execute(rows).one()))


def _reserve(connection: Connection, table: str, number: int, *, is_sqlite: bool) -> None:
    """Let the next id that a table gives be beyond a number."""
    if is_sqlite:
        values = {"name": table, "seq": number}
        connection.execute(text("DELETE FROM sqlite_sequence WHERE name = :name"), values)
        connection.execute(
            text("INSERT INTO sqlite_sequence (name, seq) VALUES (:name, :seq)"), values
        )
    else:
        connection.execute(select(func.setval(func.pg_get_serial_sequence(table, "id"), number)))
