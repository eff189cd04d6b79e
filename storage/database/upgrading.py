"""Brings the schema of a catalog's database up to date.

Homes made before revision 0008 had one embedding row for each vector. That revision renames the
former table. Each step then moves the embeddings of some contents in one transaction, so a
conversion that was killed continues when the home is opened again; it cannot be used before. New
ids are above all former ones, so vector indexes are built from position 0.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, bindparam, inspect, select, text, update

from regard.core.errors import HomeVersionError
from regard.storage.database import schema
from regard.storage.database.change_log import record_embeddings
from regard.storage.database.connection import Database
from regard.storage.database.embeddings import ids_to_bytes, insert_embeddings

_log = logging.getLogger(__name__)

_MIGRATIONS = Path(__file__).parent / "migrations"
# The revision whose new embedding rows are filled from the former ones.
_CONVERSION = "0008"
_FORMER = "former_embedding"
_CONTENTS_AT_ONCE = 256
_NEXT = text(
    f"SELECT DISTINCT content_id FROM {_FORMER} "  # noqa: S608 - these are constants
    f"ORDER BY content_id LIMIT {_CONTENTS_AT_ONCE}"
)
_THESE = f"FROM {_FORMER} WHERE content_id BETWEEN :first AND :last"
_ROWS = text(f"SELECT * {_THESE} ORDER BY content_id, channel_id, id")
_DELETE = text(f"DELETE {_THESE}")


def upgrade(database: Database) -> None:
    """Create the schema, or bring an older one up to date, in one transaction.

    Only a large older home takes several, and continues here if it was interrupted. Raises
    HomeVersionError when a newer regard, or another program, made it.
    """
    # The scripts' names begin with their revisions.
    known = sorted(path.name[:4] for path in _MIGRATIONS.glob("versions/[0-9]*.py"))
    with database.reading() as connection:
        revisions = _revisions(connection)
        if revisions == (known[-1],) and not _is_unconverted(connection):
            return
    if not revisions or revisions > (_CONVERSION,):
        _migrate(database, known, "head")
        return
    _migrate(database, known, _CONVERSION)
    is_more, steps = True, 0
    while is_more:
        with database.writing() as connection:
            database.take_turns(connection)
            is_more = _convert_some(connection)
        steps += 1
        if steps == 2:
            _log.warning("converting %s to the form of this version, once", database.location)
    _migrate(database, known, "head")
    if steps > 1:
        # Last, since migrations free pages, too.
        database.rewrite()


def _migrate(database: Database, known: Sequence[str], target: str) -> None:
    # Most runs need no migration, and importing alembic takes a tenth of a second.
    from alembic import command
    from alembic.config import Config

    with database.writing() as connection:
        database.take_turns(connection)
        revisions = _revisions(connection)
        if not revisions:
            # A complete downgrade leaves this table.
            if set(inspect(connection).get_table_names()) - {"alembic_version"}:
                raise HomeVersionError(
                    f"the database {database.location} holds tables that are not regard's",
                    remedy="choose another --home or REGARD_DATABASE_URL",
                )
        elif not {*revisions} <= {*known}:
            raise HomeVersionError(
                f"{database.location} was made by another version of regard "
                f"(schema {', '.join(revisions)})",
                remedy="run: pip install --upgrade regard, or choose another --home",
            )
        config = Config()
        config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
        config.attributes["connection"] = connection
        command.upgrade(config, target)


def _revisions(connection: Connection) -> tuple[str, ...]:
    """The schema's revisions: one in a catalog, none in a database without one."""
    if not inspect(connection).has_table("alembic_version"):
        return ()
    return tuple(connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalars())


def _is_unconverted(connection: Connection) -> bool:
    """Whether former embeddings are left to convert."""
    return inspect(connection).has_table(_FORMER)


def _convert_some(connection: Connection) -> bool:
    """Convert the embeddings of the next contents; return False once all are converted."""
    if not _is_unconverted(connection):
        return False
    contents = connection.execute(_NEXT).scalars().all()
    if not contents:
        connection.execute(text(f"DROP TABLE {_FORMER}"))
        return False
    these = {"first": contents[0], "last": contents[-1]}
    former = connection.execute(_ROWS, these).all()
    blocks = insert_embeddings(
        connection,
        [
            _row(list(vectors))
            for _, vectors in groupby(former, key=lambda row: (row.content_id, row.channel_id))
        ],
    )
    connection.execute(_DELETE, these)
    _compress_masks(connection, contents[0], contents[-1])
    record_embeddings(connection, blocks, [])
    return True


def _compress_masks(connection: Connection, first: int, last: int) -> None:
    """Write the masks of contents again, which their column then compresses."""
    region = schema.region.c
    masks = connection.execute(
        select(region.id.label("region"), region.mask.label("counts")).where(
            region.content_id.between(first, last)
        )
    ).mappings()
    rows = [dict(row) for row in masks]
    if rows:
        statement = update(schema.region).where(region.id == bindparam("region"))
        connection.execute(statement.values(mask=bindparam("counts")), rows)


def _row(vectors: list[Any]) -> dict[str, object]:
    """The new row for the former rows of a content in a channel."""
    one = vectors[0]
    return {
        "content_id": one.content_id,
        "pipeline_id": one.pipeline_id,
        "channel_id": one.channel_id,
        "vector_count": len(vectors),
        "regions": ids_to_bytes([row.region_id for row in vectors]),
        "captions": ids_to_bytes([row.caption_id for row in vectors]),
        "vectors": b"".join(row.vector for row in vectors),
    }
