"""When paths that may have changed are looked at, and how many of them at once."""

from __future__ import annotations

import os

from hypothesis import given
from hypothesis import strategies as st

from regard.indexer.changes import Changes, coarsened
from regard.indexer.discover import lies_below

_ROOT = b"/photos"
_NAMES = st.lists(st.sampled_from([b"a", b"b", b"a.jpg", b"c-d"]), min_size=1, max_size=4)
_PATHS = _NAMES.map(lambda names: b"/".join([_ROOT, *names]))


def _changes(**heard: float) -> Changes:
    changes = Changes(_ROOT)
    for name, time in heard.items():
        changes.add([os.path.join(_ROOT, name.encode())], time)
    return changes


def test_a_path_is_given_once_when_nothing_was_heard_of_it_for_a_while() -> None:
    changes = _changes(a=10.0)
    changes.add([b"/photos/a"], 11.0)
    assert changes.take(12.0) == []
    assert changes.take(12.5) == [b"/photos/a"]
    assert changes.take(20.0) == []


def test_paths_heard_of_at_nearly_the_same_time_are_given_together() -> None:
    changes = _changes(a=10.0, b=10.4, c=10.9)
    assert changes.take(11.6) == []
    assert changes.take(12.4) == [b"/photos/a", b"/photos/b", b"/photos/c"]


def test_quiet_paths_do_not_wait_for_one_that_is_never_quiet() -> None:
    changes = _changes(a=10.0)
    for time in range(110, 124):
        changes.add([b"/photos/busy"], time / 10)
        assert changes.take(time / 10) == []
    changes.add([b"/photos/busy"], 12.5)
    assert changes.take(12.5) == [b"/photos/a"]


def test_a_flood_of_paths_is_kept_as_their_folders() -> None:
    changes = Changes(_ROOT)
    changes.add((b"/photos/%d/%d.jpg" % (n % 3, n) for n in range(10_001)), 1.0)
    assert sorted(changes.take(9.0)) == [b"/photos/0", b"/photos/1", b"/photos/2"]


@given(paths=st.sets(_PATHS), most=st.integers(1, 6))
def test_coarser_paths_hold_all_paths_and_are_few(paths: set[bytes], most: int) -> None:
    kept = coarsened(paths, most, _ROOT)
    assert len(kept) <= most
    assert kept == sorted(kept)
    assert all(path in kept or lies_below(path, kept) for path in paths)
    assert not any(lies_below(path, kept) for path in kept)
    if len(paths) <= most:
        assert set(kept) <= paths
