"""Random histories of one index: changes, snapshots, crashes and searches in any order."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from vector_oracle import IMPLEMENTATIONS, Implementation, as_rows, unit_rows

from regard.core.idset import IdSet
from regard.storage.vectors.segments.state import SegmentLimits

D = 6
LIMITS = SegmentLimits(segment_rows=24, delta_rows=7, dead_share=0.25, small_segments=2)
SEEDS = st.integers(0, 2**32 - 1)


class History(RuleBasedStateMachine):
    implementation: Implementation

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="regard-index-"))
        self.index = self.implementation.create(self.directory, D, LIMITS)
        self.index.snapshot()
        self.truth = self.implementation.truth(D)
        self.position = 0
        self.saved = ({}, 0)
        self.unused = np.arange(1, 3001)

    def teardown(self) -> None:
        shutil.rmtree(self.directory)

    def fresh(self, rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
        ids = rng.choice(self.unused, count, replace=False)
        self.unused = np.setdiff1d(self.unused, ids)
        vectors = unit_rows(rng, count, D)
        if rng.random() < 0.3:
            vectors[:] = vectors[:1]
        return ids, vectors

    def some(self, rng: np.random.Generator, share: float) -> np.ndarray:
        ids = self.truth.ids()
        return rng.permutation(ids[rng.random(len(ids)) < share])

    @initialize(seed=SEEDS, count=st.sampled_from([0, 150, 150]))
    def begin(self, seed: int, count: int) -> None:
        self.step(seed, count, 0, 0)
        self.snapshot()

    @rule(
        seed=SEEDS,
        count=st.sampled_from([0, 3, 12, 40]),
        share=st.sampled_from([0, 0.02, 0.1, 0.3, 1.0]),
        replayed=st.integers(0, 5),
    )
    def step(self, seed: int, count: int, share: float, replayed: int) -> None:
        rng = np.random.default_rng(seed)
        ids, vectors = self.fresh(rng, count)
        gone = np.concatenate([self.some(rng, share), ids[: count // 4]])
        again = self.truth.ids()[:replayed]
        self.position += 1
        self.index.apply(
            as_rows(
                np.concatenate([ids, again]),
                np.concatenate([vectors, unit_rows(rng, len(again), D)]),
            ),
            gone,
            through=self.position,
        )
        self.truth.add(ids, vectors)
        self.truth.remove(gone)

    @rule()
    def snapshot(self) -> None:
        self.implementation.snapshot(self.index)
        self.saved = (dict(self.truth.rows), self.position)

    @rule()
    def crash_and_reopen(self) -> None:
        self.index = self.implementation.open(self.directory, D, LIMITS)
        self.truth.rows, self.position = dict(self.saved[0]), self.saved[1]

    @rule(seed=SEEDS, k=st.integers(0, 60), share=st.floats(0, 1), complement=st.booleans())
    def filtered_search(self, seed: int, k: int, share: float, complement: bool) -> None:
        rng = np.random.default_rng(seed)
        known = np.concatenate([self.truth.ids(), self.unused[:100]])
        allowed = IdSet(known[rng.random(len(known)) < share], complement=complement)
        self.truth.check_search(self.index, unit_rows(rng, 2, D), k, allowed)

    @rule(seed=SEEDS, k=st.integers(0, 60))
    def search(self, seed: int, k: int) -> None:
        self.truth.check_search(self.index, unit_rows(np.random.default_rng(seed), 2, D), k)

    @invariant()
    def holds_what_it_should(self) -> None:
        self.truth.check_contents(self.index)
        assert self.index.applied_through == self.position


@pytest.mark.parametrize("chosen", IMPLEMENTATIONS)
def test_any_history(chosen: Implementation, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen.prepare(monkeypatch)
    chosen.devices()
    monkeypatch.setattr(History, "implementation", chosen, raising=False)
    run_state_machine_as_test(
        History,
        settings=settings(
            max_examples=20,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
