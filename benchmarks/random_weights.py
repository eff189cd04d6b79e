"""Checkpoints of random numbers in the published layouts: what speed needs, without the published
weights.

Names and shapes come from the code that loads them. Every tensor is cut from one block of normal
numbers, at a place that its name decides: the vision tower is the same in SigLIP and in xGen-MM,
so that it is shared as the published one is. The ids that end a caption are made impossible, so
that every caption has all its tokens. One shard is held in memory at a time.
"""

from __future__ import annotations

import json
import math
import re
import string
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from safetensors.torch import save_file
from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)

from regard.models.checkpoints.source import Checkpoint
from regard.models.checkpoints.tensors import Shapes, shapes_of
from regard.models.contrastive.architecture import read_architecture
from regard.models.contrastive.loading import build as build_contrastive
from regard.models.sam2.loading import build as build_sam2
from regard.models.sam2.loading import read_config as read_sam2_config
from regard.models.xgenmm.config import read_config
from regard.models.xgenmm.loading import published_shapes
from regard.models.xgenmm.prompting import INSTRUCT_PROMPT, instruct_prompt

Size = Literal["full", "small", "tiny"]
SIZES = get_args(Size)

_SHARD_BYTES = 1 << 30
# No power of two, so that the rows of a matrix differ.
_BLOCK = (1 << 22) + 39

