"""The language model: transformers' Phi-3 over merged tables.

The published checkpoint keeps three added tokens apart: an additional embedding, and an additional head
with a bias, beside a main head with a bias that Phi-3 has not. Merged, each is one table: the main rows
in use, then the added ones. Embeddings are exactly those of the decoupled form, logits within 5e-8 in
float32.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Phi3Config, Phi3ForCausalLM
from transformers.models.phi3.modeling_phi3 import Phi3RotaryEmbedding

from regard.models.xgenmm.config import END_OF_TEXT, PAD, LanguageConfig


@dataclass(frozen=True, slots=True)
class MergedTable:
    """A tensor of the merged model, and the two of the checkpoint that it is made of."""

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
    """Phi-3 with merged tables and a head with a bias, weights unset, attention by torch's SDPA."""
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
    """Give a model that was made on `meta` its rotary frequencies, which no checkpoint holds."""
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

    `embeddings` (n, S, E) and `attention_mask` (n, S), padded on the left. Returns the new tokens alone,
    (n, at most `max_new_tokens`) int64: a row ends with one of `stop_ids`, and is padded after it.
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
