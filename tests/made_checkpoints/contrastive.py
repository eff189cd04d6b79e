"""Tiny random SigLIP, SigLIP 2 and CLIP checkpoints in the files and layouts that are published.

Models are written by transformers' own `save_pretrained`; tokenizers and preprocessor files are
written out here as the published repositories have them.
"""

from __future__ import annotations

import math
import string
from pathlib import Path
from typing import Any

import torch
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)
from transformers import (
    CLIPConfig,
    CLIPModel,
    Siglip2Config,
    Siglip2Model,
    SiglipConfig,
    SiglipModel,
)

from made_checkpoints import added_token, write_json

WORDS = (
    *("a", "photo", "of", "the", "red", "blue", "green", "yellow", "cat", "dog", "car", "tree"),
    *("bird", "house", "on", "in", "two", "small", "big", "boat", "flower", "fruit", "plane"),
)
_CLIP_MEAN = [0.48145466, 0.4578275, 0.40821073]
_CLIP_STD = [0.26862954, 0.26130258, 0.27577711]


def make_siglip(
    folder: Path,
    seed: int = 0,
    *,
    side: int = 32,
    patch: int = 8,
    width: int = 32,
    layers: int = 2,
    text_length: int = 64,
    second: bool = False,
) -> Path:
    """The layout of google/siglip-…; `second`: of google/siglip2-… at a fixed resolution."""
    size = _siglip_tokenizer(folder) if not second else _gemma_tokenizer(folder)
    towers = _towers(width, layers, size, text_length)
    towers["vision_config"] |= {"image_size": side, "patch_size": patch}
    torch.manual_seed(seed)
    _save(SiglipModel(SiglipConfig(**towers)), folder, seed)
    write_json(
        folder / "preprocessor_config.json",
        {
            "do_normalize": True,
            "do_rescale": True,
            "do_resize": True,
            "image_mean": [0.5, 0.5, 0.5],
            "image_processor_type": "SiglipImageProcessor",
            "image_std": [0.5, 0.5, 0.5],
            "processor_class": "SiglipProcessor",
            "resample": 2 if second else 3,
            "rescale_factor": 0.00392156862745098,
            "size": {"height": side, "width": side},
        },
    )
    return folder


def make_siglip2(folder: Path, seed: int = 0, *, patch: int = 8, patches: int = 16) -> Path:
    """The layout of google/siglip2-…-naflex."""
    towers = _towers(32, 2, _gemma_tokenizer(folder), 64)
    towers["vision_config"] |= {"num_patches": patches, "patch_size": patch}
    torch.manual_seed(seed)
    _save(Siglip2Model(Siglip2Config(**towers)), folder, seed)
    write_json(
        folder / "preprocessor_config.json",
        {
            "do_convert_rgb": None,
            "do_normalize": True,
            "do_rescale": True,
            "do_resize": True,
            "image_mean": [0.5, 0.5, 0.5],
            "image_processor_type": "Siglip2ImageProcessor",
            "image_std": [0.5, 0.5, 0.5],
            "max_num_patches": patches,
            "patch_size": patch,
            "processor_class": "Siglip2Processor",
            "resample": 2,
            "rescale_factor": 0.00392156862745098,
        },
    )
    return folder


def make_clip(
    folder: Path, seed: int = 0, *, side: int = 32, patch: int = 8, projection: int = 24
) -> Path:
    """The layout of openai/clip-vit-…, whose preprocessor file is of the oldest form."""
    vocabulary = write_clip_tokenizer(folder)
    end = vocabulary["<|endoftext|>"]
    towers = _towers(32, 2, len(vocabulary), 77)
    towers["vision_config"] |= {"image_size": side, "patch_size": patch}
    towers["text_config"] |= {
        "bos_token_id": vocabulary["<|startoftext|>"],
        "eos_token_id": end,
        "pad_token_id": end,
    }
    torch.manual_seed(seed)
    _save(CLIPModel(CLIPConfig(**towers, projection_dim=projection)), folder, seed)
    write_json(
        folder / "preprocessor_config.json",
        {
            "crop_size": side,
            "do_center_crop": True,
            "do_normalize": True,
            "do_resize": True,
            "feature_extractor_type": "CLIPFeatureExtractor",
            "image_mean": _CLIP_MEAN,
            "image_std": _CLIP_STD,
            "resample": 3,
            "size": side,
        },
    )
    return folder


def _towers(width: int, layers: int, vocabulary: int, text_length: int) -> dict[str, Any]:
    tower = {
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
    }
    text = {"vocab_size": vocabulary, "max_position_embeddings": text_length}
    return {"vision_config": dict(tower), "text_config": tower | text}


