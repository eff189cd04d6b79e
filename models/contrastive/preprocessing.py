"""Image preprocessing as described by a checkpoint's `preprocessor_config.json`.

Pixels stay uint8 here; normalisation happens on the device. SigLIP resizes to a square, CLIP fits
the shortest edge and crops the centre, NaFlex keeps the aspect ratio in patches. The mode is read
from the file, and an unknown setting is an error. Pixels equal those of transformers' image
processors (Pillow) within one of 256 levels. Imports no torch or transformers.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

import numpy as np
import PIL.Image

from regard.core.errors import ModelError
from regard.core.geometry import Box, Mask
from regard.core.records import Image, UInt8Array
from regard.models.checkpoints.source import Checkpoint
from regard.models.contrastive.architecture import Architecture, Family
from regard.photos.masks import decode_mask

PREPROCESSOR = "preprocessor_config.json"
_PROCESSOR = "processor_config.json"  # where transformers 5 writes the same table, under a key

_BICUBIC = int(PIL.Image.Resampling.BICUBIC)
_HALF = (0.5, 0.5, 0.5)
_SWITCHES = ("do_resize", "do_rescale", "do_normalize", "do_convert_rgb", "do_center_crop")

# Defaults of transformers' image processors.
_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "SiglipImageProcessor": {
        "size": {"height": 224, "width": 224},
        "resample": 3,
        "image_mean": _HALF,
        "image_std": _HALF,
    },
    "Siglip2ImageProcessor": {
        "patch_size": 16,
        "max_num_patches": 256,
        "resample": 2,
        "image_mean": _HALF,
        "image_std": _HALF,
    },
    "CLIPImageProcessor": {
        "size": {"shortest_edge": 224},
        "crop_size": {"height": 224, "width": 224},
        "do_center_crop": True,
        "resample": 3,
        "image_mean": (0.48145466, 0.4578275, 0.40821073),
        "image_std": (0.26862954, 0.26130258, 0.27577711),
    },
}
_PROCESSORS: Mapping[Family, str] = {
    Family.SIGLIP: "SiglipImageProcessor",
    Family.SIGLIP2: "Siglip2ImageProcessor",
    Family.CLIP: "CLIPImageProcessor",
}


@dataclass(frozen=True, slots=True)
class Levels:
    """Normalisation of uint8 pixels: (pixel × scale − mean) ÷ std for each channel."""

    scale: float
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @property
    def neutral(self) -> UInt8Array:
        """The uint8 colour (3,) closest to zero after normalisation."""
        return np.clip(np.rint(np.array(self.mean) / self.scale), 0, 255).astype(np.uint8)


@dataclass(frozen=True, slots=True)
class FixedSize:
    """Resizes and optionally centre-crops every image to `width` × `height`.

    `shortest_edge` resizes the shorter side and keeps the aspect ratio; None resizes to `resized`
    (width, height) and ignores it.
    """

    width: int
    height: int
    resized: tuple[int, int] | None
    shortest_edge: int | None
    resample: int
    levels: Levels

    @property
    def squash_size(self) -> tuple[int, int] | None:
        """(width, height) of a plain bicubic resize to [−1, 1], else None."""
        plain = self.resample == _BICUBIC and self.levels == Levels(1 / 255, _HALF, _HALF)
        size = (self.width, self.height)
        return size if plain and self.resized == size else None

    def prepare(self, pixels: UInt8Array) -> UInt8Array:
        """(H, W, 3) of any size → (height, width, 3)."""
        height, width = pixels.shape[:2]
        across, down = self.resized or _fitted(width, height, self.shortest_edge or 1)
        left, top = (across - self.width) // 2, (down - self.height) // 2
        step_x, step_y = width / across, height / down
        # Only the kept part is computed; a resized thin strip may be enormous.
        kept = (
            left * step_x,
            top * step_y,
            min((left + self.width) * step_x, width),
            min((top + self.height) * step_y, height),
        )
        image = PIL.Image.fromarray(np.ascontiguousarray(pixels))
        return np.asarray(image.resize((self.width, self.height), self.resample, box=kept))


@dataclass(frozen=True, slots=True)
class Patches:
    """SigLIP 2's NaFlex: at most `most` whole patches, close to the image's aspect ratio."""

    side: int
    most: int
    resample: int
    levels: Levels

    @property
    def squash_size(self) -> None:
        """Always None."""

    def prepare(self, pixels: UInt8Array) -> UInt8Array:
        """(H, W, 3) of any size → (rows, columns, side × side × 3), rows × columns ≤ `most`."""
        rows, columns = self.grid(*pixels.shape[:2])
        size = (columns * self.side, rows * self.side)
        image = PIL.Image.fromarray(np.ascontiguousarray(pixels))
        resized = np.asarray(image.resize(size, self.resample))  # (rows·s, columns·s, 3)
        cells = resized.reshape(rows, self.side, columns, self.side, 3)
        return np.ascontiguousarray(cells.transpose(0, 2, 1, 3, 4)).reshape(rows, columns, -1)

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of patches: the largest scale (to 1e-5, as published) that fits."""

        def at(scale: float) -> tuple[int, int]:
            return (
                max(1, math.ceil(height * scale / self.side)),
                max(1, math.ceil(width * scale / self.side)),
            )

        low, high = 1e-6, 100.0
        while high - low >= 1e-5:
            middle = (low + high) / 2
            if math.prod(at(middle)) <= self.most:
                low = middle
            else:
                high = middle
        return at(low)


Preprocessing = FixedSize | Patches


