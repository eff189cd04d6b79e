"""Synthetic vectors that resemble those of real photographs, for libraries of any size.

Recall is never judged by these alone: clustered synthetic vectors flatter an approximate index. So
they are drawn from real ones: a row is mixed with a few of its neighbours from other photographs,
and moved along the differences to them, which are the local principal directions. Components that
are never negative in real rows stay so, and what a real row lacks stays small or absent, so
norms, sparsity and long tails remain. `compare` shows how far they resemble the real ones.

Run as a script, it prints that comparison: `python benchmarks/synthetic_vectors.py [REAL]`. REAL is
a folder of `real_vectors.py`; without one, the photographs of scikit-image serve as a small sample.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import sparse

from regard.core.records import Channel, Float32Array, Int64Array, Kind

_NEIGHBOURS = 16  # candidates, other photographs; some are drawn
_DRAWN = 4
_MOST_ROWS = 9000  # of a channel, which neighbours are looked for among
_AT_ONCE = 2048
# Of what a row takes from its neighbours: most take little. Fitted by `compare`.
_PULL = (0.6, 2.6)
_SPREAD = 0.25
_SAMPLED = 20_000  # pictures
_COMPARED = 256  # queries of each kind
_QUERIED = {
    "texts": (Kind.IMAGE, Kind.REGION, Kind.CAPTION),
    "pictures": (Kind.IMAGE,),
    "regions": (Kind.REGION,),
    "boxes": (Kind.REGION,),
}
_LEAST = 40  # percentile of a row's components, below which new ones are left out


@dataclass(frozen=True, slots=True, eq=False)
class RealVectors:
    """What `real_vectors.py` saved: rows (n, d) and sources (n, 2) by channel, queries by name."""

    rows: Mapping[Channel, Float32Array]
    sources: Mapping[Channel, Int64Array]
    queries: Mapping[str, Float32Array]
    query_sources: Mapping[str, Int64Array]
    texts: tuple[str, ...]

    @classmethod
    def load(cls, folder: Path) -> RealVectors:
        """Read a folder."""

        def arrays(part: str, suffix: str) -> dict[str, np.ndarray]:
            paths = sorted((folder / part).glob(f"*{suffix}.npy"))
            names = {path: path.name.removesuffix(f"{suffix}.npy") for path in paths}
            return {name: np.load(path) for path, name in names.items() if "." not in name}

        def channels(of: Mapping[str, np.ndarray], dtype: type) -> dict[Channel, np.ndarray]:
            named = {name.rpartition("-"): array for name, array in of.items()}
            return {
                Channel(space, Kind(kind)): array.astype(dtype)
                for (space, _, kind), array in named.items()
            }

        return cls(
            channels(arrays("rows", ""), np.float32),
            channels(arrays("rows", ".source"), np.int64),
            arrays("queries", ""),
            arrays("queries", ".source"),
            tuple(json.loads((folder / "queries" / "texts.json").read_text(encoding="utf-8"))),
        )

    @classmethod
    def sample(cls) -> RealVectors:
        """Vectors of a few hundred edits of scikit-image's photographs; takes a minute or two."""
        from real_vectors import save_vectors

        from regard.api.cli.sample_photos import gather_sample_photos

        with tempfile.TemporaryDirectory() as folder:
            photos = Path(folder) / "photos"
            gather_sample_photos(photos)
            save_vectors(photos, Path(folder) / "vectors", pictures=120)
            return cls.load(Path(folder) / "vectors")

    def channel_queries(self) -> list[tuple[Channel, str]]:
        """The channels with the names of the queries that meet them."""
        return [
            (channel, name)
            for name in self.queries
            for channel in self.rows
            if name.partition("-")[2] == channel.space
            and channel.kind in _QUERIED[name.partition("-")[0]]
        ]


