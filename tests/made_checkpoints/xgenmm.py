"""A tiny xGen-MM v1.5 in the published form: names, shards, config and tokenizer, with random
weights.

Names and shapes are written out here and not taken from the code that loads them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, normalizers
from tokenizers.models import BPE

Shape = tuple[int, ...]

TOWER = {
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_channels": 3,
    "image_size": 30,
    "patch_size": 14,
    "hidden_act": "gelu_pytorch_tanh",
    "layer_norm_eps": 1e-6,
}
RESAMPLER = {"depth": 2, "heads": 2, "dim_head": 8, "ff_mult": 4}
LATENTS = 3
LANGUAGE = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
}
SPECIALS = ("<|endoftext|>", "<|assistant|>", "<|system|>", "<|end|>", "<|user|>", "<pad>")
ADDED = ("<image>", "<image placeholder>", "<|endofchunk|>")
WORDS = ("a", "cat", "dog", "bus", "red", "on", "the", "grass", "tree", "sky", "two", "near")
UNUSED_ROWS = 5


def make_xgenmm(
    folder: Path,
    *,
    instruct: bool = True,
    seed: int = 0,
    tower_state: Mapping[str, torch.Tensor] | None = None,
    siglip_vision_config: Mapping[str, Any] | None = None,
    text_config: Mapping[str, Any] | None = None,
    dtype: torch.dtype = torch.float32,
) -> Path:
    """Write a checkpoint into `folder` and return it.

    `tower_state` are tensors by their name in `SiglipVisionModel`, used in place of random ones;
    `siglip_vision_config` and `text_config` replace single sizes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tower = {**TOWER, **(siglip_vision_config or {})}
    language = {**LANGUAGE, **(text_config or {})}
    token_ids = make_tokenizer(folder)
    main = token_ids["<image>"]
    language |= {"initial_tokenizer_len": main, "vocab_size": main + UNUSED_ROWS}
    write_configs(folder, tower, language, token_ids, instruct=instruct)

    generator = torch.Generator().manual_seed(seed)
    tensors = {
        name: random_tensor(name, shape, generator).to(dtype)
        for name, shape in published_shapes(tower, language).items()
    }
    for table in ("model.embed_tokens.weight", "lm_head.weight"):
        # Rows above the tokenizer are never to be used; were they, it would show.
        tensors[f"vlm.lang_model.{table}"][main:] = 50
    for name, tensor in (tower_state or {}).items():
        assert tensors[f"vlm.vision_encoder.{name}"].shape == tensor.shape, name
        tensors[f"vlm.vision_encoder.{name}"] = tensor.to(dtype).clone()
    write_shards(folder, tensors)
    return folder


def published_shapes(tower: Mapping[str, Any], language: Mapping[str, Any]) -> dict[str, Shape]:
    """Every key of a v1.5 checkpoint of these sizes."""
    return {
        **{f"vlm.vision_encoder.{name}": shape for name, shape in tower_shapes(tower).items()},
        **{
            f"vlm.vision_tokenizer.{name}": shape
            for name, shape in resampler_shapes(
                tower["hidden_size"], language["hidden_size"]
            ).items()
        },
        **{f"vlm.lang_model.{name}": shape for name, shape in language_shapes(language).items()},
    }


