"""Running a model over more items than it takes at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from regard.core.errors import ModelError

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def run_halving(
    run: Callable[[Sequence[_Item]], _Result], items: Sequence[_Item], what: str
) -> list[_Result]:
    """Results of `run` over the items, in order, in one piece if the GPU's memory allows.

    A piece that does not fit is halved until it does; raises ModelError, which names `what`, when one
    item alone does not fit.
    """
    waiting, results = [items], []
    while waiting:
        piece = waiting.pop()
        result = _attempt(run, piece)
        if result is not None:
            results.append(result[0])
        elif len(piece) > 1:
            # What the failed attempt held is free again only here, outside its exception.
            torch.cuda.empty_cache()
            half = (len(piece) + 1) // 2
            waiting += [piece[half:], piece[:half]]
        else:
            raise ModelError(
                f"{what} does not fit into the GPU's memory, even alone",
                remedy="free memory, or set the profile's device to cpu",
            )
    return results


def _attempt(
    run: Callable[[Sequence[_Item]], _Result], piece: Sequence[_Item]
) -> tuple[_Result] | None:
    try:
        return (run(piece),)
    except torch.cuda.OutOfMemoryError:
        return None
