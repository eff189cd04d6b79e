"""Checkpoints of every kind of part: what is read before loading, what loading requires, what is
refused.

Each rule is asserted over all kinds that it holds for. What only one kind has is tested in the
file of that kind.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from made_checkpoints.contrastive import make_clip, make_siglip, make_siglip2
from made_checkpoints.image_text import make_blip, make_idefics3
from made_checkpoints.sam2 import make_sam2
from made_checkpoints.sam2unet import make_sam2unet
from made_checkpoints.xgenmm import TOWER, make_xgenmm, write_shards
from safetensors.torch import load_file, save_file
from transformers import Sam2VideoConfig, Sam2VideoModel

from regard.core.errors import ModelError, UsageError
from regard.models.checkpoints.source import Checkpoint, ModelSource
from regard.models.contrastive.architecture import read_architecture
from regard.models.contrastive.loading import build as build_contrastive
from regard.models.parts import PartDefinition
from regard.models.profiles.kinds import make_part
from regard.models.sam2.loading import build as build_sam2
from regard.models.sam2.loading import image_size, read_config

pytestmark = pytest.mark.slow

Tensors = dict[str, torch.Tensor]
INDEX = "model.safetensors.index.json"


@dataclass(frozen=True)
class Kind:
    """A kind of part and a tiny checkpoint of it.

    `weight` is one of its tensors; `files` have to be there; `batch` is a parameter that changes
    memory alone; `chosen` is one that changes what is written; `wrong` are refused.
    """

    role: str
    kind: str
    make: Callable[..., Path]
    weight: str
    files: tuple[str, ...]
    chosen: Mapping[str, Any]
    wrong: tuple[Mapping[str, Any], ...]
    batch: str = "batch_size"
    unused: tuple[str, ...] = field(default=())

    def part(self, folder: Path, model: str | None = None, **parameters: Any) -> Any:
        source = ModelSource(model=model, path=folder)
        where = f"profile test, {self.role}"
        return make_part(
            self.role, PartDefinition(self.kind, where, source, "cpu", "float32", parameters)
        )


def _make_sam2unet(folder: Path, seed: int = 0) -> Path:
    return make_sam2unet(folder / "SAM2UNet.safetensors", seed).parent


KINDS = {
    "siglip": Kind(
        "encoder",
        "contrastive",
        make_siglip,
        "text_model.head.weight",
        ("config.json", "preprocessor_config.json", "tokenizer.json", "tokenizer_config.json"),
        {"region_view": "crop", "context": 0.5},
        ({"region_view": "blur"}, {"context": -1}, {"batch_size": 0}),
        unused=("vision_model.embeddings.position_ids", "text_model.embeddings.position_ids"),
    ),
    "blip": Kind(
        "captioner",
        "image-text",
        make_blip,
        "vision_model.post_layernorm.weight",
        ("config.json",),
        {"prompt": "a photo of", "beams": 3},
        (
            {"beams": 0},
            {"max_new_tokens": "many"},
            {"image_processor": {"size": {}}},
            {"temperature": 1},
        ),
        unused=("text_decoder.bert.embeddings.position_ids",),
    ),
    "xgenmm": Kind(
        "captioner",
        "xgenmm",
        make_xgenmm,
        "vlm.vision_tokenizer.latents",
        ("config.json", "tokenizer.json"),
        {"beams": 2},
        ({"beams": 0}, {"temperature": 1}),
    ),
    "sam2": Kind(
        "segmenter",
        "sam2",
        make_sam2,
        "prompt_encoder.no_mask_embed.weight",
        ("config.json",),
        {"limit": 5},
        ({"crops": 1}, {"limit": 0}),
        unused=("memory_temporal_positional_encoding",),
    ),
    "sam2unet": Kind(
        "segmenter",
        "sam2unet",
        _make_sam2unet,
        "up2.conv.double_conv.0.weight",
        ("SAM2UNet.safetensors",),
        {"threshold": 0.4},
        ({"threshold": 1.5}, {"limit": 0}, {"sharpness": 1}, {"certainty": "nan"}),
        unused=("up4.conv.double_conv.0.weight",),
    ),
}
every_kind = pytest.mark.parametrize("name", KINDS)
every_folder_kind = pytest.mark.parametrize("name", [name for name in KINDS if name != "sam2unet"])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """One checkpoint of each kind, to read only."""
    folder = tmp_path_factory.mktemp("made")
    return {name: kind.make(folder / f"{name}-tiny") for name, kind in KINDS.items()}


@pytest.fixture
def copy(made: Mapping[str, Path], name: str, tmp_path: Path) -> Path:
    """A checkpoint to spoil."""
    return Path(shutil.copytree(made[name], tmp_path / made[name].name))


def change_tensors(folder: Path, change: Callable[[Tensors], object]) -> None:
    """Change a checkpoint's tensors in place, in the file or the shards that they lie in."""
    files = sorted(folder.glob("*.safetensors"))
    tensors = {key: tensor for file in files for key, tensor in load_file(file).items()}
    change(tensors)
    if (folder / INDEX).exists():
        write_shards(folder, tensors)
    else:
        save_file(tensors, files[0], metadata={"format": "pt"})


