"""How right written captions are: n-gram metrics, and two judges that compare meanings.

A captioner may honestly name nothing where it is unsure. N-gram metrics cannot tell silence from
error, so two shares are measured beside them: how often a caption names a thing, and how often it
is then right. One judge compares sentence embeddings, the other hypernyms (`evaluation/wordnet.py`),
which also judges captions of regions.

CIDEr, BLEU-4 and SPICE come from pycocoevalcap. Its two Java programs, the Penn Treebank tokenizer
and SPICE, are started here and not by its wrappers, which write into their installation folder,
pass Java's messages on to stdout, and download models without asking.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from regard.core.errors import CannotWork, MissingDependency
from regard.core.geometry import Box
from regard.core.records import Float32Array
from regard.evaluation.labels import LabelledImage, LabelledSet
from regard.evaluation.naming import NamingReport
from regard.evaluation.retrieval import IOU_THRESHOLD
from regard.evaluation.statistics import Mean, Share, as_table
from regard.evaluation.wordnet import WordNet

SIMILARITY_THRESHOLD = 0.6

# Sentences → rows (n, d), L2-normalised, order kept.
EmbedTexts = Callable[[Sequence[str]], Float32Array]
# File name → the box and caption of each region.
RegionCaptions = Mapping[str, Sequence[tuple[Box, "WrittenCaption"]]]
_TOKENIZER_CLASS = "edu.stanford.nlp.process.PTBTokenizer"
_CORENLP_JARS = ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar")


@dataclass(frozen=True, slots=True)
class CaptionScores:
    """Scores of a set of captions against their references.

    `cider`: mean over images of CIDEr-D, from 0 to 10 (Vedantam et al. 2015), n-grams weighted by
    their frequency in this set's references, so values of different sets do not compare.
    `bleu4`: corpus BLEU-4, from 0 to 1 (Papineni et al. 2002).
    `spice`: mean over images of SPICE's F1, from 0 to 1 (Anderson et al. 2016), or None where its
    parser's models are missing, as `notes` then says.
    """

    cider: Mean
    bleu4: float
    spice: Mean | None
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """`cider`, `bleu4`, and `spice` or null; `notes` says why."""
        return {
            "cider": self.cider.to_json(),
            "bleu4": self.bleu4,
            "spice": self.spice.to_json() if self.spice else None,
            "notes": list(self.notes),
        }

    def rows(self) -> list[list[str]]:
        """The rows of a table for people."""
        rows = [["CIDEr", str(self.cider)], ["BLEU-4", f"{self.bleu4:.3f}"]]
        return [*rows, ["SPICE", str(self.spice)]] if self.spice else rows

    def to_text(self) -> str:
        """A table for people."""
        return "\n".join([f"{self.cider.total} images", *as_table(self.rows()), *self.notes])


@dataclass(frozen=True, slots=True)
class WrittenCaption:
    """A stored caption; `names_thing` tells whether it says what a thing is.

    Only the captioner knows that: "A photo taken outdoors" names nothing, "A photo of a frog"
    does. An empty text names nothing.
    """

    text: str
    names_thing: bool


NO_CAPTION = WrittenCaption(text="", names_thing=False)
"""Stands for a caption that was not written."""


@dataclass(frozen=True, slots=True)
class JudgedCaption:
    """A caption and its nearest reference, by cosine `similarity` in [-1, 1]."""

    file_name: str
    text: str
    names_thing: bool
    reference: str
    similarity: float

    @property
    def right(self) -> bool:
        """Whether it names a thing and means what a reference means: cosine ≥ 0.6."""
        return self.names_thing and self.similarity >= SIMILARITY_THRESHOLD


@dataclass(frozen=True, slots=True)
class CaptionReport:
    """Captions of one labelled set; `scores` is None when their tools are absent, see `notes`.

    `naming` and, where objects are labelled, `region_naming` are None without WordNet.
    """

    judged: tuple[JudgedCaption, ...]
    unanalyzed: tuple[str, ...]
    scores: CaptionScores | None
    notes: tuple[str, ...]
    naming: NamingReport | None = None
    region_naming: NamingReport | None = None

    @property
    def named(self) -> Share:
        """Share of images whose caption names a thing."""
        return Share.of(caption.names_thing for caption in self.judged)

    @property
    def right(self) -> Share:
        """Share of the captions that name a thing whose nearest reference has cosine ≥ 0.6."""
        return Share.of(caption.right for caption in self.judged if caption.names_thing)

    def failures(self) -> list[JudgedCaption]:
        """Captions that name a wrong thing, the most remote first; then those that name none."""
        missed = [caption for caption in self.judged if not caption.right]
        return sorted(missed, key=lambda c: (not c.names_thing, c.similarity, c.file_name))

    def to_json(self) -> dict[str, Any]:
        """The measures as plain JSON values.

        `images`, `images_not_indexed` are counts; `named`, `right_of_named` shares; `cider` and
        `spice` means and `bleu4` a number, each null where it could not be computed; `notes` says
        why. `wordnet` holds `NamingReport.to_json` of `captions` and `regions`, or null.
        """
        scores = self.scores
        namings = {"captions": self.naming, "regions": self.region_naming}
        return {
            "images": len(self.judged),
            "images_not_indexed": len(self.unanalyzed),
            "named": self.named.to_json(),
            "right_of_named": self.right.to_json(),
            "cider": scores.cider.to_json() if scores else None,
            "bleu4": scores.bleu4 if scores else None,
            "spice": scores.spice.to_json() if scores and scores.spice else None,
            "wordnet": {name: found and found.to_json() for name, found in namings.items()},
            "notes": list(self.notes),
        }

    def to_text(self) -> str:
        """A table for people."""
        rows = [
            ["images whose caption names a thing", str(self.named)],
            ["of those, right (cosine ≥ 0.6)", str(self.right)],
        ]
        if self.naming:
            rows += self.naming.rows("captions")
        if self.region_naming:
            rows += self.region_naming.rows("captions of regions that meet an object")
        if self.scores:
            rows += self.scores.rows()
        return "\n".join(
            [
                f"{len(self.judged)} images with reference captions",
                *as_table(rows),
                "in parentheses: 95 % interval (Wilson, bootstrap)",
                *self.notes,
            ]
        )


def evaluate_captions(
    labels: LabelledSet,
    captions: Mapping[str, WrittenCaption],
    embed_texts: EmbedTexts,
    *,
    wordnet: WordNet | None = None,
    regions: RegionCaptions | None = None,
) -> CaptionReport:
    """Measure stored captions against the reference captions of their images.

    `captions` maps file names to captions; an image that it lacks counts as not indexed, with an
    empty caption. Images without a reference are left out. A caption is right when its sentence
    embedding has a cosine ≥ 0.6 with that of its image's nearest reference. `wordnet` judges them
    by hypernyms as well, and the captions of `regions` that have a box IoU ≥ 0.5 with an object by
    the texts of these objects.

    Raises CannotWork when no image has a reference. Where Java or pycocoevalcap is absent, the
    report lacks `scores` and says so in `notes`.
    """
    images = [image for image in labels.images if image.captions]
    if not images:
        raise CannotWork(
            "no selected photograph has a reference caption", remedy="name a COCO captions file"
        )
    written = [captions.get(image.file_name, NO_CAPTION) for image in images]
    references = [image.captions for image in images]
    notes: list[str] = []
    scores = None
    try:
        scores = score_captions([caption.text for caption in written], references)
        notes.extend(scores.notes)
    except CannotWork as error:
        notes.append(str(error))
    unanalyzed = tuple(image.file_name for image in images if image.file_name not in captions)
    if unanalyzed:
        notes.append(f"not indexed: {len(unanalyzed)} of the images; their captions count as empty")
    nearest = _nearest_references([c.text for c in written], references, embed_texts)
    judged = tuple(
        JudgedCaption(
            file_name=image.file_name,
            text=caption.text,
            names_thing=caption.names_thing and bool(caption.text.strip()),
            reference=reference,
            similarity=similarity,
        )
        for image, caption, (reference, similarity) in zip(images, written, nearest, strict=True)
    )
    naming = region_naming = None
    if wordnet is not None:
        naming = NamingReport.of(
            (
                (caption.text, caption.names_thing, image.captions)
                for image, caption in zip(images, judged, strict=True)
            ),
            wordnet,
        )
        if regions is not None:
            region_naming = NamingReport.of(_matched(labels.images, regions), wordnet)
    return CaptionReport(judged, unanalyzed, scores, tuple(notes), naming, region_naming)


def _matched(
    images: Sequence[LabelledImage], regions: RegionCaptions
) -> Iterator[tuple[str, bool, Sequence[str]]]:
    """Caption, whether it names a thing, and the texts of the objects met, of matching regions."""
    for image in images:
        for box, caption in regions.get(image.file_name, ()):
            met = [o.text for o in image.objects if box.iou(o.box) >= IOU_THRESHOLD]
            if met:
                yield caption.text, caption.names_thing, met


def _nearest_references(
    written: Sequence[str], references: Sequence[Sequence[str]], embed_texts: EmbedTexts
) -> list[tuple[str, float]]:
    """The reference nearest to each written caption and its cosine; each text is embedded once."""
    texts = sorted({*written, *(text for image in references for text in image)})
    rows = embed_texts(texts)  # (texts, d)
    if rows.shape[0] != len(texts):
        raise ValueError(f"expected {len(texts)} embeddings, got {rows.shape[0]}")
    row = {text: rows[i] for i, text in enumerate(texts)}
    nearest = []
    for text, image in zip(written, references, strict=True):
        cosines = np.stack([row[reference] for reference in image]) @ row[text]  # (references,)
        best = int(cosines.argmax())
        nearest.append((image[best], float(cosines[best])))
    return nearest


def score_captions(written: Sequence[str], references: Sequence[Sequence[str]]) -> CaptionScores:
    """Score one written caption an image (it may be empty) against its one or more references.

    Raises MissingDependency when pycocoevalcap or Java is absent, CannotWork when Java fails or no
    reference holds a word.
    """
    bleu = _pycocoevalcap("bleu.bleu")
    cider = _pycocoevalcap("cider.cider")
    lines = tokenize([*written, *(text for texts in references for text in texts)])
    rest = iter(lines[len(written) :])
    tokenized = {i: [line] for i, line in enumerate(lines[: len(written)])}
    truth = {i: [next(rest) for _ in texts] for i, texts in enumerate(references)}
    if not any(line for lines in truth.values() for line in lines):
        raise CannotWork("CIDEr, BLEU-4 and SPICE are left out, the references hold no words")
    _, each = cider.Cider().compute_score(truth, tokenized)
    bleus, _ = bleu.Bleu(4).compute_score(truth, tokenized, verbose=0)
    spice, notes = None, []
    try:
        spice = Mean.of(_spice(tokenized, truth))
    except CannotWork as error:
        notes.append(str(error))
    return CaptionScores(Mean.of(map(float, each)), float(bleus[3]), spice, tuple(notes))


def tokenize(sentences: Sequence[str]) -> list[str]:
    """Penn Treebank tokens of each sentence, lower case, without punctuation, joined by spaces.

    Raises MissingDependency when pycocoevalcap or Java is absent, CannotWork when Java fails.
    """
    module = _pycocoevalcap("tokenizer.ptbtokenizer")
    jar = _folder(module) / module.STANFORD_CORENLP_3_4_1_JAR
    # One sentence a line: line breaks of any kind inside one would shift all that follow.
    text = "".join(" ".join(sentence.split()) + "\n" for sentence in sentences)
    command = ["-cp", str(jar), _TOKENIZER_CLASS, "-preserveLines", "-lowerCase"]
    lines = _java(command, text.encode("utf-8", "replace")).decode("utf-8").split("\n")
    if len(lines) != len(sentences) + 1:
        raise CannotWork("the Penn Treebank tokenizer returned another number of sentences")
    return [
        " ".join(word for word in line.split() if word not in module.PUNCTUATIONS)
        for line in lines[:-1]
    ]


def _spice(written: dict[int, list[str]], references: dict[int, list[str]]) -> list[float]:
    """SPICE's F1 of each image; MissingDependency when its parser's models are absent."""
    folder = _folder(_pycocoevalcap("tokenizer.ptbtokenizer")).parent / "spice"
    if not all((folder / "lib" / name).is_file() for name in _CORENLP_JARS):
        raise MissingDependency(
            "SPICE is left out, its parser's models are not installed",
            remedy="download them (about 400 MB) with "
            "`python -m pycocoevalcap.spice.get_stanford_models`",
        )
    entries = [
        {"image_id": i, "test": written[i][0], "refs": references[i]} for i in sorted(written)
    ]
    with tempfile.TemporaryDirectory(prefix="regard-spice-") as scratch:
        source, result = Path(scratch, "captions.json"), Path(scratch, "scores.json")
        source.write_text(json.dumps(entries), encoding="utf-8")
        jar = str(folder / "spice-1.0.jar")
        _java(["-Xmx8G", "-jar", jar, str(source), "-out", str(result), "-silent"])
        try:
            scored = json.loads(result.read_bytes())
            found = {item["image_id"]: float(item["scores"]["All"]["f"]) for item in scored}
            return [found[i] for i in sorted(written)]
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise CannotWork("SPICE is left out, it wrote no scores") from error


def _pycocoevalcap(name: str) -> ModuleType:
    try:
        return importlib.import_module(f"pycocoevalcap.{name}")
    except ImportError:
        raise MissingDependency(
            "CIDEr, BLEU-4 and SPICE are left out, pycocoevalcap is not installed",
            remedy="install it with `pip install 'regard[evaluate]'`",
        ) from None


def _folder(module: ModuleType) -> Path:
    return Path(os.path.abspath(str(module.__file__))).parent


def _java(arguments: Sequence[str], text: bytes = b"") -> bytes:
    """Run Java and return its stdout; its stderr is shown only when it fails."""
    java = shutil.which("java")
    if java is None:
        raise MissingDependency(
            "CIDEr, BLEU-4 and SPICE are left out, their tokenizer needs Java",
            remedy="install a Java runtime so that `java` is on the PATH",
        )
    done = subprocess.run([java, *arguments], input=text, capture_output=True, check=False)  # noqa: S603
    if done.returncode:
        last = done.stderr.decode("utf-8", "replace").strip().splitlines() or ["no message"]
        raise CannotWork(f"Java failed on a caption metric: {last[-1]}")
    return done.stdout
