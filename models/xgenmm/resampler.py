"""The perceiver resampler: a tile's tokens read by a fixed number of learnt latents (Alayrac et al., 2022,
arXiv 2204.14198, section 3.1.1), with the published state-dict names.

No positional or time embedding. Latents attend to the tile's tokens and to each other; a key mask hides
tokens of the tile and never a latent.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from regard.models.xgenmm.config import ResamplerConfig


class PerceiverAttention(nn.Module):
    """Latents as queries over media and latents as keys."""

    def __init__(self, config: ResamplerConfig) -> None:
        """Width D inside and out, `heads` × `dim_head` between."""
        super().__init__()
        width, inner = config.vis_feature_dim, config.heads * config.dim_head
        self.heads = config.heads
        self.norm_media = nn.LayerNorm(width)
        self.norm_latents = nn.LayerNorm(width)
        self.to_q = nn.Linear(width, inner, bias=False)
        self.to_kv = nn.Linear(width, 2 * inner, bias=False)
        self.to_out = nn.Linear(inner, width, bias=False)

    def forward(self, media: Tensor, latents: Tensor, visible: Tensor | None) -> Tensor:
        """(n, P, D), (n, L, D), (n, 1, 1, P + L) bool or None → (n, L, D)."""
        latents = self.norm_latents(latents)
        keyed = torch.cat([self.norm_media(media), latents], dim=1)  # (n, P + L, D)
        query = self._by_head(self.to_q(latents))  # (n, H, L, d)
        key, value = (self._by_head(half) for half in self.to_kv(keyed).chunk(2, dim=-1))
        read = functional.scaled_dot_product_attention(query, key, value, attn_mask=visible)
        return cast(
            Tensor, self.to_out(read.transpose(1, 2).flatten(2))
        )  # (n, L, H · d) → (n, L, D)

    def _by_head(self, rows: Tensor) -> Tensor:
        return rows.view(*rows.shape[:2], self.heads, -1).transpose(
            1, 2
        )  # (n, T, H · d) → (n, H, T, d)


class PerceiverResampler(nn.Module):
    """Groups of P tokens of width D → L tokens of the language model's width E."""

    def __init__(self, config: ResamplerConfig) -> None:
        """`config` gives L, D, E and the depth."""
        super().__init__()
        width, hidden = config.vis_feature_dim, config.vis_feature_dim * config.ff_mult
        self.latents = nn.Parameter(torch.empty(config.num_vis_tokens, width))
        self.layers = nn.ModuleList(
            nn.ModuleList(
                [
                    PerceiverAttention(config),
                    nn.Sequential(
                        nn.LayerNorm(width),
                        nn.Linear(width, hidden, bias=False),
                        nn.GELU(),
                        nn.Linear(hidden, width, bias=False),
                    ),
                ]
            )
            for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(width)
        self.projection = nn.Linear(width, config.lang_embedding_dim)

    def forward(self, features: Tensor, key_mask: Tensor | None = None) -> Tensor:
        """Resample each group by itself.

        `features` (n, P, D); `key_mask` (n, P) bool, True where a token may be seen, None for all.
        Returns (n, L, E).
        """
        count = len(features)
        latents = self.latents.expand(count, -1, -1)  # (n, L, D)
        visible = None
        if key_mask is not None:
            always = key_mask.new_ones(count, latents.shape[1])
            visible = torch.cat([key_mask, always], dim=1)[:, None, None]  # (n, 1, 1, P + L)
        for attention, feed_forward in (cast(nn.ModuleList, layer) for layer in self.layers):
            latents = latents + attention(features, latents, visible)
            latents = latents + feed_forward(latents)
        return cast(Tensor, self.projection(self.norm(latents)))
