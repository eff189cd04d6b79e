"""The contrastive encoder's rows: transformers' models are the reference, batches agree with
singles."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import skimage.data
import torch
from made_checkpoints.contrastive import make_clip, make_siglip, make_siglip2
from safetensors.torch import load_file, save_file
from transformers import (
    AutoImageProcessor,
    AutoModel,
    CLIPProcessor,
    PreTrainedTokenizerFast,
    Siglip2Processor,
    SiglipProcessor,
)

from regard.core.errors import ModelError
from regard.core.geometry import Box
from regard.core.records import Image
from regard.models.checkpoints.source import ModelSource
from regard.models.contrastive.encoder import ContrastiveEncoder
from regard.models.contrastive.part import ContrastivePart
from regard.models.parts import PartDefinition
from regard.photos.masks import encode_mask

pytestmark = pytest.mark.slow

MAKERS: dict[str, Callable[[Path], Path]] = {
    "siglip": make_siglip,
    "siglip2-fixed": lambda folder: make_siglip(folder, second=True),
    "siglip2": make_siglip2,
    "clip": make_clip,
}
TEXTS = ["a red cat", "The big yellow boat, on a car!", "two small dogs in the tree", "flower"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    base = tmp_path_factory.mktemp("encoders")
    return {name: make(base / name) for name, make in MAKERS.items()}


@pytest.fixture(scope="module")
def encoders(folders: dict[str, Path]) -> dict[str, ContrastiveEncoder]:
    return {name: load(folder) for name, folder in folders.items()}


@pytest.fixture(scope="module")
def photographs() -> list[Image]:
    coffee = skimage.data.coffee()
    shown = [coffee, skimage.data.rocket()[:, 200:330], coffee[:90, :300], coffee[200:201, 7:8]]
    shown.append(skimage.data.astronaut())
    return [Image(np.ascontiguousarray(pixels)) for pixels in shown]


def load(folder: Path, *, dtype: str = "float32", **parameters: Any) -> ContrastiveEncoder:
    source = ModelSource(path=folder)
    return ContrastivePart(
        PartDefinition("contrastive", "profile test", source, "cpu", dtype, parameters)
    ).load()


def reference(folder: Path, name: str) -> tuple[Any, Any]:
    """transformers' model and its plain processor."""
    images = AutoImageProcessor.from_pretrained(folder, local_files_only=True)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
    processors = {"clip": CLIPProcessor, "siglip2": Siglip2Processor}
    processor = processors.get(name, SiglipProcessor)(images, tokenizer)
    return AutoModel.from_pretrained(folder, local_files_only=True).eval(), processor


def unit(rows: torch.Tensor) -> np.ndarray:
    normalised: np.ndarray = torch.nn.functional.normalize(rows, dim=-1).detach().numpy()
    return normalised


def assert_rows(found: np.ndarray, expected: np.ndarray, tolerance: float = 1e-5) -> None:
    assert found.dtype == np.float32
    assert found.shape == expected.shape
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0, atol=1e-5)
    np.testing.assert_allclose(found, expected, atol=tolerance)


@pytest.mark.parametrize("name", MAKERS)
def test_images_have_the_rows_of_transformers(
    folders: dict[str, Path],
    encoders: dict[str, ContrastiveEncoder],
    photographs: list[Image],
    name: str,
) -> None:
    model, processor = reference(folders[name], name)
    pictures = [PIL.Image.fromarray(image.pixels) for image in photographs]
    inputs = processor.image_processor(pictures, return_tensors="pt")
    expected = unit(model.get_image_features(**inputs).pooler_output)
    # One grey level of difference in CLIP's pixels stands behind its wider tolerance.
    found = encoders[name].encode_images(photographs)
    assert_rows(found, expected, 1e-3 if name == "clip" else 1e-5)
    assert encoders[name].space.dimension == found.shape[1]
    assert abs(found @ found.T - np.eye(len(found))).max() > 0.01


