"""Visual tokens put into a prompt's embeddings, and prompts of several lengths made a batch.

Instruct models: every `<image>` makes room for all tokens of its image. Base models: an image has as many
tokens as its place in the prompt, `<image>` and placeholders, and takes it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def splice_inserting(
    embeddings: Tensor, ids: Tensor, visual: Sequence[Tensor], image_id: int
) -> Tensor:
    """Replace the one embedding of each `<image>` by the N_i tokens of its image.

    `embeddings` (T, E), `ids` (T,), `visual` one (N_i, E) for each `<image>`, in order. Returns (S, E)
    with S = T + sum(N_i − 1).
    """
    pieces, start = [], 0
    for place, tokens in zip(_places(ids, image_id), visual, strict=True):
        pieces += [embeddings[start:place], tokens]
        start = place + 1
    return torch.cat([*pieces, embeddings[start:]])


def splice_covering(
    embeddings: Tensor, ids: Tensor, visual: Sequence[Tensor], image_id: int
) -> Tensor:
    """Put the L tokens of each image over the L positions that begin at its `<image>`.

    Shapes as in `splice_inserting`; returns (T, E).
    """
    spliced = embeddings.clone()
    for place, tokens in zip(_places(ids, image_id), visual, strict=True):
        spliced[place : place + len(tokens)] = tokens
    return spliced


def pad_left(rows: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Rows (S_i, E) as one batch, zeros before the shorter ones.

    Returns (n, S, E) and the attention mask (n, S) int64.
    """
    longest = max(len(row) for row in rows)
    batch = rows[0].new_zeros(len(rows), longest, rows[0].shape[1])
    mask = torch.zeros(len(rows), longest, dtype=torch.int64, device=batch.device)
    for index, row in enumerate(rows):
        batch[index, longest - len(row) :] = row
        mask[index, longest - len(row) :] = 1
    return batch, mask


def _places(ids: Tensor, image_id: int) -> list[int]:
    return [int(place) for place in (ids == image_id).nonzero().flatten()]
