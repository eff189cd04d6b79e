"""SAM2-UNet checkpoints on disk: what is loaded, what a part tells of them, what is refused."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from made_checkpoints.sam2unet import State, make_sam2unet, sam2unet_state, write_state

from regard.core.errors import ModelError
from regard.core.records import Image
from regard.models.checkpoints.placement import Placement
from regard.models.checkpoints.source import ModelSource
from regard.models.parts import PartDefinition
from regard.models.sam2unet.loading import load_network, published_key
from regard.models.sam2unet.part import Sam2UNetPart
from regard.models.sam2unet.weights import Layout, layout_of

pytestmark = pytest.mark.slow

CPU = Placement(torch.device("cpu"), torch.float32)


def part(path: Path | None, **parameters: object) -> Sam2UNetPart:
    source = ModelSource(path=path, profile="mine") if path else None
    return Sam2UNetPart(
        PartDefinition(
            "sam2unet", "profile mine, segmenter", source, device="cpu", parameters=parameters
        )
    )


def photo(seed: int = 0) -> Image:
    return Image(np.random.default_rng(seed).integers(0, 256, (60, 90, 3), dtype=np.uint8))


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_every_tensor_of_a_file_lands_in_its_place(tmp_path: Path, suffix: str) -> None:
    state = sam2unet_state(seed=3)
    file = tmp_path / f"SAM2UNet{suffix}"
    write_state(state, file)
    loaded = load_network(file, CPU).state_dict()
    found = {published_key(name): tensor for name, tensor in loaded.items()}
    assert found.keys() == {key for key in state if not key.startswith("up4.")}
    for key, tensor in found.items():
        assert torch.equal(tensor, state[key])


def test_the_decoder_step_that_is_never_used_may_be_missing(tmp_path: Path) -> None:
    state = sam2unet_state()
    write_state(state, tmp_path / "whole.pth")
    write_state({k: v for k, v in state.items() if not k.startswith("up4.")}, tmp_path / "less.pth")
    [whole] = part(tmp_path / "whole.pth").load().saliency([photo()])
    [less] = part(tmp_path / "less.pth").load().saliency([photo()])
    np.testing.assert_array_equal(whole, less)


def test_half_precision_files_are_computed_in_the_parts_precision(tmp_path: Path) -> None:
    state = {k: v.half() if v.is_floating_point() else v for k, v in sam2unet_state().items()}
    write_state(state, tmp_path / "half.pth")
    network = load_network(tmp_path / "half.pth", CPU)
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    ("width", "depths", "window", "heads", "windows", "blocks"),
    [
        (96, (1, 2, 7, 2), 8, (1, 2, 4, 8), (8, 4, 14, 7), (5, 7, 9)),
        (96, (1, 2, 11, 2), 8, (1, 2, 4, 8), (8, 4, 14, 7), (7, 10, 13)),
        (112, (2, 3, 16, 3), 8, (2, 4, 8, 16), (8, 4, 14, 7), (12, 16, 20)),
        (144, (2, 6, 36, 4), 8, (2, 4, 8, 16), (8, 4, 16, 8), (23, 33, 43)),
        (16, (1, 1, 1, 1), 4, (1, 2, 4, 8), (4, 2, 8, 4), ()),
        (16, (1, 1, 3, 1), 4, (1, 2, 4, 8), (4, 2, 8, 4), (3, 4)),
    ],
    ids=["tiny", "small", "base plus", "large", "made flat", "made"],
)
def test_what_shapes_do_not_tell_is_as_in_the_trunks_of_sam2(
    width: int,
    depths: tuple[int, ...],
    window: int,
    heads: tuple[int, ...],
    windows: tuple[int, ...],
    blocks: tuple[int, ...],
) -> None:
    shapes: dict[str, tuple[int, ...]] = {
        "encoder.pos_embed": (1, width, 7, 7),
        "encoder.pos_embed_window": (1, width, window, window),
        "encoder.blocks.0.block.mlp.layers.0.weight": (4 * width, width),
        "encoder.blocks.0.prompt_learn.0.weight": (32, width),
        "head.weight": (1, 64, 1, 1),
    }
    start = 0
    for stage, depth in enumerate(depths):
        if stage:
            key = f"encoder.blocks.{start}.block.proj.weight"
            shapes[key] = (width << stage, width << (stage - 1))
        for block in range(start, start + depth):
            shapes[f"encoder.blocks.{block}.block.norm2.weight"] = (width << stage,)
        start += depth
    assert layout_of("a trunk", shapes) == Layout(
        widths=tuple(width << stage for stage in range(4)),
        depths=depths,
        heads=heads,
        windows=windows,
        global_blocks=blocks,
        background=(7, 7),
        mlp_ratio=4.0,
        adapter_width=32,
        decoder_width=64,
    )


def without(key: str) -> Callable[[State], object]:
    return lambda state: {name: value for name, value in state.items() if name != key}


def changed(key: str, change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[State], object]:
    return lambda state: {**state, key: change(state[key])}


WRONG: dict[str, tuple[Callable[[State], object], str]] = {
    "a missing counter": (without("up1.conv.double_conv.1.num_batches_tracked"), "1 missing"),
    "a missing adapter": (without("encoder.blocks.3.prompt_learn.2.bias"), "1 missing"),
    "a missing block": (
        lambda state: {k: v for k, v in state.items() if ".blocks.3." not in k},
        "lacks encoder.blocks.3",
    ),
    "a missing stage": (
        lambda state: {k: v for k, v in state.items() if ".blocks.7." not in k},
        "3 stages instead of 4",
    ),
    "no position embedding": (without("encoder.pos_embed"), "lacks encoder.pos_embed"),
    "a surplus key": (lambda s: {**s, "up5.conv.weight": torch.ones(1)}, "1 unknown, such as up5"),
    "a surplus key inside a block": (
        lambda s: {**s, "encoder.blocks.0.block.attn.rel_pos": torch.ones(1)},
        "1 unknown, such as encoder.blocks.0",
    ),
    "another rank": (changed("encoder.pos_embed", lambda w: w[0]), "has the shape"),
    "other windows": (
        changed("encoder.pos_embed_window", lambda w: w[..., :6, :6].clone()),
        "windows of 6 tokens",
    ),
    "whole numbers": (changed("head.weight", lambda w: w.to(torch.int32)), "whole numbers"),
    "prefixed keys": (lambda s: {f"module.{k}": v for k, v in s.items()}, "not a state dict of"),
    "a training checkpoint": (lambda s: {"model": s, "epoch": 3}, "other things than tensors"),
    "a list": (lambda s: list(s.values()), "other things than tensors"),
    "nothing": (lambda _: {}, "lacks encoder.pos_embed"),
    "a sparse tensor": (changed("head.weight", lambda w: w.to_sparse()), "other things"),
    "a module": (lambda _: torch.nn.Linear(1, 1), "names code"),
}


def assert_one_sentence(error: ModelError, file: Path) -> None:
    assert str(file) in error.message
    assert "\n" not in str(error)
    assert not re.search(r"[.!?]\s+[A-Z]", error.message)


@pytest.mark.parametrize("case", WRONG)
def test_a_state_dict_of_anything_else_is_refused_in_one_sentence(
    tmp_path: Path, case: str
) -> None:
    change, words = WRONG[case]
    file = tmp_path / "SAM2UNet.pth"
    torch.save(change(sam2unet_state()), file)
    with pytest.raises(ModelError, match=re.escape(words)) as refused:
        part(file).load()
    assert_one_sentence(refused.value, file)
    if case != "whole numbers":
        with pytest.raises(ModelError, match=re.escape(words)):
            part(file).needs()


class Opens:
    """A pickle of this would make a file when loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (open, (str(self.path), "w"))


