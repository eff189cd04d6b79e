"""Shares, means and their intervals."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regard.evaluation.statistics import Mean, Share, as_table


def test_wilson_interval_against_a_published_value() -> None:
    # Newcombe 1998, table I: 81 of 263, Wilson without correction: 0.2553 to 0.3662.
    low, high = Share(81, 263).interval or (0.0, 0.0)
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)


def test_wilson_interval_at_the_ends_is_not_empty() -> None:
    assert Share(0, 20).interval == (0.0, pytest.approx(0.1611, abs=1e-4))
    assert Share(20, 20).interval == (pytest.approx(0.8389, abs=1e-4), 1.0)


def test_a_share_of_nothing_is_null_not_zero() -> None:
    assert Share.of([]).to_json() == {
        "value": None,
        "low": None,
        "high": None,
        "hits": 0,
        "total": 0,
    }
    assert str(Share.of([])) == "–"
    assert Mean.of([]).to_json() == {"value": None, "low": None, "high": None, "total": 0}
    assert str(Mean.of([])) == "–"


@given(st.integers(1, 10_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_interval_holds_the_share(counts: tuple[int, int]) -> None:
    share = Share(*counts)
    assert share.interval is not None
    assert share.value is not None
    low, high = share.interval
    assert 0.0 <= low <= share.value <= high <= 1.0
    assert low < high


def test_mean_is_seeded_and_blind_to_order() -> None:
    values = [0.1, 0.9, 0.4, 0.4, 0.7]
    mean = Mean.of(values)
    assert mean == Mean.of(reversed(values))
    assert mean.value == pytest.approx(0.5)
    assert mean.total == 5
    assert mean.low is not None
    assert mean.high is not None
    assert 0.1 <= mean.low < 0.5 < mean.high <= 0.9


def test_mean_of_equal_values_has_no_width() -> None:
    assert Mean.of([0.25] * 4) == Mean(0.25, 0.25, 0.25, 4)


def test_table_pads_columns_and_allows_short_rows() -> None:
    assert as_table([["name", "a", "bb"], ["x", "10"]]) == ["name   a  bb", "x     10"]
