"""Prints what libraries of 10^7 to 10^9 photographs cost, by formula, as in docs/scale.md.

`python benchmarks/library_costs.py [--vector-bytes N] [--vectors N]`: bytes and number of the
vectors of a photograph. The constants were measured on smaller libraries or follow from formats;
each names the page that says how.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from dataclasses import dataclass

# Bytes of a photograph in the catalog beside its vectors (docs/size.md).
CATALOG_BYTES = 15e3
# Bytes of a vector's ids and checksum in a file of rows, and of its place in a list (docs/size.md).
ROW_IDS, LIST_IDS = 28, 12
# Bytes of the tables and HNSW indexes of pgvector for each byte of vectors (docs/scale.md).
PGVECTOR_SHARE = 2.95
# Bytes of a vector in Milvus beside its float32 numbers (docs/deployment.md).
MILVUS_LINKS = 280
# Seconds of one core that `lite` takes for a photograph (docs/size.md).
LITE_SECONDS = 0.16
# Operations of the models of `blip3` for a photograph and for each region (docs/performance.md).
MODEL_OPERATIONS, REGION_OPERATIONS, REGIONS = 13.1e12, 0.67e12, 12
# Dense bfloat16 operations a second of an NVIDIA H200 by its data sheet, and the share of them that
# is our aim, not measured.
GPU_OPERATIONS, GPU_SHARE = 989e12, 0.5
# Photographs that one writer commits in a second, with SQLite (docs/performance.md).
COMMITS = 1060
# Memory of a machine that the search may fill.
MACHINE_BYTES = 512e9 * 0.75


@dataclass(frozen=True)
class Costs:
    """Of one library; bytes, hours, days."""

    photographs: int
    catalog: float
    index_files: float
    lists: float
    pgvector: float
    milvus_memory: float
    lite_core_hours: float
    gpu_hours: float
    commit_days: float

    @classmethod
    def of(cls, photographs: int, vector_bytes: float, vectors: int) -> Costs:
        """`vector_bytes` is the size of a photograph's float16 vectors, `vectors` their number."""
        n = photographs
        rows = vector_bytes + ROW_IDS * vectors
        lists = vector_bytes / 2 + LIST_IDS * vectors
        operations = MODEL_OPERATIONS + REGION_OPERATIONS * REGIONS
        return cls(
            photographs=n,
            catalog=n * (vector_bytes + CATALOG_BYTES),
            index_files=n * (rows + lists),
            lists=n * lists,
            pgvector=n * PGVECTOR_SHARE * vector_bytes,
            milvus_memory=n * (2 * vector_bytes + MILVUS_LINKS * vectors),
            lite_core_hours=n * LITE_SECONDS / 3600,
            gpu_hours=n * operations / (GPU_OPERATIONS * GPU_SHARE) / 3600,
            commit_days=n / COMMITS / 86_400,
        )


def table(vector_bytes: float, vectors: int) -> Iterator[str]:
    """The lines of a Markdown table."""
    columns = [Costs.of(10**power, vector_bytes, vectors) for power in (7, 8, 9)]
    yield f"| {vector_bytes / 1e3:g} kB in {vectors} vectors | 10⁷ | 10⁸ | 10⁹ |"
    yield "| --- | --- | --- | --- |"
    for name, values in {
        "catalog": [_bytes(one.catalog) for one in columns],
        "`faiss`: files": [_bytes(one.index_files) for one in columns],
        "`faiss`: page cache for the lists": [_bytes(one.lists) for one in columns],
        "`pgvector`: tables and HNSW": [_bytes(one.pgvector) for one in columns],
        "`milvus`: memory of the query nodes": [_bytes(one.milvus_memory) for one in columns],
        "`faiss`: lists fit one machine of 512 GB": [
            "yes" if _machines(one.lists) == 1 else "no" for one in columns
        ],
        "`milvus`: machines of 512 GB": [f"{_machines(one.milvus_memory)}" for one in columns],
        "`lite`: core hours": [_rounded(one.lite_core_hours) for one in columns],
        "`blip3`: H200 hours, floor": [_rounded(one.gpu_hours) for one in columns],
        "days of one writer's commits": [_rounded(one.commit_days) for one in columns],
    }.items():
        yield f"| {name} | {' | '.join(values)} |"


def _machines(memory: float) -> int:
    return math.ceil(memory / MACHINE_BYTES)


def _bytes(number: float) -> str:
    return f"{_rounded(number / 1e12)} TB" if number >= 1e12 else f"{_rounded(number / 1e9)} GB"


def _rounded(number: float) -> str:
    """Two digits: the constants have no more."""
    digits = 1 - math.floor(math.log10(number))
    return f"{round(number, digits):,.{max(digits, 0)}f}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vector-bytes", type=float, default=23.9e3)
    parser.add_argument("--vectors", type=int, default=27)
    given = parser.parse_args()
    print("\n".join(table(given.vector_bytes, given.vectors)))


if __name__ == "__main__":
    main()
