"""Compare the models of a profile with what the machine can do: `python benchmarks/models.py`.

    python benchmarks/models.py --profile blip3                  the profile's own checkpoints
    python benchmarks/models.py --random full --folder DIR       random weights of the same sizes (11 GB)
    python benchmarks/models.py --random tiny                    to see that it runs: a minute on a CPU

Each figure stands beside its floor: see `measuring.py` and docs/performance.md. Rows are printed
as they are measured; a row that does not fit into memory says so, and the others follow.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from caption_rate import CaptionRate
from measuring import Machine, bytes_of, synchronize
from PIL import Image as Pillow
from random_weights import SIZES, write_random
from report import Report, Row

from regard.core.records import Image
from regard.models.checkpoints.placement import Placement
from regard.models.contrastive.encoder import ContrastiveEncoder
from regard.models.contrastive.loading import load as load_contrastive
from regard.models.contrastive.part import ContrastivePart
from regard.models.contrastive.pixels import vision_inputs
from regard.models.contrastive.preprocessing import RegionViews
from regard.models.contrastive.text import TextTokenizer
from regard.models.profiles.composition import ComposedAnalyzer
from regard.models.profiles.definition import part_definition, read_definition
from regard.models.profiles.kinds import make_part
from regard.models.profiles.registry import profile_file
from regard.models.profiles.shared_tower import shared_analyzer
from regard.models.sam2.loading import image_size
from regard.models.sam2.loading import load_model as load_sam2
from regard.models.sam2.parameters import Sam2Parameters
from regard.models.sam2.part import Sam2Part
from regard.models.sam2.preprocessing import Preprocessing as Sam2Preprocessing
from regard.models.sam2.prompting import Prompter, point_grid
from regard.models.sam2.segmenter import Sam2Segmenter
from regard.models.sam2unet.part import Sam2UNetPart
from regard.models.xgenmm.captioner import XGenMMCaptioner
from regard.models.xgenmm.config import read_config
from regard.models.xgenmm.loading import load_model as load_xgenmm
from regard.models.xgenmm.part import XGenMMPart
from regard.models.xgenmm.prompting import XGenMMParameters, read_examples
from regard.models.xgenmm.tokenizer import PromptTokenizer

_WIDTH, _HEIGHT, _PHOTOGRAPHS = 640, 480, 64
# Batches that one call of `encode_images` is given, so that preparing and computing can overlap.
_CHUNKS = 4
# How many candidates of a random SAM 2 are let through to be cleaned and drawn.
_CANDIDATES = 100


@dataclasses.dataclass(frozen=True, slots=True)
class _Sizes:
    """What is measured where the command line is silent."""

    batches: tuple[int, ...]
    caption_batches: tuple[int, ...]
    seconds: float


_USUAL = _Sizes(batches=(1, 32, 256), caption_batches=(1, 16, 64), seconds=3.0)
_TINY = _Sizes(batches=(1, 4), caption_batches=(1, 2), seconds=0.0)


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--profile", default="blip3")
    parser.add_argument("--random", choices=SIZES, help="write random weights and measure these")
    parser.add_argument("--folder", type=Path, help="where they are written and kept")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--batches", type=int, nargs="+")
    parser.add_argument("--caption-batches", type=int, nargs="+")
    parser.add_argument(
        "--seconds",
        type=float,
        help="a figure's repeats end after these (3, of tiny models 0); at least two",
    )
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    usual = _TINY if arguments.random == "tiny" else _USUAL
    seconds = usual.seconds if arguments.seconds is None else arguments.seconds

    stream = sys.stderr if arguments.json else sys.stdout
    machine = Machine.measure(Placement.resolve(arguments.device, arguments.dtype))
    report = Report(machine, seconds, stream)
    with tempfile.TemporaryDirectory() as scratch:
        profile = arguments.profile
        if arguments.random:
            folder = arguments.folder or Path(scratch)
            started = time.perf_counter()
            profile = str(write_random(folder, arguments.random))
            report.add(Row("random weights written", seconds=time.perf_counter() - started))
        Benchmark(report, profile, random=bool(arguments.random)).run(
            arguments.batches or usual.batches, arguments.caption_batches or usual.caption_batches
        )
    if arguments.json:
        print(json.dumps(report.document()))


class Benchmark:
    """A profile's parts, loaded one after another, each measured alone and then all of them
    together."""

    def __init__(self, report: Report, profile: str, *, random: bool) -> None:
        """Raises UsageError for an unknown profile. `random`: its weights are."""
        path = profile_file(profile)
        self._definition = read_definition(path)
        placement = report.placement
        self._report = report
        self._placement = placement
        self._random = random
        self._parts = {
            role: make_part(
                role,
                dataclasses.replace(
                    part_definition(table, profile, role, path.parent),
                    device=str(placement.device),
                    dtype=str(placement.dtype).removeprefix("torch."),
                ),
            )
            for role, table in self._definition.tables().items()
        }
        self._photographs = photographs()

    def run(self, batches: Sequence[int], caption_batches: Sequence[int]) -> None:
        """Measure all that the profile has."""
        for role, part in self._parts.items():
            kinds = (ContrastivePart, XGenMMPart, Sam2Part, Sam2UNetPart)
            if not isinstance(part, kinds):
                self._report.add(Row(f"{role}: {part.definition.kind}", note="not measured here"))
        encoder = self._encoder(batches)
        captioner = self._captioner(encoder, caption_batches)
        segmenter = self._segmenter()
        self._analyzer(encoder, captioner, segmenter)

    def _images(self, count: int) -> list[Image]:
        repeats = -(-count // len(self._photographs))
        return (self._photographs * repeats)[:count]

    def _loaded(self, what: str, part: Any, load: Callable[[], Any]) -> Any:
        """What `load` returns, its time and rate a row of its own."""
        path = part.checkpoint.path
        files = [path] if path.is_file() else part.checkpoint.weights()
        size = sum(file.stat().st_size for file in files)
        report, placement = self._report, self._placement
        started = time.perf_counter()
        loaded = report.fitting(what, load)
        synchronize(placement)
        seconds = time.perf_counter() - started
        if loaded is not None:
            cuda = placement.device.type == "cuda"
            held = torch.cuda.memory_allocated(placement.device) if cuda else None
            note = (
                f"{size / 1e9:.2f} GB of files; from the disk's cache where they were read before"
            )
            report.add(Row(what, size / 1e9 / seconds, "GB/s", seconds, peak=held, note=note))
        return loaded

    def _encoder(self, batches: Sequence[int]) -> ContrastiveEncoder | None:
        part = self._parts["encoder"]
        if not isinstance(part, ContrastivePart):
            return None
        model = self._loaded(
            "encoder: load",
            part,
            lambda: load_contrastive(part.checkpoint, part.architecture, self._placement),
        )
        if model is None:
            return None
        tokenizer = TextTokenizer.read(part.checkpoint, part.architecture)
        views = RegionViews(
            part.parameters.region_view, part.parameters.context, part.preprocessing.levels.neutral
        )

        def encoder_of(batch: int) -> ContrastiveEncoder:
            return ContrastiveEncoder(
                model, part.space(), part.preprocessing, tokenizer, views, batch
            )

        for batch in batches:
            self._embedding(encoder_of(batch), batch)
        return encoder_of(part.parameters.batch_size)

    def _embedding(self, encoder: ContrastiveEncoder, batch: int) -> None:
        tower, preprocessing = encoder.tower, encoder.preprocessing
        weights = float(bytes_of(tower))
        images = self._images(batch)
        prepare = [preprocessing.prepare(image.pixels) for image in images]

        def forward() -> None:
            with torch.inference_mode():
                tower(**inputs)

        what = f"embedding, tower and head, batch {batch}"
        inputs = self._report.fitting(
            what, lambda: vision_inputs(prepare, preprocessing, self._placement)
        )
        if inputs is not None:
            pixels = float(sum(tensor.nbytes for tensor in inputs.values()))
            self._report.figure(what, forward, batch, "images/s", moved=weights + pixels)
            inputs = None
        many = self._images(_CHUNKS * batch)
        self._report.figure(
            f"embedding, from photographs, batch {batch}",
            lambda: encoder.encode_images(many),
            len(many),
            "images/s",
            moved=_CHUNKS * weights,
            note=f"{_CHUNKS} batches a call",
        )

    def _captioner(
        self, encoder: ContrastiveEncoder | None, batches: Sequence[int]
    ) -> XGenMMCaptioner | None:
        part = self._parts.get("captioner")
        if not isinstance(part, XGenMMPart):
            return None
        config = read_config(part.checkpoint)
        tower = None if encoder is None else encoder.tower
        model = self._loaded(
            "captioner: load",
            part,
            lambda: load_xgenmm(part.checkpoint, config, self._placement, tower),
        )
        if model is None:
            return None
        tokenizer = PromptTokenizer.read(part.checkpoint, config.token_ids)

        def captioner_of(**changes: Any) -> XGenMMCaptioner:
            parameters: XGenMMParameters = part.parameters.model_copy(update=changes)
            examples = read_examples(parameters)
            return XGenMMCaptioner(model, self._placement, tokenizer, parameters, examples)

        for batch in batches:
            CaptionRate(self._report, captioner_of, model).measure(self._images(batch))
        return captioner_of()

    def _segmenter(self) -> Any:
        part = self._parts.get("segmenter")
        if isinstance(part, Sam2UNetPart):
            segmenter = self._loaded("segmenter: load", part, part.load)
            if segmenter is not None:
                self._segmentation(segmenter, part.parameters.batch_size, 0.0, "")
            return segmenter
        if not isinstance(part, Sam2Part):
            return None
        placement, parameters = self._placement, part.parameters
        model = self._loaded("segmenter: load", part, lambda: load_sam2(part.checkpoint, placement))
        if model is None:
            return None
        side = image_size(model.config)
        prompter = Prompter(model, placement, point_grid(parameters.points_per_side, side))
        preprocessing = Sam2Preprocessing.read(part.checkpoint, side)
        batch = parameters.batch_size
        pixels = preprocessing.prepare(self._images(batch), placement)
        encoder, decoder = (
            float(bytes_of(module)) for module in (model.vision_encoder, model.mask_decoder)
        )
        embedded = self._report.figure(
            f"segmenter, image encoder, batch {batch}",
            lambda: prompter.embed(pixels),
            batch,
            "images/s",
            moved=encoder,
        )
        if embedded is None:
            return None
        maps = prompter.embed(pixels)[0]
        step = parameters.points_batch
        starts = range(0, prompter.points, step)
        self._report.figure(
            f"segmenter, {prompter.points} points of an image",
            lambda: [prompter.decode(maps, start, start + step) for start in starts],
            prompter.points,
            "points/s",
            moved=decoder * len(starts),
        )
        note = ""
        if self._random:
            scores = torch.cat(
                [prompter.decode(maps, start, start + step)[1].flatten() for start in starts]
            )
            parameters = permissive(parameters, scores)
            note = f"thresholds that let about {_CANDIDATES} random masks an image through"
        segmenter = Sam2Segmenter(prompter, preprocessing, parameters)
        self._segmentation(segmenter, batch, encoder + batch * decoder * len(starts), note)
        return segmenter

    def _segmentation(self, segmenter: Any, batch: int, moved: float, note: str) -> None:
        images = self._images(batch)
        what = f"segmentation, batch {batch}"
        row = self._report.figure(
            what, lambda: segmenter.segment(images), batch, "images/s", moved=moved, note=note
        )
        if row is not None and row.seconds:
            masks = sum(map(len, segmenter.segment(images)))
            self._report.add(
                dataclasses.replace(
                    row,
                    what=f"{what}: masks",
                    rate=masks / row.seconds,
                    unit="masks/s",
                    note=f"{masks} a call",
                )
            )

    def _analyzer(
        self,
        encoder: ContrastiveEncoder | None,
        captioner: XGenMMCaptioner | None,
        segmenter: Any,
    ) -> None:
        if encoder is None or (captioner is None and "captioner" in self._parts):
            return
        part = self._parts.get("captioner")
        regions = part is not None and part.captions_regions
        shared = None
        if captioner is not None:
            shared = shared_analyzer(encoder, captioner, segmenter, "captioner", regions)
        analyzer = shared or ComposedAnalyzer(
            [encoder], captioner, segmenter, captioner_name="captioner", caption_regions=regions
        )
        batch = self._definition.batch_size
        images = self._images(batch)
        self._report.figure(
            f"analyzer{', shared tower' if shared else ''}, batch {batch}",
            lambda: analyzer.analyze(images),
            batch,
            "images/s",
            note="floor: operations alone",
        )


def photographs() -> list[Image]:
    """Coloured, smooth pictures with some grain, 640 × 480, each another."""
    generator = np.random.default_rng(0)
    made = []
    for _ in range(_PHOTOGRAPHS):
        few = generator.integers(0, 256, (9, 12, 3), dtype=np.uint8)
        smooth = Pillow.fromarray(few).resize((_WIDTH, _HEIGHT), Pillow.Resampling.BICUBIC)
        grain = generator.integers(0, 8, (_HEIGHT, _WIDTH, 3), dtype=np.uint8)
        made.append(Image(np.minimum(np.asarray(smooth), 247) + grain))
    return made


def permissive(parameters: Sam2Parameters, scores: torch.Tensor) -> Sam2Parameters:
    """Thresholds under which about `_CANDIDATES` of an image's masks survive, whatever they are
    like."""
    ordered = scores.float().sort(descending=True).values
    least = float(ordered[min(_CANDIDATES, len(ordered) - 1)])
    changes = {"predicted_iou": least, "stability": 0.0, "stability_offset": 0.0, "box_nms": 1.0}
    return parameters.model_copy(update=changes)


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    main()