def test_code_in_a_pickle_is_refused_and_never_run(tmp_path: Path) -> None:
    file, trace = tmp_path / "SAM2UNet.pth", tmp_path / "trace"
    torch.save({**sam2unet_state(), "up4.extra": Opens(trace)}, file)
    with pytest.raises(ModelError, match="names code") as refused:
        part(file).load()
    assert_one_sentence(refused.value, file)
    file.write_bytes(pickle.dumps(Opens(trace)))
    with pytest.raises(ModelError) as refused:
        part(file).load()
    assert_one_sentence(refused.value, file)
    assert not trace.exists()


@pytest.mark.parametrize("content", [b"<html>404</html>", b"PK\x03\x04", bytes(5000)])
def test_a_file_of_another_kind_is_refused_in_one_sentence(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "SAM2UNet.pth"
    file.write_bytes(content)
    with pytest.raises(ModelError, match="damaged") as refused:
        part(file).load()
    assert_one_sentence(refused.value, file)


def test_damage_in_the_head_of_a_file_is_a_model_error_wherever_it_lies(tmp_path: Path) -> None:
    file = make_sam2unet(tmp_path / "SAM2UNet.pth", width=4, depths=(1, 1, 1, 1))
    content = bytearray(file.read_bytes())
    start = content.index(b"data.pkl")
    for place in range(start, start + 2000, 83):
        damaged = bytearray(content)
        damaged[place] ^= 0x5A
        file.write_bytes(damaged)
        try:
            part(file).load()
        except ModelError as error:
            assert_one_sentence(error, file)


def test_a_folder_with_one_file_is_that_file(tmp_path: Path) -> None:
    file = make_sam2unet(tmp_path / "SAM2UNet-COD.pth")
    (tmp_path / "README.md").write_text("weights")
    assert part(tmp_path).names() == part(file).names()
    [alone], [inside] = (part(path).load().saliency([photo()]) for path in (file, tmp_path))
    np.testing.assert_array_equal(alone, inside)


def test_what_file_is_wanted_is_said_when_it_is_missing(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent.pth"):
        for attempt in (part(path).names, part(path).needs, part(path).load):
            with pytest.raises(ModelError, match=r"SAM2UNet-COD\.pth") as refused:
                attempt()
            assert_one_sentence(refused.value, path)


def test_a_folder_with_two_files_names_them(tmp_path: Path) -> None:
    make_sam2unet(tmp_path / "SAM2UNet-COD.pth")
    make_sam2unet(tmp_path / "SAM2UNet-MSD.safetensors")
    with pytest.raises(ModelError, match=r"SAM2UNet-COD\.pth, SAM2UNet-MSD\.safetensors"):
        part(tmp_path).needs()
