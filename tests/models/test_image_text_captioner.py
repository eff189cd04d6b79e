"""Captions by models of transformers: prompts, parsed output, batches and single images."""

from __future__ import annotations

import json
import shutil
import string
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from made_checkpoints.image_text import make_blip, make_idefics3
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText, AutoProcessor

from regard.core.errors import MissingDependency, ModelError
from regard.core.records import Image
from regard.models.checkpoints.source import ModelSource
from regard.models.image_text.captioner import ImageTextCaptioner, new_tokens
from regard.models.image_text.part import ImageTextPart
from regard.models.parts import PartDefinition

pytestmark = pytest.mark.slow

MAKERS = {"idefics3": make_idefics3, "blip": make_blip}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    base = tmp_path_factory.mktemp("captioners")
    return {name: make(base / name) for name, make in MAKERS.items()}


@pytest.fixture(scope="module")
def photographs(sample_images: list[Image]) -> list[Image]:
    found = [image.pixels for image in sample_images[:4]]
    found += [found[0][:, :200], found[1][:90], found[2][5:6, 7:8]]  # tall, wide, one pixel
    return [Image(np.ascontiguousarray(pixels)) for pixels in found]


def load(folder: Path, *, dtype: str = "float32", **parameters: Any) -> ImageTextCaptioner:
    source = ModelSource(path=folder)
    settings = {"prompt": "a photo of", "max_new_tokens": 8, **parameters}
    return ImageTextPart(
        PartDefinition("image-text", "profile test", source, "cpu", dtype, settings)
    ).load()


def reference(folder: Path, image: Image, **options: Any) -> tuple[Any, Any]:
    """What transformers' plain way gives for one image: the prompt's ids and all that is
    generated."""
    processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
    model = AutoModelForImageTextToText.from_pretrained(folder, local_files_only=True).eval()
    picture = PIL.Image.fromarray(image.pixels)
    text = "a photo of"
    if processor.chat_template:
        content = [{"type": "image"}, {"type": "text", "text": text}]
        text = processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True
        )
    inputs = processor(images=[picture], text=[text], return_tensors="pt")
    return processor, model.generate(**inputs, max_new_tokens=8, do_sample=False, **options)[0]


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("name", MAKERS)
def test_captions_are_what_transformers_writes_after_the_prompt(
    folders: dict[str, Path], photographs: list[Image], name: str, beams: int
) -> None:
    captioner = load(folders[name], beams=beams)
    for image in photographs[:2]:
        processor, generated = reference(folders[name], image, num_beams=beams)
        whole = processor.tokenizer.decode(generated, skip_special_tokens=True)
        (caption,) = captioner.caption([image])
        assert caption
        # A word that goes on from the prompt bears WordPiece's ## when it stands alone.
        assert "".join(whole.split()).endswith("".join(caption.removeprefix("##").split()))
        assert "a photo of" not in caption
        assert "Assistant" not in caption


@pytest.mark.parametrize("name", MAKERS)
def test_photographs_get_captions_of_one_line(
    folders: dict[str, Path], photographs: list[Image], name: str
) -> None:
    captions = load(folders[name]).caption(photographs)
    assert len(captions) == len(photographs)
    assert len(set(captions[:4])) > 1  # they depend on the image
    for caption in captions:
        assert caption == " ".join(caption.split())


@pytest.mark.parametrize("beams", [1, 2])
@pytest.mark.parametrize("name", MAKERS)
def test_a_batch_gives_the_captions_of_single_calls_in_order(
    folders: dict[str, Path], photographs: list[Image], name: str, beams: int
) -> None:
    captioner = load(folders[name], batch_size=3, beams=beams)
    singles = [captioner.caption([image])[0] for image in photographs]
    assert captioner.caption(photographs) == singles
    assert captioner.caption(photographs[::-1]) == singles[::-1]


@pytest.mark.parametrize("name", MAKERS)
def test_nothing_in_gives_nothing_out(folders: dict[str, Path], name: str) -> None:
    assert load(folders[name]).caption([]) == []


@pytest.mark.parametrize("name", MAKERS)
def test_bfloat16_captions_too(
    folders: dict[str, Path], photographs: list[Image], name: str
) -> None:
    captions = load(folders[name], dtype="bfloat16").caption(photographs[:2])
    assert [bool(caption) for caption in captions] == [True, True]


def test_without_a_prompt_blip_begins_by_itself(
    folders: dict[str, Path], photographs: list[Image]
) -> None:
    processor = AutoProcessor.from_pretrained(folders["blip"], local_files_only=True)
    model = AutoModelForImageTextToText.from_pretrained(folders["blip"], local_files_only=True)
    picture = PIL.Image.fromarray(photographs[0].pixels)
    generated = model.eval().generate(
        **processor(images=picture, return_tensors="pt"), max_new_tokens=8
    )
    expected = processor.decode(generated[0], skip_special_tokens=True)
    (caption,) = load(folders["blip"], prompt="").caption(photographs[:1])
    assert caption == " ".join(expected.split())


def test_a_chat_model_is_asked_the_prompt(
    folders: dict[str, Path], photographs: list[Image]
) -> None:
    captions = {
        load(folders["idefics3"], prompt=prompt).caption(photographs[:1])[0]
        for prompt in ("a photo of the red cat", "two", "")
    }
    assert len(captions) > 1


def test_max_new_tokens_bounds_a_caption(
    folders: dict[str, Path], photographs: list[Image]
) -> None:
    short = load(folders["idefics3"], max_new_tokens=2).caption(photographs[:1])[0]
    longer = load(folders["idefics3"], max_new_tokens=8).caption(photographs[:1])[0]
    assert len(short) < len(longer)


