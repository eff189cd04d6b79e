"""The kinds of part that a profile can name, and their classes, which are imported on use."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from regard.core.errors import UsageError
from regard.models.parts import PartDefinition

KINDS: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "encoder": {
        "contrastive": ("regard.models.contrastive.part", "ContrastivePart"),
        "lite-joint": ("regard.models.lite.parts", "JointPart"),
        "fake": ("regard.models.fake", "FakeEncoderPart"),
    },
    "visual_encoder": {"lite-visual": ("regard.models.lite.parts", "VisualPart")},
    "captioner": {
        "xgenmm": ("regard.models.xgenmm.part", "XGenMMPart"),
        "florence2": ("regard.models.florence2.part", "Florence2CaptionerPart"),
        "image-text": ("regard.models.image_text.part", "ImageTextPart"),
        "lite-classes": ("regard.models.lite.parts", "ClassesPart"),
        "fake": ("regard.models.fake", "FakeCaptionerPart"),
    },
    "segmenter": {
        "sam2": ("regard.models.sam2.part", "Sam2Part"),
        "sam2unet": ("regard.models.sam2unet.part", "Sam2UNetPart"),
        "superpixels": ("regard.models.lite.parts", "SuperpixelsPart"),
        "fake": ("regard.models.fake", "FakeSegmenterPart"),
    },
    "reader": {"rapidocr": ("regard.models.text_reading.part", "RapidPart")},
    "grounder": {
        "zero-shot-detection": ("regard.models.grounding.part", "DetectorPart"),
        "florence2": ("regard.models.florence2.part", "Florence2GrounderPart"),
        "fake": ("regard.models.fake", "FakeLocatorPart"),
    },
    "box_segmenter": {"sam2": ("regard.models.sam2.part", "Sam2Part")},
}


def make_part(role: str, definition: PartDefinition) -> Any:
    """Make the part of a role; raises UsageError for an unknown kind or invalid parameters."""
    kinds = KINDS[role]
    if definition.kind not in kinds:
        raise UsageError(
            f"{definition.where}: there is no {role.replace('_', ' ')} of the kind {definition.kind!r}",
            remedy=f"choose one of: {', '.join(kinds)}",
        )
    module, name = kinds[definition.kind]
    return getattr(importlib.import_module(module), name)(definition)
