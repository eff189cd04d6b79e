"""Captions from a checkpoint on disk: base and instruct, batches, examples, and features handed
over."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from made_checkpoints.xgenmm import LATENTS, TOWER, make_xgenmm
from transformers import SiglipVisionConfig, SiglipVisionModel

from regard.core.errors import ModelError, UsageError
from regard.core.records import Image
from regard.models.checkpoints.source import ModelSource
from regard.models.parts import PartDefinition
from regard.models.xgenmm.captioner import XGenMMCaptioner
from regard.models.xgenmm.part import XGenMMPart
from regard.models.xgenmm.prompting import BASE_PROMPT, INSTRUCT_PROMPT

pytestmark = pytest.mark.slow

SIDE = int(TOWER["image_size"])


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("xgenmm")
    return {
        "instruct": make_xgenmm(root / "instruct"),
        "base": make_xgenmm(root / "base", instruct=False),
    }


def part(folder: Path, *, dtype: str = "float32", **parameters: Any) -> XGenMMPart:
    return XGenMMPart(
        PartDefinition(
            kind="xgenmm",
            where="profile test, captioner",
            source=ModelSource(path=folder, profile="test"),
            device="cpu",
            dtype=dtype,
            parameters={"max_new_tokens": 10, **parameters},
        )
    )


def images() -> list[Image]:
    generator = np.random.default_rng(0)
    sizes = [(40, 30), (30, 90), (64, 64), (7, 120), (200, 20)]
    return [
        Image(generator.integers(0, 256, (height, width, 3), dtype=np.uint8))
        for width, height in sizes
    ]


@pytest.mark.parametrize("kind", ["instruct", "base"])
def test_a_batch_is_captioned_as_one_by_one(folders: dict[str, Path], kind: str) -> None:
    captioner = part(folders[kind], batch_size=3).load()
    together = captioner.caption(images())
    assert together == [captioner.caption([image])[0] for image in images()]
    assert any(together)
    assert len(set(together)) > 1, "the images make no difference"
    for caption in together:
        assert caption == " ".join(caption.split())
        assert "<" not in caption


def test_nothing_is_captioned_as_nothing(folders: dict[str, Path]) -> None:
    captioner = part(folders["instruct"]).load()
    assert captioner.caption([]) == []
    assert captioner.caption_features([], []) == []


def test_an_instruct_model_sees_the_whole_first_and_then_tiles(folders: dict[str, Path]) -> None:
    captioner = part(folders["instruct"]).load()
    image = images()[2]
    tiles = captioner.prepare(image)
    assert tiles.size == (64, 64)
    assert tiles.pixels.shape == (5, 3, SIDE, SIDE)
    assert tiles.pixels.dtype == torch.float32
    squashed = PIL.Image.fromarray(image.pixels).resize((SIDE, SIDE), PIL.Image.Resampling.BICUBIC)
    expected = torch.from_numpy(np.array(squashed, dtype=np.float32)).permute(2, 0, 1) / 127.5 - 1
    assert torch.allclose(tiles.pixels[0], expected, atol=1e-6)
    assert captioner.squash_size == (SIDE, SIDE)


@pytest.mark.parametrize(("kind", "tiles"), [("base", True), ("instruct", False)])
def test_one_view_where_there_are_no_tiles(
    folders: dict[str, Path], kind: str, tiles: bool
) -> None:
    captioner = part(folders[kind], tiles=tiles).load()
    assert captioner.prepare(images()[1]).pixels.shape == (1, 3, SIDE, SIDE)
    assert any(captioner.caption(images()))


def test_features_handed_over_give_the_same_captions(folders: dict[str, Path]) -> None:
    captioner = part(folders["instruct"], batch_size=2).load()
    tiles = [captioner.prepare(image) for image in images()]
    features = captioner.features(torch.cat([item.pixels for item in tiles]))
    width = TOWER["hidden_size"]
    assert features.shape == (sum(len(item.pixels) for item in tiles), 4, width)
    by_image = torch.split(features, [len(item.pixels) for item in tiles])
    captions = captioner.caption_features(by_image, [item.size for item in tiles])
    assert captions == captioner.caption(images())


class FullMemory(torch.nn.Module):
    """A tower before which a GPU's memory holds `room` tiles at once."""

    def __init__(self, tower: torch.nn.Module, room: int) -> None:
        super().__init__()
        self.tower, self.room, self.sizes = tower, room, list[int]()

    def forward(self, pixels: torch.Tensor) -> Any:
        self.sizes.append(len(pixels))
        if len(pixels) > self.room:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return self.tower(pixels)


