"""The run lengths inside COCO's compressed counts, looked at before pycocotools, which trusts them."""

from __future__ import annotations

import numpy as np

from regard.core.records import Int64Array

# A character holds five bits of a number, another that more follow; no run needs more than six.
_FIRST, _LAST = ord("0"), ord("0") + 63
_MORE, _BITS, _SIGN = 0x20, 5, 0x10
_LONGEST = 13


def mask_runs(counts: bytes) -> Int64Array:
    """Lengths of the runs, which start with zeros, int64; raises ValueError for what are no counts.

    The form is that of pycocotools' `rleToString`: numbers of 5 bits a character, lowest first, each from
    the fourth on as its difference to the one two before.
    """
    characters = np.frombuffer(counts, np.uint8).astype(np.int64)
    if characters.size == 0 or characters.min() < _FIRST or characters.max() > _LAST:
        raise ValueError("characters that counts do not have")
    values = characters - _FIRST
    ends = np.flatnonzero((values & _MORE) == 0)
    if ends.size == 0 or ends[-1] != values.size - 1:
        raise ValueError("a number that does not end")
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    if lengths.max() > _LONGEST - 1:
        raise ValueError("a number that is too long")
    place = np.arange(values.size) - np.repeat(starts, lengths)
    numbers = np.add.reduceat((values & 0x1F) << (_BITS * place), starts)
    # The highest bit of the last character is the sign of two's complement.
    numbers -= np.where(values[ends] & _SIGN, np.int64(1) << (_BITS * lengths), 0)
    runs = numbers.copy()
    for first in (1, 2):
        runs[first::2] = np.cumsum(numbers[first::2])
    if runs.min() < 0:
        raise ValueError("a run of negative length")
    return runs
