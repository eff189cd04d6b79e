"""xGen-MM against figures of the published code: layout, preprocessing, and every step to text.

All sizes, names of cases and expectations come from the files of the folder; another set may have
others.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from parity_formulas import formula_image
from safetensors.torch import load_file
from torch import Tensor, nn

from regard.core.records import Image
from regard.models.checkpoints.placement import Placement
from regard.models.checkpoints.source import Checkpoint
from regard.models.xgenmm.anyres import choose_resolution, grid_of, key_mask
from regard.models.xgenmm.captioner import XGenMMCaptioner
from regard.models.xgenmm.config import PAD, XGenMMConfig, read_config
from regard.models.xgenmm.loading import load_model, make_on_meta, published_shapes
from regard.models.xgenmm.model import XGenMM, generate
from regard.models.xgenmm.prompting import XGenMMParameters

pytestmark = pytest.mark.slow

CPU = Placement(torch.device("cpu"), torch.float32)


class Ids:
    """Stands for a tokenizer where prompts are ids already; the tiny checkpoint has none."""

    def encode(self, prompt: str) -> list[int]:
        return []

    def caption(self, ids: list[int]) -> str:
        return " ".join(map(str, ids))


@pytest.fixture(scope="module")
def folder(parity_dir: Path) -> Path:
    return parity_dir / "xgenmm"


@pytest.fixture(scope="module")
def figures(folder: Path) -> Mapping[str, Any]:
    return dict(json.loads((folder / "cases.json").read_text()))


@pytest.fixture(scope="module")
def tensors(folder: Path) -> Mapping[str, Tensor]:
    return load_file(folder / "cases.safetensors")


@pytest.fixture(scope="module")
def config(folder: Path) -> XGenMMConfig:
    return read_config(Checkpoint(folder))


@dataclass
class Models:
    """The checkpoint as each case wants it; base and instruct have the same config."""

    folder: Path
    config: XGenMMConfig
    loaded: dict[str, XGenMM] = field(default_factory=dict)

    def of(self, case: Mapping[str, Any], splicing: str) -> XGenMM:
        """Base or instruct by the splicing, the language model as the case changes it."""
        assert splicing in {"instruct", "base"}
        changes = case.get("text_config_change", {})
        key = f"{splicing} {changes}"
        if key not in self.loaded:
            config = replace(
                self.config,
                instruct=splicing == "instruct",
                language=replace(self.config.language, **changes),
            )
            self.loaded[key] = load_model(Checkpoint(self.folder), config, CPU)
        return self.loaded[key]


@pytest.fixture(scope="module")
def models(folder: Path, config: XGenMMConfig) -> Models:
    return Models(folder, config)


@pytest.fixture(scope="module")
def model(models: Models) -> XGenMM:
    """The instruct model, whatever the set's files say of tiles."""
    return models.of({}, "instruct")


@pytest.fixture(scope="module")
def base_model(models: Models) -> XGenMM:
    return models.of({}, "base")


def assert_close(found: Tensor, expected: Tensor) -> None:
    """The tolerance that the figures come with."""
    assert found.shape == expected.shape
    distance = (found - expected).abs().max()
    assert distance <= 1e-5 * expected.abs().max(), float(distance)


def source_of(figures: Mapping[str, Any], name: str) -> str:
    """The case whose inputs a case has."""
    return str(figures["cases"][name].get("same_inputs_as", name))