def test_tiles_too_many_for_the_gpu_are_halved_until_they_fit(folders: dict[str, Path]) -> None:
    captioner = part(folders["instruct"], batch_size=8).load()
    pixels = torch.cat([captioner.prepare(image).pixels for image in images()])
    expected, captions = captioner.features(pixels), captioner.caption(images())
    tower = FullMemory(captioner.tower, room=3)
    captioner._model.tower = tower
    assert torch.allclose(captioner.features(pixels), expected, atol=1e-6)
    assert max(tower.sizes) == 8
    assert sum(size for size in tower.sizes if size <= 3) == len(pixels) > 8
    assert captioner.caption(images()) == captions
    tower.room = 0
    with pytest.raises(ModelError, match="a tile of an image does not fit"):
        captioner.caption(images())


def test_the_tower_of_an_encoder_is_used_where_it_is_the_same(tmp_path: Path) -> None:
    torch.manual_seed(1)
    untyped: Any = SiglipVisionModel
    tower = untyped(SiglipVisionConfig(**TOWER)).eval()
    folder = make_xgenmm(tmp_path / "made", tower_state=tower.state_dict())
    alone, beside = part(folder).load(), part(folder).load_beside(SimpleNamespace(tower=tower))  # type: ignore[arg-type]
    assert beside.tower is tower
    assert alone.tower is not tower
    assert beside.caption(images()) == alone.caption(images())
    blind: Any = SimpleNamespace()
    assert part(folder).load_beside(blind).tower is not tower


@pytest.mark.parametrize("kind", ["instruct", "base"])
def test_examples_come_before_the_image(
    folders: dict[str, Path], kind: str, tmp_path: Path
) -> None:
    examples = written_examples(tmp_path)
    without = part(folders[kind]).load()
    shown = part(folders[kind], examples=examples, batch_size=2).load()
    captions = shown.caption(images())
    assert captions == [shown.caption([image])[0] for image in images()]
    assert captions != without.caption(images())
    turned = part(folders[kind], examples=examples[::-1]).load()
    assert captions != turned.caption(images())


def test_beams_and_prompt_change_what_is_written(folders: dict[str, Path]) -> None:
    plain = part(folders["instruct"]).load().caption(images())
    assert plain != part(folders["instruct"], beams=4).load().caption(images())
    assert plain != part(folders["instruct"], prompt="two dogs").load().caption(images())
    assert plain == part(folders["instruct"], prompt=INSTRUCT_PROMPT).load().caption(images())


def test_bfloat16_captions(folders: dict[str, Path]) -> None:
    captioner = part(folders["instruct"], dtype="bfloat16").load()
    assert len(captioner.caption(images())) == len(images())
    assert captioner.features(torch.zeros(1, 3, SIDE, SIDE)).dtype == torch.bfloat16


