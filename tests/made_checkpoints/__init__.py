"""Tiny random checkpoints in the published layouts, written without the code that loads them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def write_json(path: Path, document: object) -> None:
    """Write a file of a checkpoint."""
    path.write_text(json.dumps(document, indent=2), encoding="utf-8")


def added_token(token: str) -> dict[str, Any]:
    """A special token as `tokenizer_config.json` describes it."""
    flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    return {"content": token, **flags, "special": True}