def _save(model: Any, folder: Path, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for weight in model.parameters():  # biases too, which fresh models have at zero
            weight.add_(0.05 * torch.randn(weight.shape, generator=generator))
        model.logit_scale.fill_(math.log(20.0))
        if hasattr(model, "logit_bias"):
            model.logit_bias.fill_(-9.3)
    model.save_pretrained(folder)


def _siglip_tokenizer(folder: Path) -> int:
    pieces = [("<unk>", 0.0), ("</s>", 0.0)]
    pieces += [(f"▁{word}", -2.0) for word in WORDS]
    known = {piece for piece, _ in pieces}
    letters = ["▁", *string.ascii_lowercase, *string.digits]
    pieces += [(letter, -9.0) for letter in letters if letter not in known]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=0))
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.Lowercase(),
            normalizers.Replace(Regex(r"[!-/:-@\[-`{-~]"), ""),
            normalizers.Replace(Regex(r"\s+"), " "),
            normalizers.Strip(),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    tokenizer.add_special_tokens(["<unk>", "</s>"])
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "spiece.model").write_bytes(b"sentencepiece's form, which nothing here reads")
    write_json(
        folder / "tokenizer_config.json",
        {
            "added_tokens_decoder": {"0": added_token("<unk>"), "1": added_token("</s>")},
            "do_lower_case": True,
            "eos_token": "</s>",
            "model_input_names": ["input_ids"],
            "model_max_length": 64,
            "pad_token": "</s>",
            "processor_class": "SiglipProcessor",
            "sp_model_kwargs": {},
            "tokenizer_class": "SiglipTokenizer",
            "unk_token": "<unk>",
        },
    )
    return len(pieces)


def _gemma_tokenizer(folder: Path) -> int:
    """Case matters to it: lower-casing is only asked for in `tokenizer_config.json`."""
    specials = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    pieces = [*specials, "▁", *string.ascii_letters, *string.digits, *string.punctuation]
    merges: list[tuple[str, str]] = []
    for word in WORDS:
        left = "▁"
        for letter in word:
            if (left, letter) not in merges:
                merges.append((left, letter))
                pieces.append(left + letter)
            left += letter
    vocabulary = {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A <eos>", special_tokens=[("<eos>", 1)]
    )
    tokenizer.add_special_tokens(specials)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    write_json(
        folder / "tokenizer_config.json",
        {
            "add_bos_token": False,
            "add_eos_token": True,
            "bos_token": "<bos>",
            "do_lower_case": True,
            "eos_token": "<eos>",
            "mask_token": "<mask>",
            "model_input_names": ["input_ids"],
            "model_max_length": 64,
            "pad_token": "<pad>",
            "padding_side": "right",
            "tokenizer_class": "GemmaTokenizer",
            "unk_token": "<unk>",
        },
    )
    return len(vocabulary)


def write_clip_tokenizer(folder: Path, length: int = 77) -> dict[str, int]:
    """Write CLIP's tokenizer for texts of up to `length` tokens, and return its vocabulary."""
    symbols = [chr(code) for code in range(33, 127)]
    pieces = symbols + [f"{symbol}</w>" for symbol in symbols]
    merges: list[tuple[str, str]] = []
    for word in WORDS:
        left = word[0]
        for index, letter in enumerate(word[1:], start=2):
            right = f"{letter}</w>" if index == len(word) else letter
            if (left, right) not in merges:
                merges.append((left, right))
                pieces.append(left + right)
            left += right
    pieces += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}
    start, end = vocabulary["<|startoftext|>"], vocabulary["<|endoftext|>"]
    tokenizer = Tokenizer(
        models.BPE(
            vocab=vocabulary,
            merges=merges,
            continuing_subword_prefix="",
            end_of_word_suffix="</w>",
            unk_token="<|endoftext|>",
        )
    )
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    words = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(words), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.post_processor = processors.RobertaProcessing(
        ("<|endoftext|>", end),
        ("<|startoftext|>", start),
        trim_offsets=False,
        add_prefix_space=False,
    )
    tokenizer.add_special_tokens(
        [AddedToken(token, normalized=True) for token in ("<|startoftext|>", "<|endoftext|>")]
    )
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    write_json(folder / "vocab.json", vocabulary)
    lines = ["#version: 0.2", *(" ".join(merge) for merge in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    special = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>"}
    special |= {"pad_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
    write_json(folder / "special_tokens_map.json", special)
    write_json(
        folder / "tokenizer_config.json",
        {
            "add_prefix_space": False,
            "bos_token": added_token("<|startoftext|>"),
            "do_lower_case": True,
            "eos_token": added_token("<|endoftext|>"),
            "errors": "replace",
            "model_max_length": length,
            "pad_token": "<|endoftext|>",
            "tokenizer_class": "CLIPTokenizer",
            "unk_token": added_token("<|endoftext|>"),
        },
    )
    return vocabulary
