"""The xGen-MM model: vision tower, perceiver resampler and language model.

The language model is transformers' Phi-3 with merged tables. The published checkpoint keeps three
added tokens in separate embedding and head tables, and its head has a bias, which Phi-3 lacks. A
merged table holds the main rows in use, then the added ones. Embeddings equal those of the
separate form exactly, logits within 5e-8 in float32.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import Phi3Config, Phi3ForCausalLM, SiglipVisionConfig, SiglipVisionModel
from transformers.models.phi3.modeling_phi3 import Phi3RotaryEmbedding

from regard.models.xgenmm.anyres import Size, choose_resolution, grid_of, key_mask, merged_order
from regard.models.xgenmm.config import (
    END_OF_TEXT,
    IMAGE,
    PAD,
    LanguageConfig,
    ResamplerConfig,
    TowerConfig,
    XGenMMConfig,
)


@dataclass(frozen=True, slots=True)
class MergedTable:
    """A tensor of the merged model and its two sources in the checkpoint."""

    name: str
    main: str
    added: str


MERGED = (
    MergedTable(
        "model.embed_tokens.weight",
        "model.embed_tokens.weight",
        "model.embed_tokens.additional_embedding.weight",
    ),
    MergedTable("lm_head.weight", "lm_head.weight", "lm_head.additional_fc.weight"),
    MergedTable("lm_head.bias", "lm_head.bias", "lm_head.additional_fc.bias"),
)


def make_language_model(config: LanguageConfig, token_ids: Mapping[str, int]) -> nn.Module:
    """Make Phi-3 with merged tables and a head bias, without weights, with SDPA attention."""
    phi3 = Phi3Config(
        vocab_size=config.merged_size,
        hidden_size=config.hidden_size,
        intermediate_size=config.intermediate_size,
        num_hidden_layers=config.num_hidden_layers,
        num_attention_heads=config.num_attention_heads,
        num_key_value_heads=config.num_key_value_heads,
        hidden_act=config.hidden_act,
        max_position_embeddings=config.max_position_embeddings,
        original_max_position_embeddings=config.original_max_position_embeddings,
        rms_norm_eps=config.rms_norm_eps,
        rope_parameters={"rope_type": "default", "rope_theta": float(config.rope_theta)},
        sliding_window=config.sliding_window,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=token_ids[END_OF_TEXT],
        pad_token_id=token_ids[PAD],
    )
    untyped: Any = Phi3ForCausalLM
    model: nn.Module = untyped._from_config(phi3, attn_implementation="sdpa")
    model.lm_head = nn.Linear(config.hidden_size, config.merged_size, bias=True)
    return model


def make_rotary(model: Any, device: torch.device) -> None:
    """Create the rotary frequencies of a model made on `meta`; checkpoints omit them."""
    model.model.rotary_emb = Phi3RotaryEmbedding(model.config).to(device)


@torch.inference_mode()
def generate(
    model: Any,
    embeddings: Tensor,
    attention_mask: Tensor,
    *,
    stop_ids: tuple[int, ...],
    pad_id: int,
    max_new_tokens: int,
    beams: int,
) -> Tensor:
    """Go on from embeddings, greedily or by beam search, with a key-value cache.

    `embeddings` (n, S, E) and `attention_mask` (n, S), padded on the left. Returns the new tokens
    alone, (n, at most `max_new_tokens`) int64: a row ends with one of `stop_ids`, and is padded
    after it.
    """
    found: Tensor = model.generate(
        inputs_embeds=embeddings,
        attention_mask=attention_mask,
        max_new_tokens=max_new_tokens,
        num_beams=beams,
        do_sample=False,
        eos_token_id=list(stop_ids),
        pad_token_id=pad_id,
    )
    return found


class PerceiverAttention(nn.Module):
    """Cross-attention: latents are the queries; media and latents are the keys."""

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
        """Resample each group separately.

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


def splice_inserting(
    embeddings: Tensor, ids: Tensor, visual: Sequence[Tensor], image_id: int
) -> Tensor:
    """Replace the one embedding of each `<image>` by the N_i tokens of its image.

    `embeddings` (T, E), `ids` (T,), `visual` one (N_i, E) for each `<image>`, in order. Returns
    (S, E) with S = T + sum(N_i − 1).
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


class XGenMM(nn.Module):
    """xGen-MM v1.5. `tower`, `resampler` and `language` may each be used alone."""

    def __init__(self, config: XGenMMConfig) -> None:
        """Leaves weights unset; create on `meta` and fill."""
        super().__init__()
        self.config = config
        self.tower = make_tower(config.tower)
        self.resampler = PerceiverResampler(config.resampler)
        self.language = make_language_model(config.language, config.token_ids)

    def make_buffers(self, device: torch.device) -> None:
        """Create position ids and rotary frequencies, which checkpoints omit."""
        positions = torch.arange(self.config.tower.tokens, device=device).expand(1, -1)
        cast(Any, self.tower).embeddings.position_ids = positions
        make_rotary(self.language, device)

    @torch.inference_mode()
    def features(self, pixels: Tensor) -> Tensor:
        """The tower's features after its last norm: (n, 3, b, b) → (n, P, D)."""
        return cast(Tensor, self.tower(pixels).last_hidden_state)

    @torch.inference_mode()
    def visual_tokens(self, features: Tensor, size: Size) -> Tensor:
        """One image's tokens for the language model.

        `features` (1 + tiles, P, D), the whole view first; `size` is the image's, before all
        resizing. Returns ((1 + tiles) · L, E).
        """
        groups, visible = self.groups(features, size)
        tokens: Tensor = self.resampler(groups, visible)  # (1 + tiles, L, E)
        return tokens.flatten(0, 1)

    def groups(self, features: Tensor, size: Size) -> tuple[Tensor, Tensor | None]:
        """The groups of P tokens that are resampled separately, and which tokens may be seen.

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
        """Prompts with their images in them, ready for `regard.models.xgenmm.model.generate`.

        `prompts` are ids, `visual` each prompt's images as (N, E) tokens. Returns (n, S, E) and
        the attention mask (n, S), padded on the left.
        """
        splice = splice_inserting if self.config.instruct else splice_covering
        table = cast(Any, self.language).get_input_embeddings()
        rows = []
        for prompt, images in zip(prompts, visual, strict=True):
            ids = torch.tensor(prompt, device=table.weight.device)
            rows.append(splice(table(ids), ids, images, self.config.token_ids[IMAGE]))
        return pad_left(rows)


def make_tower(config: TowerConfig) -> nn.Module:
    """Make SigLIP's vision model, without weights, with SDPA attention."""
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
