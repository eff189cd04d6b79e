"""Prompts and tokens: the published forms, letter by letter."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from made_checkpoints.xgenmm import make_xgenmm

from regard.core.errors import ModelError
from regard.models.checkpoints.source import Checkpoint
from regard.models.xgenmm.config import read_config
from regard.models.xgenmm.prompting import base_prompt, instruct_prompt
from regard.models.xgenmm.tokenizer import PromptTokenizer

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_xgenmm(tmp_path_factory.mktemp("xgenmm") / "instruct")


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> PromptTokenizer:
    return PromptTokenizer.read(Checkpoint(folder), ids_of(folder))


def ids_of(folder: Path) -> dict[str, int]:
    return dict(json.loads((folder / "config.json").read_text())["token_ids"])


def test_instruct_prompt_is_the_published_chat() -> None:
    assert instruct_prompt("What is it?") == (
        "<|system|>\nA chat between a curious user and an artificial intelligence assistant. "
        "The assistant gives helpful, detailed, and polite answers to the user's questions.<|end|>\n"
        "<|user|>\n<image>\nWhat is it?<|end|>\n<|assistant|>\n"
    )


def test_instruct_examples_are_earlier_turns() -> None:
    asked = "<|user|>\n<image>\nWhat is it?<|end|>\n<|assistant|>\n"
    prompt = instruct_prompt("What is it?", ["a cat", "two dogs"])
    assert prompt.startswith("<|system|>\n")
    assert prompt.endswith(
        f"user's questions.<|end|>\n{asked}a cat<|end|>\n{asked}two dogs<|end|>\n{asked}"
    )


def test_base_prompt_keeps_a_place_for_each_token_of_an_image() -> None:
    assert base_prompt("Here:", latents=3) == "<image><image placeholder><image placeholder>Here:"


def test_base_examples_are_a_chain_of_chunks() -> None:
    image = "<image><image placeholder>"
    assert base_prompt("Here:", ["a cat", "two dogs"], latents=2) == (
        f"{image}Here:a cat<|endofchunk|>{image}Here:two dogs<|endofchunk|>{image}Here:"
    )


def test_special_tokens_have_the_models_ids_and_nothing_is_added(
    folder: Path, tokenizer: PromptTokenizer
) -> None:
    ids = ids_of(folder)
    names = ["<|user|>", "<image>", "<image placeholder>", "<|endofchunk|>", "<|end|>"]
    assert tokenizer.encode("".join(names)) == [ids[name] for name in names]


def test_text_after_a_special_token_gets_no_space_before_it(
    folder: Path, tokenizer: PromptTokenizer
) -> None:
    vocabulary = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    ids = ids_of(folder)
    expected = [ids["<|user|>"], ids["<image>"], vocabulary["<0x0A>"], vocabulary["c"]]
    # The published specials take the line break after them; <image> does not.
    assert tokenizer.encode("<|user|>\n<image>\nc") == expected
    assert tokenizer.encode("cat") == [vocabulary["▁cat"]]


def test_a_caption_is_one_line_without_special_tokens(
    folder: Path, tokenizer: PromptTokenizer
) -> None:
    ids = ids_of(folder)
    written = tokenizer.encode("a cat\n on the  grass.")
    surrounded = [ids["<image>"], *written, ids["<|end|>"], ids["<pad>"], ids["<|endofchunk|>"]]
    assert tokenizer.caption(surrounded) == "a cat on the grass."
    assert tokenizer.caption([]) == ""


def test_a_tokenizer_of_another_model_is_refused(folder: Path) -> None:
    ids = {**ids_of(folder), "<pad>": 3}
    with pytest.raises(ModelError, match=r"has the id .* for <pad> where the model's is 3"):
        PromptTokenizer.read(Checkpoint(folder), ids)


def test_a_missing_tokenizer_is_refused(tmp_path: Path) -> None:
    folder = make_xgenmm(tmp_path / "made")
    config = read_config(Checkpoint(folder))
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match=r"lacks tokenizer\.json"):
        PromptTokenizer.read(Checkpoint(folder), config.token_ids)