def test_needs_reads_no_weights_and_counts_them(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("weights were read")

    monkeypatch.setattr("regard.models.checkpoints.tensors.TensorFiles.read", refuse)
    (need,) = part(folders["instruct"]).needs()
    (half,) = part(folders["instruct"], dtype="bfloat16").needs()
    (more,) = part(folders["instruct"], batch_size=16).needs()
    stored = sum(file.stat().st_size for file in folders["instruct"].glob("*.safetensors"))
    assert need.device == "cpu"
    assert need.count > stored * 0.9
    assert half.count == need.count // 2
    assert more.count > need.count


def test_needs_finds_what_would_fail(folders: dict[str, Path], tmp_path: Path) -> None:
    missing = [{"image": str(tmp_path / "no such.png"), "caption": "a cat"}]
    with pytest.raises(ModelError, match=r"the example image .*no such\.png can't be read"):
        part(folders["base"], examples=missing).needs()
    with pytest.raises(ModelError, match=r"can't be read"):
        part(folders["base"], examples=missing).identity()
    many = written_examples(tmp_path) * 300
    with pytest.raises(ModelError, match=r"may take \d+ tokens, and the model reads 4096"):
        part(folders["base"], examples=many).needs()
    folder = make_xgenmm(tmp_path / "made")
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(ModelError, match=r"tokenizer\.json can't be loaded"):
        part(folder).needs()
    with pytest.raises(ModelError, match="does not exist"):
        part(tmp_path / "nowhere").needs()


def test_the_length_that_is_foretold_is_the_length_that_is_used(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a token less of room than the longest prompt and caption take, the profile is
    refused."""
    from regard.models.xgenmm import captioner as module

    lengths: list[int] = []
    generate = module.generate

    def measured(model: Any, embeddings: torch.Tensor, *rest: Any, **options: Any) -> Any:
        lengths.append(embeddings.shape[1])
        return generate(model, embeddings, *rest, **options)

    monkeypatch.setattr(module, "generate", measured)
    for kind in ("instruct", "base"):
        tried = part(folders[kind], examples=written_examples(tmp_path))
        tried.load().caption([images()[2]])  # four tiles, the most that there are
        longest = lengths[-1] + tried.parameters.max_new_tokens
        config = folders[kind] / "config.json"
        text = config.read_text()
        try:
            config.write_text(with_room(text, longest))
            part(folders[kind], examples=written_examples(tmp_path)).needs()
            config.write_text(with_room(text, longest - 1))
            with pytest.raises(ModelError, match=f"may take {longest} tokens"):
                part(folders[kind], examples=written_examples(tmp_path)).needs()
        finally:
            config.write_text(text)
    assert lengths[0] > 5 * LATENTS


def with_room(text: str, positions: int) -> str:
    return text.replace(
        '"sliding_window"', f'"max_position_embeddings": {positions}, "sliding_window"'
    )


def test_identity_says_what_is_asked_and_not_how_fast(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    instruct, base = part(folders["instruct"]), part(folders["base"])
    assert instruct.identity()["prompt"] == INSTRUCT_PROMPT
    assert base.identity()["prompt"] == BASE_PROMPT
    assert "batch_size" not in base.identity()
    examples = written_examples(tmp_path / "here")
    moved = written_examples(tmp_path / "there")
    first, second = (
        part(folders["base"], examples=shown).identity() for shown in (examples, moved)
    )
    assert first == second, "the same examples elsewhere are the same pipeline"
    assert first != base.identity()
    assert list(base.names()) == ["captioner"]
    assert base.names()["captioner"].startswith("xgenmm:base#")


@pytest.mark.parametrize(
    "parameters",
    [
        {"beams": 0},
        {"temperature": 0.5},
        {"prompt": "What is <image>?"},
        {"examples": [{"image": "a.png"}]},
        {"examples": [{"image": "~nouser/a.png", "caption": "a cat"}]},
        {"examples": [{"image": "a.png", "caption": "a cat<|endofchunk|>"}]},
    ],
)
def test_wrong_parameters_are_named(folders: dict[str, Path], parameters: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="profile test, captioner: the parameter") as raised:
        part(folders["base"], **parameters)
    assert next(iter(parameters)) in str(raised.value)


def test_regions_are_captioned_where_asked(folders: dict[str, Path]) -> None:
    assert not part(folders["base"]).captions_regions
    assert part(folders["base"], regions=True).captions_regions
    assert part(folders["base"]).names_thing("A cat.")


def test_the_part_is_told_of_without_torch(folders: dict[str, Path]) -> None:
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from regard.models.checkpoints.source import ModelSource\n"
        "from regard.models.parts import PartDefinition\n"
        "from regard.models.xgenmm.part import XGenMMPart\n"
        f"source = ModelSource(path=Path({str(folders['base'])!r}))\n"
        "part = XGenMMPart(PartDefinition('xgenmm', 'profile test, captioner', source))\n"
        "part.names(), part.identity()\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def written_examples(folder: Path) -> list[dict[str, str]]:
    folder.mkdir(exist_ok=True)
    examples = []
    for index, (caption, value) in enumerate((("a red bus", 200), ("two dogs on the grass", 60))):
        path = folder / f"example {index}.png"
        PIL.Image.new("RGB", (50 + 40 * index, 40), (value, 40, 90)).save(path)
        examples.append({"image": str(path), "caption": caption})
    return examples


def test_the_loaded_captioner_is_the_public_class(folders: dict[str, Path]) -> None:
    assert isinstance(part(folders["base"]).load(), XGenMMCaptioner)
