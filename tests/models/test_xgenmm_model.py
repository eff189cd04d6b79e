"""The language model in itself: merged tables, cache, batches, beams and the sliding window."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from made_checkpoints.xgenmm import make_xgenmm
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

from regard.models.checkpoints.placement import Placement
from regard.models.checkpoints.source import Checkpoint
from regard.models.xgenmm.config import PAD, read_config
from regard.models.xgenmm.loading import load_model
from regard.models.xgenmm.model import XGenMM, generate, pad_left, splice_covering, splice_inserting

pytestmark = pytest.mark.slow

CPU = Placement(torch.device("cpu"), torch.float32)
WINDOW = 6


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_xgenmm(
        tmp_path_factory.mktemp("xgenmm") / "window", text_config={"sliding_window": WINDOW}
    )


@pytest.fixture
def model(folder: Path) -> XGenMM:
    checkpoint = Checkpoint(folder)
    return load_model(checkpoint, read_config(checkpoint), CPU)


@pytest.fixture(scope="module")
def raw(folder: Path) -> dict[str, Tensor]:
    """The checkpoint's own tensors of the language model."""
    tensors: dict[str, Tensor] = {}
    for shard in folder.glob("*.safetensors"):
        tensors |= load_file(shard)
    prefix = "vlm.lang_model."
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }


