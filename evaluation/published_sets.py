"""Labelled sets with published figures: what they consist of, and what others measured on them.

Each is read from its usual files. What is missing is named with the place to download it from.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from regard.core.errors import CannotWork, NotFound
from regard.evaluation.statistics import as_table

_KARPATHY = "https://cs.stanford.edu/people/karpathy/deepimagesent/caption_datasets.zip"
_FLICKR30K = "https://shannon.cs.illinois.edu/DenotationGraph/"
_COCO_VAL = "http://images.cocodataset.org/zips/val2014.zip"
_COCO_LABELS = "http://images.cocodataset.org/annotations/annotations_trainval2014.zip"
_ADE20K = "http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip"
_LVIS = "https://dl.fbaipublicfiles.com/LVIS/lvis_v1_val.json.zip"

_CIDER = "CIDEr"
_OPEN_CLIP = "open_clip, results table"
_BIG_VISION = "big_vision"
_PE = "Perception Encoder, README"
_MOBILE = "MobileCLIP2, results files"
_FLORENCE = "arXiv 2311.06242"
_XGENMM = "arXiv 2408.08872"
_OVSEG = "arXiv 2210.04150, and ov-seg's GETTING_STARTED.md"


@dataclass(frozen=True, slots=True)
class PublishedFigure:
    """What others measured of a model, on the scale of the own measure."""

    model: str
    measure: str
    value: float
    source: str

    @property
    def shown(self) -> str:
        """The value as the own measure shows it."""
        return f"{self.value:.3f}" if self.measure == _CIDER else f"{100 * self.value:.1f} %"


@dataclass(frozen=True, slots=True)
class PublishedSet:
    """The files and folders below the set's folder, with where they come from, and the figures."""

    name: str
    parts: Mapping[str, str]
    figures: tuple[PublishedFigure, ...] = ()

    def require_parts(self, folder: Path) -> None:
        """Raise NotFound that names what is missing and where to download it."""
        missing = {part: url for part, url in self.parts.items() if not (folder / part).exists()}
        if missing:
            downloads = "; ".join(f"{part} from {url}" for part, url in missing.items())
            raise NotFound(
                f"{self.name} is not complete in {folder}, it lacks {', '.join(missing)}",
                remedy=f"download and unpack there: {downloads}",
            )


def _recalls(source: str, **values: float) -> tuple[PublishedFigure, ...]:
    return tuple(
        PublishedFigure(_MODELS[key], "text → image R@1", value / 100, source)
        for key, value in values.items()
    )


_MODELS = {
    "so400m": "SigLIP so400m/14-384 (blip3)",
    "b16": "SigLIP 2 B/16-224",
    "so400m_2": "SigLIP 2 so400m-384",
    "g_opt": "SigLIP 2 g-opt-384",
    "pe_b": "PE-Core B",
    "pe_l": "PE-Core L",
    "pe_g": "PE-Core G",
    "s0": "MobileCLIP2 S0",
    "s4": "MobileCLIP2 S4",
}

PUBLISHED_SETS = {
    one.name: one
    for one in (
        PublishedSet(
            "flickr30k",
            {"dataset_flickr30k.json": _KARPATHY, "flickr30k-images": _FLICKR30K},
            (*_recalls(_OPEN_CLIP, so400m=83.0), *_recalls(_MOBILE, s0=69.2, s4=78.0)),
        ),
        PublishedSet(
            "coco5k",
            {
                "dataset_coco.json": _KARPATHY,
                "val2014": _COCO_VAL,
                "annotations/instances_val2014.json": _COCO_LABELS,
            },
            (
                *_recalls(_OPEN_CLIP, so400m=54.2),
                *_recalls(_BIG_VISION, b16=52.1, so400m_2=56.0, g_opt=56.1),
                *_recalls(_PE, pe_b=50.9, pe_l=57.1, pe_g=58.1),
                *_recalls(_MOBILE, s0=43.7, s4=51.5),
            ),
        ),
        PublishedSet(
            "coco-captions",
            {
                "dataset_coco.json": _KARPATHY,
                "val2014": _COCO_VAL,
                "annotations/captions_val2014.json": _COCO_LABELS,
            },
            tuple(
                PublishedFigure(model, _CIDER, value / 100, source)
                for model, value, source in (
                    ("Florence-2 base, zero-shot", 133.0, _FLORENCE),
                    ("Florence-2 large, zero-shot", 135.6, _FLORENCE),
                    ("xGen-MM v1.5 base, 0 examples", 67.2, _XGENMM),
                    ("xGen-MM v1.5 base, 4 examples", 107.6, _XGENMM),
                    ("xGen-MM v1.5 base, 8 examples", 109.8, _XGENMM),
                )
            ),
        ),
        PublishedSet(
            "ade20k",
            dict.fromkeys(
                ("images/validation", "annotations/validation", "objectInfo150.txt"), _ADE20K
            ),
            tuple(
                PublishedFigure(f"{model}, open vocabulary", "mIoU", value / 100, _OVSEG)
                for model, value in (
                    ("SimBaseline, R-101c", 15.3),
                    ("ZegFormer, R-50", 16.4),
                    ("LSeg+, Eff-B7", 18.0),
                    ("OpenSeg, Eff-B7", 21.1),
                    ("OVSeg, R-101c", 24.8),
                    ("OVSeg, Swin-B", 29.6),
                )
            ),
        ),
        PublishedSet(
            "lvis",
            {
                "lvis_v1_val.json": _LVIS,
                "val2017": "http://images.cocodataset.org/zips/val2017.zip",
                "train2017": "http://images.cocodataset.org/zips/train2017.zip",
            },
        ),
    )
}


@dataclass(frozen=True, slots=True)
class CaptionedPhotograph:
    """A photograph of a test split, named below the set's folder, and its captions."""

    file_name: str
    captions: tuple[str, ...]


def read_karpathy(path: Path, folder: str = "") -> list[CaptionedPhotograph]:
    """The test split of one of Karpathy's files (Karpathy and Li, 2015).

    A photograph lies in its own `filepath`, or else in `folder`. Raises CannotWork when the file
    has another form.
    """
    try:
        images = json.loads(path.read_bytes())["images"]
        tested = [
            CaptionedPhotograph(
                f"{image.get('filepath', folder)}/{image['filename']}",
                tuple(str(sentence["raw"]) for sentence in image["sentences"]),
            )
            for image in images
            if image["split"] == "test"
        ]
    except OSError as error:
        raise CannotWork(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise CannotWork(
            f"{path} does not have the form of Karpathy's files: {type(error).__name__}: {error}"
        ) from error
    if not tested or not all(one.captions for one in tested):
        raise CannotWork(f"{path} has no test split in which each photograph has captions")
    return tested


@dataclass(frozen=True, slots=True)
class PublishedReport:
    """Own measures of a set beside published ones."""

    published: PublishedSet
    profile: str
    measured: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """`set`, `profile`, `measured`: reports by name; `published`: a list of figures."""
        return {
            "set": self.published.name,
            "profile": self.profile,
            "measured": {name: report.to_json() for name, report in self.measured.items()},
            "published": [asdict(figure) for figure in self.published.figures],
        }

    def to_text(self) -> str:
        """Tables for people."""
        texts = [f"{self.published.name}, measured with {self.profile}"]
        texts += [report.to_text() for report in self.measured.values()]
        rows = [
            [figure.model, figure.measure, figure.shown, figure.source]
            for figure in self.published.figures
        ]
        known = as_table(rows) if rows else ["no figure is known for these measures"]
        return "\n\n".join([*texts, "\n".join(["published", *known])])
