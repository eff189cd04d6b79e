"""The synthetic vectors of the benchmarks."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "synthetic_vectors.py"


def test_synthetic_rows_keep_length_sparsity_and_sign_of_real_ones() -> None:
    generator = np.random.default_rng(0)
    real = generator.exponential(1, (200, 64)) * (generator.random((200, 64)) < 0.3)
    real[:, :16] = generator.normal(0, 1, (200, 16))
    real = (real / np.linalg.norm(real, axis=1, keepdims=True)).astype(np.float32)
    sources = np.stack([np.arange(200) // 4, np.zeros(200)], axis=1).astype(np.int64)
    mixture = runpy.run_path(str(SCRIPT))["Mixture"](real, sources)

    drawn = mixture.draw(generator.integers(200, size=500), np.random.default_rng(1))

    assert drawn.shape == (500, 64)
    np.testing.assert_allclose(np.linalg.norm(drawn, axis=1), 1, atol=1e-5)
    assert (drawn[:, 16:] >= 0).all()
    assert abs((drawn[:, 16:] > 0).mean() - (real[:, 16:] > 0).mean()) < 0.1
    again = mixture.draw(np.arange(9), np.random.default_rng(1))
    assert np.array_equal(again, mixture.draw(np.arange(9), np.random.default_rng(1)))