def read_preprocessing(checkpoint: Checkpoint, architecture: Architecture) -> Preprocessing:
    """Read a checkpoint's preprocessing.

    Raises ModelError, naming the file, when it is missing, has an unknown setting, or does not
    give the image size of the model.
    """
    table, name = _table(checkpoint)

    def refuse(what: str) -> NoReturn:
        raise ModelError(
            f"{checkpoint.path / name} asks for {what}, which regard does not know",
            remedy="take the file of the published model, or choose another model",
        )

    kind = str(
        table.get("image_processor_type")
        or table.get("feature_extractor_type")
        or _PROCESSORS[architecture.family]
    )
    kind = kind.removesuffix("Fast").replace("FeatureExtractor", "ImageProcessor")
    if kind not in _DEFAULTS or (kind == _PROCESSORS[Family.SIGLIP2]) != (
        architecture.image_side is None
    ):
        refuse(f"{kind} before a model of type {architecture.family}")
    values = {
        **_DEFAULTS[kind],
        **{key: value for key, value in table.items() if value is not None},
    }
    for key, value in values.items():
        if key.startswith("do_") and value and key not in _SWITCHES:
            refuse(key)
    for key in ("do_resize", "do_rescale", "do_normalize"):
        if not values.get(key, True):
            refuse(f"{key} = false")
    try:
        resample = int(PIL.Image.Resampling(values["resample"]))
        levels = _levels(values)
        if architecture.image_side is None:
            made: Preprocessing = Patches(
                int(values["patch_size"]), int(values["max_num_patches"]), resample, levels
            )
        else:
            made = _fixed_size(values, resample, levels)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        refuse(f"an unknown mode ({error})")
    sides = (made.side,) if isinstance(made, Patches) else (made.width, made.height)
    wanted = architecture.image_side or architecture.patch_side
    if any(side != wanted for side in sides):
        raise ModelError(
            f"{checkpoint.path / name} makes {' × '.join(map(str, sides))} pixels "
            f"where the model's config says {wanted}",
            remedy="take both files from one model",
        )
    return made


def describe(preprocessing: Preprocessing) -> Mapping[str, Any]:
    """Return every setting that affects the pixels, as JSON values."""
    return {"kind": type(preprocessing).__name__, **dataclasses.asdict(preprocessing)}


def _table(checkpoint: Checkpoint) -> tuple[Mapping[str, Any], str]:
    if not (checkpoint.path / PREPROCESSOR).is_file() and (checkpoint.path / _PROCESSOR).is_file():
        inner = checkpoint.json(_PROCESSOR).get("image_processor")
        if isinstance(inner, dict):
            return inner, _PROCESSOR
    return checkpoint.json(PREPROCESSOR), PREPROCESSOR


def _fixed_size(values: Mapping[str, Any], resample: int, levels: Levels) -> FixedSize:
    """Raises ValueError for settings that do not give a fixed size."""
    size = values["size"]
    if isinstance(size, int):
        size = {"shortest_edge": size}
    sides = {key: int(value) for key, value in size.items() if value}
    cut = None
    if values.get("do_center_crop"):
        crop = values["crop_size"]
        crop = {"height": crop, "width": crop} if isinstance(crop, int) else crop
        cut = int(crop["width"]), int(crop["height"])
    if set(sides) == {"height", "width"}:
        resized = sides["width"], sides["height"]
        width, height = cut or resized
        if width <= resized[0] and height <= resized[1]:
            return FixedSize(width, height, resized, None, resample, levels)
    elif set(sides) == {"shortest_edge"} and cut and max(cut) <= sides["shortest_edge"]:
        return FixedSize(*cut, None, sides["shortest_edge"], resample, levels)
    raise ValueError(f"size {size}, crop {cut}")


def _fitted(width: int, height: int, shortest_edge: int) -> tuple[int, int]:
    """Width and height for a shorter side of `shortest_edge`; the longer is truncated."""
    if width <= height:
        return shortest_edge, int(shortest_edge * height / width)
    return int(shortest_edge * width / height), shortest_edge


def _levels(values: Mapping[str, Any]) -> Levels:
    """Raises ValueError, TypeError or KeyError for invalid settings."""
    levels = Levels(
        float(values.get("rescale_factor", 1 / 255)),
        _channels(values["image_mean"]),
        _channels(values["image_std"]),
    )
    divisors = (levels.scale, *levels.std)
    if not all(map(math.isfinite, (*divisors, *levels.mean))) or min(divisors) <= 0:
        raise ValueError("levels that can't be computed with")
    return levels


def _channels(values: Any) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in values)
    return red, green, blue


RegionView = Literal["crop", "context", "masked"]


@dataclass(frozen=True, slots=True)
class RegionViews:
    """Crops regions. `context`: margin as a share of the box; `neutral` (3,) uint8: fill
    colour."""

    view: RegionView
    context: float
    neutral: UInt8Array

    def pixels(self, image: Image, box: Box, mask: Mask | None) -> UInt8Array:
        """Return the view of one region, uint8 (h, w, 3), without changing the image.

        `mask` has the image's size; None, or a mask empty inside the box, counts as the whole box.
        An empty box, or one outside the image, counts as the image.
        """
        if self.view == "context":
            box = _widened(box, self.context)
        inside = box.clipped(image.width, image.height)
        if inside is None:
            return image.pixels
        part = np.s_[inside.y : inside.bottom, inside.x : inside.right]
        pixels = image.pixels[part]
        if self.view != "masked" or mask is None:
            return pixels
        kept = decode_mask(mask)[part]  # (h, w)
        return np.where(kept[..., None], pixels, self.neutral) if kept.any() else pixels


def _widened(box: Box, share: float) -> Box:
    if box.width < 1 or box.height < 1:
        return box
    aside, above = round(share * box.width), round(share * box.height)
    return Box(box.x - aside, box.y - above, box.width + 2 * aside, box.height + 2 * above)
