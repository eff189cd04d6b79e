"""An image-text part before and while it loads: what it refuses, and what it says."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from made_checkpoints.image_text import make_blip, make_idefics3
from safetensors.torch import load_file, save_file

from regard.core.errors import MissingDependency, ModelError, UsageError
from regard.models.checkpoints.source import ModelSource
from regard.models.image_text.part import ImageTextPart
from regard.models.parts import PartDefinition

WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def blip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_blip(tmp_path_factory.mktemp("loading") / "blip-tiny")


@pytest.fixture(scope="module")
def idefics3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_idefics3(tmp_path_factory.mktemp("loading") / "smolvlm-tiny")


@pytest.fixture
def copy(blip: Path, tmp_path: Path) -> Path:
    return shutil.copytree(blip, tmp_path / blip.name)


def part(folder: Path, model: str | None = None, **parameters: object) -> ImageTextPart:
    source = ModelSource(model=model, path=folder)
    return ImageTextPart(
        PartDefinition(
            "image-text", "profile test, captioner", source, "cpu", "float32", parameters
        )
    )


def rewrite(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_bytes()) | changes))


def change_tensors(
    folder: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]
) -> None:
    save_file(change(load_file(folder / WEIGHTS)), folder / WEIGHTS, metadata={"format": "pt"})


def refused(attempt: Callable[[], object], match: str) -> None:
    with pytest.raises(ModelError, match=match) as caught:
        attempt()
    assert "\n" not in caught.value.message


def test_importing_a_part_imports_no_torch() -> None:
    script = (
        "import sys, regard.models.image_text.part\n"
        "assert not {'torch', 'transformers', 'tokenizers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_names_and_identity_say_what_shapes_a_caption(blip: Path) -> None:
    named = part(blip, "Salesforce/blip-tiny", prompt="a photo of", beams=3, batch_size=9)
    assert named.names() == {"captioner": "image-text:Salesforce/blip-tiny@main"}
    assert named.identity() == {
        "prompt": "a photo of",
        "max_new_tokens": 40,
        "beams": 3,
        "regions": False,
        "image_processor": {},
    }
    assert not named.captions_regions
    assert part(blip, regions=True).captions_regions
    assert named.names_thing("two cats on a boat")
    assert part(blip).names()["captioner"].startswith("image-text:blip-tiny#")


@pytest.mark.parametrize(
    "wrong",
    [
        {"beams": 0},
        {"max_new_tokens": "many"},
        {"image_processor": {"size": {}}},
        {"temperature": 1},
    ],
)
def test_a_wrong_parameter_is_a_usage_error(blip: Path, wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong))):
        part(blip, **wrong)


def test_needs_hold_the_weights_and_grow_with_the_batch(blip: Path, idefics3: Path) -> None:
    for folder in (blip, idefics3):
        (small,), (large,) = part(folder, batch_size=1).needs(), part(folder, batch_size=8).needs()
        assert small.device == "cpu"
        assert large.count > small.count
        assert small.count > 4 * sum(it.numel() for it in load_file(folder / WEIGHTS).values())


@pytest.mark.parametrize("kind", ["siglip", "bert", None, ["blip"]])
def test_a_type_that_is_no_image_text_model_is_refused(copy: Path, kind: object) -> None:
    rewrite(copy / "config.json", model_type=kind)
    for attempt in (part(copy).needs, part(copy).load):
        refused(attempt, "no image-text-to-text model")


def test_a_model_that_needs_its_own_code_is_refused(copy: Path) -> None:
    rewrite(
        copy / "config.json",
        model_type="xgenmm",
        auto_map={"AutoModelForVision2Seq": "modeling_xgenmm.XGenMMModelForConditionalGeneration"},
    )
    (copy / "modeling_xgenmm.py").write_text("raise SystemExit('this ran')\n")
    for attempt in (part(copy).needs, part(copy).load):
        refused(attempt, "code of its own")


def test_a_processor_that_needs_a_package_says_which(idefics3: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(idefics3, tmp_path / "smolvlm2")
    for file in folder.glob("*config.json"):
        text = file.read_text(encoding="utf-8").replace("Idefics3", "SmolVLM")
        file.write_text(text.replace('"idefics3', '"smolvlm'), encoding="utf-8")
    with pytest.raises(MissingDependency, match=r"(?i)torchvision|num2words") as caught:
        part(folder).needs()
    assert "\n" not in caught.value.message


def test_a_missing_key_is_named(copy: Path) -> None:
    name = "vision_model.post_layernorm.weight"
    change_tensors(copy, lambda tensors: {k: v for k, v in tensors.items() if k != name})
    for attempt in (part(copy).needs, part(copy).load):
        refused(attempt, f"1 missing, such as {name}")


def test_an_unknown_key_is_named(copy: Path) -> None:
    change_tensors(copy, lambda tensors: {**tensors, "adapter.weight": torch.zeros(2)})
    for attempt in (part(copy).needs, part(copy).load):
        refused(attempt, r"1 unknown, such as adapter\.weight")


def test_a_tensor_of_another_shape_is_named(copy: Path) -> None:
    name = "vision_model.post_layernorm.weight"
    change_tensors(copy, lambda tensors: tensors | {name: torch.zeros(3)})
    for attempt in (part(copy).needs, part(copy).load):
        refused(attempt, f"1 of another shape, such as {name}")


def test_position_ids_of_old_checkpoints_are_ignored(copy: Path) -> None:
    name = "text_decoder.bert.embeddings.position_ids"
    change_tensors(copy, lambda tensors: {**tensors, name: torch.arange(64)[None]})
    part(copy).needs()
    part(copy).load()


def test_names_that_transformers_changes_while_it_loads_are_no_other_keys(
    idefics3: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(idefics3, tmp_path / "old")
    # As before transformers 4.52: the parts of the model were attributes of the model itself.
    change_tensors(
        folder, lambda tensors: {name.removeprefix("model."): t for name, t in tensors.items()}
    )
    assert part(folder).needs() == part(idefics3).needs()
    part(folder).load()


def test_keys_are_compared_without_reading_or_making_weights(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = part(copy).needs()
    monkeypatch.setattr("regard.models.image_text.loading.available_memory", lambda: 1000)
    change_tensors(copy, lambda tensors: {"other": torch.zeros(2)})
    # No room to find out: too little memory is what is to be said.
    assert part(copy).needs() == held
    monkeypatch.undo()
    refused(part(copy).needs, "other keys")


def test_a_model_does_not_change_with_its_file(copy: Path) -> None:
    model = part(copy).load()._model
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    file = copy / WEIGHTS
    with file.open("r+b") as stream:
        stream.seek(-file.stat().st_size // 2, 2)
        stream.write(b"\x11" * (file.stat().st_size // 2))
    for name, weight in model.named_parameters():
        assert torch.equal(weight, before[name]), name


def test_a_config_that_makes_no_model_is_refused(copy: Path) -> None:
    rewrite(copy / "config.json", vision_config={"hidden_size": "wide"})
    for attempt in (part(copy).needs, part(copy).load):
        refused(attempt, r"can't be loaded")


def test_truncated_weights_are_told(copy: Path) -> None:
    file = copy / WEIGHTS
    file.write_bytes(file.read_bytes()[:-1000])
    for attempt in (part(copy).needs, part(copy).load):
        refused(attempt, "damaged")


def test_a_pickle_is_refused(copy: Path) -> None:
    (copy / WEIGHTS).rename(copy / "pytorch_model.bin")
    for attempt in (part(copy).needs, part(copy).load):
        refused(attempt, "pickle")


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json"])
def test_a_missing_file_is_one_sentence(copy: Path, name: str) -> None:
    (copy / name).unlink()
    for attempt in (part(copy).needs, part(copy).load):
        refused(attempt, r"lacks config\.json|processor of .* can't be loaded")


def test_a_missing_tokenizer_is_one_sentence(copy: Path) -> None:
    for name in ("tokenizer.json", "vocab.txt", "tokenizer_config.json", "special_tokens_map.json"):
        (copy / name).unlink()
    for attempt in (part(copy).needs, part(copy).load):
        refused(attempt, r"lacks tokenizer\.json")


@pytest.mark.parametrize("make", [make_blip, make_idefics3])
def test_loading_and_captioning_say_nothing(
    make: Callable[[Path], Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    import numpy as np

    from regard.core.records import Image

    folder = make(tmp_path / "quiet")
    # As published files do: settings of sampling, which greedy search has no use for.
    file = folder / "generation_config.json"
    rewrite(file, do_sample=True, temperature=0.7, top_p=0.9, max_length=20)
    capfd.readouterr()
    part(folder).needs()
    captioner = part(folder, prompt="a photo of", max_new_tokens=4).load()
    picture = Image(np.full((40, 60, 3), 99, np.uint8))
    assert captioner.caption([picture]) == captioner.caption([picture])
    assert capfd.readouterr() == ("", "")
