"""A content's signature as it is written with the content, and the comparisons that go with it."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Connection, delete

from regard.core.signatures import SIGNATURE_VERSION, Signature
from regard.storage.database import schema
from regard.storage.database.connection import insert_into


def write_signature(connection: Connection, content: int, signature: Signature | None) -> None:
    """Write a content's signature in the caller's transaction, replacing an older one.

    None records that the content could not be signed.
    """
    grey = b"" if signature is None else signature.grey.tobytes()
    values = {"version": SIGNATURE_VERSION, "grey": grey}
    statement = insert_into(connection, schema.signature)
    connection.execute(
        statement.on_conflict_do_update(index_elements=["content_id"], set_=values),
        {"content_id": content, **values},
    )


def forget_comparisons(connection: Connection, contents: Collection[int]) -> None:
    """Have contents compared again, in the caller's transaction."""
    if contents:
        comparison = schema.comparison
        connection.execute(delete(comparison).where(comparison.c.content_id.in_(contents)))
