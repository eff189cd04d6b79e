"""What all checkpoints share: where they compute, what they are called, and how tensors are
read."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from regard.core.errors import ModelError, UsageError
from regard.models.checkpoints.placement import Placement
from regard.models.checkpoints.source import Checkpoint, ModelSource
from regard.models.checkpoints.tensors import TensorFiles

pytestmark = pytest.mark.slow

CPU = Placement(torch.device("cpu"), torch.float32)


@pytest.mark.parametrize("device", ["mps", "meta", "tpu", "cpu:0", "cuda:-1", "cuda:x", "", "CPU"])
def test_only_the_processor_and_gpus_are_devices(device: str) -> None:
    with pytest.raises(UsageError, match=f"there is no device '{device}'"):
        Placement.resolve(device)


def test_a_gpu_has_one_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    names = [str(Placement.resolve(word).device) for word in ("auto", "cuda", "cuda:0", "cuda:1")]
    assert names == ["cuda:0", "cuda:0", "cuda:0", "cuda:1"]
    assert Placement.resolve("cuda").dtype == torch.bfloat16
    with pytest.raises(ModelError, match="cuda:2 is not on this machine"):
        Placement.resolve("cuda:2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert str(Placement.resolve().device) == "cpu"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_was_read_does_not_change_with_the_file(tmp_path: Path, dtype: torch.dtype) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"a": torch.ones(1000, dtype=dtype), "b": torch.arange(5)}, path)
    tensors = dict(TensorFiles((path,)).read(lambda name: True, Placement(CPU.device, dtype)))
    with path.open("r+b") as stream:
        stream.seek(-1500, 2)
        stream.write(b"\x11" * 1500)
    assert torch.equal(tensors["a"], torch.ones(1000, dtype=dtype))
    assert tensors["b"].tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("old", [False, True])
def test_a_pickle_under_another_name_is_told_as_one(tmp_path: Path, old: bool) -> None:
    path = tmp_path / "model.safetensors"
    torch.save({"a": torch.zeros(2)}, path, _use_new_zipfile_serialization=not old)
    with pytest.raises(ModelError, match="is a pickle, whatever its name says") as caught:
        assert TensorFiles((path,)).shapes
    assert str(path) in caught.value.message
    path.write_bytes(b"hello")
    with pytest.raises(ModelError, match="damaged or no safetensors"):
        assert TensorFiles((path,)).shapes


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "model"
    made.mkdir()
    for name in ("config.json", "tokenizer.json", "chat_template.jinja", "merges.txt", "a.model"):
        (made / name).write_text(f"{name} and more")
    save_file({"a": torch.zeros(10)}, made / "model.safetensors")
    return made


@pytest.mark.parametrize(
    "name",
    [
        "config.json",
        "tokenizer.json",
        "chat_template.jinja",
        "merges.txt",
        "a.model",
        "model.safetensors",
    ],
)
def test_a_folder_goes_by_all_that_a_model_is_made_of(folder: Path, name: str) -> None:
    before = Checkpoint(folder).identity
    assert before.startswith("model#")
    copy = Path(shutil.copytree(folder, folder.parent / "elsewhere" / "model"))
    assert Checkpoint(copy).identity == before
    (copy / "README.md").write_text("what a model is not made of")
    (copy / ".cache").mkdir()
    assert Checkpoint(copy).identity == before
    content = bytearray((copy / name).read_bytes())
    content[-1] ^= 1
    (copy / name).write_bytes(content)
    assert Checkpoint(copy).identity != before
    # A published model goes by its revision.
    assert Checkpoint(copy, "made/model@abc").identity == "made/model@abc"
    source = ModelSource(model="made/model", revision="abc", path=copy)
    assert source.locate().identity == "made/model@abc"


def test_of_large_files_a_sample_is_signed(folder: Path) -> None:
    large = folder / "model-2.safetensors"
    with large.open("wb") as stream:
        stream.truncate(70 << 20)
    before = Checkpoint(folder).identity
    with large.open("r+b") as stream:
        # Training changes every block; of these, one in five hundred.
        for offset in range(0, 70 << 20, 1 << 15):
            stream.seek(offset)
            stream.write(b"\1")
    assert Checkpoint(folder).identity != before


def test_a_file_that_may_not_be_read_is_one_sentence(folder: Path) -> None:
    (folder / "config.json").unlink()
    (folder / "config.json").symlink_to(folder / "config.json")
    with pytest.raises(ModelError, match=r"lacks config\.json"):
        Checkpoint(folder).config()
    assert Checkpoint(folder).identity.startswith("model#")
    (folder / "tokenizer.json").write_text("[" * 100_000)
    with pytest.raises(ModelError, match=r"tokenizer\.json is not valid JSON"):
        Checkpoint(folder).json("tokenizer.json")