class Mixture:
    """Draws rows of one channel; `sources` (n, 2) tell which rows stem from one photograph."""

    def __init__(self, rows: Float32Array, sources: Int64Array) -> None:
        self.rows = rows
        self._unsigned = (rows >= 0).all(axis=0)
        present = np.where((rows > 0) & self._unsigned, rows, np.nan)
        self._least = np.array([_least(row[~np.isnan(row)]) for row in present])
        self._neighbours = _neighbours_elsewhere(rows, sources[:, 0])

    def draw(self, bases: Int64Array, generator: np.random.Generator) -> Float32Array:
        """Rows (m, d), each near the real row of `bases` (m,); float32, L2-normalised."""
        count = len(bases)
        places = generator.integers(self._neighbours.shape[1], size=(count, _DRAWN))
        near = self._neighbours[bases[:, None], places]
        pull = generator.beta(*_PULL, size=(count, 1))
        shares = pull * generator.dirichlet(np.ones(_DRAWN), size=count)
        shares += generator.normal(0, _SPREAD, shares.shape) * np.sqrt(pull / _DRAWN)
        own = 1 - shares.sum(axis=1, keepdims=True)
        weights = sparse.csr_matrix(
            (
                np.hstack([own, shares]).astype(np.float32).ravel(),
                np.hstack([bases[:, None], near]).ravel(),
                np.arange(0, count * (_DRAWN + 1) + 1, _DRAWN + 1),
            ),
            shape=(count, len(self.rows)),
        )
        drawn = np.asarray(weights @ self.rows, np.float32)
        is_new = (drawn < self._least[bases][:, None]) & (self.rows[bases] == 0)
        drawn[is_new | ((drawn < 0) & self._unsigned)] = 0
        return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


class Pictures:
    """Draws the pictures of real photographs, each once, with their rows in all channels."""

    def __init__(self, real: RealVectors) -> None:
        self.real = real
        every = np.unique(np.concatenate([*real.sources.values()]), axis=0)
        self._use(every[np.random.default_rng(0).permutation(len(every))])
        self._next = 0

    def __len__(self) -> int:
        return len(self._pictures)

    def draw(self, count: int) -> tuple[Int64Array, dict[Channel, list[Float32Array]]]:
        """The real photographs (count,) that contents stem from, and their rows by channel."""
        places = np.arange(self._next, self._next + count)
        self._next += count
        return self._pictures[places, 0], {
            channel: [self.real.rows[channel][of[place]] for place in places]
            for channel, of in self._rows_of.items()
        }

    def sample(self, channel: Channel) -> Float32Array:
        """Rows of a channel (n, d) that are distributed like those drawn."""
        return self.real.rows[channel]

    def _use(self, pictures: Int64Array) -> None:
        self._pictures = pictures
        place_of = {(int(a), int(b)): place for place, (a, b) in enumerate(pictures)}
        self._rows_of: dict[Channel, list[Int64Array]] = {}
        for channel, sources in self.real.sources.items():
            rows_of: list[list[int]] = [[] for _ in pictures]
            for row, (photograph, edit) in enumerate(sources):
                place = place_of.get((int(photograph), int(edit)))
                if place is not None:
                    rows_of[place].append(row)
            self._rows_of[channel] = [np.array(of, np.int64) for of in rows_of]