def change_json(file: Path, path: str, value: object) -> None:
    """Set one value of a JSON file; `path` has dots between its keys."""
    document = json.loads(file.read_text(encoding="utf-8"))
    table = document
    *parents, last = path.split(".")
    for key in parents:
        table = table[key]
    table[last] = value
    file.write_text(json.dumps(document), encoding="utf-8")


def assert_refused(kind: Kind, folder: Path, match: str) -> None:
    """The check before loading and loading itself give the same reason, in one sentence."""
    for attempt in ("needs", "load"):
        with pytest.raises(ModelError, match=match) as caught:
            getattr(kind.part(folder), attempt)()
        assert "\n" not in caught.value.message


def test_names_and_identity_are_read_without_model_runtimes(made: Mapping[str, Path]) -> None:
    script = (
        "import sys; from pathlib import Path\n"
        "from regard.models.checkpoints.source import ModelSource\n"
        "from regard.models.parts import PartDefinition\n"
        "from regard.models.profiles.kinds import make_part\n"
        "for role, kind, folder in zip(sys.argv[1::3], sys.argv[2::3], sys.argv[3::3]):\n"
        "    source = ModelSource(path=Path(folder))\n"
        "    part = make_part(role, PartDefinition(kind, 'here', source))\n"
        "    part.names(), part.identity(), getattr(part, 'space', lambda: None)()\n"
        "    heavy = {'torch', 'transformers', 'tokenizers', 'scipy'} & set(sys.modules)\n"
        "    assert not heavy, (kind, heavy)\n"
    )
    parts = ((kind.role, kind.kind, str(made[name])) for name, kind in KINDS.items())
    subprocess.run(
        [sys.executable, "-c", script, *(word for part in parts for word in part)], check=True
    )


@every_kind
def test_names_follow_the_weights_and_not_the_place(
    name: str, made: Mapping[str, Path], copy: Path, tmp_path: Path
) -> None:
    kind = KINDS[name]
    names = kind.part(made[name]).names()
    (role,) = names
    assert role == kind.role
    assert names[role].startswith(f"{kind.kind}:")
    assert kind.part(copy).names() == names
    other = kind.make(tmp_path / "other" / made[name].name, seed=1)
    assert kind.part(other).names() != names
    published = kind.part(copy, "owner/model").names()
    assert published == {role: f"{kind.kind}:owner/model@main"}
    assert kind.part(made[name], "owner/model").names() == published


@every_kind
def test_identity_holds_what_changes_the_output_and_nothing_else(
    name: str, made: Mapping[str, Path]
) -> None:
    kind = KINDS[name]
    plain = kind.part(made[name]).identity()
    assert kind.part(made[name], **{kind.batch: 7}).identity() == plain
    assert kind.part(made[name], **kind.chosen).identity() == {**plain, **kind.chosen}


