"""A checkpoint into the model: strict keys, one tensor at a time, and a vision tower that is
shared."""

from __future__ import annotations

import json
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from made_checkpoints.xgenmm import TOWER, make_xgenmm, write_shards
from safetensors.torch import load_file
from torch import Tensor
from transformers import SiglipVisionConfig, SiglipVisionModel

from regard.core.errors import ModelError
from regard.models.checkpoints.placement import Placement
from regard.models.checkpoints.source import Checkpoint
from regard.models.checkpoints.tensors import TensorFiles
from regard.models.xgenmm.config import read_config
from regard.models.xgenmm.loading import load_model
from regard.models.xgenmm.model import XGenMM

pytestmark = pytest.mark.slow

CPU = Placement(torch.device("cpu"), torch.float32)
HALF = Placement(torch.device("cpu"), torch.bfloat16)


def load(folder: Path, placement: Placement = CPU, tower: Any = None) -> XGenMM:
    checkpoint = Checkpoint(folder)
    return load_model(checkpoint, read_config(checkpoint), placement, tower)


def tensors_of(folder: Path) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for shard in sorted(folder.glob("*.safetensors")):
        tensors |= load_file(shard)
    return tensors


def siglip(seed: int = 5, **changes: Any) -> SiglipVisionModel:
    """An encoder's vision tower, with weights of its own."""
    torch.manual_seed(seed)
    untyped: Any = SiglipVisionModel
    tower: SiglipVisionModel = untyped(SiglipVisionConfig(**{**TOWER, **changes}))
    with torch.no_grad():
        for weight in tower.parameters():
            weight.normal_(std=0.2)
    return tower.eval()


def test_every_tensor_of_the_shards_is_in_the_model(tmp_path: Path) -> None:
    folder = make_xgenmm(tmp_path / "made")
    assert len(list(folder.glob("*.safetensors"))) == 2
    model = load(folder)
    tensors = tensors_of(folder)
    prefixes = {
        "tower": "vision_encoder",
        "resampler": "vision_tokenizer",
        "language": "lang_model",
    }
    used = model.config.language.initial_tokenizer_len
    for name, tensor in model.state_dict().items():
        part, _, rest = name.partition(".")
        published = tensors[f"vlm.{prefixes[part]}.{rest}"]
        if rest.startswith(("model.embed_tokens", "lm_head")):
            assert torch.equal(tensor[:used], published[:used]), name
        else:
            assert torch.equal(tensor, published), name
    assert not any(weight.requires_grad for weight in model.parameters())


def test_weights_are_read_in_the_placements_dtype(tmp_path: Path) -> None:
    model = load(make_xgenmm(tmp_path / "made"), HALF)
    assert {weight.dtype for weight in model.parameters()} == {torch.bfloat16}
    # Rotary frequencies in bfloat16 would lose positions.
    assert model.language.model.rotary_emb.inv_freq.dtype == torch.float32


Change = Callable[[dict[str, Tensor]], object]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda tensors: tensors.pop("vlm.vision_tokenizer.norm.bias"),
            r"has other keys than its model: 1 missing, such as vlm\.vision_tokenizer\.norm\.bias",
        ),
        (
            lambda tensors: tensors.pop("vlm.lang_model.lm_head.bias"),
            r"1 missing, such as vlm\.lang_model\.lm_head\.bias",
        ),
        (
            lambda tensors: tensors.update({"vlm.projector.weight": torch.zeros(2)}),
            r"1 unknown, such as vlm\.projector\.weight",
        ),
        (
            lambda tensors: tensors.update({"vlm.vision_tokenizer.latents": torch.zeros(4, 24)}),
            r"latents of shape \[4, 24\] where its model has \[3, 24\]",
        ),
        (
            lambda tensors: tensors.update(
                {"vlm.lang_model.lm_head.additional_fc.bias": torch.zeros(2)}
            ),
            r"additional_fc\.bias of shape \[2\] where its model has \[3\]",
        ),
        (
            lambda tensors: tensors.update(
                {"vlm.vision_encoder.conv1.weight": torch.zeros(2, 3, 14, 14)}
            ),
            "holds xGen-MM v1, whose vision tower is another; take a checkpoint whose name ends in",
        ),
    ],
)
def test_other_keys_or_shapes_are_refused_in_one_sentence(
    tmp_path: Path, change: Change, message: str
) -> None:
    folder = make_xgenmm(tmp_path / "made")
    tensors = tensors_of(folder)
    change(tensors)
    write_shards(folder, tensors)
    with pytest.raises(ModelError, match=message) as raised:
        load(folder)
    assert "\n" not in str(raised.value)


