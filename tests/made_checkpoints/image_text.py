"""Tiny random captioners in the files and layouts that are published: Idefics3 (SmolVLM) and BLIP.

Models are written by transformers' own `save_pretrained`; tokenizers, chat templates and
preprocessor files are written out here as the published repositories have them.
"""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    BlipConfig,
    BlipForConditionalGeneration,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
)

from made_checkpoints import added_token, write_json

CHAT_TEMPLATE = (
    "<|im_start|>{% for message in messages %}{{message['role'] | capitalize}}"
    "{% if message['content'][0]['type'] == 'image' %}{{':'}}{% else %}{{': '}}{% endif %}"
    "{% for line in message['content'] %}{% if line['type'] == 'text' %}{{line['text']}}"
    "{% elif line['type'] == 'image' %}{{ '<image>' }}{% endif %}{% endfor %}<end_of_utterance>\n"
    "{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
_HALF = [0.5, 0.5, 0.5]
_SPECIALS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<fake_token_around_image>",
    "<image>",
    "<end_of_utterance>",
    "<global-img>",
    *(f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)),
)
_WORDS = ("a", "photo", "of", "the", "red", "cat", "dog", "car", "boat", "on", "two", "picture")


def make_idefics3(folder: Path, seed: int = 0, *, side: int = 32) -> Path:
    """The layout of HuggingFaceTB/SmolVLM-256M-Instruct; images are cut into tiles of `side`
    pixels."""
    ids = _byte_level_tokenizer(folder)
    patch, factor = 8, 2
    config = Idefics3Config(
        text_config={
            "model_type": "llama",
            "vocab_size": len(ids),
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 1024,
            "bos_token_id": ids["<|im_start|>"],
            "eos_token_id": ids["<end_of_utterance>"],
            "pad_token_id": ids["<|im_end|>"],
        },
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "image_size": side,
            "patch_size": patch,
        },
        scale_factor=factor,
        image_token_id=ids["<image>"],
    )
    torch.manual_seed(seed)
    _save(Idefics3ForConditionalGeneration(config), folder, seed)
    write_json(
        folder / "generation_config.json",
        {
            "_from_model_config": True,
            "bos_token_id": ids["<|im_start|>"],
            "eos_token_id": ids["<end_of_utterance>"],
            "pad_token_id": ids["<|im_end|>"],
        },
    )
    write_json(
        folder / "preprocessor_config.json",
        {
            "do_convert_rgb": True,
            "do_image_splitting": True,
            "do_normalize": True,
            "do_pad": True,
            "do_rescale": True,
            "do_resize": True,
            "image_mean": _HALF,
            "image_processor_type": "Idefics3ImageProcessor",
            "image_std": _HALF,
            "max_image_size": {"longest_edge": side},
            "processor_class": "Idefics3Processor",
            "resample": 1,
            "rescale_factor": 0.00392156862745098,
            "size": {"longest_edge": 3 * side},
        },
    )
    write_json(
        folder / "processor_config.json",
        {
            "image_seq_len": (side // patch) ** 2 // factor**2,
            "processor_class": "Idefics3Processor",
        },
    )
    write_json(folder / "chat_template.json", {"chat_template": CHAT_TEMPLATE})
    return folder


def make_blip(folder: Path, seed: int = 0, *, side: int = 32) -> Path:
    """The layout of Salesforce/blip-image-captioning-…: no chat template, a decoder that reads
    images."""
    ids = _wordpiece_tokenizer(folder)
    tower = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
    }
    config = BlipConfig(
        vision_config=tower | {"image_size": side, "patch_size": 8, "initializer_range": 0.02},
        text_config=tower
        | {
            "vocab_size": len(ids) + 2,
            "encoder_hidden_size": 32,
            "max_position_embeddings": 64,
            "bos_token_id": len(ids),  # [DEC], which the tokenizer's files lack, as published
            "eos_token_id": ids["[SEP]"],
            "pad_token_id": ids["[PAD]"],
            "sep_token_id": ids["[SEP]"],
        },
    )
    torch.manual_seed(seed)
    _save(BlipForConditionalGeneration(config), folder, seed)
    write_json(
        folder / "preprocessor_config.json",
        {
            "do_normalize": True,
            "do_resize": True,
            "image_mean": [0.48145466, 0.4578275, 0.40821073],
            "image_processor_type": "BlipImageProcessor",
            "image_std": [0.26862954, 0.26130258, 0.27577711],
            "processor_class": "BlipProcessor",
            "size": {"height": side, "width": side},
        },
    )
    return folder


def _save(model: Any, folder: Path, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for weight in model.parameters():  # sharper than fresh weights, so that images tell
            weight.add_(0.3 * torch.randn(weight.shape, generator=generator))
    model.save_pretrained(folder)


def _byte_level_tokenizer(folder: Path) -> dict[str, int]:
    pieces = [*_SPECIALS, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    merges: list[tuple[str, str]] = []
    for word in _WORDS:
        left = "Ġ"
        for letter in word:
            if (left, letter) not in merges:
                merges.append((left, letter))
                pieces.append(left + letter)
            left += letter
    vocabulary = {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in _SPECIALS])
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    write_json(folder / "vocab.json", vocabulary)
    lines = ["#version: 0.2", *(" ".join(merge) for merge in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    write_json(
        folder / "tokenizer_config.json",
        {
            "add_prefix_space": False,
            "added_tokens_decoder": {
                str(vocabulary[token]): added_token(token) for token in _SPECIALS
            },
            "additional_special_tokens": list(_SPECIALS[3:6]),
            "bos_token": "<|im_start|>",
            "clean_up_tokenization_spaces": False,
            "eos_token": "<end_of_utterance>",
            "model_max_length": 1024,
            "pad_token": "<|im_end|>",
            "processor_class": "Idefics3Processor",
            "tokenizer_class": "GPT2Tokenizer",
            "truncation_side": "left",
            "unk_token": "<|endoftext|>",
        },
    )
    return vocabulary


def _wordpiece_tokenizer(folder: Path) -> dict[str, int]:
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *_WORDS]
    pieces += [*string.ascii_lowercase, *(f"##{letter}" for letter in string.ascii_lowercase)]
    vocabulary = {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.WordPiece(vocab=vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.BertProcessing(
        ("[SEP]", vocabulary["[SEP]"]), ("[CLS]", vocabulary["[CLS]"])
    )
    tokenizer.add_special_tokens(pieces[:5])
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    special = {"cls_token": "[CLS]", "mask_token": "[MASK]", "pad_token": "[PAD]"}
    special |= {"sep_token": "[SEP]", "unk_token": "[UNK]"}
    write_json(folder / "special_tokens_map.json", special)
    write_json(
        folder / "tokenizer_config.json",
        {
            **special,
            "do_basic_tokenize": True,
            "do_lower_case": True,
            "model_max_length": 64,
            "processor_class": "BlipProcessor",
            "tokenizer_class": "BertTokenizer",
        },
    )
    return vocabulary