class Mixtures(Pictures):
    """Draws any number of contents, each of rows in all channels near those of a real picture."""

    def __init__(self, real: RealVectors, seed: int = 0) -> None:
        super().__init__(real)
        self._generator = np.random.default_rng(seed)
        per_picture = max(len(rows) for rows in real.rows.values()) / len(self)
        self._use(self._pictures[: int(_MOST_ROWS / per_picture)])
        self._mixtures: dict[Channel, Mixture] = {}
        for channel, rows_of in self._rows_of.items():
            kept = np.concatenate(rows_of)
            self._mixtures[channel] = Mixture(real.rows[channel][kept], real.sources[channel][kept])
            ends = np.cumsum([len(of) for of in rows_of])
            self._rows_of[channel] = np.split(np.arange(len(kept)), ends[:-1])

    def draw(self, count: int) -> tuple[Int64Array, dict[Channel, list[Float32Array]]]:
        """As `Pictures.draw`, without end."""
        pictures = self._generator.integers(len(self), size=count)
        drawn = {channel: self._drawn(channel, pictures) for channel in self._mixtures}
        return self._pictures[pictures, 0], drawn

    def sample(self, channel: Channel, pictures: int = _SAMPLED) -> Float32Array:
        """The rows of so many pictures, as `Pictures.sample`."""
        drawn = self._generator.integers(len(self), size=pictures)
        return np.concatenate(self._drawn(channel, drawn))

    def _drawn(self, channel: Channel, pictures: Int64Array) -> list[Float32Array]:
        bases = [self._rows_of[channel][picture] for picture in pictures]
        rows = self._mixtures[channel].draw(np.concatenate(bases), self._generator)
        return np.split(rows, np.cumsum([len(of) for of in bases])[:-1])


def compare(real: RealVectors, mixtures: Mixtures) -> list[dict[str, object]]:
    """The 10th, 50th and 90th percentile of the scores that queries get over n rows of each sort.

    A query by a picture or a region never meets its own photograph, nor what was drawn from it.
    """
    photographs, drawn = mixtures.draw(
        len(np.unique(np.concatenate([*real.sources.values()]), axis=0))
    )
    table: list[dict[str, object]] = []
    for channel, name in real.channel_queries():
        what, queries = name.partition("-")[0], real.queries[name]
        counts = [len(of) for of in drawn[channel]]
        sorts = {
            "real": (real.rows[channel], real.sources[channel][:, 0]),
            "synthetic": (np.concatenate(drawn[channel]), np.repeat(photographs, counts)),
        }
        for sort, (rows, sources) in sorts.items():
            chosen = np.random.default_rng(0).permutation(len(queries))[:_COMPARED]
            scores = queries[chosen] @ rows.T
            if what != "texts":
                scores[real.query_sources[name][chosen, 0][:, None] == sources] = -1
            best = -np.sort(-scores, axis=1)
            table.append(
                {"channel": str(channel), "queries": what, "rows": sort, "n": len(rows)}
                | {f"top {k}": _spread(best[:, k - 1]) for k in (1, 10, 100) if k <= len(rows)}
                | {"not zero": round(float((rows != 0).mean()), 3)}
            )
    return table


def _least(present: Float32Array) -> float:
    return float(np.percentile(present, _LEAST)) if present.size else -np.inf


def _spread(values: Float32Array) -> str:
    return " ".join(f"{value:.3f}" for value in np.percentile(values, (10, 50, 90)))


def _neighbours_elsewhere(rows: Float32Array, photographs: Int64Array) -> Int64Array:
    """The nearest rows of other photographs, (n, m)."""
    count = min(_NEIGHBOURS, len(rows) - 1)
    found = []
    for start in range(0, len(rows), _AT_ONCE):
        some = slice(start, start + _AT_ONCE)
        scores = rows[some] @ rows.T
        scores[photographs[some, None] == photographs] = -2
        found.append(np.argpartition(-scores, count, axis=1)[:, :count])
    return np.concatenate(found)


def main() -> None:
    """Print the comparison."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("real", type=Path, nargs="?")
    arguments = parser.parse_args()
    real = RealVectors.load(arguments.real) if arguments.real else RealVectors.sample()
    print_table(compare(real, Mixtures(real)))


def print_table(rows: list[dict[str, object]]) -> None:
    """Columns of dictionaries with the same keys."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = [names, *([str(row.get(name, "")) for name in names] for row in rows)]
    widths = [max(len(line[place]) for line in lines) for place in range(len(names))]
    for line in lines:
        print("  ".join(f"{cell:{width}}" for cell, width in zip(line, widths, strict=True)))


if __name__ == "__main__":
    main()
