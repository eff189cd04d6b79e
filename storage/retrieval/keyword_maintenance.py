"""Checks the keyword index against its texts, and rebuilds it."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import column, delete, func, insert, select, table
from sqlalchemy.exc import DatabaseError, OperationalError

from regard.storage.database import schema
from regard.storage.database.connection import Database
from regard.storage.retrieval.verification import Finding

_text = schema.asset_text.c
_SOURCE = table("asset_text_source", column("asset_id"), column("field"), column("text"))
# A command to FTS5 is an insertion into the column of the table's name; 1 compares with the texts too.
_CHECKS = {
    "assets": "INSERT INTO asset_text_words (asset_text_words, rank) VALUES ('integrity-check', 1)",
    "captions": "INSERT INTO caption_words (caption_words, rank) VALUES ('integrity-check', 1)",
}
_REBUILDS = {
    True: (
        "INSERT INTO asset_text_words (asset_text_words) VALUES ('rebuild')",
        "INSERT INTO caption_words (caption_words) VALUES ('rebuild')",
    ),
    False: ("REINDEX INDEX asset_text_words", "REINDEX INDEX caption_words"),
}


def verify_keywords(database: Database) -> list[Finding]:
    """Compare what is indexed with what assets are called, and the words with their texts."""
    findings = []
    with database.reading() as connection:
        held = select(_text.asset_id, _text.field, _text.text)
        derived = select(_SOURCE.c.asset_id, _SOURCE.c.field, _SOURCE.c.text)
        for missing, rest, what in (
            (derived, held, "texts of assets are not in the keyword index"),
            (held, derived, "texts of the keyword index are of no asset"),
        ):
            differing = missing.except_(rest).subquery()
            count = connection.execute(select(func.count()).select_from(differing)).scalar_one()
            if count:
                findings.append(Finding(f"{count} {what}", in_index=True))
    if database.is_sqlite:
        findings += _verify_fts5(database)
    return findings


def rebuild_keywords(database: Database) -> int:
    """Make the index anew from the tables; the number of texts that assets have."""
    with database.writing() as connection:
        # First: triggers of what is deleted next want an index that agrees with its texts.
        for statement in _REBUILDS[database.is_sqlite]:
            connection.exec_driver_sql(statement)
        connection.execute(delete(schema.asset_text))
        derived = select(_SOURCE.c.asset_id, _SOURCE.c.field, _SOURCE.c.text)
        connection.execute(
            insert(schema.asset_text).from_select(["asset_id", "field", "text"], derived)
        )
        return int(
            connection.execute(select(func.count()).select_from(schema.asset_text)).scalar_one()
        )


def _verify_fts5(database: Database) -> Iterator[Finding]:
    for what, check in _CHECKS.items():
        with database.writing() as connection:
            try:
                connection.exec_driver_sql(check)
            except OperationalError:  # as when another process writes for too long
                raise
            except DatabaseError:
                message = f"the indexed words of {what} are not those of their texts"
                yield Finding(message, in_index=True)