@pytest.mark.parametrize("name", MAKERS)
def test_texts_have_the_rows_of_transformers(
    folders: dict[str, Path], encoders: dict[str, ContrastiveEncoder], name: str
) -> None:
    model, processor = reference(folders[name], name)
    # SigLIP 2 was trained on lower case, which its published tokenizer.json leaves to the caller.
    texts = [text.lower() for text in TEXTS] if name.startswith("siglip2") else TEXTS
    padding = {"padding": True} if name == "clip" else {"padding": "max_length", "max_length": 64}
    inputs = processor(text=texts, return_tensors="pt", truncation=True, **padding)
    expected = unit(model.get_text_features(**inputs).pooler_output)
    assert_rows(encoders[name].encode_texts(TEXTS), expected)


@pytest.mark.parametrize("name", ["siglip", "siglip2-fixed", "siglip2"])
def test_siglip_texts_are_padded_to_the_fixed_length_not_to_the_longest(
    folders: dict[str, Path], encoders: dict[str, ContrastiveEncoder], name: str
) -> None:
    model, processor = reference(folders[name], name)
    rows = {}
    for padding in ("longest", "max_length"):
        inputs = processor.tokenizer(
            ["a red cat", "a dog on the car"], padding=padding, max_length=64, return_tensors="pt"
        )
        rows[padding] = unit(model.get_text_features(inputs["input_ids"]).pooler_output)
    assert abs(rows["longest"] - rows["max_length"]).max() > 1e-3
    found = encoders[name].encode_texts(["a red cat", "a dog on the car"])
    assert_rows(found, rows["max_length"])


def test_siglip_pads_to_the_length_of_its_own_config(tmp_path: Path) -> None:
    short = load(make_siglip(tmp_path / "short", text_length=16))
    long = " ".join(["a small red boat"] * 9)
    rows = short.encode_texts([long, long + " and a dog", "a dog"])
    np.testing.assert_allclose(rows[0], rows[1], atol=1e-6)  # what is beyond 16 tokens is not read
    assert abs(rows[0] - rows[2]).max() > 1e-3


@pytest.mark.parametrize("name", MAKERS)
def test_case_does_not_matter(encoders: dict[str, ContrastiveEncoder], name: str) -> None:
    rows = encoders[name].encode_texts(["a red cat on the boat", "A Red CAT on the Boat"])
    np.testing.assert_allclose(rows[0], rows[1], atol=1e-6)


def test_siglip_reads_no_punctuation(encoders: dict[str, ContrastiveEncoder]) -> None:
    rows = encoders["siglip"].encode_texts(["a red cat", " a,  red (cat)! "])
    np.testing.assert_allclose(rows[0], rows[1], atol=1e-6)


@pytest.mark.parametrize("name", ["siglip", "siglip2-fixed", "siglip2"])
@pytest.mark.parametrize(
    ("word", "known"),
    [("cat", True), ("zebra", True), ("猫", False), ("кот", False), ("🌊", False)],
)
def test_words_without_a_part_in_the_vocabulary_are_unknown(
    encoders: dict[str, ContrastiveEncoder], name: str, word: str, known: bool
) -> None:
    assert encoders[name].knows(word) is known


def test_clip_without_tokenizer_json_reads_vocabulary_and_merges(
    folders: dict[str, Path], encoders: dict[str, ContrastiveEncoder], tmp_path: Path
) -> None:
    older = shutil.copytree(folders["clip"], tmp_path / "clip")
    (older / "tokenizer.json").unlink()
    np.testing.assert_allclose(
        load(older).encode_texts(TEXTS), encoders["clip"].encode_texts(TEXTS), atol=1e-6
    )


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", MAKERS)
def test_a_batch_gives_the_rows_of_single_calls_in_order(
    folders: dict[str, Path], photographs: list[Image], name: str, dtype: str
) -> None:
    encoder = load(folders[name], dtype=dtype, batch_size=2)
    tolerance = 1e-5 if dtype == "float32" else 1e-2
    images = [*photographs, *reversed(photographs)]
    singles = [encoder.encode_images([image])[0] for image in images]
    assert_rows(encoder.encode_images(images), np.stack(singles), tolerance)
    texts = [*TEXTS, *reversed(TEXTS), ""]
    alone = [encoder.encode_texts([text])[0] for text in texts]
    assert_rows(encoder.encode_texts(texts), np.stack(alone), tolerance)


