"""A process that follows a log of steps into an index, until it is killed or at the end.

`python engine_applier.py ENGINE FOLDER DATABASE_URL LAST` applies the steps of `vector_oracle.step`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from vector_oracle import identity, step

from regard.storage.database.connection import Database
from regard.storage.vectors.engines import make_engine


def main(vectors: str, folder: str, url: str, last: str) -> None:
    index = make_engine(vectors, None, Path(folder), Database(url)).open(identity())
    while index.applied_through < int(last):
        with index.changing():
            for _ in range(3):
                if index.applied_through < int(last):
                    step(index, index.applied_through + 1)
        index.snapshot()
        print(index.applied_through, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
