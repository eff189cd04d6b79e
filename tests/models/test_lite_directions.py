"""The directions that shorten the rows of `lite`: what they keep, and that their script fits
them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from regard.core.errors import ModelError
from regard.models.lite import directions, fit_directions
from regard.models.lite.directions import joint_directions, visual_directions
from regard.models.lite.encoder import (
    JOINT,
    VISUAL,
    joint_components,
    text_blocks,
    unit,
    visual_components,
    weighted_blocks,
)
from regard.models.lite.sentences import SentenceEncoder
from regard.models.lite.vocabulary import class_texts, vocabulary
from regard.search.relevance import concentration

# Of these, only the crane and the bus are close to names of classes.
TEXTS = ["a red bus", "two children on a swing", "crane", "the harbour at dusk", "lentil soup"]


@pytest.fixture(scope="module")
def texts() -> np.ndarray:
    return text_blocks(SentenceEncoder().encode(TEXTS))


def test_a_photograph_has_at_most_24_kilobytes_of_vectors() -> None:
    regions = 12
    numbers = JOINT.dimension * (regions + 2) + VISUAL.dimension * (regions + 1)
    assert 2 * numbers <= 24_000
    assert JOINT.dimension % 8 == VISUAL.dimension % 8 == 0


@pytest.mark.parametrize("rows", [joint_directions, visual_directions])
def test_directions_are_orthonormal(rows: object) -> None:
    assert callable(rows)
    known = rows()
    np.testing.assert_allclose(known @ known.T, np.eye(len(known)), atol=2e-3)


def test_projection_keeps_what_texts_say_of_classes(texts: np.ndarray) -> None:
    # Images in which one class is likely and three others are possible.
    chance = np.random.default_rng(0)
    evidence = np.eye(1000, dtype=np.float32)
    for row in evidence:
        row[chance.integers(1000, size=3)] += np.float32(0.4)
    images = weighted_blocks(evidence @ vocabulary().description_vectors, evidence)
    known = joint_directions()
    before, after = texts @ images.T, unit(texts @ known.T) @ (images @ known.T).T
    for one, other in zip(before, after, strict=True):
        assert np.corrcoef(one, other)[0, 1] > 0.9
        assert len(set(np.argsort(-one)[:10]) & set(np.argsort(-other)[:10])) >= 6


def test_components_tell_how_few_things_a_row_is_about() -> None:
    vague = ["joy", "a nice day", "hello", "fun with friends", "how it was", "number three"]
    known = class_texts().names[::40]
    blocks = text_blocks(SentenceEncoder().encode([*vague, *known]))
    rows = np.hstack([blocks @ joint_directions().T, np.zeros((len(blocks), 12), np.float32)])
    spread = [concentration(row) for row in joint_components(rows)]
    assert max(spread[: len(vague)]) < np.quantile(spread[len(vague) :], 0.1)
    chance = np.random.default_rng(0)
    features = chance.random((40, 1280), np.float32)
    features[chance.random(features.shape) > np.linspace(0.02, 1, 40)[:, None]] = 0
    found = visual_components(features @ visual_directions().T)
    spread = [concentration(row) for row in found]
    assert np.corrcoef(spread, [concentration(row) for row in features])[0, 1] > 0.8


def test_visual_directions_are_those_of_the_weights() -> None:
    fitted, shipped = fit_directions.fit_visual(), visual_directions()
    # Signs may differ, and rounding may decide the order of the last ones.
    assert (np.abs((fitted * shipped).sum(axis=1)) > 0.99).mean() > 0.9


def test_texts_are_sampled_from_things_that_can_be_seen(tmp_path: Path) -> None:
    lines = ["  1 This software is free.", *(_synset(number, "06") for number in range(4300))]
    lines += [_synset(number, "09") for number in range(4300, 4400)]
    (tmp_path / "data.noun").write_text("\n".join(lines) + "\n", encoding="latin-1")
    texts = fit_directions.sample_texts(tmp_path)
    assert len(texts) == 6500
    assert texts == fit_directions.sample_texts(tmp_path)
    numbers = {int(word) for text in texts for word in text.split() if word.isdigit()}
    assert max(numbers) < 4300


def _synset(number: int, lexicographer_file: str) -> str:
    return f"{number:08} {lexicographer_file} n 01 thing_{number} 0 000 | thing {number}; as seen"


def test_damaged_file_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directions, "FILE", "no.npz")
    with pytest.raises(ModelError, match="missing or damaged"):
        directions._load("joint")
