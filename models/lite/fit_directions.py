"""Fit the directions of both spaces to words, classes and weights, and write `directions.npz`.

    python -m regard.models.lite.fit_directions [WORDNET]

WORDNET is the folder with `data.noun` of WordNet 3.0, which Debian's package wordnet-base puts at
/usr/share/wordnet. No photograph takes part.

The joint directions are the main ones, without centring, of two sets with half of the weight each:
texts about things that can be seen, and images of each class alone.

The classifier's features are 1280 bounded sums of 352 channels, so most of what tells them apart
lies in the span of the weights of these sums. The visual directions are the main ones of the
weights.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from regard.core.records import Float32Array
from regard.models.lite.classifier import CLASSES
from regard.models.lite.colours import NAMES
from regard.models.lite.directions import FILE, JOINT_DIRECTIONS, VISUAL_DIRECTIONS
from regard.models.lite.encoder import text_blocks, weighted_blocks
from regard.models.lite.network import load
from regard.models.lite.sentences import SentenceEncoder
from regard.models.lite.vocabulary import vocabulary

# WordNet's lexicographer files of nouns that can be seen: animals, artifacts, body, food, groups,
# places, objects, people, phenomena, plants, substances and so on.
_VISIBLE = frozenset({"05", "06", "08", "13", "15", "17", "18", "19", "20", "25", "27"})
_BATCH = 64


def visible_nouns(wordnet: Path) -> Iterator[tuple[str, str]]:
    """The first word and the definition of each synset of things that can be seen."""
    with (wordnet / "data.noun").open(encoding="latin-1") as file:
        for line in file:
            # The licence stands first, indented.
            if not line.startswith("  ") and line.split(" ", 2)[1] in _VISIBLE:
                synset, gloss = line.split(" | ", 1)
                yield synset.split(" ")[4].replace("_", " "), gloss.split(";")[0].strip()


def sample_texts(wordnet: Path) -> list[str]:
    """6,500 texts: nouns, photographs of nouns, nouns with a colour, pairs of nouns,
    definitions."""
    nouns, glosses = zip(*visible_nouns(wordnet), strict=True)
    chance = random.Random(0)  # noqa: S311 - a sample, not a secret
    order = list(range(len(nouns)))
    chance.shuffle(order)
    picked = [nouns[place] for place in order[:3000]]
    texts = list(picked)
    texts += [f"a photo of a {noun}" for noun in picked[:800]]
    texts += [f"a {chance.choice(NAMES)} {noun}" for noun in picked[800:1600]]
    texts += [f"{a} and {b}" for a, b in zip(picked[1600:2300], picked[2300:3000], strict=True)]
    texts += [glosses[place] for place in order[3000:4200]]
    return texts


def fit_joint(meanings: Float32Array) -> Float32Array:
    """The joint directions (604, 1384) for texts with these meanings (n, 384)."""
    classes = np.eye(CLASSES, dtype=np.float32)
    samples = text_blocks(meanings), weighted_blocks(vocabulary().description_vectors, classes)
    spread = sum(sample.T.astype(np.float64) @ sample / len(sample) for sample in samples)
    _, axes = np.linalg.eigh(spread)
    return np.asarray(axes[:, ::-1][:, :JOINT_DIRECTIONS].T, dtype=np.float32)


def fit_visual() -> Float32Array:
    """The visual directions (256, 1280)."""
    weights = load().head.weight[:, :, 0, 0].astype(np.float64)  # (1280, 352)
    axes, _, _ = np.linalg.svd(weights, full_matrices=False)
    return np.asarray(axes[:, :VISUAL_DIRECTIONS].T, dtype=np.float32)


def main(wordnet: Path) -> None:
    """Fit the directions, and write them beside this module."""
    encoder, texts = SentenceEncoder(), sample_texts(wordnet)
    meanings = [encoder.encode(texts[at : at + _BATCH]) for at in range(0, len(texts), _BATCH)]
    np.savez(
        Path(__file__).with_name(FILE),
        joint=fit_joint(np.concatenate(meanings)).astype("<f2"),
        visual=fit_visual().astype("<f2"),
    )


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "/usr/share/wordnet"))
