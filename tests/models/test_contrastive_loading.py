"""A contrastive part before and while it loads: spaces, keys, sizes, and files that are wrong."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
from made_checkpoints.contrastive import make_clip, make_siglip, make_siglip2
from safetensors.torch import load_file, save_file

from regard.core.errors import ModelError, UsageError
from regard.core.records import Image
from regard.models.checkpoints.source import Checkpoint, ModelSource
from regard.models.contrastive.architecture import read_architecture
from regard.models.contrastive.loading import build
from regard.models.contrastive.part import ContrastivePart
from regard.models.parts import PartDefinition

WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def siglip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_siglip(tmp_path_factory.mktemp("loading") / "Siglip_tiny.Patch8")


@pytest.fixture
def copy(siglip: Path, tmp_path: Path) -> Path:
    return shutil.copytree(siglip, tmp_path / siglip.name)


def part(folder: Path, model: str | None = None, **parameters: object) -> ContrastivePart:
    source = ModelSource(model=model, path=folder)
    return ContrastivePart(
        PartDefinition("contrastive", "profile test, encoder", source, "cpu", "float32", parameters)
    )


def change_tensors(
    folder: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]
) -> None:
    save_file(change(load_file(folder / WEIGHTS)), folder / WEIGHTS, metadata={"format": "pt"})


def fails(folder: Path, match: str, **parameters: object) -> None:
    """Both the check before and the loading itself say it in one sentence."""
    for attempt in (part(folder, **parameters).needs, part(folder, **parameters).load):
        with pytest.raises(ModelError, match=match) as caught:
            attempt()
        assert "\n" not in caught.value.message


def test_the_space_is_known_without_weights_or_torch(siglip: Path, tmp_path: Path) -> None:
    for name in ("config.json", "preprocessor_config.json"):
        shutil.copy(siglip / name, tmp_path / name)
    script = (
        "import sys; from pathlib import Path\n"
        "from regard.models.checkpoints.source import ModelSource\n"
        "from regard.models.contrastive.part import ContrastivePart\n"
        "from regard.models.parts import PartDefinition\n"
        "source = ModelSource(model='google/siglip-tiny', path=Path(sys.argv[1]))\n"
        "space = ContrastivePart(PartDefinition('contrastive', 'here', source)).space()\n"
        "assert not {'torch', 'transformers', 'tokenizers'} & set(sys.modules)\n"
        "print(space.name, space.dimension)"
    )
    run = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True
    )
    name, dimension = run.stdout.split()
    assert name.startswith("siglip-tiny-")
    assert len(name) == len("siglip-tiny-") + 8
    assert int(dimension) == 32


def test_the_space_follows_weights_and_preprocessing_but_not_the_place(
    siglip: Path, copy: Path, tmp_path: Path
) -> None:
    here = part(siglip).space()
    assert here.name.startswith("siglip-tiny-patch8-")
    assert part(copy).space() == here
    assert part(copy, region_view="masked", batch_size=1).space() == here
    assert part(make_siglip(tmp_path / "other" / siglip.name, seed=1)).space() != here
    file = copy / "preprocessor_config.json"
    file.write_text(json.dumps(json.loads(file.read_bytes()) | {"resample": 2}))
    assert part(copy).space() != here


def test_a_copy_of_a_published_model_has_the_published_models_space(
    siglip: Path, copy: Path
) -> None:
    model = "google/siglip-tiny"
    assert part(siglip, model).space() == part(copy, model).space()
    assert part(copy, model).names() == {"encoder": "contrastive:google/siglip-tiny@main"}


def test_batch_size_is_no_part_of_the_identity(siglip: Path) -> None:
    chosen = {"region_view": "crop", "context": 0.5}
    assert part(siglip, batch_size=7, **chosen).identity() == chosen


@pytest.mark.parametrize("wrong", [{"region_view": "blur"}, {"context": -1}, {"batch_size": 0}])
def test_a_wrong_parameter_is_a_usage_error(siglip: Path, wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong))):
        part(siglip, **wrong)


def test_needs_grow_with_the_batch_and_hold_the_weights(siglip: Path) -> None:
    (small,), (large,) = part(siglip, batch_size=1).needs(), part(siglip, batch_size=64).needs()
    assert small.device == "cpu"
    assert small.count > 4 * sum(it.numel() for it in load_file(siglip / WEIGHTS).values())
    assert large.count > small.count


def test_full_size_so400m_has_the_published_number_of_parameters(tmp_path: Path) -> None:
    tower = {
        "hidden_size": 1152,
        "intermediate_size": 4304,
        "num_hidden_layers": 27,
        "num_attention_heads": 16,
    }
    config = {
        "model_type": "siglip",
        "text_config": tower | {"vocab_size": 32000},
        "vision_config": tower | {"image_size": 384, "patch_size": 14},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    checkpoint = Checkpoint(tmp_path)
    architecture = read_architecture(checkpoint)
    assert (architecture.dimension, architecture.text_length) == (1152, 64)
    model = build(checkpoint, architecture)
    assert sum(it.numel() for it in model.parameters()) == 877_960_498
    tower_only = model.get_submodule("vision_model")
    assert sum(it.numel() for it in tower_only.parameters()) == 428_225_600
    assert len(tower_only.state_dict()) == 448


@pytest.mark.parametrize("make", [make_siglip, make_clip])
def test_position_ids_of_old_checkpoints_are_ignored(
    make: Callable[[Path], Path], tmp_path: Path
) -> None:
    folder = make(tmp_path / "old")
    photographs = [Image(np.ascontiguousarray(skimage.data.coffee()))]
    expected = part(folder).load().encode_images(photographs)
    counts = {"vision_model.embeddings": 16, "text_model.embeddings": 64}
    change_tensors(
        folder,
        lambda tensors: {
            **tensors,
            **{f"{name}.position_ids": torch.zeros(1, n).long() for name, n in counts.items()},
        },
    )
    part(folder).needs()
    np.testing.assert_allclose(part(folder).load().encode_images(photographs), expected, atol=1e-6)


def test_shards_are_read_as_one(siglip: Path, copy: Path) -> None:
    tensors = load_file(copy / WEIGHTS)
    (copy / WEIGHTS).unlink()
    halves = [dict(list(tensors.items())[start::2]) for start in (0, 1)]
    names = [f"model-0000{index}-of-00002.safetensors" for index in (1, 2)]
    for name, half in zip(names, halves, strict=True):
        save_file(half, copy / name)
    index = {key: name for name, half in zip(names, halves, strict=True) for key in half}
    (copy / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    rows = part(copy).load().encode_texts(["a red cat"])
    np.testing.assert_allclose(rows, part(siglip).load().encode_texts(["a red cat"]), atol=1e-6)


def test_a_missing_key_is_named(copy: Path) -> None:
    change_tensors(copy, lambda tensors: {k: v for k, v in tensors.items() if k != "logit_bias"})
    fails(copy, "1 missing, such as logit_bias")


def test_an_unknown_key_is_named(copy: Path) -> None:
    change_tensors(copy, lambda tensors: {**tensors, "adapter.weight": torch.zeros(2)})
    fails(copy, r"1 unknown, such as adapter\.weight")


def test_a_tensor_of_another_shape_is_named(copy: Path) -> None:
    change_tensors(copy, lambda tensors: tensors | {"text_model.head.weight": torch.zeros(3, 3)})
    fails(copy, r"text_model\.head\.weight of shape \[3, 3\]")


def test_truncated_weights_are_told(copy: Path) -> None:
    file = copy / WEIGHTS
    file.write_bytes(file.read_bytes()[:-1000])
    fails(copy, "damaged")


def test_a_pickle_is_refused(copy: Path) -> None:
    (copy / WEIGHTS).rename(copy / "pytorch_model.bin")
    fails(copy, "pickle")


@pytest.mark.parametrize(
    "name", ["config.json", "preprocessor_config.json", "tokenizer.json", "tokenizer_config.json"]
)
def test_a_missing_file_is_named(copy: Path, name: str) -> None:
    (copy / name).unlink()
    fails(copy, f"lacks {name}")


def test_a_damaged_tokenizer_is_named(copy: Path) -> None:
    (copy / "tokenizer.json").write_text("{")
    fails(copy, r"tokenizer\.json is damaged")


def test_a_tokenizer_without_padding_is_refused(copy: Path) -> None:
    file = copy / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_bytes()) | {"pad_token": "[PAD]"}))
    fails(copy, "padding token")


def test_padding_on_no_side_is_refused(copy: Path) -> None:
    file = copy / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_bytes()) | {"padding_side": "middle"}))
    fails(copy, "'middle' for padding_side")


def test_another_kind_of_model_is_refused(copy: Path) -> None:
    (copy / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(ModelError, match="'bert'"):
        part(copy).space()
    fails(copy, "'bert'")


def test_a_config_that_makes_no_model_is_one_sentence(copy: Path) -> None:
    file = copy / "config.json"
    config = json.loads(file.read_bytes())
    config["text_config"]["num_attention_heads"] = 5
    file.write_text(json.dumps(config))
    fails(copy, "describes no whole model")


def test_a_config_with_a_word_for_a_number_is_one_sentence(copy: Path) -> None:
    file = copy / "config.json"
    config = json.loads(file.read_bytes())
    config["vision_config"]["hidden_size"] = "wide"
    file.write_text(json.dumps(config))
    fails(copy, "'wide' for hidden_size")
    file.write_text(json.dumps({**config, "vision_config": "wide"}))
    fails(copy, "vision_config that is not a table")


@pytest.mark.parametrize("make", [make_siglip, make_siglip2, make_clip])
def test_loading_says_nothing(
    make: Callable[[Path], Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = make(tmp_path / "quiet")
    capfd.readouterr()
    part(folder).needs()
    part(folder).load()
    assert capfd.readouterr() == ("", "")
