"""SAM2-UNet at full size against the published implementation, on weights that follow a formula."""

from __future__ import annotations

import hashlib
import json
import math
import re
import tempfile
import zlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from safetensors.numpy import load_file
from torch import nn

from regard.core.records import Image
from regard.models.checkpoints.placement import Placement
from regard.models.sam2unet.layout import layout_of
from regard.models.sam2unet.loading import load_network, published_key
from regard.models.sam2unet.network import SaliencyLogits, Sam2UNet
from regard.models.sam2unet.segmenter import Sam2UNetSegmenter, preprocess

CPU = Placement(torch.device("cpu"), torch.float32)
BUFFERS = ("running_mean", "running_var", "num_batches_tracked")
Arrays = Mapping[str, npt.NDArray[Any]]
Shapes = Mapping[str, tuple[int, ...]]


# The formulas of the parity folder's README.


def hashed(key: str, salt: int, start: int, stop: int) -> npt.NDArray[np.float64]:
    """u of the elements `start` to `stop` - 1, in [-1, 1)."""
    x = np.arange(start + 1, stop + 1, dtype=np.uint32)
    x *= np.uint32(0x9E3779B9)
    x += np.uint32(zlib.crc32(key.encode()) ^ salt)
    x ^= x >> np.uint32(16)
    x *= np.uint32(0x85EBCA6B)
    x ^= x >> np.uint32(13)
    x *= np.uint32(0xC2B2AE35)
    x ^= x >> np.uint32(16)
    return x * 2.0**-31 - 1


def scale(key: str, shape: tuple[int, ...]) -> tuple[float, float]:
    """a and b of the value a + b · u."""
    if key.endswith("running_var"):
        return 1.0, 0.5
    if key.endswith(("running_mean", "bias")):
        return 0.0, 0.1
    if key in {"encoder.pos_embed", "encoder.pos_embed_window"}:
        return 0.0, 0.5
    if len(shape) == 1:
        return 1.0, 0.25
    gain = {4: 6.0, 2: 3.0}[len(shape)]
    if key.startswith(("side1.", "side2.", "head.")):
        gain = 0.1
    if "prompt_learn" in key:
        gain = 0.75
    return 0.0, math.sqrt(gain / math.prod(shape[1:]))


def formula_tensor(key: str, shape: tuple[int, ...], salt: int) -> npt.NDArray[Any]:
    if key.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    offset, factor = scale(key, shape)
    flat = np.empty(math.prod(shape), np.float32)
    chunk = 1 << 17
    for start in range(0, flat.size, chunk):
        u = hashed(key, salt, start, min(start + chunk, flat.size))
        u *= factor
        if offset:
            u += offset
        flat[start : start + chunk] = u
    return flat.reshape(shape)


def formula_image(width: int, height: int, salt: int) -> npt.NDArray[np.uint8]:
    y, x, c = np.meshgrid(np.arange(height), np.arange(width), np.arange(3), indexing="ij")
    phase = salt % 1000 / 1000
    s = 127.5 + 55 * np.sin(2 * np.pi * (1.5 * x / width + 0.5 * y / height + c / 3 + phase))
    s += 45 * np.cos(2 * np.pi * (2.5 * y / height - (x / width) * (c + 1) / 2 + 2 * phase))
    near = (x - 0.6 * width) ** 2 + (y - 0.4 * height) ** 2 < (0.25 * min(width, height)) ** 2
    u = hashed("image", salt, 0, s.size).reshape(s.shape)
    return np.clip(np.floor(s + 40 * near + 20 * u + 0.5), 0, 255).astype(np.uint8)


# What is compared.


@dataclass(frozen=True)
class Reference:
    shapes: Shapes
    facts: dict[str, Any]
    tensors: Arrays
    hashes: Mapping[str, str]


@dataclass(frozen=True)
class Run:
    """One forward pass: the network's modules by name → their outputs, channels first."""

    outputs: SaliencyLogits
    features: Mapping[str, torch.Tensor]
    wrong_hashes: list[str]


@pytest.fixture(scope="module")
def reference(parity_dir: Path) -> Reference:
    lines = (parity_dir / "keys" / "sam2unet.txt").read_text().splitlines()
    folder = parity_dir / "sam2unet"
    return Reference(
        shapes={key: tuple(json.loads(shape)) for key, shape in (x.split(" ", 1) for x in lines)},
        facts=json.loads((folder / "outputs.json").read_text()),
        tensors=load_file(folder / "outputs.safetensors"),
        hashes=dict(x.split() for x in (folder / "fill_sha256.txt").read_text().splitlines()),
    )


@pytest.fixture(scope="module")
def run(reference: Reference) -> Run:
    """The formula's weights written as a `.pth`, loaded by the real code, and one forward pass."""
    salt = reference.facts["salt"]

    def make(item: tuple[str, tuple[int, ...]]) -> tuple[str, torch.Tensor, str]:
        key, shape = item
        tensor = formula_tensor(key, shape, salt)
        return key, torch.from_numpy(tensor), hashlib.sha256(tensor).hexdigest()[:16]

    with ThreadPoolExecutor(2) as pool:
        made = list(pool.map(make, reference.shapes.items()))
    wrong = [key for key, _, digest in made if digest != reference.hashes[key]]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "SAM2UNet.pth")
        torch.save({key: tensor for key, tensor, _ in made}, file)
        del made
        network = load_network(file, CPU)

    features: dict[str, torch.Tensor] = {}

    def keep(name: str) -> Any:
        def hook(_module: nn.Module, _inputs: object, output: Any) -> None:
            if name == "encoder":
                for number, stage in enumerate(output.intermediate_hidden_states, start=1):
                    features[f"stage{number}"] = stage.permute(0, 3, 1, 2)
            else:
                features[name] = output

        return hook

    for name, module in network.named_children():
        module.register_forward_hook(keep(name))
    with torch.inference_mode():
        outputs = network(torch.from_numpy(reference.tensors["input"]))
    return Run(outputs, features, wrong)