@pytest.mark.parametrize("name", MAKERS)
def test_nothing_in_gives_nothing_out(
    encoders: dict[str, ContrastiveEncoder], photographs: list[Image], name: str
) -> None:
    encoder = encoders[name]
    empty = (0, encoder.space.dimension)
    assert encoder.encode_images([]).shape == empty
    assert encoder.encode_texts([]).shape == empty
    assert encoder.encode_regions([], [], []) == []
    parts = encoder.encode_regions(photographs[:2], [[], []], [[], []])
    assert [rows.shape for rows in parts] == [empty, empty]
    assert encoder.encode_images([]).dtype == np.float32


@pytest.mark.parametrize("name", MAKERS)
def test_regions_of_several_images_share_batches(
    folders: dict[str, Path], photographs: list[Image], name: str
) -> None:
    encoder = load(folders[name], batch_size=3, region_view="crop")
    boxes = [[Box(3, 4, 40, 20), Box(10, 0, 1, 1)], [], [Box(0, 0, 90, 9)], [Box(0, 0, 1, 1)]]
    images = photographs[:4]
    found = encoder.encode_regions(images, boxes, [[None] * len(its) for its in boxes])
    assert [len(rows) for rows in found] == [2, 0, 1, 1]
    for image, its, rows in zip(images, boxes, found, strict=True):
        for box, row in zip(its, rows, strict=True):
            crop = image.pixels[box.y : box.bottom, box.x : box.right]
            expected = encoder.encode_images([Image(np.ascontiguousarray(crop))])[0]
            np.testing.assert_allclose(row, expected, atol=1e-5)


def test_the_profiles_view_is_what_a_region_is_shown_as(
    folders: dict[str, Path], photographs: list[Image]
) -> None:
    image, box = photographs[0], Box(100, 80, 40, 60)
    disc = np.hypot(*np.ogrid[-110:290, -120:480]) < 18
    mask = encode_mask(disc)
    painted = np.where(disc[..., None], image.pixels, np.uint8(128))  # 0.5, SigLIP's mean
    shown = {
        "crop": image.pixels[80:140, 100:140],
        "context": image.pixels[65:155, 90:150],
        "masked": painted[80:140, 100:140],
    }
    rows = []
    for view, pixels in shown.items():
        encoder = load(folders["siglip"], region_view=view, context=0.25)
        (found,) = encoder.encode_regions([image], [[box]], [[mask]])
        expected = encoder.encode_images([Image(np.ascontiguousarray(pixels))])
        assert_rows(found, expected)
        rows.append(found[0])
    assert min(abs(rows[0] - rows[1]).max(), abs(rows[0] - rows[2]).max()) > 1e-3


def test_pooling_the_towers_features_gives_the_images_rows(
    encoders: dict[str, ContrastiveEncoder], photographs: list[Image], folders: dict[str, Path]
) -> None:
    encoder = encoders["siglip"]
    assert encoder.shares_tower
    processor = AutoImageProcessor.from_pretrained(folders["siglip"], local_files_only=True)
    inputs = processor([PIL.Image.fromarray(it.pixels) for it in photographs], return_tensors="pt")
    with torch.inference_mode():
        hidden = encoder.tower(**inputs).last_hidden_state
    assert_rows(encoder.pool(hidden), encoder.encode_images(photographs))


@pytest.mark.parametrize("name", ["siglip2", "clip"])
def test_a_tower_that_cannot_be_shared_says_so(
    encoders: dict[str, ContrastiveEncoder], name: str
) -> None:
    assert not encoders[name].shares_tower
    with pytest.raises(ModelError, match="share"):
        encoders[name].pool(torch.zeros(1, 4, 32))


def test_calibration_is_kept_in_full_precision(folders: dict[str, Path]) -> None:
    for dtype in ("float32", "bfloat16"):
        encoder = load(folders["siglip"], dtype=dtype)
        assert encoder.logit_scale == pytest.approx(np.log(20.0), abs=1e-6)
        assert encoder.logit_bias == pytest.approx(-9.3, abs=1e-6)
    assert load(folders["clip"]).logit_bias is None