def prompts(count: int, lengths: tuple[int, ...], width: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    rows = [torch.randn(lengths[index], width, generator=generator) for index in range(count)]
    return pad_left(rows)


def unending(model: XGenMM) -> int:
    """A stop token that is never generated, so that every row runs to the end."""
    pad = model.config.token_ids[PAD]
    with torch.no_grad():
        model.language.lm_head.bias[pad] = -1e4
    return pad


@torch.inference_mode()
def uncached(model: XGenMM, embeddings: Tensor, mask: Tensor, count: int) -> Tensor:
    """Greedy, with the whole sequence computed again for each token."""
    written: list[Tensor] = []
    for _ in range(count):
        logits = model.language(
            inputs_embeds=embeddings,
            attention_mask=mask,
            position_ids=(mask.cumsum(-1) - 1).clamp(min=0),
            use_cache=False,
        ).logits
        best = logits[:, -1].argmax(-1)
        written.append(best)
        table = model.language.get_input_embeddings()
        embeddings = torch.cat([embeddings, table(best)[:, None]], dim=1)
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
    return torch.stack(written, dim=1)


def greedy(model: XGenMM, embeddings: Tensor, mask: Tensor, count: int, beams: int = 1) -> Tensor:
    stop = model.config.token_ids[PAD]
    return generate(
        model.language,
        embeddings,
        mask,
        stop_ids=(stop,),
        pad_id=stop,
        max_new_tokens=count,
        beams=beams,
    )


def test_merged_embeddings_are_exactly_the_decoupled_ones(
    model: XGenMM, raw: dict[str, Tensor]
) -> None:
    used = model.config.language.initial_tokenizer_len
    ids = torch.arange(model.config.language.merged_size)
    main = raw["model.embed_tokens.weight"]
    added = raw["model.embed_tokens.additional_embedding.weight"]
    decoupled = torch.stack([main[i] if i < used else added[i - used] for i in ids.tolist()])
    assert torch.equal(model.language.get_input_embeddings()(ids), decoupled)


def test_merged_logits_are_the_decoupled_ones(model: XGenMM, raw: dict[str, Tensor]) -> None:
    used = model.config.language.initial_tokenizer_len
    embeddings, mask = prompts(1, (9,), model.config.language.hidden_size)
    with torch.inference_mode():
        hidden = model.language.model(inputs_embeds=embeddings, attention_mask=mask)[0]
        merged = model.language(inputs_embeds=embeddings, attention_mask=mask).logits
        main = functional.linear(hidden, raw["lm_head.weight"], raw["lm_head.bias"])[..., :used]
        added = functional.linear(
            hidden, raw["lm_head.additional_fc.weight"], raw["lm_head.additional_fc.bias"]
        )
    decoupled = torch.cat([main, added], dim=-1)
    assert merged.shape == decoupled.shape
    # Four roundings of float32 at the largest logit: matrices of other widths are summed in other
    # orders, and by how much that shows depends on the processor.
    rounding = torch.finfo(torch.float32).eps
    assert (merged - decoupled).abs().max() <= 4 * rounding * decoupled.abs().max()


def test_the_merged_head_is_exactly_the_decoupled_one(
    model: XGenMM, raw: dict[str, Tensor]
) -> None:
    used = model.config.language.initial_tokenizer_len
    head = model.language.get_output_embeddings()
    for name in ("weight", "bias"):
        main, added = raw[f"lm_head.{name}"][:used], raw[f"lm_head.additional_fc.{name}"]
        assert torch.equal(head.get_parameter(name), torch.cat([main, added]))


def test_cached_generation_is_the_uncached_beyond_the_window(model: XGenMM) -> None:
    unending(model)
    embeddings, mask = prompts(3, (11, 4, 7), model.config.language.hidden_size)
    assert embeddings.shape[1] > WINDOW
    written = greedy(model, embeddings, mask, 10)
    assert written.shape == (3, 10)
    assert torch.equal(written, uncached(model, embeddings, mask, 10))


def test_batched_generation_is_the_single_one(model: XGenMM) -> None:
    unending(model)
    embeddings, mask = prompts(3, (11, 4, 7), model.config.language.hidden_size)
    together = greedy(model, embeddings, mask, 10)
    for row, shown, written in zip(embeddings, mask, together, strict=True):
        alone = row[shown.bool()][None]
        single = greedy(model, alone, torch.ones(alone.shape[:2], dtype=torch.int64), 10)
        assert torch.equal(single[0], written)


def test_nothing_further_back_than_the_windows_of_all_layers_is_seen(model: XGenMM) -> None:
    """Two layers reach two windows back, and no further."""
    embeddings, mask = prompts(1, (20,), model.config.language.hidden_size)
    changed = embeddings.clone()
    changed[0, 0] += 5
    with torch.inference_mode():
        before = model.language(inputs_embeds=embeddings, attention_mask=mask).logits
        after = model.language(inputs_embeds=changed, attention_mask=mask).logits
    differs = (before - after).abs().amax(-1)[0] > 1e-4
    reach = 2 * (WINDOW - 1)
    assert differs[: reach + 1].any()
    assert not differs[reach + 1 :].any()


def test_beams_as_many_as_words_find_the_likeliest_continuation(model: XGenMM) -> None:
    unending(model)
    words = model.config.language.merged_size
    embeddings, mask = prompts(1, (5,), model.config.language.hidden_size)
    with torch.inference_mode():
        first = model.language(inputs_embeds=embeddings, attention_mask=mask).logits[0, -1]
        table = model.language.get_input_embeddings().weight
        pairs = torch.cat([embeddings.expand(words, -1, -1), table[:, None]], dim=1)
        second = model.language(inputs_embeds=pairs).logits[:, -1]
    joint = first.log_softmax(-1)[:, None] + second.log_softmax(-1)  # (first word, second word)
    best = divmod(int(joint.argmax()), words)
    assert greedy(model, embeddings, mask, 2, beams=words).tolist() == [list(best)]


def test_a_row_that_stops_is_padded_and_the_others_go_on(model: XGenMM) -> None:
    embeddings, mask = prompts(2, (6, 6), model.config.language.hidden_size)
    pad = unending(model)
    free = greedy(model, embeddings, mask, 6)
    stop = next(
        int(token)
        for token in free[0, 1:]
        if int(token) not in {*free[1].tolist(), int(free[0, 0])}
    )
    place = free[0].tolist().index(stop)
    written = generate(
        model.language,
        embeddings,
        mask,
        stop_ids=(stop,),
        pad_id=pad,
        max_new_tokens=6,
        beams=1,
    )
    assert written[0].tolist() == [*free[0, : place + 1].tolist(), *[pad] * (5 - place)]
    assert torch.equal(written[1], free[1])


def test_inserting_makes_room_for_each_images_tokens() -> None:
    embeddings = torch.arange(4.0)[:, None]
    ids = torch.tensor([5, 9, 6, 9])
    visual = [torch.tensor([[10.0], [11.0]]), torch.tensor([[20.0], [21.0], [22.0]])]
    spliced = splice_inserting(embeddings, ids, visual, 9)
    assert spliced[:, 0].tolist() == [0, 10, 11, 2, 20, 21, 22]


def test_covering_takes_the_places_that_the_prompt_keeps() -> None:
    embeddings = torch.arange(7.0)[:, None]
    ids = torch.tensor([5, 9, 8, 6, 9, 8, 7])
    visual = [torch.tensor([[10.0], [11.0]]), torch.tensor([[20.0], [21.0]])]
    spliced = splice_covering(embeddings, ids, visual, 9)
    assert spliced[:, 0].tolist() == [0, 10, 11, 3, 20, 21, 6]
    assert embeddings[:, 0].tolist() == list(range(7))


@pytest.mark.parametrize("splice", [splice_inserting, splice_covering])
def test_a_prompt_with_another_number_of_images_is_an_error(splice: object) -> None:
    with pytest.raises(ValueError, match="zip"):
        splice(torch.zeros(3, 1), torch.tensor([1, 9, 2]), [], 9)  # type: ignore[operator]