# `full`: the models of the profile blip3. `small`: encoder and segmenter of blip3-small, no
# captioner. `tiny`: to see that it all runs.
_TOWERS: Mapping[Size, dict[str, Any]] = {
    "full": {"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27}
    | {"num_attention_heads": 16, "image_size": 384, "patch_size": 14},
    "small": {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12}
    | {"num_attention_heads": 12, "image_size": 224, "patch_size": 16},
    "tiny": {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    | {"num_attention_heads": 2, "image_size": 56, "patch_size": 14},
}
_OF_IMAGES = ("image_size", "patch_size")
# What xGen-MM leaves out of its config is its published size.
_XGENMM: Mapping[Size, dict[str, Any]] = {
    "full": {},
    "tiny": {
        "text_config": {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2}
        | {"num_attention_heads": 2, "num_key_value_heads": 2},
        "siglip_vision_config": _TOWERS["tiny"],
        "resampler": {"depth": 2, "heads": 2, "dim_head": 16, "num_vis_tokens": 8}
        | {"vis_feature_dim": 32, "lang_embedding_dim": 64},
    },
}
_HIERA: Mapping[Size, dict[str, Any]] = {
    "full": {"hidden_size": 144, "num_attention_heads": 2}
    | {"blocks_per_stage": [2, 6, 36, 4], "embed_dim_per_stage": [144, 288, 576, 1152]}
    | {"num_attention_heads_per_stage": [2, 4, 8, 16], "window_size_per_stage": [8, 4, 16, 8]}
    | {"global_attention_blocks": [23, 33, 43]},
    "small": {"hidden_size": 96, "num_attention_heads": 1}
    | {"blocks_per_stage": [1, 2, 7, 2], "embed_dim_per_stage": [96, 192, 384, 768]}
    | {"num_attention_heads_per_stage": [1, 2, 4, 8], "window_size_per_stage": [8, 4, 14, 7]}
    | {"global_attention_blocks": [5, 7, 9]},
    "tiny": {"hidden_size": 8, "num_attention_heads": 1, "image_size": [128, 128]}
    | {"blocks_per_stage": [1, 2, 3, 1], "embed_dim_per_stage": [8, 16, 32, 64]}
    | {"num_attention_heads_per_stage": [1, 2, 4, 8], "window_size_per_stage": [8, 4, 14, 7]}
    | {"global_attention_blocks": [4]},
}
# Beside the backbone; what is left out is the published size.
_SAM2: Mapping[Size, dict[str, dict[str, Any]]] = {
    "full": {},
    "small": {},
    "tiny": {
        "vision_config": {"fpn_hidden_size": 32},
        "prompt_encoder_config": {"hidden_size": 32},
        "mask_decoder_config": {"hidden_size": 32, "mlp_dim": 64, "num_attention_heads": 2}
        | {"iou_head_hidden_dim": 32},
    },
}
# Phi-3's specials as its tokenizer numbers them, and xGen-MM's padding.
_SPECIALS = (
    *("<|endoftext|>", "<|assistant|>", *(f"<|placeholder{number}|>" for number in range(1, 5))),
    *("<|system|>", "<|end|>", "<|placeholder5|>", "<|placeholder6|>", "<|user|>", "<pad>"),
)
_WORD_PIECES = 32000


def write_random(folder: Path, size: Size = "full") -> Path:
    """Write the checkpoints into `folder` and return the profile's file beside them.

    bfloat16 throughout; 11 GB where `size` is full.
    """
    folder.mkdir(parents=True, exist_ok=True)
    siglip, xgenmm, sam2 = (folder / name for name in ("siglip", "xgenmm", "sam2"))
    _write_siglip(siglip, _TOWERS[size])
    if size in _XGENMM:
        _write_xgenmm(xgenmm, _TOWERS[size]["image_size"], _XGENMM[size])
    _write_sam2(sam2, _HIERA[size], _SAM2[size])
    tables = {"encoder": ("contrastive", siglip), "segmenter": ("sam2", sam2)}
    if size in _XGENMM:
        tables["captioner"] = ("xgenmm", xgenmm)
    lines = [
        f'description = "random weights of {size} size: for speed alone"',
        f"batch_size = {4 if size == 'tiny' else 16}",
    ]
    for role, (kind, path) in tables.items():
        lines += ["", f"[{role}]", f'kind = "{kind}"', f'folder = "{path.name}"']
        if role == "segmenter" and size == "tiny":
            lines.append("parameters = { points_per_side = 8 }")
    profile = folder / "random.toml"
    profile.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return profile


def _write_siglip(folder: Path, tower: Mapping[str, Any]) -> None:
    text = {name: value for name, value in tower.items() if name not in _OF_IMAGES}
    side = tower["image_size"]
    _write_json(
        folder / "config.json",
        {"model_type": "siglip", "vision_config": dict(tower), "text_config": text},
    )
    _write_json(
        folder / "preprocessor_config.json",
        {
            **_normalization([0.5, 0.5, 0.5], [0.5, 0.5, 0.5]),
            "image_processor_type": "SiglipImageProcessor",
            "resample": 3,
            "size": {"height": side, "width": side},
        },
    )
    pieces = [("<unk>", 0.0), ("</s>", 0.0), ("▁", -2.0)]
    pieces += [(letter, -3.0) for letter in string.ascii_lowercase]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    _write_json(
        folder / "tokenizer_config.json",
        {"tokenizer_class": "SiglipTokenizer", "pad_token": "</s>", "do_lower_case": True},
    )
    checkpoint = Checkpoint(folder)
    _write_weights(folder, shapes_of(build_contrastive(checkpoint, read_architecture(checkpoint))))


def _write_xgenmm(folder: Path, side: int, config: Mapping[str, Any]) -> None:
    text = {"model_type": "phi3", "vocab_size": 32064, "initial_tokenizer_len": 32012}
    _write_json(
        folder / "config.json",
        {
            "model_type": "xgenmm",
            "vision_encoder_config": {
                "anyres_patch_sampling": True,
                "image_aspect_ratio": "anyres",
            },
            "vision_tokenizer_config": {},
            **config,
            "text_config": text | config.get("text_config", {}),
        },
    )
    grids = ((1, 2), (2, 1), (2, 2), (3, 1), (1, 3))
    _write_json(
        folder / "preprocessor_config.json",
        {
            "grids": [[columns * side, rows * side] for columns, rows in grids],
            "image_mean": [0.5, 0.5, 0.5],
            "image_std": [0.5, 0.5, 0.5],
            "interpolation_mode": "bicubic",
            "resize_mode": "squash",
            "size": [side, side],
        },
    )
    _write_phi3_tokenizer(folder)
    found = read_config(Checkpoint(folder))
    _write_weights(folder, published_shapes(found), found.stop_ids)


def _write_sam2(
    folder: Path, backbone: Mapping[str, Any], others: Mapping[str, dict[str, Any]]
) -> None:
    side = backbone.get("image_size", [1024, 1024])[0]
    _write_json(
        folder / "config.json",
        {
            "model_type": "sam2_video",
            "vision_config": {
                "backbone_config": {
                    "model_type": "sam2_hiera_det_model",
                    "window_positional_embedding_background_size": [7, 7],
                    **backbone,
                },
                "backbone_channel_list": backbone["embed_dim_per_stage"][::-1],
                "backbone_feature_sizes": [[side // step, side // step] for step in (4, 8, 16)],
                **others.get("vision_config", {}),
            },
            "prompt_encoder_config": {
                "image_size": side,
                **others.get("prompt_encoder_config", {}),
            },
            "mask_decoder_config": others.get("mask_decoder_config", {}),
        },
    )
    _write_json(
        folder / "preprocessor_config.json",
        {
            **_normalization([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
            "resample": 2,
            "size": {"height": side, "width": side},
        },
    )
    checkpoint = Checkpoint(folder)
    _write_weights(folder, shapes_of(build_sam2(read_sam2_config(checkpoint), folder)))


def _write_phi3_tokenizer(folder: Path) -> None:
    """Llama's form at full size; a word of the default prompt is one token, as most are in the
    real one."""
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁"]
    tokens += [*string.ascii_letters, *string.digits, *string.punctuation]
    merges: dict[tuple[str, str], None] = {}
    for word in re.findall(r"\w+", instruct_prompt(INSTRUCT_PROMPT)):
        left = "▁"
        for letter in word:
            merges[left, letter] = None
            left += letter
            tokens.append(left)
    tokens = list(dict.fromkeys(tokens))
    tokens += [f"▁filler{number}" for number in range(_WORD_PIECES - len(tokens))]
    tokenizer = Tokenizer(
        models.BPE(
            vocab={token: index for index, token in enumerate(tokens)},
            merges=list(merges),
            unk_token="<unk>",
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    tokenizer.add_special_tokens(
        [AddedToken(token, normalized=False) for token in ("<unk>", "<s>", "</s>", *_SPECIALS)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    _write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "LlamaTokenizer",
            "legacy": False,
            "bos_token": "<s>",
            "eos_token": "<|endoftext|>",
            "pad_token": "<pad>",
            "unk_token": "<unk>",
            "padding_side": "left",
        },
    )


def _write_weights(folder: Path, shapes: Shapes, impossible: tuple[int, ...] = ()) -> None:
    """Shards and their index; the head never chooses the `impossible` ids."""
    block = torch.randn(_BLOCK, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    weight_map: dict[str, str] = {}
    shard: dict[str, torch.Tensor] = {}
    held, last = 0, list(shapes)[-1]
    for name, shape in shapes.items():
        shard[name] = _random_tensor(name, shape, block)
        if name.endswith("lm_head.bias"):
            shard[name][list(impossible)] = -1e4
        held += shard[name].nbytes
        if held >= _SHARD_BYTES or name == last:
            file = f"model-{len(set(weight_map.values())) + 1:05}.safetensors"
            save_file(shard, folder / file, metadata={"format": "pt"})
            weight_map |= dict.fromkeys(shard, file)
            shard, held = {}, 0
    total = 2 * sum(math.prod(shape) for shape in shapes.values())
    _write_json(
        folder / "model.safetensors.index.json",
        {"metadata": {"total_size": total}, "weight_map": weight_map},
    )


def _random_tensor(name: str, shape: tuple[int, ...], block: torch.Tensor) -> torch.Tensor:
    if "norm" in name and name.endswith("weight"):
        return torch.ones(shape, dtype=block.dtype)
    flat = torch.empty(math.prod(shape), dtype=block.dtype)
    scale = 0.02 if len(shape) < 2 else 1 / math.sqrt(math.prod(shape[1:]))
    place = zlib.crc32(_shared_name(name).encode()) % len(block)
    done = 0
    while done < len(flat):
        count = min(len(flat) - done, len(block) - place)
        torch.mul(block[place : place + count], scale, out=flat[done : done + count])
        done, place = done + count, 0
    return flat.view(shape)


def _shared_name(name: str) -> str:
    """The same for tensors that are the same in two checkpoints, or twice in one."""
    for prefix in ("vlm.vision_encoder.", "vision_model."):
        name = name.removeprefix(prefix)
    return name.replace("prompt_encoder.shared_embedding.", "shared_image_embedding.")


def _normalization(mean: list[float], deviation: list[float]) -> dict[str, Any]:
    steps = {"do_normalize": True, "do_rescale": True, "do_resize": True}
    return {**steps, "image_mean": mean, "image_std": deviation, "rescale_factor": 1 / 255}


def _write_json(path: Path, document: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document), encoding="utf-8")
