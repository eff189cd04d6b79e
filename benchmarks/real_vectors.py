"""Save vectors of real photographs: `python benchmarks/real_vectors.py PHOTOS OUT`.

Recall is measured on real vectors, because synthetic ones flatter an approximate index. PHOTOS is a
folder of photographs, at best labelled: with `captions.json` and `instances.json` in COCO's forms,
as `make photoset` writes them. The first round takes the photographs as they are. Each further one
adds a seeded edit of every photograph: a crop with a change of light and colour, perhaps mirrored,
turned or blurred, saved as JPEG. Rounds go on until there are enough pictures and regions. Each
replaces what the earlier ones saved, so an interrupted run leaves whole files of fewer rows. OUT
then holds, with a README.txt:

- `rows/SPACE-KIND.npy`: (n, d) float16, as the catalog stores them, one file a channel;
- `queries/WHAT-SPACE.npy`: (q, d) float32 vectors of texts, pictures, regions and labelled boxes;
- beside each, `….source.npy`: (n, 2) int32, the photograph's number from 0, in the order of
  `captions.json` or of paths (-1 for none), and the number of the edit, 0 for the photograph itself.
"""

from __future__ import annotations

import argparse
import io
import itertools
import json
import os
import sys
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

# One thread a process, before numerical libraries are loaded.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np  # noqa: E402
from PIL import Image as Pillow  # noqa: E402
from PIL import ImageEnhance, ImageFilter, ImageOps  # noqa: E402
from search_latency import queries  # noqa: E402

from regard.core.geometry import Box  # noqa: E402
from regard.core.protocols import Analyzer  # noqa: E402
from regard.core.records import Channel, Image, Kind, QueryKind, Target  # noqa: E402
from regard.models.profiles.composed import ComposedProfile  # noqa: E402
from regard.models.profiles.registry import load_profile  # noqa: E402

_SUFFIXES = {".jpg", ".png"}
_TEXTS = 192  # of a folder without labels
_SIDE = 640  # pixels of an edit's longer side
_README = """Vectors of real photographs, by the profile {profile!r}, seed {seed}.

{pictures} pictures: {photographs} photographs and {edits} crops and edits of them.
rows/SPACE-KIND.npy     (n, d) float16, unit length, one file a channel
queries/WHAT-SPACE.npy  (q, d) float32
                        texts: captions, their objects' names, names of absent things
                        pictures, regions: the photographs' own vectors, which are rows too
                        boxes: labelled objects, encoded from their boxes
….source.npy            (n, 2) int32: photograph (-1: none), edit (0: the photograph itself)
Texts query SPACE {text}; pictures, regions and boxes query {looks}.

"""


class Sourced(NamedTuple):
    """Vectors of one picture in one channel, (n, d) float16."""

    channel: Channel
    vectors: np.ndarray[Any, Any]