def tower_shapes(config: Mapping[str, Any]) -> dict[str, Shape]:
    width, hidden, patch = (
        config[key] for key in ("hidden_size", "intermediate_size", "patch_size")
    )
    tokens = (config["image_size"] // patch) ** 2
    shapes: dict[str, Shape] = {
        "embeddings.patch_embedding.weight": (width, config["num_channels"], patch, patch),
        "embeddings.patch_embedding.bias": (width,),
        "embeddings.position_embedding.weight": (tokens, width),
        "post_layernorm.weight": (width,),
        "post_layernorm.bias": (width,),
        "head.probe": (1, 1, width),
        "head.attention.in_proj_weight": (3 * width, width),
        "head.attention.in_proj_bias": (3 * width,),
        "head.attention.out_proj.weight": (width, width),
        "head.attention.out_proj.bias": (width,),
        "head.layernorm.weight": (width,),
        "head.layernorm.bias": (width,),
    }
    blocks = ["head.mlp"]
    for index in range(config["num_hidden_layers"]):
        layer = f"encoder.layers.{index}"
        blocks.append(f"{layer}.mlp")
        for norm in ("layer_norm1", "layer_norm2"):
            shapes[f"{layer}.{norm}.weight"] = (width,)
            shapes[f"{layer}.{norm}.bias"] = (width,)
        for map_name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            shapes[f"{layer}.self_attn.{map_name}.weight"] = (width, width)
            shapes[f"{layer}.self_attn.{map_name}.bias"] = (width,)
    for block in blocks:
        shapes[f"{block}.fc1.weight"] = (hidden, width)
        shapes[f"{block}.fc1.bias"] = (hidden,)
        shapes[f"{block}.fc2.weight"] = (width, hidden)
        shapes[f"{block}.fc2.bias"] = (width,)
    return shapes


def resampler_shapes(width: int, out: int) -> dict[str, Shape]:
    inner, hidden = RESAMPLER["heads"] * RESAMPLER["dim_head"], RESAMPLER["ff_mult"] * width
    shapes: dict[str, Shape] = {
        "latents": (LATENTS, width),
        "norm.weight": (width,),
        "norm.bias": (width,),
        "projection.weight": (out, width),
        "projection.bias": (out,),
    }
    for index in range(RESAMPLER["depth"]):
        for norm in ("0.norm_media", "0.norm_latents", "1.0"):
            shapes[f"layers.{index}.{norm}.weight"] = (width,)
            shapes[f"layers.{index}.{norm}.bias"] = (width,)
        shapes[f"layers.{index}.0.to_q.weight"] = (inner, width)
        shapes[f"layers.{index}.0.to_kv.weight"] = (2 * inner, width)
        shapes[f"layers.{index}.0.to_out.weight"] = (width, inner)
        shapes[f"layers.{index}.1.1.weight"] = (hidden, width)
        shapes[f"layers.{index}.1.3.weight"] = (width, hidden)
    return shapes


def language_shapes(config: Mapping[str, Any]) -> dict[str, Shape]:
    width, hidden, rows = (
        config[key] for key in ("hidden_size", "intermediate_size", "vocab_size")
    )
    key_value = config["num_key_value_heads"] * (width // config["num_attention_heads"])
    shapes: dict[str, Shape] = {
        "model.embed_tokens.weight": (rows, width),
        "model.embed_tokens.additional_embedding.weight": (len(ADDED), width),
        "lm_head.weight": (rows, width),
        "lm_head.bias": (rows,),
        "lm_head.additional_fc.weight": (len(ADDED), width),
        "lm_head.additional_fc.bias": (len(ADDED),),
        "model.norm.weight": (width,),
    }
    for index in range(config["num_hidden_layers"]):
        layer = f"model.layers.{index}"
        shapes[f"{layer}.input_layernorm.weight"] = (width,)
        shapes[f"{layer}.post_attention_layernorm.weight"] = (width,)
        shapes[f"{layer}.self_attn.qkv_proj.weight"] = (width + 2 * key_value, width)
        shapes[f"{layer}.self_attn.o_proj.weight"] = (width, width)
        shapes[f"{layer}.mlp.gate_up_proj.weight"] = (2 * hidden, width)
        shapes[f"{layer}.mlp.down_proj.weight"] = (width, hidden)
    return shapes


def random_tensor(name: str, shape: Shape, generator: torch.Generator) -> torch.Tensor:
    noise = torch.randn(shape, generator=generator)
    if "norm" in name and name.endswith("weight"):
        return 1 + 0.1 * noise
    if len(shape) == 1:
        return 0.1 * noise
    if "embed_tokens" in name or name.endswith(("latents", "probe", "position_embedding.weight")):
        return noise
    gain = 3.0 if "lm_head" in name else 1.2
    return noise * gain / math.sqrt(math.prod(shape[1:]))


def write_shards(folder: Path, tensors: Mapping[str, torch.Tensor], shards: int = 2) -> None:
    """Dealt out in turn, so that tables which belong together lie apart."""
    weight_map = {}
    for index in range(shards):
        file = f"model-{index + 1:05}-of-{shards:05}.safetensors"
        part = {name: tensors[name].contiguous() for name in sorted(tensors)[index::shards]}
        save_file(part, folder / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(part, file)
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    index_file = folder / "model.safetensors.index.json"
    index_file.write_text(json.dumps({"metadata": {"total_size": size}, "weight_map": weight_map}))


def write_configs(
    folder: Path,
    tower: Mapping[str, Any],
    language: Mapping[str, Any],
    token_ids: Mapping[str, int],
    *,
    instruct: bool,
) -> None:
    config = {
        "architectures": ["XGenMMModelForConditionalGeneration"],
        "auto_map": {"AutoConfig": "modeling_xgenmm.XGenMMConfig"},
        "model_type": "xgenmm",
        "text_config": {"model_type": "phi3", "sliding_window": 2047, **language},
        "vision_encoder_config": {
            "anyres_patch_sampling": True,
            "image_aspect_ratio": "anyres",
            "model_type": "xgenmm_vision_encoder",
        },
        "vision_tokenizer_config": {
            "model_type": "xgenmm_vision_tokenizer",
            "vis_feature_dim": tower["hidden_size"],
            "lang_embedding_dim": language["hidden_size"],
            "num_vis_tokens": LATENTS,
        },
        "siglip_vision_config": dict(tower),
        "resampler": RESAMPLER,
        "token_ids": dict(token_ids),
    }
    (folder / "config.json").write_text(json.dumps(config))
    side = tower["image_size"]
    grids = [
        [columns * side, rows * side] for columns, rows in ((1, 2), (2, 1), (2, 2), (3, 1), (1, 3))
    ]
    preprocessor = {
        "auto_map": {"AutoImageProcessor": "image_processing_blip_3.Blip3ImageProcessor"},
        "do_resize": True,
        "grids": grids if instruct else None,
        "image_mean": [0.5, 0.5, 0.5],
        "image_processor_type": "Blip3ImageProcessor",
        "image_std": [0.5, 0.5, 0.5],
        "interpolation_mode": "bicubic",
        "resize_mode": "squash",
        "size": [side, side],
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))


def make_tokenizer(folder: Path) -> dict[str, int]:
    """Llama's form, as published: Phi-3's specials and <pad> in the file, the added tokens not.

    Returns the ids of all special tokens.
    """
    letters = [
        chr(code) for code in (*range(ord("a"), ord("z") + 1), *range(ord("A"), ord("Z") + 1))
    ]
    tokens = ["<unk>", "<s>", "</s>", "<0x0A>", "▁", *letters, *".,:'"]
    merges = []
    for word in WORDS:
        whole = "▁"
        for letter in word:
            merges.append((whole, letter))
            whole += letter
            tokens.append(whole)
    tokens = list(dict.fromkeys(tokens))
    model = BPE(
        vocab={token: index for index, token in enumerate(tokens)},
        merges=list(dict.fromkeys(merges)),
        unk_token="<unk>",
        fuse_unk=True,
        byte_fallback=True,
    )
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    tokenizer.add_special_tokens(
        [AddedToken(token, normalized=False) for token in ("<unk>", "<s>", "</s>")]
    )
    tokenizer.add_special_tokens(
        [AddedToken(token, normalized=False, rstrip=token.startswith("<|")) for token in SPECIALS]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        json.dumps(
            {
                "tokenizer_class": "LlamaTokenizer",
                "legacy": False,
                "add_bos_token": True,
                "bos_token": "<s>",
                "eos_token": "<|endoftext|>",
                "pad_token": "<pad>",
                "unk_token": "<unk>",
                "padding_side": "left",
                "clean_up_tokenization_spaces": False,
            }
        )
    )
    ids = {token: len(tokens) + index for index, token in enumerate((*SPECIALS, *ADDED))}
    assert tokenizer.token_to_id("<pad>") == ids["<pad>"]
    return ids
