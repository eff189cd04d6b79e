"""SAM2-UNet at full size against the published implementation, on weights that follow a
formula."""

from __future__ import annotations

import hashlib
import json
import math
import re
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from parity_formulas import formula_image, formula_tensor
from safetensors.numpy import load_file
from torch import nn

from regard.core.records import Image
from regard.models.checkpoints.placement import Placement
from regard.models.sam2unet.loading import load_network, published_key
from regard.models.sam2unet.network import DecoderStep, SaliencyLogits, Sam2UNet
from regard.models.sam2unet.segmenter import Sam2UNetSegmenter, preprocess
from regard.models.sam2unet.weights import layout_of

pytestmark = pytest.mark.slow

CPU = Placement(torch.device("cpu"), torch.float32)
BUFFERS = ("running_mean", "running_var", "num_batches_tracked")
Arrays = Mapping[str, npt.NDArray[Any]]
Shapes = Mapping[str, tuple[int, ...]]


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
    hashes: Mapping[str, str]


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


# Fills, writes and loads 217 million parameters.
at_full_size = pytest.mark.campaign


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
    hashes = {key: digest for key, _, digest in made}
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
    return Run(outputs, features, hashes)


def assert_close(found: Any, expected: npt.NDArray[Any]) -> None:
    found = np.asarray(found)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


def test_parity_of_keys_and_shapes_at_full_size_on_meta(reference: Reference) -> None:
    with torch.device("meta"):
        layout = layout_of("the published layout", reference.shapes)
        network, unused = Sam2UNet(layout), DecoderStep(layout.decoder_width)
    ours = {published_key(key): tuple(value.shape) for key, value in network.state_dict().items()}
    # The decoder's fourth step is in checkpoints and never used.
    fourth = {f"up4.{key}": tuple(value.shape) for key, value in unused.state_dict().items()}
    assert {**ours, **fourth} == reference.shapes
    assert not ours.keys() & fourth.keys()


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


@at_full_size
def test_parity_of_the_fill_to_the_bit(reference: Reference, run: Run) -> None:
    assert run.hashes == reference.hashes
    lines = sorted(f"{key} {digest}" for key, digest in run.hashes.items())
    of_all = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    assert of_all == reference.facts.get("fill_sha256_of_all", of_all)
    for key, values in reference.facts["fill_first_values"].items():
        tensor = formula_tensor(key, reference.shapes[key], reference.facts["salt"])
        assert tensor.ravel()[: len(values)].tolist() == values


def test_parity_of_preprocessing(reference: Reference) -> None:
    image, facts = reference.tensors["image"], reference.facts
    height, width, _ = image.shape
    made = formula_image(width, height, facts["salt"])
    assert (made == image).all()
    digest = hashlib.sha256(made).hexdigest()
    assert digest == facts.get("image_sha256", digest)
    first = facts.get("image_first_row_first_pixels", [])
    assert image[0, : len(first)].tolist() == first
    size = reference.tensors["input"].shape[:1:-1]  # (width, height)
    assert list(size[::-1]) == facts.get("input_size", list(size[::-1]))
    assert_close(preprocess(Image(image), *size)[None], reference.tensors["input"])
    squashed = [name for name in facts if name.startswith("preprocess_")]
    assert squashed
    for name in squashed:
        facts = reference.facts[name]
        width, height = (int(x) for x in re.findall(r"\d+", name))
        pixels = formula_image(width, height, facts["image_salt"])
        assert hashlib.sha256(pixels).hexdigest() == facts["image_sha256"]
        found = preprocess(Image(pixels), *size)
        step = facts["pixel_step"]
        assert_close(found[:, ::step, ::step], reference.tensors[f"{name}.sample"])
        assert_close(found.mean(axis=(1, 2), dtype=np.float64), np.array(facts["mean"]))
        assert_close(found.std(axis=(1, 2), dtype=np.float64), np.array(facts["std"]))


@at_full_size
def test_parity_of_stages_blocks_and_decoder_steps(reference: Reference, run: Run) -> None:
    samples = reference.facts["samples"]
    assert len(samples) == 11
    for name, steps in samples.items():
        channels, pixels = steps["channel_step"], steps["pixel_step"]
        sample = run.features[name][:, ::channels, ::pixels, ::pixels]
        assert list(sample.shape) == steps.get("sample_shape", list(sample.shape))
        assert_close(sample, reference.tensors[f"{name}.sample"])


@at_full_size
def test_parity_of_whole_features_by_their_statistics(reference: Reference, run: Run) -> None:
    everything = {**run.features, **run.outputs._asdict()}
    for name, facts in reference.facts["statistics"].items():
        values = everything[name].double()
        assert list(values.shape) == facts["shape"]
        found = [values.mean(), values.std(correction=0), values.min(), values.max()]
        found.append(values.std(dim=(2, 3), correction=0).mean())
        expected = [facts[key] for key in ("mean", "std", "min", "max", "std_within_channels")]
        assert np.abs(np.array(found) - expected).max() <= 1e-5 * values.abs().max()


@at_full_size
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


@at_full_size
def test_parity_of_maps_at_the_size_of_the_image(reference: Reference, run: Run) -> None:
    segmenter = Sam2UNetSegmenter(Answering(run.outputs), CPU)
    maps = [name for name in reference.tensors if name.startswith("map_")]
    assert maps
    for name in maps:
        height, width = (int(x) for x in re.findall(r"\d+", name))
        [found] = segmenter.saliency([Image(np.zeros((height, width, 3), np.uint8))])
        assert found.dtype == np.float32
        assert_close(found, reference.tensors[name])
