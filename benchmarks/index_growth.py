"""How a search of one channel grows: `python benchmarks/index_growth.py [--photographs N N]`.

Fills one vector index for each number of photographs, without a catalog, with synthetic rows of a
channel (see `synthetic_vectors.py`), and searches them in turns with real texts. Prints JSON. The
regions of 500,000 photographs take 25 GB of disk, and an hour.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from size_measuring import repeated
from synthetic_vectors import Mixtures, RealVectors

from regard.core.records import Channel, Kind
from regard.storage.vectors.engine import Additions, IndexIdentity, sample_rows
from regard.storage.vectors.segments.index import SegmentedIndex

_AT_ONCE = 5_000  # photographs
_TURNS = 10
_SAMPLE = 256


def main() -> None:
    """Fill the indexes, search them in turns, and print the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photographs", type=int, nargs="+", default=[50_000, 500_000])
    parser.add_argument("--real", type=Path, help="a folder of real_vectors.py")
    parser.add_argument("--kind", type=Kind, choices=list(Kind), default=Kind.IMAGE)
    arguments = parser.parse_args()
    real = RealVectors.load(arguments.real) if arguments.real else RealVectors.sample()
    name = next(name for name in real.queries if name.startswith("texts-"))
    channel = Channel(name.removeprefix("texts-"), arguments.kind)
    captions = real.rows[Channel(channel.space, Kind.CAPTION)]
    texts = real.queries[name]
    figures: dict[int, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        indexes: dict[int, SegmentedIndex] = {}
        for count in arguments.photographs:
            started = time.perf_counter()
            index = _filled(Mixtures(real), channel, count, Path(folder) / str(count))
            filled = time.perf_counter() - started
            index.snapshot(
                lambda index=index: [captions[:_SAMPLE], sample_rows(index, _SAMPLE, 0)[1]]
            )
            indexes[count] = index
            figures[count] = {
                **index.stats(),
                "fill_seconds": round(filled, 1),
                "train_seconds": round(time.perf_counter() - started - filled, 1),
            }
        for some in np.array_split(np.arange(len(texts)), _TURNS):
            for count, index in indexes.items():
                searches = [partial(index.search, texts[one][None], 100) for one in some]
                figures[count].setdefault("turns", []).append(repeated(searches)["p50_ms"])
        for count, index in indexes.items():
            exact = index.search(texts, 10, exact=True).scores
            found = index.search(texts, 10).scores
            figures[count]["p50_ms"] = float(np.median(figures[count].pop("turns")))
            figures[count]["recall@10"] = round(float((found >= exact[:, -1:]).mean()), 4)
    print(json.dumps({"channel": str(channel), **figures}, indent=1))


def _filled(mixtures: Mixtures, channel: Channel, count: int, folder: Path) -> SegmentedIndex:
    """An index of a channel's rows of `count` photographs."""

    def steps() -> Iterator[Additions]:
        first = 1
        for start in range(0, count, _AT_ONCE):
            rows = mixtures.sample(channel, min(_AT_ONCE, count - start))
            ids = np.arange(first, first + len(rows))
            first += len(rows)
            yield ids, rows, ids, np.zeros_like(ids)

    dimension = mixtures.real.rows[channel].shape[1]
    identity = IndexIdentity("", "", channel.space, channel.kind, dimension)
    index = SegmentedIndex(identity, folder)
    index.fill(steps(), through=1)
    return index


if __name__ == "__main__":
    main()