def cases_of(figures: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {name: case for name, case in figures["cases"].items() if "splicing" in case}


def image_tokens(
    name: str,
    which: XGenMM,
    tensors: Mapping[str, Tensor],
    figures: Mapping[str, Any],
) -> Tensor:
    size = tuple(figures["cases"]["images"][name]["size"])
    pixels = tensors[f"pixels.{name}"]
    return which.visual_tokens(which.features(pixels.view(-1, *pixels.shape[-3:])), size)


def spliced(
    name: str,
    which: XGenMM,
    tensors: Mapping[str, Tensor],
    figures: Mapping[str, Any],
) -> tuple[Tensor, Tensor]:
    """A case's embeddings and mask, from its prompt without padding."""
    case = figures["cases"][name]
    prompts = [
        ids[mask.bool()].tolist()
        for ids, mask in zip(
            tensors[f"{name}.input_ids"], tensors[f"{name}.attention_mask"], strict=True
        )
    ]
    visual = [[image_tokens(key, which, tensors, figures) for key in row] for row in case["images"]]
    return which.embed(prompts, visual)


def shown(rows: Tensor, mask: Tensor) -> list[Tensor]:
    """Each row's positions that are not padding."""
    return [row[keep.bool()] for row, keep in zip(rows, mask, strict=True)]


def positions(mask: Tensor) -> Tensor:
    return (mask.cumsum(-1) - 1).clamp(min=0)


def test_parity_every_key_and_shape_of_the_published_checkpoint(
    parity_dir: Path, tmp_path: Path
) -> None:
    lines = (parity_dir / "keys" / "xgenmm-v1.5.txt").read_text().splitlines()
    published = {
        name: tuple(json.loads(shape)) for name, shape in (line.split(" ", 1) for line in lines)
    }
    expected = published_shapes(full_size(tmp_path))
    assert dict(expected) == published
    assert len(published) == 718
    assert sum(map(math.prod, published.values())) == 4_359_257_219


def test_parity_parameter_counts_of_the_full_size_model(tmp_path: Path) -> None:
    model = make_on_meta(full_size(tmp_path))
    assert count(model.tower) == 428_225_600
    assert count(model.resampler) == 109_901_568
    merged = model.config.language
    unused = merged.vocab_size - merged.initial_tokenizer_len
    # The main tables' rows above the tokenizer (embedding, head, its bias) are left out.
    dropped = unused * (2 * merged.hidden_size + 1)
    assert count(model) == 4_359_257_219 - dropped


def count(part: nn.Module) -> int:
    return sum(weight.numel() for weight in part.parameters())


def full_size(folder: Path) -> XGenMMConfig:
    """The published config, which names next to nothing."""
    document = {
        "model_type": "xgenmm",
        "text_config": {
            "initial_tokenizer_len": 32012,
            "model_type": "phi3",
            "sliding_window": 2047,
            "torch_dtype": "bfloat16",
        },
        "vision_encoder_config": {
            "anyres_patch_sampling": True,
            "image_aspect_ratio": "anyres",
            "model_type": "xgenmm_vision_encoder",
        },
        "vision_tokenizer_config": {"model_type": "xgenmm_vision_tokenizer"},
    }
    (folder / "config.json").write_text(json.dumps(document))
    return read_config(Checkpoint(folder))


def test_parity_resampler(
    model: XGenMM, tensors: Mapping[str, Tensor], figures: Mapping[str, Any]
) -> None:
    features, mask = tensors["resampler.features"], tensors["resampler.key_mask"]
    facts = figures["cases"].get("resampler", {})
    visible = mask.sum(dim=1).tolist()
    assert visible == facts.get("visible_keys_per_row", visible)
    with torch.inference_mode():
        tokens = model.resampler(features)
        assert_close(tokens, tensors["resampler.tokens"])
        check_spread(tokens, facts.get("tokens_std"))
        assert_close(model.resampler(features, mask), tensors["resampler.tokens_masked"])


def check_spread(found: Tensor, expected: float | None) -> None:
    """The standard deviation of what was found, where the figures tell one."""
    assert expected is None or float(found.std()) == pytest.approx(expected, rel=1e-5)


def test_parity_sizes(config: XGenMMConfig, figures: Mapping[str, Any]) -> None:
    tower = config.tower
    assert figures["base_size"] == tower.image_size
    assert figures["patch_size"] == tower.patch_size
    assert figures["tokens_per_image_side"] == tower.tokens_per_side


def check_groups(config: XGenMMConfig, size: tuple[int, int], facts: Mapping[str, Any]) -> None:
    """Resolution, groups and their masks, as the figures tell them of an image."""
    tower = config.tower
    assert facts["groups"] > 1, "of a whole view alone there is nothing to choose"
    resolution = choose_resolution(size, config.pinpoints)
    assert list(resolution) == facts["resolution"]
    visible = key_mask(size, grid_of(resolution, tower.image_size), tower.tokens_per_side)
    assert len(visible) == facts["groups"]
    assert (~visible).sum(axis=1).tolist() == facts["masked_keys_per_group"]


def test_parity_preprocessing(
    model: XGenMM, base_model: XGenMM, tensors: Mapping[str, Tensor], figures: Mapping[str, Any]
) -> None:
    tiled, whole = (
        XGenMMCaptioner(which, CPU, Ids(), XGenMMParameters())  # type: ignore[arg-type]
        for which in (model, base_model)
    )
    for name, facts in figures["cases"]["images"].items():
        pixels = tensors[f"image_u8.{name}"].numpy()
        made = formula_image(*facts["size"], facts["salt"])
        assert np.array_equal(made, pixels)
        assert hashlib.sha256(made.tobytes()).hexdigest() == facts["sha256"]
        expected = tensors[f"pixels.{name}"]
        captioner = tiled if facts["groups"] > 1 else whole
        tiles = captioner.prepare(Image(pixels))
        assert tiles.size == tuple(facts["size"])
        assert len(tiles.pixels) == facts["groups"]
        assert facts["visual_tokens"] == facts["groups"] * model.config.resampler.num_vis_tokens
        if captioner is tiled:
            check_groups(model.config, tiles.size, facts)
        else:
            assert facts["resolution"] == [model.config.tower.image_size] * 2
        assert_close(tiles.pixels.view_as(expected), expected)


def test_parity_one_image_step_by_step(
    model: XGenMM, tensors: Mapping[str, Tensor], figures: Mapping[str, Any]
) -> None:
    facts = figures["cases"]["image"]
    name = facts["image"]
    image = figures["cases"]["images"][name]
    size = tuple(image["size"])
    check_groups(model.config, size, {**image, **facts})
    assert torch.equal(tensors["image.pixel_values"], tensors[f"pixels.{name}"])
    features = model.features(tensors["image.pixel_values"])
    assert_close(features, tensors["image.tower_features"])
    groups, visible = model.groups(features, size)
    assert_close(groups, tensors["image.groups"])
    differs = not torch.equal(groups, features)
    assert differs == facts.get("recut_differs_from_tiles", differs)
    assert visible is not None
    assert torch.equal(visible, tensors["image.key_mask"])
    assert_close(model.visual_tokens(features, size), tensors["image.visual_tokens"])


def test_parity_visual_tokens(
    model: XGenMM, tensors: Mapping[str, Tensor], figures: Mapping[str, Any]
) -> None:
    names = [key.removeprefix("tokens.") for key in tensors if key.startswith("tokens.")]
    assert names
    for name in names:
        tokens = image_tokens(name, model, tensors, figures)
        assert len(tokens) == figures["cases"]["images"][name]["visual_tokens"]
        assert_close(tokens, tensors[f"tokens.{name}"])


def test_parity_embeddings_positions_and_logits_of_every_case(
    models: Models, tensors: Mapping[str, Tensor], figures: Mapping[str, Any]
) -> None:
    for name, case in cases_of(figures).items():
        which = models.of(case, case["splicing"])
        embeddings, mask = spliced(name, which, tensors, figures)
        expected_mask = tensors[f"{name}.spliced_attention_mask"]
        assert expected_mask.shape[1] == case.get("sequence_length", expected_mask.shape[1])
        assert mask.sum(dim=1).tolist() == expected_mask.sum(dim=1).tolist()
        compare(shown(embeddings, mask), shown(tensors[f"{name}.inputs_embeds"], expected_mask))
        for found, expected in zip(
            shown(positions(mask), mask),
            shown(tensors[f"{name}.position_ids"], expected_mask),
            strict=True,
        ):
            assert torch.equal(found, expected)
        logits = forward(which, embeddings, mask)
        compare(shown(logits, mask), shown(tensors[f"{name}.logits"], expected_mask))
        check_spread(torch.cat(shown(logits, mask)), case.get("logits_std"))


def test_parity_greedy_continuations(
    models: Models, tensors: Mapping[str, Tensor], figures: Mapping[str, Any]
) -> None:
    cases = figures["cases"]
    names = [
        key.removesuffix(".generated_ids") for key in tensors if key.endswith(".generated_ids")
    ]
    told = {name for name, case in cases.items() if "generated_ids" in case}
    assert told <= set(names)
    assert names
    for name in names:
        case, source = cases[name], source_of(figures, name)
        expected = tensors[f"{name}.generated_ids"].tolist()
        assert case.get("generated_ids", expected) == expected, name
        which = models.of(case, cases[source]["splicing"])
        embeddings, mask = spliced(source, which, tensors, figures)
        pad = which.config.token_ids[PAD]
        width = len(expected[0])
        assert case.get("max_new_tokens", width) == width
        found = generate(
            which.language,
            embeddings,
            mask,
            stop_ids=tuple(case["stop_token_ids"]),
            pad_id=pad,
            max_new_tokens=width,
            beams=1,
        ).tolist()
        assert [row + [pad] * (width - len(row)) for row in found] == expected, name


def test_parity_sliding_window_acts(
    models: Models, tensors: Mapping[str, Tensor], figures: Mapping[str, Any]
) -> None:
    cases: Mapping[str, Mapping[str, Any]] = figures["cases"]
    names = [name for name, case in cases.items() if "text_config_change" in case]
    assert names
    for name in names:
        case, source = cases[name], source_of(figures, name)
        which = models.of(case, cases[source]["splicing"])
        embeddings, mask = spliced(source, which, tensors, figures)
        logits = forward(which, embeddings, mask)
        expected_mask = tensors[f"{source}.spliced_attention_mask"]
        expected = tensors[f"{name}.logits"]
        compare(shown(logits, mask), shown(expected, expected_mask))
        difference = float((expected - tensors[f"{source}.logits"]).abs().max())
        for key, figure in case.items():
            if key.startswith("largest_difference_from_"):
                assert abs(difference - figure) <= 1e-5 * float(expected.abs().max())


def test_parity_stop_ids_are_among_the_configs(models: Models, figures: Mapping[str, Any]) -> None:
    for case in cases_of(figures).values():
        config = replace(models.config, instruct=case["splicing"] == "instruct")
        assert set(case["stop_token_ids"]) <= set(config.stop_ids)


def compare(found: Sequence[Tensor], expected: Sequence[Tensor]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert_close(one, other)


@torch.inference_mode()
def forward(model: XGenMM, embeddings: Tensor, mask: Tensor) -> Tensor:
    logits: Tensor = model.language(
        inputs_embeds=embeddings, attention_mask=mask, position_ids=positions(mask)
    ).logits
    assert np.isfinite(logits.numpy()).all()
    return logits