def test_no_more_than_one_tensor_exists_beside_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_xgenmm(tmp_path / "made")
    alive: list[weakref.ref[Tensor]] = []
    most = 0
    read = TensorFiles.read

    def watched(
        self: TensorFiles, names: Callable[[str], bool], placement: Placement
    ) -> Iterator[tuple[str, Tensor]]:
        nonlocal most
        for name, tensor in read(self, names, placement):
            alive.append(weakref.ref(tensor))
            most = max(most, sum(one() is not None for one in alive))
            yield name, tensor
            del tensor

    monkeypatch.setattr(TensorFiles, "read", watched)
    model = load(folder, HALF)
    assert len(alive) == len(tensors_of(folder))
    assert most == 1
    assert sum(weight.numel() for weight in model.parameters()) > 0


def test_a_tower_with_the_same_weights_is_used_and_no_second_one_made(tmp_path: Path) -> None:
    tower = siglip()
    folder = make_xgenmm(tmp_path / "made", tower_state=tower.state_dict())
    shared = load(folder, tower=tower)
    assert shared.tower is tower
    own = load(folder)
    pixels = torch.randn(2, 3, TOWER["image_size"], TOWER["image_size"])
    assert torch.equal(shared.features(pixels), own.features(pixels))


def test_the_pooling_head_may_differ(tmp_path: Path) -> None:
    tower = siglip()
    without_head = {
        name: tensor for name, tensor in tower.state_dict().items() if not name.startswith("head.")
    }
    folder = make_xgenmm(tmp_path / "made", tower_state=without_head)
    assert load(folder, tower=tower).tower is tower


def test_weights_are_compared_in_the_dtype_that_is_computed_in(tmp_path: Path) -> None:
    tower = siglip()
    folder = make_xgenmm(tmp_path / "made", tower_state=tower.state_dict())
    rounded = siglip().to(torch.bfloat16)
    assert load(folder, HALF, rounded).tower is rounded
    assert load(folder, CPU, rounded).tower is not rounded


def test_another_tower_is_left_alone(tmp_path: Path) -> None:
    tower = siglip()
    folder = make_xgenmm(tmp_path / "made", tower_state=tower.state_dict())
    one_number = siglip()
    with torch.no_grad():
        one_number.post_layernorm.bias[3] += 1e-3
    more_heads = siglip(num_attention_heads=4)
    deeper = siglip(num_hidden_layers=3)
    for other in (one_number, more_heads, deeper, siglip(seed=6), torch.nn.Linear(2, 2)):
        model = load(folder, tower=other)
        assert model.tower is not other
        held = model.tower.state_dict()
        assert all(torch.equal(held[name], tensor) for name, tensor in tower.state_dict().items())


def test_base_and_instruct_are_told_apart_by_their_preprocessing(tmp_path: Path) -> None:
    instruct = read_config(Checkpoint(make_xgenmm(tmp_path / "instruct")))
    base = read_config(Checkpoint(make_xgenmm(tmp_path / "base", instruct=False)))
    assert instruct.instruct
    assert not base.instruct
    assert replace(base, instruct=True) == instruct
    assert len(instruct.stop_ids) == 2
    assert len(base.stop_ids) == 3


def test_without_a_preprocessing_file_the_config_decides(tmp_path: Path) -> None:
    folder = make_xgenmm(tmp_path / "made", instruct=False)
    (folder / "preprocessor_config.json").unlink()
    assert read_config(Checkpoint(folder)).instruct
    change(folder / "config.json", "vision_encoder_config", {"image_aspect_ratio": "pad"})
    assert not read_config(Checkpoint(folder)).instruct


@pytest.mark.parametrize("said", ["a list", "nothing", "null"])
def test_grids_tell_base_and_instruct_apart(tmp_path: Path, said: str) -> None:
    folder = make_xgenmm(tmp_path / "made")
    path = folder / "preprocessor_config.json"
    document = json.loads(path.read_text())
    listed = document.pop("grids")
    if said == "a list":
        document["grids"] = listed[1:]
    elif said == "null":
        document["grids"] = None
    path.write_text(json.dumps(document))
    config = read_config(Checkpoint(folder))
    assert config.instruct == (said != "null")
    first = 1 if said == "a list" else 0
    assert config.pinpoints == tuple(map(tuple, listed[first:]))
    # Without the key it is the config that says whether the model sees tiles.
    change(folder / "config.json", "vision_encoder_config", {"image_aspect_ratio": "pad"})
    assert not read_config(Checkpoint(folder)).instruct


def change(path: Path, key: str, value: object) -> None:
    document = json.loads(path.read_text())
    document[key] = value
    path.write_text(json.dumps(document))
