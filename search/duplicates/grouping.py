"""Groups of copies out of pairs, without chains.

That a is a copy of b and b one of c does not make c one of a: two crops that hardly meet, a picture
edited step by step. So a group stands around one photograph, the one to keep, and holds what was
verified against that one itself. What is left over forms groups in the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from regard.core.duplicates import CopyPair


def components(pairs: Iterable[CopyPair]) -> list[list[int]]:
    """Contents that pairs connect, each list ascending, ordered by their first."""
    parent: dict[int, int] = {}

    def root(content: int) -> int:
        parent.setdefault(content, content)
        while parent[content] != content:
            parent[content] = parent[parent[content]]
            content = parent[content]
        return content

    for pair in pairs:
        first, second = sorted((root(pair.first), root(pair.second)))
        parent[second] = first
    members: dict[int, list[int]] = {}
    for content in sorted(parent):
        members.setdefault(root(content), []).append(content)
    return [found for _, found in sorted(members.items())]


def stars(
    contents: Sequence[int], similarity: Callable[[int, int], float | None]
) -> list[dict[int, float]]:
    """Groups of contents that come the preferred one first; each maps members to their similarity.

    A group's first member is the one that all others of it were verified against, and has 1. Contents that
    belong to no other are in no group.
    """
    left = list(contents)
    groups = []
    while len(left) > 1:
        centre, *others = left
        group = {centre: 1.0}
        rest = []
        for other in others:
            found = similarity(centre, other)
            if found is None:
                rest.append(other)
            else:
                group[other] = found
        if len(group) > 1:
            groups.append(group)
        left = rest
    return groups
