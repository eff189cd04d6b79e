"""A checkpoint's tokenizer: Phi-3's with the three tokens that the published code adds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transformers import LlamaTokenizer

from regard.core.errors import ModelError
from regard.models.checkpoints.load_errors import guarded
from regard.models.checkpoints.source import Checkpoint
from regard.models.xgenmm.config import ADDED

_FILE = "tokenizer.json"


class PromptTokenizer:
    """Converts prompts to ids and ids to captions, without adding BOS or EOS."""

    def __init__(self, tokenizer: Any) -> None:
        """`tokenizer`: a transformers tokenizer with all special tokens."""
        self._tokenizer = tokenizer

    @classmethod
    def read(cls, checkpoint: Checkpoint, token_ids: Mapping[str, int]) -> PromptTokenizer:
        """Raises ModelError when files are missing or a special token's id differs from the
        model's."""
        path = checkpoint.require(_FILE)
        # The models were trained with Llama's non-legacy form: text after a special token gets no
        # space before it. transformers rebuilds that form from the vocabulary; tokenizer.json
        # holds the other.
        tokenizer = guarded(
            lambda: LlamaTokenizer.from_pretrained(
                str(checkpoint.path), local_files_only=True, legacy=False
            ),
            str(path),
        )
        tokenizer.add_special_tokens({"additional_special_tokens": list(ADDED)})
        for token, expected in token_ids.items():
            found = tokenizer.convert_tokens_to_ids(token)
            if found != expected:
                raise ModelError(
                    f"{path} has the id {found} for {token} where the model's is {expected}",
                    remedy="take tokenizer and weights from the same revision",
                )
        return cls(tokenizer)

    def encode(self, prompt: str) -> list[int]:
        """Return the ids of a prompt, which may contain special tokens."""
        return list(self._tokenizer(prompt, add_special_tokens=False).input_ids)

    def caption(self, ids: list[int]) -> str:
        """Decode generated ids to one line without special tokens."""
        return " ".join(self._tokenizer.decode(ids, skip_special_tokens=True).split())
