"""Tiny random zero-shot detectors in the files and layouts that are published: Grounding DINO and
OWLv2."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    Owlv2Config,
    Owlv2ForObjectDetection,
)

from made_checkpoints import write_json
from made_checkpoints.contrastive import write_clip_tokenizer

_WORDS = ("a", "photo", "of", "the", "red", "cat", "dog", "car", "boat", "on", "two", "picture")
# Grounding DINO knows these tokens by BERT's numbers.
_NUMBERED = {
    "[PAD]": 0,
    "[UNK]": 100,
    "[CLS]": 101,
    "[SEP]": 102,
    "[MASK]": 103,
    ".": 1012,
    "?": 1029,
}
_WIDTH = 32


def make_grounding_dino(folder: Path, seed: int = 0, *, side: int = 96) -> Path:
    """The layout of IDEA-Research/grounding-dino-tiny; images' shorter side has `side` pixels."""
    size = _bert_tokenizer(folder)
    config = GroundingDinoConfig(
        backbone_config={
            "model_type": "swin",
            "embed_dim": 8,
            "depths": [1, 1, 1, 1],
            "num_heads": [1, 2, 2, 2],
            "window_size": 2,
            "image_size": side,
            "out_features": ["stage2", "stage3", "stage4"],
            "out_indices": [2, 3, 4],
        },
        text_config={
            "model_type": "bert",
            "vocab_size": size,
            "hidden_size": _WIDTH,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 2 * _WIDTH,
        },
        num_queries=20,
        encoder_layers=1,
        decoder_layers=2,
        encoder_ffn_dim=2 * _WIDTH,
        decoder_ffn_dim=2 * _WIDTH,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        d_model=_WIDTH,
    )
    torch.manual_seed(seed)
    _save(GroundingDinoForObjectDetection(config), folder, seed, noise=0.1)
    write_json(
        folder / "preprocessor_config.json",
        {
            "do_normalize": True,
            "do_pad": True,
            "do_rescale": True,
            "do_resize": True,
            "format": "coco_detection",
            "image_mean": [0.485, 0.456, 0.406],
            "image_processor_type": "GroundingDinoImageProcessor",
            "image_std": [0.229, 0.224, 0.225],
            "processor_class": "GroundingDinoProcessor",
            "resample": 2,
            "rescale_factor": 0.00392156862745098,
            "size": {"longest_edge": 2 * side, "shortest_edge": side},
        },
    )
    return folder


def make_owlv2(folder: Path, seed: int = 0, *, side: int = 64) -> Path:
    """The layout of google/owlv2-base-patch16-ensemble; images are padded and read at `side`."""
    vocabulary = write_clip_tokenizer(folder, length=16)
    tower = {
        "hidden_size": _WIDTH,
        "intermediate_size": 2 * _WIDTH,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
    }
    config = Owlv2Config(
        text_config=tower
        | {
            "vocab_size": len(vocabulary),
            "max_position_embeddings": 16,
            "bos_token_id": vocabulary["<|startoftext|>"],
            "eos_token_id": vocabulary["<|endoftext|>"],
            "pad_token_id": 0,
        },
        vision_config=tower | {"image_size": side, "patch_size": 16},
        projection_dim=_WIDTH,
    )
    torch.manual_seed(seed)
    model = Owlv2ForObjectDetection(config)
    with torch.no_grad():  # so that boxes have both sides
        model.box_head.dense2.weight.mul_(1e-3)
    _save(model, folder, seed, noise=0.02)
    write_json(
        folder / "preprocessor_config.json",
        {
            "do_normalize": True,
            "do_pad": True,
            "do_rescale": True,
            "do_resize": True,
            "image_mean": [0.48145466, 0.4578275, 0.40821073],
            "image_processor_type": "Owlv2ImageProcessor",
            "image_std": [0.26862954, 0.26130258, 0.27577711],
            "processor_class": "Owlv2Processor",
            "resample": 2,
            "rescale_factor": 0.00392156862745098,
            "size": {"height": side, "width": side},
        },
    )
    return folder


def _save(model: Any, folder: Path, seed: int, *, noise: float) -> None:
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for weight in model.parameters():  # sharper than fresh weights, so that images tell
            weight.add_(noise * torch.randn(weight.shape, generator=generator))
    model.save_pretrained(folder)


def _bert_tokenizer(folder: Path) -> int:
    pieces = [*_WORDS, *string.ascii_lowercase, *(f"##{one}" for one in string.ascii_lowercase)]
    pieces = [*dict.fromkeys(pieces), ","]
    waiting = iter(pieces)
    by_number = {number: token for token, number in _NUMBERED.items()}
    size = max(by_number) + 1
    listed = [by_number.get(number) or next(waiting, f"[unused{number}]") for number in range(size)]
    vocabulary = {token: number for number, token in enumerate(listed)}
    tokenizer = Tokenizer(models.WordPiece(vocab=vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 102), ("[CLS]", 101))
    special = [token for token in _NUMBERED if token.startswith("[")]
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in special])
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "vocab.txt").write_text("\n".join(listed) + "\n", encoding="utf-8")
    names = {"cls_token": "[CLS]", "mask_token": "[MASK]", "pad_token": "[PAD]"}
    names |= {"sep_token": "[SEP]", "unk_token": "[UNK]"}
    write_json(folder / "special_tokens_map.json", names)
    write_json(
        folder / "tokenizer_config.json",
        {
            **names,
            "do_lower_case": True,
            "model_max_length": 512,
            "processor_class": "GroundingDinoProcessor",
            "tokenizer_class": "BertTokenizer",
        },
    )
    return size
