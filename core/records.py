"""The records that packages exchange, as frozen dataclasses."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from regard.core.geometry import Box, Mask

BoolArray = npt.NDArray[np.bool_]
Float16Array = npt.NDArray[np.float16]
Float32Array = npt.NDArray[np.float32]
Float64Array = npt.NDArray[np.float64]
Int64Array = npt.NDArray[np.int64]
UInt8Array = npt.NDArray[np.uint8]

# Increase when the same pixels give a different signature; older ones are then recomputed.
SIGNATURE_VERSION = 1
# Pixels of the longer side: at 96, a fiftieth of the image's area still covers 13 × 10.
SIGNATURE_SIDE = 96
# Panoramas are stretched to this many rows; fewer could not be compared.
_LEAST_SIDE = 16


class Kind(StrEnum):
    """What a query is matched against: the vectors of one kind of thing, or the keyword index.

    Hits tell those of its words that were read in the picture as a kind of their own, `TEXT`.
    """

    IMAGE = "image"
    REGION = "region"
    CAPTION = "caption"
    KEYWORD = "keyword"
    TEXT = "text"


VECTOR_KINDS = (Kind.IMAGE, Kind.REGION, Kind.CAPTION)


class Target(StrEnum):
    """What a search answers with."""

    IMAGE = "image"
    REGION = "region"


class QueryKind(StrEnum):
    """What a search asks with."""

    TEXT = "text"
    IMAGE = "image"
    REGION = "region"


@dataclass(frozen=True, slots=True)
class Image:
    """Decoded pixels: uint8 sRGB of shape (height, width, 3), oriented as a person sees them."""

    pixels: UInt8Array

    def __post_init__(self) -> None:
        if self.pixels.dtype != np.uint8 or self.pixels.ndim != 3 or self.pixels.shape[2] != 3:
            found = f"{self.pixels.dtype} {self.pixels.shape}"
            raise ValueError(f"expected uint8 (h, w, 3), got {found}")

    @property
    def width(self) -> int:
        """Columns."""
        return int(self.pixels.shape[1])

    @property
    def height(self) -> int:
        """Rows."""
        return int(self.pixels.shape[0])


@dataclass(frozen=True, slots=True, eq=False)
class Signature:
    """A small grey image of a content that identifies copies of it independently of any model.

    Luma as uint8 of shape (h, w): the longer side is 96 pixels, the shorter 16 to 96. It keeps the
    aspect ratio, so that the position of a crop inside the whole image can be found.
    `width` and `height` are those of the original image, in pixels.
    """

    grey: UInt8Array
    width: int
    height: int


def signature_shape(width: int, height: int) -> tuple[int, int]:
    """Rows and columns of the signature of an image of this size in pixels."""
    longest = max(width, height)
    return (
        max(_LEAST_SIDE, round(SIGNATURE_SIDE * height / longest)),
        max(_LEAST_SIDE, round(SIGNATURE_SIDE * width / longest)),
    )


@dataclass(frozen=True, slots=True)
class Region:
    """A segment of an image; `area` is the mask's pixels, `score` its objectness (more: surer).

    A moment of a video is a region, too: the whole frame at `time_ms`.
    """

    box: Box
    mask: Mask
    area: int
    score: float
    time_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Caption:
    """A sentence about an image, or about `Analysis.regions[region]`, written by `model`."""

    text: str
    model: str
    region: int | None = None


@dataclass(frozen=True, slots=True)
class Embedding:
    """One L2-normalised float32 vector of shape (d,) in a space.

    `region` and `caption` are positions in the analysis' lists, for the kinds that need one.
    """

    space: str
    kind: Kind
    vector: Float32Array
    region: int | None = None
    caption: int | None = None


@dataclass(frozen=True, slots=True)
class Analysis:
    """All that a pipeline says of one image, or of one video by its moments.

    That of a video says how long it is, and when the moment is that represents it, both in ms.
    """

    regions: tuple[Region, ...]
    captions: tuple[Caption, ...]
    embeddings: tuple[Embedding, ...]
    duration_ms: int | None = None
    poster_ms: int | None = None


@dataclass(frozen=True, slots=True, order=True)
class Channel:
    """What a query is matched against: one kind of embedding in one space, or `KEYWORDS`."""

    space: str
    kind: Kind

    def __str__(self) -> str:
        return f"{self.space}/{self.kind}" if self.space else self.kind.value


KEYWORDS = Channel("", Kind.KEYWORD)
"""The keyword index, which lies in no space."""


@dataclass(frozen=True, slots=True)
class WeightedChannel:
    """A channel and its weight when ranks are fused."""

    channel: Channel
    weight: float = 1.0


Routes = Mapping[tuple[QueryKind, Target], tuple[WeightedChannel, ...]]


@dataclass(frozen=True, slots=True)
class Space:
    """The vector space of one encoder at one revision and preprocessing."""

    name: str
    dimension: int


@dataclass(frozen=True, slots=True)
class PipelineSpec:
    """One profile at exact revisions and parameters.

    `models` names each part's model and revision, `parameters` all that changes what it writes.
    """

    profile: str
    spaces: tuple[Space, ...]
    models: Mapping[str, str]
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """Canonical JSON: the same spec gives the same bytes."""
        return json.dumps(
            {
                "profile": self.profile,
                "spaces": {space.name: space.dimension for space in self.spaces},
                "models": dict(self.models),
                "parameters": dict(self.parameters),
            },
            sort_keys=True,
            separators=(",", ":"),
        )

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the canonical JSON, in hex."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()
