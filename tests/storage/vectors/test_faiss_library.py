"""FAISS is optional, quiet, and as exact over float16 as the index relies on."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from vector_oracle import make_rows, unit_rows

from regard.core.errors import MissingDependency
from regard.storage.vectors.faiss_library import load_faiss
from regard.storage.vectors.rows import pad
from regard.storage.vectors.segments.segment import Sealed, Segment


def test_without_faiss_the_commands_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(MissingDependency) as caught:
        load_faiss()
    assert caught.value.remedy is not None
    assert "pip install 'regard[cpu]'" in caught.value.remedy
    assert "pip install 'regard[gpu]'" in caught.value.remedy


def test_a_fault_within_faiss_is_not_called_a_missing_package(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "faiss"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "faiss.loader", None)
    with pytest.raises(ModuleNotFoundError, match=r"faiss\.loader"):
        load_faiss()


def test_importing_the_index_imports_no_faiss_and_loading_it_warns_of_nothing() -> None:
    code = (
        "import sys, regard.storage.vectors.segments.index, regard.storage.vectors.segments.gpu;"
        "assert 'faiss' not in sys.modules;"
        "from regard.storage.vectors.faiss_library import load_faiss; load_faiss()"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=200)


@pytest.mark.parametrize("dimension", [1, 7, 8, 33, 64, 384, 1152])
def test_scan_errors_stay_within_the_bound(dimension: int) -> None:
    rng = np.random.default_rng(dimension)
    vectors = unit_rows(rng, 300, dimension)
    sealed = Sealed(Segment.of(make_rows(np.arange(1, 301), vectors.astype(np.float16))))
    queries = rng.standard_normal((5, dimension)).astype(np.float32)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    scan = sealed.scan(pad(queries), 300, sealed.select(None))
    scores, positions = scan.scores, scan.positions
    exact = np.take_along_axis(
        queries.astype(np.float64) @ vectors.T.astype(np.float64), positions, axis=1
    )
    assert np.abs(scores - exact).max() <= scan.error / 2


@pytest.mark.parametrize(
    ("ids", "shape"), [([2, 1], (2, 4)), ([1, 1], (2, 4)), ([0, 1], (2, 4)), ([1], (2, 4))]
)
def test_a_segment_refuses_rows_out_of_order(ids: list[int], shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=r"ascending|together"):
        Segment.of(make_rows(np.array(ids), np.zeros(shape, np.float16)))