@pytest.mark.parametrize(
    ("name", "wrong"), [(name, wrong) for name, kind in KINDS.items() for wrong in kind.wrong]
)
def test_wrong_parameter_is_a_usage_error_that_names_it(
    name: str, wrong: Mapping[str, Any], tmp_path: Path
) -> None:
    parameter = next(iter(wrong))
    with pytest.raises(UsageError, match=f"profile test, .*: the parameter {parameter}"):
        KINDS[name].part(tmp_path / "absent", **wrong)


@every_kind
def test_part_without_model_is_a_usage_error(name: str) -> None:
    kind = KINDS[name]
    with pytest.raises(UsageError, match="needs a model or a path"):
        make_part(kind.role, PartDefinition(kind.kind, "profile test"))


@every_kind
def test_needs_cover_the_weights_and_grow_with_the_batch(
    name: str, made: Mapping[str, Path]
) -> None:
    kind = KINDS[name]
    (small,) = kind.part(made[name], **{kind.batch: 1}).needs()
    (large,) = kind.part(made[name], **{kind.batch: 16}).needs()
    unused = ("memory", "up4.", "mask_downsample", "object_pointer", "occlusion", "no_object")
    weights = sum(
        tensor.numel()
        for file in made[name].glob("*.safetensors")
        for key, tensor in load_file(file).items()
        if not key.startswith(unused)
    )
    assert small.device == "cpu"
    assert small.count > 4 * weights
    assert large.count > small.count


@every_kind
def test_missing_key_is_named(name: str, copy: Path) -> None:
    kind = KINDS[name]
    change_tensors(copy, lambda tensors: tensors.pop(kind.weight))
    assert_refused(kind, copy, f"1 missing, such as {kind.weight}")


@every_kind
def test_unknown_key_is_named(name: str, copy: Path) -> None:
    kind = KINDS[name]
    surplus = kind.weight.rpartition(".")[0] + ".adapter"
    change_tensors(copy, lambda tensors: tensors.update({surplus: torch.zeros(2)}))
    assert_refused(kind, copy, f"1 unknown, such as {surplus}")


@every_kind
def test_tensor_of_another_shape_is_named(name: str, copy: Path) -> None:
    kind = KINDS[name]
    change_tensors(copy, lambda tensors: tensors.update({kind.weight: torch.zeros(3, 7)}))
    assert_refused(
        kind, copy, rf"{kind.weight}.* of shape \[3, 7\]|of another shape, .*{kind.weight}"
    )


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if kind.unused])
def test_keys_that_the_model_does_not_use_may_be_there_or_not(name: str, copy: Path) -> None:
    kind = KINDS[name]
    for present in (False, True):

        def change(tensors: Tensors, present: bool = present) -> None:
            for key in kind.unused:
                tensors.pop(key, None)
                if present:
                    tensors[key] = torch.zeros(1, 16).long()

        change_tensors(copy, change)
        kind.part(copy).needs()
        kind.part(copy).load()