def edited(picture: Pillow.Image, generator: np.random.Generator) -> Pillow.Image:
    """A crop of 40 to 95 % of the area with changes that people and programs make."""
    if generator.random() < 0.4:
        turned = picture.rotate(generator.uniform(-8, 8), Pillow.Resampling.BICUBIC)
        picture = ImageOps.crop(turned, border=min(turned.size) // 12)
    share = generator.uniform(0.4, 0.95)
    stretch = np.exp(generator.uniform(-0.15, 0.15))
    width = min(picture.width, round(picture.width * share**0.5 * stretch))
    height = min(picture.height, round(picture.height * share**0.5 / stretch))
    left = int(generator.integers(picture.width - width + 1))
    top = int(generator.integers(picture.height - height + 1))
    picture = picture.crop((left, top, left + width, top + height))
    picture.thumbnail((_SIDE, _SIDE))
    if generator.random() < 0.5:
        picture = ImageOps.mirror(picture)
    for change in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        picture = change(picture).enhance(generator.uniform(0.7, 1.3))
    if generator.random() < 0.3:
        tint = generator.uniform(0.85, 1.15, 3)
        picture = Pillow.fromarray((np.asarray(picture) * tint).clip(0, 255).astype(np.uint8))
    if generator.random() < 0.3:
        picture = picture.filter(ImageFilter.GaussianBlur(generator.uniform(0.3, 1.5)))
    saved = io.BytesIO()
    picture.save(saved, "JPEG", quality=int(generator.integers(40, 96)))
    return Pillow.open(saved).convert("RGB")


@cache
def _analyzer(profile: str) -> Analyzer:
    import torch

    torch.set_num_threads(1)
    return load_profile(profile).analyzer()


def analyzed(profile: str, seed: int, task: tuple[int, int, Path]) -> list[Sourced]:
    """The vectors of an edit of a photograph; runs in a worker process."""
    photograph, edit, path = task
    picture = Pillow.open(path).convert("RGB")
    if edit:
        picture = edited(picture, np.random.default_rng((seed, photograph, edit)))
    analysis = _analyzer(profile).analyze([Image(np.asarray(picture))])[0]
    rows = defaultdict(list)
    for embedding in analysis.embeddings:
        rows[Channel(embedding.space, embedding.kind)].append(embedding.vector)
    return [Sourced(channel, np.stack(of).astype("<f2")) for channel, of in rows.items()]


class Rows:
    """Vectors by channel, with their sources."""

    def __init__(self) -> None:
        self.vectors: defaultdict[Channel, list[np.ndarray[Any, Any]]] = defaultdict(list)
        self.sources: defaultdict[Channel, list[tuple[int, int]]] = defaultdict(list)

    def add(self, photograph: int, edit: int, of_picture: Sequence[Sourced]) -> None:
        """Add a picture's vectors."""
        for channel, vectors in of_picture:
            self.vectors[channel].append(vectors)
            self.sources[channel] += [(photograph, edit)] * len(vectors)

    def count(self, kind: Kind) -> int:
        """Rows of the channel of this kind with most."""
        return max(
            (len(of) for channel, of in self.sources.items() if channel.kind is kind), default=0
        )

    def save(self, folder: Path) -> None:
        """Write one file a channel, and its sources."""
        for channel, parts in self.vectors.items():
            save(
                folder,
                f"{channel.space}-{channel.kind}",
                np.concatenate(parts),
                self.sources[channel],
            )

    def originals(self, channel: Channel) -> tuple[np.ndarray[Any, Any], list[tuple[int, int]]]:
        """Vectors (q, d) of the photographs as they are."""
        sources = np.array(self.sources[channel])
        is_original = sources[:, 1] == 0
        vectors = np.concatenate(self.vectors[channel]).astype(np.float32)
        return vectors[is_original], [(int(row[0]), 0) for row in sources[is_original]]


def save(
    folder: Path, name: str, vectors: np.ndarray[Any, Any], sources: Sequence[tuple[int, int]]
) -> None:
    """Write an array and its sources (n, 2), each whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    for suffix, array in (("", vectors), (".source", np.array(sources, np.int32))):
        aside = folder / f"{name}{suffix}.part.npy"
        np.save(aside, array)
        aside.replace(folder / f"{name}{suffix}.npy")


class Labels:
    """The photographs of a labelled folder, their sentences and their objects."""

    def __init__(self, folder: Path) -> None:
        self.boxes: defaultdict[int, list[Box]] = defaultdict(list)
        self.texts: dict[str, int] = {}
        if not (folder / "captions.json").exists():
            self.paths = sorted(path for path in folder.rglob("*") if path.suffix in _SUFFIXES)
            self.texts = dict.fromkeys(queries(_TEXTS), -1)
            return
        captions = json.loads((folder / "captions.json").read_text(encoding="utf-8"))
        instances = json.loads((folder / "instances.json").read_text(encoding="utf-8"))
        self.paths = [folder / image["file_name"] for image in captions["images"]]
        places = {image["id"]: place for place, image in enumerate(captions["images"])}
        names = {kind["id"]: kind["name"] for kind in instances["categories"]}
        for one in captions["annotations"]:
            self.texts.setdefault(one["caption"], places[one["image_id"]])
        for one in instances["annotations"]:
            place = places[one["image_id"]]
            self.boxes[place].append(Box(*(round(value) for value in one["bbox"])))
            label = one.get("description") or names[one["category_id"]]
            self.texts.setdefault(label, place)
        absent = folder / "absent.txt"
        if absent.exists():
            for line in absent.read_text(encoding="utf-8").splitlines():
                self.texts.setdefault(line, -1)


def save_queries(profile: ComposedProfile, labels: Labels, rows: Rows, folder: Path) -> None:
    """Write vectors of each kind of query that the profile's routes know."""
    texts = profile.routes[QueryKind.TEXT, Target.IMAGE][0].channel.space
    looks = profile.routes[QueryKind.IMAGE, Target.IMAGE][0].channel.space
    vectors = profile.encoder(texts).encode_texts(list(labels.texts))
    save(folder, f"texts-{texts}", vectors, [(place, 0) for place in labels.texts.values()])
    (folder / "texts.json").write_text(json.dumps(list(labels.texts), indent=0), encoding="utf-8")
    save(folder, f"pictures-{looks}", *rows.originals(Channel(looks, Kind.IMAGE)))
    save(folder, f"regions-{looks}", *rows.originals(Channel(looks, Kind.REGION)))
    boxes, sources = [], []
    encoder = profile.encoder(looks)
    for place, its_boxes in labels.boxes.items():
        image = Image(np.asarray(Pillow.open(labels.paths[place]).convert("RGB")))
        boxes += encoder.encode_regions([image], [its_boxes], [[None] * len(its_boxes)])
        sources += [(place, 0)] * len(its_boxes)
    if boxes:
        save(folder, f"boxes-{looks}", np.concatenate(boxes), sources)


def save_vectors(
    photos: Path,
    out: Path,
    *,
    profile: str = "lite",
    pictures: int = 1,
    regions: int = 0,
    processes: int | None = None,
    seed: int = 0,
) -> None:
    """Analyze rounds until there are `pictures` and `regions`, and save after each."""
    labels, rows, count = Labels(photos), Rows(), 0
    models = load_profile(profile)
    with ProcessPoolExecutor(processes or len(os.sched_getaffinity(0))) as pool:
        work = partial(analyzed, profile, seed)
        for edit in itertools.count():
            tasks = [(place, edit, path) for place, path in enumerate(labels.paths)]
            for (place, _, _), of_picture in zip(tasks, pool.map(work, tasks), strict=True):
                rows.add(place, edit, of_picture)
            count += len(tasks)
            rows.save(out / "rows")
            if not edit:
                save_queries(models, labels, rows, out / "queries")
            counts = {str(channel): len(of) for channel, of in rows.sources.items()}
            readme = _README.format(
                profile=profile,
                seed=seed,
                pictures=count,
                photographs=len(labels.paths),
                edits=count - len(labels.paths),
                text=models.spaces[0].name,
                looks=models.spaces[-1].name,
            )
            readme += "".join(f"{number:7} rows {channel}\n" for channel, number in counts.items())
            (out / "README.txt").write_text(readme, encoding="utf-8")
            print(json.dumps({"pictures": count, "rows": counts}), file=sys.stderr, flush=True)
            if count >= pictures and rows.count(Kind.REGION) >= regions:
                return


def main() -> None:
    """Read the arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("photos", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--profile", default="lite")
    parser.add_argument("--pictures", type=int, default=1700, help="at least so many")
    parser.add_argument("--regions", type=int, default=20_000, help="at least so many rows")
    parser.add_argument("--processes", type=int, help="default: one for each core")
    parser.add_argument("--seed", type=int, default=0)
    save_vectors(**vars(parser.parse_args()))


if __name__ == "__main__":
    main()
