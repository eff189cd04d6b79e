"""Reads and writes Parquet tables and .npy vectors in batches, in a folder that appears whole.

pyarrow is an extra: nothing else in regard needs it, and its wheel has 50 megabytes.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Self

import numpy as np

from regard.core.errors import CannotWork, Conflict, MissingDependency
from regard.core.records import Float16Array
from regard.storage.export.layout import Column
from regard.storage.files.durable import sync_directory

_ROWS_AT_ONCE = 4096


class TableWriter:
    """Writes one Parquet file in row groups of a few thousand rows."""

    def __init__(self, path: Path, columns: Sequence[Column]) -> None:
        """Create the file."""
        arrow, parquet = load_pyarrow()
        self._from_rows = arrow.Table.from_pylist
        self._schema = _schema(arrow, columns)
        self._writer = parquet.ParquetWriter(path, self._schema, compression="zstd")
        self._rows: list[Mapping[str, Any]] = []
        self.count = 0

    def add(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Append rows, as values by column name."""
        self._rows += rows
        self.count += len(rows)
        if len(self._rows) >= _ROWS_AT_ONCE:
            self._flush()

    def _flush(self) -> None:
        self._writer.write_table(self._from_rows(self._rows, schema=self._schema))
        self._rows = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None and self._rows:
            self._flush()
        self._writer.close()


def read_table(path: Path, columns: Sequence[Column]) -> Iterator[dict[str, Any]]:
    """The rows of a Parquet file; raises CannotWork for other columns or a damaged file.

    Columns that may be null may be absent, as in older exports.
    """
    arrow, parquet = load_pyarrow()
    try:
        with parquet.ParquetFile(path) as file:
            there = set(file.schema_arrow.names)
            absent = {c.name: None for c in columns if c.nullable and c.name not in there}
            expected = [column for column in columns if column.name not in absent]
            if not file.schema_arrow.equals(_schema(arrow, expected)):
                raise CannotWork(f"{path} has other columns than an export has")
            for batch in file.iter_batches(batch_size=_ROWS_AT_ONCE):
                rows: list[dict[str, Any]] = batch.to_pylist()
                yield from ({**row, **absent} for row in rows)
    except (arrow.ArrowException, OSError, ValueError, OverflowError) as error:
        raise CannotWork(f"{path} is damaged, or no Parquet file") from error


class VectorWriter:
    """Writes `count` vectors of `dimension` little-endian float16 numbers into one .npy file."""

    def __init__(self, path: Path, count: int, dimension: int) -> None:
        """Create the file and write its header, which holds the shape."""
        self._file = open(path, "wb")  # noqa: SIM115 - closed on exit
        self._left, self._width = count, 2 * dimension
        header = {"descr": "<f2", "fortran_order": False, "shape": (count, dimension)}
        np.lib.format.write_array_header_1_0(self._file, header)

    def add(self, rows: Sequence[bytes], counts: Sequence[int]) -> None:
        """Append rows of so many vectors in their stored form.

        Raises CannotWork for a damaged one.
        """
        if [len(row) for row in rows] != [count * self._width for count in counts]:
            raise CannotWork(
                "the catalog holds damaged vectors", remedy="see them with: regard verify"
            )
        self._file.write(b"".join(rows))
        self._left -= sum(counts)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()
        if error is None and self._left:
            raise RuntimeError(f"{self._left} vectors are missing")


def open_vectors(path: Path, dimension: int) -> Float16Array:
    """The memory-mapped vectors of a file, (n, dimension); raises CannotWork if invalid."""
    try:
        vectors = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise CannotWork(f"{path} is damaged, or no .npy file of numbers") from error
    if not isinstance(vectors, np.ndarray) or vectors.dtype != np.dtype("<f2"):
        raise CannotWork(f"{path} does not hold float16 numbers")
    if vectors.ndim != 2 or vectors.shape[1] != dimension or not vectors.flags.c_contiguous:
        raise CannotWork(f"{path} does not hold rows of {dimension} numbers")
    return vectors


def load_pyarrow() -> tuple[ModuleType, ModuleType]:
    """`pyarrow` and `pyarrow.parquet`; raises MissingDependency."""
    try:
        return importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    except ModuleNotFoundError as error:
        if error.name != "pyarrow":
            raise
        raise MissingDependency(
            "exports are Parquet files, for which pyarrow is not installed",
            remedy="run: pip install 'regard[export]'",
        ) from error


def _schema(arrow: Any, columns: Sequence[Column]) -> Any:
    types = {
        "int16": arrow.int16(),
        "int32": arrow.int32(),
        "int64": arrow.int64(),
        "double": arrow.float64(),
        "bool": arrow.bool_(),
        "string": arrow.string(),
        "binary": arrow.binary(),
        "timestamp": arrow.timestamp("us"),
        # Parquet's name for the items of a list.
        "strings": arrow.list_(arrow.field("element", arrow.string(), nullable=False)),
    }
    return arrow.schema(
        [
            arrow.field(column.name, types[column.type], nullable=column.nullable)
            for column in columns
        ]
    )


@contextlib.contextmanager
def written_aside(folder: Path) -> Iterator[Path]:
    """A temporary folder that durably becomes `folder` if the block succeeds, else is deleted.

    Raises Conflict if `folder` is not empty, CannotWork if writing fails.
    """
    with _disk_errors_named(folder), _renamed(folder) as aside:
        yield aside


@contextlib.contextmanager
def _renamed(folder: Path) -> Iterator[Path]:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise Conflict(f"{folder} is there already", remedy="name a folder that is new, or empty")
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(".aside", f".{folder.name}.", folder.parent))
    try:
        yield aside
        for path in aside.rglob("*"):
            _sync(path)
        aside.chmod(0o777 & ~_umask())
        sync_directory(aside)
        try:
            # Replaces an empty folder only.
            os.rename(aside, folder)
        except OSError as error:
            if not folder.exists():
                raise
            raise Conflict(f"{folder} was filled meanwhile", remedy="name another") from error
        sync_directory(folder.parent)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _sync(path: Path) -> None:
    if path.is_dir():
        sync_directory(path)
        return
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def _umask() -> int:
    current = os.umask(0o077)
    os.umask(current)
    return current


@contextlib.contextmanager
def _disk_errors_named(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CannotWork(
            f"the export {folder} can't be written: {error.strerror or error}",
            remedy="name a folder on a writable disk with free space",
        ) from error