def assert_close(found: Any, expected: npt.NDArray[Any]) -> None:
    found = np.asarray(found)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


def test_parity_of_keys_and_shapes_at_full_size_on_meta(reference: Reference) -> None:
    with torch.device("meta"):
        network = Sam2UNet(layout_of("the published layout", reference.shapes))
    ours = {published_key(key): tuple(value.shape) for key, value in network.state_dict().items()}
    unused = {key: shape for key, shape in reference.shapes.items() if key.startswith("up4.")}
    assert {**ours, **unused} == reference.shapes
    assert not ours.keys() & unused.keys()


def test_parity_of_parameter_counts_with_the_published_ones(reference: Reference) -> None:
    with torch.device("meta"):
        network = Sam2UNet(layout_of("the published layout", reference.shapes))
    counts = {name: parameter.numel() for name, parameter in network.named_parameters()}
    adapters = sum(count for name, count in counts.items() if ".prompt_learn." in name)
    encoder = sum(count for name, count in counts.items() if name.startswith("encoder."))
    unused = sum(
        math.prod(shape)
        for key, shape in reference.shapes.items()
        if key.startswith("up4.") and not key.endswith(BUFFERS)
    )
    assert adapters == 1_714_416
    assert encoder - adapters == 212_149_296
    assert sum(counts.values()) + unused == 216_529_891


def test_parity_of_normalization_eps(reference: Reference) -> None:
    with torch.device("meta"):
        network = Sam2UNet(layout_of("the published layout", reference.shapes))
    layers = [module for module in network.modules() if isinstance(module, nn.LayerNorm)]
    assert len(layers) == 2 * sum(".norm1.weight" in key for key in reference.shapes)
    assert {layer.eps for layer in layers} == {1e-6}
    batch = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    assert {layer.eps for layer in batch} == {1e-5}


def test_parity_of_the_fill_to_the_bit(reference: Reference, run: Run) -> None:
    assert run.wrong_hashes == []
    for key, values in reference.facts["fill_first_values"].items():
        tensor = formula_tensor(key, reference.shapes[key], reference.facts["salt"])
        assert tensor.ravel()[: len(values)].tolist() == values


def test_parity_of_preprocessing(reference: Reference) -> None:
    image = reference.tensors["image"]
    height, width, _ = image.shape
    assert (formula_image(width, height, reference.facts["salt"]) == image).all()
    assert_close(preprocess(Image(image), width, height)[None], reference.tensors["input"])
    squashed = [name for name in reference.facts if name.startswith("preprocess_")]
    assert squashed
    for name in squashed:
        facts = reference.facts[name]
        width, height = (int(x) for x in re.findall(r"\d+", name))
        pixels = formula_image(width, height, facts["image_salt"])
        assert hashlib.sha256(pixels).hexdigest() == facts["image_sha256"]
        found = preprocess(Image(pixels), *reference.tensors["input"].shape[:1:-1])
        step = facts["pixel_step"]
        assert_close(found[:, ::step, ::step], reference.tensors[f"{name}.sample"])
        assert_close(found.mean(axis=(1, 2), dtype=np.float64), np.array(facts["mean"]))
        assert_close(found.std(axis=(1, 2), dtype=np.float64), np.array(facts["std"]))


def test_parity_of_stages_blocks_and_decoder_steps(reference: Reference, run: Run) -> None:
    samples = reference.facts["samples"]
    assert len(samples) == 11
    for name, steps in samples.items():
        channels, pixels = steps["channel_step"], steps["pixel_step"]
        sample = run.features[name][:, ::channels, ::pixels, ::pixels]
        assert_close(sample, reference.tensors[f"{name}.sample"])


def test_parity_of_whole_features_by_their_statistics(reference: Reference, run: Run) -> None:
    everything = {**run.features, **run.outputs._asdict()}
    for name, facts in reference.facts["statistics"].items():
        values = everything[name].double()
        assert list(values.shape) == facts["shape"]
        found = [values.mean(), values.std(correction=0), values.min(), values.max()]
        found.append(values.std(dim=(2, 3), correction=0).mean())
        expected = [facts[key] for key in ("mean", "std", "min", "max", "std_within_channels")]
        assert np.abs(np.array(found) - expected).max() <= 1e-5 * values.abs().max()


def test_parity_of_heads_and_outputs(reference: Reference, run: Run) -> None:
    for name in ("head", "side1", "side2"):
        assert_close(run.features[name], reference.tensors[name])
    for name, output in run.outputs._asdict().items():
        assert_close(output, reference.tensors[name])


class Answering(nn.Module):
    """A network that has already answered."""

    def __init__(self, outputs: SaliencyLogits) -> None:
        super().__init__()
        self.outputs = outputs

    def forward(self, _pixels: torch.Tensor) -> SaliencyLogits:
        return self.outputs


def test_parity_of_maps_at_the_size_of_the_image(reference: Reference, run: Run) -> None:
    segmenter = Sam2UNetSegmenter(Answering(run.outputs), CPU)
    maps = [name for name in reference.tensors if name.startswith("map_")]
    assert maps
    for name in maps:
        height, width = (int(x) for x in re.findall(r"\d+", name))
        [found] = segmenter.saliency([Image(np.zeros((height, width, 3), np.uint8))])
        assert found.dtype == np.float32
        assert_close(found, reference.tensors[name])
