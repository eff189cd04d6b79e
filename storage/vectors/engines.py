"""Makes the vector engine that the settings choose, and imports only that one."""

from __future__ import annotations

from pathlib import Path

from regard.core.errors import MissingDependency
from regard.storage.database.connection import Database
from regard.storage.vectors.engine import VectorEngine


def make_engine(
    vectors: str, token_file: Path | None, folder: Path, database: Database
) -> VectorEngine:
    """An engine: `faiss`, `pgvector` in the catalog's database, or the URL of a Milvus server.

    `token_file` holds the token of that server. `folder` is the home's folder of indexes. Raises
    MissingDependency when its extra is not installed, HomeError for an unusable token file.
    """
    if vectors == "faiss":
        from regard.storage.vectors.segments.faiss_engine import FaissEngine

        return FaissEngine(folder)
    if vectors == "pgvector":
        from regard.storage.vectors.pgvector.engine import PgvectorEngine

        return PgvectorEngine(folder, database)
    try:
        from regard.storage.vectors.milvus.engine import MilvusEngine
    except ModuleNotFoundError as error:
        raise MissingDependency(
            "the client of Milvus is not installed", remedy="run: pip install 'regard[milvus]'"
        ) from error
    return MilvusEngine(vectors, token_file, folder, database)