def test_settings_of_the_image_processor_are_passed_on(
    folders: dict[str, Path], photographs: list[Image]
) -> None:
    whole = load(folders["idefics3"], image_processor={"do_image_splitting": False})
    tiled = load(folders["idefics3"])
    counts = []
    for captioner in (whole, tiled):
        inputs = captioner._inputs(photographs[:1])
        counts.append(inputs["pixel_values"].shape[1])
    assert counts[0] == 1
    assert counts[1] > 1
    assert whole.caption(photographs[:2])


def test_an_unknown_setting_of_the_image_processor_is_an_error(folders: dict[str, Path]) -> None:
    with pytest.raises(ModelError, match="no setting do_magic"):
        load(folders["idefics3"], image_processor={"do_magic": True})


def test_threads_get_the_captions_of_a_single_caller(
    folders: dict[str, Path], photographs: list[Image]
) -> None:
    captioner = load(folders["idefics3"])
    expected = captioner.caption(photographs[:3])
    with ThreadPoolExecutor(3) as pool:
        for found in pool.map(lambda _: captioner.caption(photographs[:3]), range(4)):
            assert found == expected


def test_a_gpu_without_room_for_a_batch_is_given_smaller_ones(
    folders: dict[str, Path], photographs: list[Image]
) -> None:
    captioner = load(folders["blip"], batch_size=6)
    expected = captioner.caption(photographs)
    generate, sizes = captioner._model.generate, list[int]()

    def crowded(**inputs: Any) -> Any:
        sizes.append(len(inputs["pixel_values"]))
        if sizes[-1] > 2:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return generate(**inputs)

    captioner._model.generate = crowded
    assert captioner.caption(photographs) == expected
    assert max(sizes) == 6
    assert sum(size for size in sizes if size <= 2) == len(photographs)


def test_only_what_follows_the_prompt_is_new() -> None:
    prompt = torch.tensor([[2, 5, 6, 3]] * 2)
    written = torch.tensor([[7, 8], [9, 9]])
    echoed = torch.cat([prompt, written], dim=1)
    like_blip = torch.cat([torch.full((2, 1), 99), prompt[:, 1:-1], written], dim=1)
    for generated, decoder in (
        (echoed, False),
        (like_blip, False),
        (written, False),
        (written, True),
    ):
        assert torch.equal(new_tokens(prompt, generated, decoder), written)
    assert torch.equal(new_tokens(None, written, False), written)
    assert torch.equal(new_tokens(prompt, echoed, True), echoed)  # an answer that quotes the prompt


def test_made_words_are_decoded_without_special_tokens(
    folders: dict[str, Path], photographs: list[Image]
) -> None:
    for caption in load(folders["blip"]).caption(photographs):
        assert set(caption) <= set(string.ascii_lowercase + " #")
        assert "[" not in caption


def test_part_says_whether_it_captions_regions_and_names_things(folders: dict[str, Path]) -> None:
    def part(**parameters: Any) -> ImageTextPart:
        source = ModelSource(path=folders["blip"])
        return ImageTextPart(PartDefinition("image-text", "here", source, parameters=parameters))

    assert not part().captions_regions
    assert part(regions=True).captions_regions
    assert part().names_thing("two cats on a boat")


def test_processor_that_needs_a_package_names_it(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(folders["idefics3"], tmp_path / "smolvlm2")
    for file in folder.glob("*config.json"):
        text = file.read_text(encoding="utf-8").replace("Idefics3", "SmolVLM")
        file.write_text(text.replace('"idefics3', '"smolvlm'), encoding="utf-8")
    with pytest.raises(MissingDependency, match=r"(?i)torchvision|num2words") as caught:
        load(folder)
    assert "\n" not in caught.value.message


def test_missing_processor_or_tokenizer_is_one_sentence(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    for names, says in (
        (["preprocessor_config.json"], "processor of .* can't be loaded"),
        (
            ["tokenizer.json", "vocab.txt", "tokenizer_config.json", "special_tokens_map.json"],
            r"lacks tokenizer\.json",
        ),
    ):
        folder = shutil.copytree(folders["blip"], tmp_path / names[0])
        for name in names:
            (folder / name).unlink()
        with pytest.raises(ModelError, match=says) as caught:
            load(folder)
        assert "\n" not in caught.value.message


def test_keys_of_older_transformers_are_the_same_model(
    folders: dict[str, Path], photographs: list[Image], tmp_path: Path
) -> None:
    """Before transformers 4.52 the parts of a model were attributes of the model itself."""
    folder = shutil.copytree(folders["idefics3"], tmp_path / "old")
    file = folder / "model.safetensors"
    renamed = {name.removeprefix("model."): tensor for name, tensor in load_file(file).items()}
    save_file(renamed, file, metadata={"format": "pt"})
    expected = load(folders["idefics3"]).caption(photographs[:1])
    assert load(folder).caption(photographs[:1]) == expected


def test_sampling_settings_of_a_checkpoint_are_ignored_silently(
    folders: dict[str, Path],
    photographs: list[Image],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    folder = shutil.copytree(folders["blip"], tmp_path / "quiet")
    file = folder / "generation_config.json"
    settings = {"do_sample": True, "temperature": 0.7, "top_p": 0.9, "max_length": 20}
    file.write_text(json.dumps(json.loads(file.read_bytes()) | settings))
    capfd.readouterr()
    captioner = load(folder)
    assert captioner.caption(photographs[:1]) == captioner.caption(photographs[:1])
    assert capfd.readouterr() == ("", "")
