"""The whole model: vision tower, perceiver resampler, language model, and the way from one to the next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import SiglipVisionConfig, SiglipVisionModel

from regard.models.xgenmm.anyres import Size, choose_resolution, grid_of, key_mask, merged_order
from regard.models.xgenmm.config import IMAGE, TowerConfig, XGenMMConfig
from regard.models.xgenmm.language_model import make_language_model, make_rotary
from regard.models.xgenmm.resampler import PerceiverResampler
from regard.models.xgenmm.splicing import pad_left, splice_covering, splice_inserting


class XGenMM(nn.Module):
    """xGen-MM v1.5. `tower`, `resampler` and `language` may each be used alone."""

    def __init__(self, config: XGenMMConfig) -> None:
        """Weights unset; make it on `meta` and fill it."""
        super().__init__()
        self.config = config
        self.tower = make_tower(config.tower)
        self.resampler = PerceiverResampler(config.resampler)
        self.language = make_language_model(config.language, config.token_ids)

    def make_buffers(self, device: torch.device) -> None:
        """Make what no checkpoint holds: position numbers and rotary frequencies."""
        positions = torch.arange(self.config.tower.tokens, device=device).expand(1, -1)
        cast(Any, self.tower).embeddings.position_ids = positions
        make_rotary(self.language, device)

    @torch.inference_mode()
    def features(self, pixels: Tensor) -> Tensor:
        """What the tower sees after its last norm: (n, 3, b, b) → (n, P, D)."""
        return cast(Tensor, self.tower(pixels).last_hidden_state)

    @torch.inference_mode()
    def visual_tokens(self, features: Tensor, size: Size) -> Tensor:
        """One image's tokens for the language model.

        `features` (1 + tiles, P, D), the whole view first; `size` is the image's, before all resizing.
        Returns ((1 + tiles) · L, E).
        """
        groups, visible = self.groups(features, size)
        tokens: Tensor = self.resampler(groups, visible)  # (1 + tiles, L, E)
        return tokens.flatten(0, 1)

    def groups(self, features: Tensor, size: Size) -> tuple[Tensor, Tensor | None]:
        """The groups of P tokens that are resampled each by itself, and which tokens may be seen.

        (1 + tiles, P, D) → the same shape, and (1 + tiles, P) bool; None for a whole view alone.
        """
        if len(features) == 1:
            return features, None
        tower = self.config.tower
        resolution = choose_resolution(size, self.config.pinpoints)
        grid = grid_of(resolution, tower.image_size)
        order = torch.from_numpy(merged_order(grid, tower.tokens_per_side)).to(features.device)
        strips = (
            features[1:].flatten(0, 1)[order].view_as(features[1:])
        )  # tiles → strips of the map
        visible = torch.from_numpy(key_mask(size, grid, tower.tokens_per_side))
        return torch.cat([features[:1], strips]), visible.to(features.device)

    @torch.inference_mode()
    def embed(
        self, prompts: Sequence[Sequence[int]], visual: Sequence[Sequence[Tensor]]
    ) -> tuple[Tensor, Tensor]:
        """Prompts with their images in them, ready for `regard.models.xgenmm.language_model.generate`.

        `prompts` are ids, `visual` each prompt's images as (N, E) tokens. Returns (n, S, E) and the
        attention mask (n, S), padded on the left.
        """
        splice = splice_inserting if self.config.instruct else splice_covering
        table = cast(Any, self.language).get_input_embeddings()
        rows = []
        for prompt, images in zip(prompts, visual, strict=True):
            ids = torch.tensor(prompt, device=table.weight.device)
            rows.append(splice(table(ids), ids, images, self.config.token_ids[IMAGE]))
        return pad_left(rows)


def make_tower(config: TowerConfig) -> nn.Module:
    """SigLIP's vision model, weights unset, attention by torch's SDPA."""
    siglip = SiglipVisionConfig(
        hidden_size=config.hidden_size,
        intermediate_size=config.intermediate_size,
        num_hidden_layers=config.num_hidden_layers,
        num_attention_heads=config.num_attention_heads,
        num_channels=config.num_channels,
        image_size=config.image_size,
        patch_size=config.patch_size,
        hidden_act=config.hidden_act,
        layer_norm_eps=config.layer_norm_eps,
    )
    untyped: Any = SiglipVisionModel
    tower: nn.Module = untyped._from_config(siglip, attn_implementation="sdpa")
    return tower
