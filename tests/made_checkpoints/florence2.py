"""A tiny random Florence-2 in the files and layout of florence-community/Florence-2-…"""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import Florence2Config, Florence2ForConditionalGeneration

from made_checkpoints import write_json

BINS = 1000
_BASE = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
_ADDED = (
    *("<od>", "</od>", "<ocr>", "</ocr>", "<cap>", "</cap>", "<ncap>", "</ncap>", "<dcap>"),
    *(f"<loc_{place}>" for place in range(BINS)),
    *("<sep>", "<poly>", "</poly>", "<image>"),
)
_WORDS = ("a", "photo", "of", "the", "red", "cat", "dog", "car", "boat", "on", "two", "locate")


def make_florence2(folder: Path, seed: int = 0, *, side: int = 64, locates: bool = False) -> Path:
    """Images are read at `side` pixels, a multiple of 32; `locates`: it mostly writes places."""
    ids = _tokenizer(folder)
    width = 32
    config = Florence2Config(
        text_config={
            "model_type": "bart",
            "vocab_size": len(ids),
            "d_model": width,
            "encoder_layers": 1,
            "decoder_layers": 1,
            "encoder_ffn_dim": 2 * width,
            "decoder_ffn_dim": 2 * width,
            "encoder_attention_heads": 4,
            "decoder_attention_heads": 4,
            "max_position_embeddings": 256,
            "bos_token_id": ids["<s>"],
            "pad_token_id": ids["<pad>"],
            "eos_token_id": ids["</s>"],
            "decoder_start_token_id": ids["</s>"],
            "forced_bos_token_id": ids["<s>"],
            "forced_eos_token_id": ids["</s>"],
        },
        vision_config={
            "depths": [1, 1, 1, 1],
            "embed_dim": [8, 16, 16, width],
            "num_heads": [1, 2, 2, 4],
            "num_groups": [1, 2, 2, 4],
            "projection_dim": width,
        },
        image_token_id=ids["<image>"],
    )
    torch.manual_seed(seed)
    model = Florence2ForConditionalGeneration(config)
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for weight in model.parameters():  # sharper than fresh weights, so that images tell
            weight.add_(0.3 * torch.randn(weight.shape, generator=generator))
        if locates:
            first = ids["<loc_0>"]
            model.lm_head.weight[first : first + BINS] *= 2
    model.save_pretrained(folder)
    write_json(
        folder / "generation_config.json",
        {
            "_from_model_config": True,
            "bos_token_id": ids["<s>"],
            "decoder_start_token_id": ids["</s>"],
            "early_stopping": True,
            "eos_token_id": ids["</s>"],
            "forced_bos_token_id": ids["<s>"],
            "forced_eos_token_id": ids["</s>"],
            "no_repeat_ngram_size": 3,
            "num_beams": 3,
            "pad_token_id": ids["<pad>"],
        },
    )
    write_json(
        folder / "preprocessor_config.json",
        {
            "crop_size": {"height": side, "width": side},
            "do_center_crop": False,
            "do_convert_rgb": None,
            "do_normalize": True,
            "do_rescale": True,
            "do_resize": True,
            "image_mean": [0.485, 0.456, 0.406],
            "image_processor_type": "CLIPImageProcessor",
            "image_seq_length": (side // 32) ** 2 + 1,
            "image_std": [0.229, 0.224, 0.225],
            "processor_class": "Florence2Processor",
            "resample": 3,
            "rescale_factor": 0.00392156862745098,
            "size": {"height": side, "width": side},
        },
    )
    write_json(
        folder / "processor_config.json",
        {
            "num_additional_image_tokens": 1,
            "post_processor_config": None,
            "processor_class": "Florence2Processor",
        },
    )
    return folder


def _tokenizer(folder: Path) -> dict[str, int]:
    pieces = [*_BASE[:4], *sorted(pre_tokenizers.ByteLevel.alphabet())]
    merges: list[tuple[str, str]] = []
    for word in _WORDS:
        left = "Ġ"
        for letter in word:
            if (left, letter) not in merges:
                merges.append((left, letter))
                pieces.append(left + letter)
            left += letter
    vocabulary = {piece: index for index, piece in enumerate(dict.fromkeys([*pieces, "<mask>"]))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.RobertaProcessing(
        ("</s>", vocabulary["</s>"]), ("<s>", vocabulary["<s>"]), add_prefix_space=False
    )
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in _BASE])
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in _ADDED])
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    ids: dict[str, int] = tokenizer.get_vocab(with_added_tokens=True)
    write_json(folder / "vocab.json", vocabulary)
    lines = ["#version: 0.2", *(" ".join(merge) for merge in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    write_json(
        folder / "tokenizer_config.json",
        {
            "add_prefix_space": False,
            "added_tokens_decoder": {
                str(ids[token]): {"content": token, **flags, "special": token in _BASE}
                for token in (*_BASE, *_ADDED)
            },
            "bos_token": "<s>",
            "cls_token": "<s>",
            "eos_token": "</s>",
            "extra_special_tokens": {"image_token": "<image>"},
            "image_token": "<image>",
            "mask_token": "<mask>",
            "model_max_length": 1024,
            "pad_token": "<pad>",
            "processor_class": "Florence2Processor",
            "sep_token": "</s>",
            "tokenizer_class": "BartTokenizer",
            "unk_token": "<unk>",
        },
    )
    return ids