@every_kind
def test_truncated_weights_are_damaged(name: str, copy: Path) -> None:
    file = sorted(copy.glob("*.safetensors"))[0]
    content = file.read_bytes()
    for size in (0, len(content) // 3, len(content) - 1000):
        file.write_bytes(content[:size])
        assert_refused(KINDS[name], copy, "damaged")


@every_folder_kind
def test_pickle_is_refused(name: str, copy: Path) -> None:
    for file in (copy / INDEX, *copy.glob("*.safetensors")):
        file.unlink(missing_ok=True)
    (copy / "pytorch_model.bin").write_bytes(b"pickle")
    assert_refused(KINDS[name], copy, "holds a pickle")


@pytest.mark.parametrize(
    ("name", "file"), [(name, file) for name, kind in KINDS.items() for file in kind.files]
)
def test_missing_file_is_named(name: str, file: str, copy: Path) -> None:
    (copy / file).unlink()
    assert_refused(KINDS[name], copy, f"lacks {file}|SAM2UNet-COD\\.pth")


@every_folder_kind
def test_shards_are_read_as_one(name: str, made: Mapping[str, Path], copy: Path) -> None:
    kind = KINDS[name]
    files = sorted(copy.glob("*.safetensors"))
    tensors = {key: tensor for file in files for key, tensor in load_file(file).items()}
    for file in files:
        file.unlink()
    write_shards(copy, tensors, shards=3)
    assert kind.part(copy).needs() == kind.part(made[name]).needs()
    kind.part(copy).load()
    shard = sorted(copy.glob("*.safetensors"))[1]
    shard.unlink()
    assert_refused(kind, copy, f"lacks {shard.name}")


@every_kind
def test_loaded_model_does_not_change_with_its_file(name: str, copy: Path) -> None:
    loaded = KINDS[name].part(copy).load()
    weights = _weights_of(loaded)
    before = [weight.clone() for weight in weights]
    for file in copy.glob("*.safetensors"):
        with file.open("r+b") as stream:
            stream.write(b"\x11" * file.stat().st_size)
    assert len(before) > 10
    assert all(torch.equal(weight, kept) for weight, kept in zip(weights, before, strict=True))


def _weights_of(loaded: object, depth: int = 3) -> list[torch.Tensor]:
    """The weights of all modules within a few attributes of an object."""
    if isinstance(loaded, torch.nn.Module):
        return list(loaded.parameters())
    inside = vars(loaded).values() if depth and hasattr(loaded, "__dict__") else ()
    return [weight for value in inside for weight in _weights_of(value, depth - 1)]


# Kind, file, place in it, the wrong value, and what the error says.
WRONG_VALUES: list[tuple[str, str, str, object, str]] = [
    ("siglip", "config.json", "model_type", "bert", "'bert'"),
    ("siglip", "config.json", "text_config.num_attention_heads", 5, "describes no whole model"),
    ("siglip", "config.json", "vision_config.hidden_size", "wide", "'wide' for hidden_size"),
    ("siglip", "config.json", "vision_config", "wide", "vision_config that is not a table"),
    ("siglip", "tokenizer_config.json", "pad_token", "[PAD]", "padding token"),
    ("siglip", "tokenizer_config.json", "padding_side", "middle", "'middle' for padding_side"),
    *(
        (
            "blip",
            "config.json",
            "model_type",
            kind,
            "not a model of transformers for image-text-to-text",
        )
        for kind in ("siglip", "bert", None, ["blip"])
    ),
    ("blip", "config.json", "vision_config", {"hidden_size": "wide"}, "can't be loaded"),
    ("xgenmm", "config.json", "model_type", "blip-2", "'blip-2', not 'xgenmm'; choose the kind"),
    ("xgenmm", "config.json", "text_config", {"model_type": "llama"}, "other than Phi-3"),
    ("xgenmm", "config.json", "text_config", {"hidden_size": "wide"}, "wrong hidden_size: 'wide'"),
    ("xgenmm", "config.json", "resampler", 7, "resampler that is not an object"),
    ("xgenmm", "config.json", "vision_tokenizer_config", {}, "vis_feature_dim 1152 beside a part"),
    ("xgenmm", "config.json", "token_ids", {"<image>": 5}, "<image> has the id 5"),
    *(
        ("xgenmm", "config.json", "token_ids.<pad>", wrong, f"has the id {wrong!r} for <pad>")
        for wrong in (9999, -1, "7", True, None)
    ),
    ("xgenmm", "config.json", "siglip_vision_config.patch_size", 0, "wrong patch_size: 0"),
    ("xgenmm", "config.json", "siglip_vision_config.patch_size", 99, "larger than the im"),
    (
        *("xgenmm", "config.json", "siglip_vision_config.num_attention_heads", 5),
        f"{TOWER['hidden_size']} can't be divided among 5 heads",
    ),
    ("xgenmm", "config.json", "text_config", {"num_attention_heads": 0}, "num_attention_heads: 0"),
    ("xgenmm", "config.json", "text_config", {"rope_theta": float("nan")}, "wrong rope_theta: nan"),
    ("xgenmm", "preprocessor_config.json", "resize_mode", "crop", "unknown resize_mode: 'crop'"),
    ("xgenmm", "preprocessor_config.json", "size", [31, 31], "for a tower of 30 pixels"),
    ("xgenmm", "preprocessor_config.json", "grids", [[30, 61]], "not a multiple of 30 pixels"),
    ("xgenmm", "preprocessor_config.json", "grids", [["a", 2]], "not a multiple of 30 pixels"),
    ("xgenmm", "preprocessor_config.json", "grids", [[30, 60.0]], "not a multiple of 30 pixels"),
    ("xgenmm", "preprocessor_config.json", "grids", [], r"not a list of resolutions: \[\]"),
    ("xgenmm", "preprocessor_config.json", "grids", 7, "not a list of resolutions: 7"),
    ("xgenmm", "preprocessor_config.json", "image_mean", [0.5], "not of three channels"),
    ("xgenmm", "preprocessor_config.json", "image_mean", ["a", "b", "c"], "not of three channels"),
    ("xgenmm", "preprocessor_config.json", "image_std", [0.5, 0, 0.5], "not above zero"),
    ("sam2", "config.json", "model_type", "sam", "model of the type 'sam'"),
    ("sam2", "config.json", "vision_config", None, "vision_config"),
    ("sam2", "config.json", "prompt_encoder_config.image_size", 100, "image_size: 100"),
    ("sam2", "config.json", "prompt_encoder_config.image_size", 256, "makes .*64, 64"),
    ("sam2", "config.json", "prompt_encoder_config.patch_size", 8, "patch_size: 8"),
    ("sam2", "config.json", "mask_decoder_config.hidden_size", "wide", "hidden_size"),
    (
        *("sam2", "config.json", "vision_config.backbone_feature_sizes", [1, 2, 3]),
        r"backbone_feature_sizes: \[1, 2, 3\]",
    ),
    (
        *("sam2", "config.json", "vision_config.backbone_config", {"model_type": "resnet"}),
        "backbone 'resnet'",
    ),
    (
        *("sam2", "config.json", "vision_config.backbone_config.embed_dim_per_stage", [8, 16]),
        "the model that the config of",
    ),
    ("sam2", "preprocessor_config.json", "resample", 0, "resample: 0"),
    ("sam2", "preprocessor_config.json", "resample", "sharp", "resample: 'sharp'"),
    ("sam2", "preprocessor_config.json", "resample", [], r"resample: \[\]"),
    ("sam2", "preprocessor_config.json", "image_std", [0.5, 0, 0.5], "std"),
    ("sam2", "preprocessor_config.json", "image_std", "grey", "std"),
    ("sam2", "preprocessor_config.json", "image_mean", [0.5, 0.5], "mean"),
    ("sam2", "preprocessor_config.json", "do_resize", False, "do_resize: false"),
    ("sam2", "preprocessor_config.json", "size", {"height": 64, "width": 64}, "takes 128 × 128"),
    ("sam2", "preprocessor_config.json", "size", {"longest_edge": 128}, "longest_edge"),
]


@pytest.mark.parametrize(("name", "file", "path", "value", "says"), WRONG_VALUES)
def test_wrong_value_in_a_json_file_is_one_sentence(
    name: str, file: str, path: str, value: object, says: str, copy: Path
) -> None:
    change_json(copy / file, path, value)
    assert_refused(KINDS[name], copy, says)


@pytest.mark.parametrize("name", ["siglip", "xgenmm"])
def test_damaged_tokenizer_is_named(name: str, copy: Path) -> None:
    (copy / "tokenizer.json").write_text("{")
    assert_refused(KINDS[name], copy, r"tokenizer\.json (is damaged|can't be loaded)")


@pytest.mark.parametrize("name", ["blip"])
def test_model_that_needs_its_own_code_is_refused_and_the_code_not_run(
    name: str, copy: Path
) -> None:
    change_json(copy / "config.json", "model_type", "custom")
    change_json(copy / "config.json", "auto_map", {"AutoModel": "modeling.Custom"})
    (copy / "modeling.py").write_text("raise SystemExit('this ran')\n")
    assert_refused(KINDS[name], copy, "needs its own code")


@pytest.mark.parametrize("name", ["siglip"])
def test_space_follows_weights_and_preprocessing(name: str, copy: Path, tmp_path: Path) -> None:
    kind = KINDS[name]
    space = kind.part(copy).space()
    assert space.name.startswith("siglip-tiny-")
    assert len(space.name) == len("siglip-tiny-") + 8
    assert space.dimension == 32
    assert kind.part(copy, region_view="masked", batch_size=1).space() == space
    assert kind.part(make_siglip(tmp_path / "other" / copy.name, seed=1)).space() != space
    change_json(copy / "preprocessor_config.json", "resample", 2)
    assert kind.part(copy).space() != space


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("siglip", make_siglip),
        ("siglip", make_siglip2),
        ("siglip", make_clip),
        ("blip", make_blip),
        ("blip", make_idefics3),
        ("xgenmm", make_xgenmm),
        ("sam2", make_sam2),
        ("sam2unet", _make_sam2unet),
    ],
)
def test_loading_prints_nothing(
    name: str, make: Callable[[Path], Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = make(tmp_path / "quiet")
    capfd.readouterr()
    KINDS[name].part(folder).needs()
    KINDS[name].part(folder).load()
    assert capfd.readouterr() == ("", "")


def test_so400m_has_the_published_number_of_parameters(tmp_path: Path) -> None:
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
    model = build_contrastive(checkpoint, architecture)
    assert sum(weight.numel() for weight in model.parameters()) == 877_960_498
    vision = model.get_submodule("vision_model")
    assert sum(weight.numel() for weight in vision.parameters()) == 428_225_600
    assert len(vision.state_dict()) == 448


# The published configs of the image encoders; millions of parameters by the authors' table of SAM
# 2.1 (arXiv 2408.00714), and parameters of the image model alone.
SAM2_SIZES = {
    "tiny": (
        {
            "hidden_size": 96,
            "num_attention_heads": 1,
            "blocks_per_stage": [1, 2, 7, 2],
            "embed_dim_per_stage": [96, 192, 384, 768],
            "num_attention_heads_per_stage": [1, 2, 4, 8],
            "window_size_per_stage": [8, 4, 14, 7],
            "global_attention_blocks": [5, 7, 9],
            "window_positional_embedding_background_size": [7, 7],
        },
        38.9,
        31_440_721,
    ),
    "large": (
        {
            "hidden_size": 144,
            "num_attention_heads": 2,
            "blocks_per_stage": [2, 6, 36, 4],
            "embed_dim_per_stage": [144, 288, 576, 1152],
            "num_attention_heads_per_stage": [2, 4, 8, 16],
            "window_size_per_stage": [8, 4, 16, 8],
            "global_attention_blocks": [23, 33, 43],
            "window_positional_embedding_background_size": [7, 7],
        },
        224.4,
        216_924_865,
    ),
}


@pytest.mark.parametrize("size", SAM2_SIZES)
def test_sam2_has_the_published_number_of_parameters(size: str, tmp_path: Path) -> None:
    backbone, millions, parameters = SAM2_SIZES[size]
    config: dict[str, Any] = {
        "model_type": "sam2_video",
        "vision_config": {
            "model_type": "sam2_vision_model",
            "backbone_config": {"model_type": "sam2_hiera_det_model", **backbone},
            "backbone_channel_list": list(reversed(backbone["embed_dim_per_stage"])),
            "backbone_feature_sizes": [[256, 256], [128, 128], [64, 64]],
        },
        "prompt_encoder_config": {"model_type": "sam2_video_prompt_encoder"},
        "mask_decoder_config": {"model_type": "sam2_video_mask_decoder"},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    read = read_config(Checkpoint(tmp_path))
    image_model = build_sam2(read, tmp_path)
    assert image_size(read) == 1024
    assert sum(weight.numel() for weight in image_model.parameters()) == parameters
    empty = {"prompt_encoder_config": {}, "mask_decoder_config": {}}
    with torch.device("meta"):
        video_model = Sam2VideoModel(
            Sam2VideoConfig(vision_config=config["vision_config"], **empty)
        )
    # The table truncates the second decimal.
    assert sum(weight.numel() for weight in video_model.parameters()) // 100_000 / 10 == millions
    # The image model is the video model without its memory, key by key.
    shapes = {key: tensor.shape for key, tensor in video_model.state_dict().items()}
    assert {k: t.shape for k, t in image_model.state_dict().items()}.items() <= shapes.items()
