"""Groups of things that show one object, from pairs and their probabilities.

Average linkage: the most probable pairs come first, and two groups merge only if the mean over all
pairs between them is high, where pairs that are not candidates count as 0. So a thing that
resembles two others does not chain them together. Pairs within one picture say nothing: a group may
hold a thing in several copies of one picture, but only one thing of each content. Ties go to the
lower rows: the result is deterministic.

Each group keeps the sums of probabilities to the groups beside it. A merge adds the shorter list to
the longer one, so that time grows little faster than the number of pairs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

# The least probability of a pair that starts or joins groups, and the least mean to merge two
# groups.
LEAST_PROBABILITY = 0.7
LEAST_LINKAGE = 0.5

Pairs = Mapping[tuple[int, int], float]


class _Group:
    """Rows, and the sums of the probabilities of pairs with rows of other groups."""

    __slots__ = ("beside", "contents", "pictures", "rows")

    def __init__(self, row: int, content: int, picture: int) -> None:
        self.rows = [row]
        self.contents = {content}
        self.pictures = Counter([picture])
        self.beside: dict[int, float] = {}


def groups(
    pairs: Pairs,
    pictures: Sequence[int],
    contents: Sequence[int] | None = None,
    *,
    least_probability: float = LEAST_PROBABILITY,
    least_linkage: float = LEAST_LINKAGE,
) -> list[list[int]]:
    """Disjoint groups of rows from two or more pictures, each ascending and in order.

    `pictures` and `contents` have the picture and the content of each row; without `contents` each
    picture has one. `pairs` are of different pictures, the lower row first.
    """
    contents = pictures if contents is None else contents
    found: dict[int, _Group] = {}
    # The group of each row, through the groups that it was merged into.
    parent: dict[int, int] = {}
    for (one, other), probability in pairs.items():
        for row, beside in ((one, other), (other, one)):
            if row not in found:
                found[row] = _Group(row, contents[row], pictures[row])
                parent[row] = row
            found[row].beside[beside] = probability

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    strong = [(-likely, pair) for pair, likely in pairs.items() if likely >= least_probability]
    for _, (one, other) in sorted(strong):
        ours, theirs = root(one), root(other)
        if ours == theirs:
            continue
        left, right = found[ours], found[theirs]
        between = _pairs_between(left, right)
        if not left.contents.isdisjoint(right.contents) or not between:
            continue
        if left.beside.get(theirs, 0.0) < least_linkage * between:
            continue
        if len(left.beside) < len(right.beside):
            ours, theirs, left, right = theirs, ours, right, left
        _merge(found, ours, theirs)
        parent[theirs] = ours
    return sorted(sorted(group.rows) for group in found.values() if len(group.pictures) > 1)


def _pairs_between(left: _Group, right: _Group) -> int:
    """How many pairs of different pictures there are between two groups."""
    fewer, more = sorted((left.pictures, right.pictures), key=len)
    within = sum(count * more[picture] for picture, count in fewer.items() if picture in more)
    return len(left.rows) * len(right.rows) - within


def _merge(found: dict[int, _Group], ours: int, theirs: int) -> None:
    """Move the rows of a group into another."""
    left, right = found[ours], found.pop(theirs)
    left.rows += right.rows
    left.contents |= right.contents
    left.pictures.update(right.pictures)
    left.beside.pop(theirs, None)
    right.beside.pop(ours, None)
    for beside, likely in right.beside.items():
        left.beside[beside] = left.beside.get(beside, 0.0) + likely
        around = found[beside].beside
        del around[theirs]
        around[ours] = left.beside[beside]
