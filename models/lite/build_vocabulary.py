"""Derive `vocabulary.npz` from the pinned packages: `python -m regard.models.lite.build_vocabulary`.

Little-endian float16 unit rows: `synonyms` (s, 384), `descriptions` (1000, 384); `starts` (1000,) int32.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from regard.models.lite.sentences import SentenceEncoder
from regard.models.lite.vocabulary import FILE, class_texts


def main() -> None:
    """Write the file beside this module."""
    texts, encoder = class_texts(), SentenceEncoder()
    np.savez_compressed(
        Path(__file__).with_name(FILE),
        synonyms=encoder.encode(texts.synonyms).astype("<f2"),
        descriptions=encoder.encode(texts.descriptions).astype("<f2"),
        starts=texts.starts.astype("<i4"),
    )


if __name__ == "__main__":
    main()
