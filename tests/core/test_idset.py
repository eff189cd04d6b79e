"""IdSet against Python's sets."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regard.core.idset import IdSet

# Dense ids become a bitmap, sparse ones stay an array; the border of both matters.
DENSE = st.sets(st.integers(0, 300))
SPARSE = st.sets(st.integers(0, 2**63 - 1), max_size=40)
MIXED = st.one_of(DENSE, SPARSE, st.builds(set.union, DENSE, SPARSE))
PROBES = st.lists(
    st.one_of(st.integers(-5, 320), st.integers(-(2**63), 2**63 - 1)), min_size=1, max_size=60
)


@given(members=MIXED, probes=PROBES, complement=st.booleans())
def test_membership(members: set[int], probes: list[int], complement: bool) -> None:
    idset = IdSet(members, complement=complement)
    asked = probes + sorted(members)[:20]
    expected = [(value in members) != complement for value in asked]
    assert idset.contains(np.array(asked, np.int64)).tolist() == expected
    assert [value in idset for value in asked] == expected


@given(members=MIXED, complement=st.booleans())
def test_listed(members: set[int], complement: bool) -> None:
    idset = IdSet(members, complement=complement)
    assert idset.listed().tolist() == sorted(members)
    assert idset.listed().dtype == np.int64
    assert idset.listed_count == len(members)
    assert idset.is_complement is complement


@given(members=MIXED, probes=PROBES)
def test_complement(members: set[int], probes: list[int]) -> None:
    idset, asked = IdSet(members), np.array(probes, np.int64)
    other = idset.complement()
    assert (other.contains(asked) == ~idset.contains(asked)).all()
    assert (other.complement().contains(asked) == idset.contains(asked)).all()
    assert other.is_complement
    assert other.listed().tolist() == idset.listed().tolist()


@given(ids=st.lists(st.integers(0, 2000)))
def test_order_repeats_and_the_kind_of_collection_do_not_matter(ids: list[int]) -> None:
    array = np.array(ids, np.int64)
    array.flags.writeable = False
    for collection in (ids, array, array.astype(np.int32), iter(ids), frozenset(ids)):
        assert IdSet(collection).listed().tolist() == sorted(set(ids))


@pytest.mark.parametrize("spread", [63, 64, 65])
def test_both_forms_agree_at_the_border_between_them(spread: int) -> None:
    ids = np.arange(1, 101) * spread
    idset = IdSet(ids)
    assert idset.listed().tolist() == ids.tolist()
    every = np.arange(-1, 101 * spread + 9)
    assert idset.contains(every).tolist() == np.isin(every, ids).tolist()


def test_shape_is_kept() -> None:
    assert IdSet([1, 5]).contains(np.array([[1, 2], [5, 6]])).tolist() == [
        [True, False],
        [True, False],
    ]
    assert IdSet([1]).contains(np.empty((0, 3), np.int64)).shape == (0, 3)


def test_the_empty_set_and_all() -> None:
    probes = np.array([0, 1, 2**62])
    assert not IdSet().contains(probes).any()
    assert IdSet(complement=True).contains(probes).all()


def test_negative_ids_are_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        IdSet([3, -1])


def test_the_array_given_may_change_afterwards() -> None:
    ids = np.array([5, 10**9])
    idset = IdSet(ids)
    ids[:] = 7
    assert idset.listed().tolist() == [5, 10**9]
