"""Tokenises texts with a contrastive checkpoint's tokenizer.

SigLIP was trained on padded texts of a fixed length with visible padding, so padding changes its
rows. CLIP reads up to its end-of-text token, so padding does not. `tokenizer.json` is read with
the tokenizers library: transformers' class for SigLIP needs sentencepiece and protobuf, and its
class for SigLIP 2's fixed-resolution checkpoints omits the lower-casing of their training and
`tokenizer_config.json`.
"""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from regard.core.errors import ModelError
from regard.core.records import Int64Array
from regard.models.checkpoints.load_errors import guarded
from regard.models.checkpoints.source import Checkpoint
from regard.models.contrastive.architecture import Architecture, Family

if TYPE_CHECKING:
    from tokenizers import Tokenizer

TOKENIZER = "tokenizer.json"
_SETTINGS = "tokenizer_config.json"
_SPECIAL = "special_tokens_map.json"
_VOCABULARY, _MERGES = "vocab.json", "merges.txt"  # CLIP's tokenizer before tokenizer.json
_SPACE = "\u2581"  # how sentencepiece writes a space
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


@dataclass(frozen=True, slots=True)
class TextTokenizer:
    """Tokenises texts. Thread-safe."""

    _tokenizer: Tokenizer
    _lower_case: bool
    _strip_punctuation: bool
    _unknown: str

    @classmethod
    def read(cls, checkpoint: Checkpoint, architecture: Architecture) -> TextTokenizer:
        """Read a checkpoint's tokenizer; raises ModelError when its files are missing or
        damaged."""
        family = architecture.family
        settings = checkpoint.json(_SETTINGS)
        tokenizer = _read_tokenizer(checkpoint, family)
        pad = _token(settings, "pad_token")
        if pad is None and (checkpoint.path / _SPECIAL).is_file():
            pad = _token(checkpoint.json(_SPECIAL), "pad_token")
        pad_id = None if pad is None else tokenizer.token_to_id(pad)
        if pad_id is None:
            raise ModelError(
                f"{checkpoint.path / _SETTINGS} names no padding token of its vocabulary"
            )
        side = settings.get("padding_side", "right")
        if side not in ("left", "right"):
            raise ModelError(f"{checkpoint.path / _SETTINGS} has {side!r} for padding_side")
        tokenizer.enable_truncation(architecture.text_length)
        tokenizer.enable_padding(
            direction=side,
            pad_id=pad_id,
            pad_token=pad,
            length=None if family is Family.CLIP else architecture.text_length,
        )
        siglip = str(settings.get("tokenizer_class", "")).startswith("SiglipTokenizer")
        unknown = _token(settings, "unk_token") or "<unk>"
        return cls(tokenizer, bool(settings.get("do_lower_case", siglip)), siglip, unknown)

    def encode(self, texts: Sequence[str]) -> tuple[Int64Array, Int64Array]:
        """Return ids (n, T) and an attention mask (n, T), 0 at padding.

        T is the model's text length for SigLIP and the longest text's for CLIP; longer texts are
        truncated before the end token.
        """
        encodings = self._tokenizer.encode_batch([self._canonical(text) for text in texts])
        ids = np.array([encoding.ids for encoding in encodings], dtype=np.int64)
        seen = np.array([encoding.attention_mask for encoding in encodings], dtype=np.int64)
        return ids, seen

    def knows(self, word: str) -> bool:
        """Whether the vocabulary has at least a part of a word.

        Vocabularies of bytes, as CLIP's, have parts of every word.
        """
        encoding = self._tokenizer.encode(self._canonical(word), add_special_tokens=False)
        unknown = self._tokenizer.token_to_id(self._unknown)
        parts = zip(encoding.ids, encoding.tokens, encoding.attention_mask, strict=True)
        return any(seen and id != unknown and token != _SPACE for id, token, seen in parts)

    def _canonical(self, text: str) -> str:
        # As in SigLIP's training; harmless where tokenizer.json does the same.
        if self._lower_case:
            text = text.lower()
        if self._strip_punctuation:
            text = " ".join(text.translate(_NO_PUNCTUATION).split())
        return text


def _has_merges(checkpoint: Checkpoint, family: Family) -> bool:
    files = (checkpoint.path / _VOCABULARY, checkpoint.path / _MERGES)
    bare = not (checkpoint.path / TOKENIZER).is_file()
    return family is Family.CLIP and bare and all(file.is_file() for file in files)


def _read_tokenizer(checkpoint: Checkpoint, family: Family) -> Tokenizer:
    if _has_merges(checkpoint, family):
        from transformers import CLIPTokenizer

        made = guarded(
            lambda: CLIPTokenizer.from_pretrained(checkpoint.path, local_files_only=True),
            f"the tokenizer of {checkpoint.path}",
        )
        backend: Tokenizer = made.backend_tokenizer
        return backend
    from tokenizers import Tokenizer

    path = checkpoint.require(TOKENIZER)
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # no class of the library's own
        raise ModelError(
            f"{path} is damaged or no tokenizer", remedy="fetch the model again"
        ) from error


def _token(settings: Mapping[str, Any], name: str) -> str | None:
    """Return a special token's text, given directly or in a table."""
    value = settings.get(name)
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) else None