def test_attention_is_computed_by_sdpa(encoders: dict[str, ContrastiveEncoder]) -> None:
    for encoder in encoders.values():
        for tower in ("vision_model", "text_model"):
            config: Any = encoder._module.get_submodule(tower).config
            assert config._attn_implementation == "sdpa"


def test_threads_get_the_rows_of_a_single_caller(
    encoders: dict[str, ContrastiveEncoder], photographs: list[Image]
) -> None:
    encoder = encoders["siglip"]
    images, texts = encoder.encode_images(photographs), encoder.encode_texts(TEXTS)
    with ThreadPoolExecutor(4) as pool:
        seen = list(pool.map(lambda _: encoder.encode_images(photographs), range(6)))
        read = list(pool.map(lambda _: encoder.encode_texts(TEXTS), range(6)))
    for rows in seen:
        np.testing.assert_allclose(rows, images, atol=1e-5)
    for rows in read:
        np.testing.assert_allclose(rows, texts, atol=1e-5)


class FullMemory(torch.nn.Module):
    """A tower before which a GPU's memory holds `room` images at once."""

    def __init__(self, tower: torch.nn.Module, room: int) -> None:
        super().__init__()
        self.tower, self.room, self.sizes = tower, room, list[int]()

    def forward(self, pixel_values: torch.Tensor) -> Any:
        self.sizes.append(len(pixel_values))
        if len(pixel_values) > self.room:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return self.tower(pixel_values=pixel_values)


def test_a_batch_too_large_for_the_gpu_is_halved_until_it_fits(
    folders: dict[str, Path], encoders: dict[str, ContrastiveEncoder], photographs: list[Image]
) -> None:
    encoder = load(folders["siglip"], batch_size=10)
    tower = FullMemory(encoder.tower, room=3)
    encoder._module.vision_model = tower
    images = [*photographs, *reversed(photographs)]
    assert_rows(encoder.encode_images(images), encoders["siglip"].encode_images(images))
    assert tower.sizes[0] == 10
    assert sum(size for size in tower.sizes if size <= 3) == 10


def test_a_gpu_without_room_for_one_image_is_an_error(
    folders: dict[str, Path], photographs: list[Image]
) -> None:
    encoder = load(folders["siglip"])
    encoder._module.vision_model = FullMemory(encoder.tower, room=0)
    with pytest.raises(ModelError, match="memory"):
        encoder.encode_images(photographs)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("name", MAKERS)
def test_a_gpu_gives_the_rows_of_the_cpu(
    folders: dict[str, Path],
    encoders: dict[str, ContrastiveEncoder],
    photographs: list[Image],
    name: str,
) -> None:
    source = ModelSource(path=folders[name])
    encoder = ContrastivePart(PartDefinition("contrastive", "profile test", source, "cuda")).load()
    found, expected = encoder.encode_images(photographs), encoders[name].encode_images(photographs)
    assert_rows(found, expected, tolerance=2e-2)
    assert_rows(encoder.encode_texts(TEXTS), encoders[name].encode_texts(TEXTS), tolerance=2e-2)


@pytest.mark.parametrize("name", ["siglip", "clip"])
def test_position_ids_of_old_checkpoints_are_ignored(
    folders: dict[str, Path],
    encoders: dict[str, ContrastiveEncoder],
    photographs: list[Image],
    name: str,
    tmp_path: Path,
) -> None:
    folder = shutil.copytree(folders[name], tmp_path / "old")
    file = folder / "model.safetensors"
    counts = {"vision_model.embeddings": 16, "text_model.embeddings": 64}
    old = {f"{part}.position_ids": torch.zeros(1, n).long() for part, n in counts.items()}
    save_file({**load_file(file), **old}, file, metadata={"format": "pt"})
    expected = encoders[name].encode_images(photographs[:1])
    np.testing.assert_allclose(load(folder).encode_images(photographs[:1]), expected, atol=1e-6)
