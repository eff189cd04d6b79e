"""CIDEr, BLEU-4 and SPICE of written captions, by pycocoevalcap.

pycocoevalcap's scorers are used as they are. Its two Java programs, the Penn Treebank tokenizer and
SPICE, are started here instead of by its own wrappers: those write into their installation folder,
which may be read-only, pass Java's messages on to stdout, and one downloads models unasked.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from regard.core.errors import CannotWork, MissingDependency
from regard.evaluation.statistics import Mean

_TOKENIZER_CLASS = "edu.stanford.nlp.process.PTBTokenizer"
_CORENLP_JARS = ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar")


@dataclass(frozen=True, slots=True)
class CaptionScores:
    """Scores of a set of captions against their references.

    `cider`: mean over images of CIDEr-D, from 0 to 10 (Vedantam et al. 2015), n-grams weighted by
    their frequency in this set's references, so values of two sets don't compare.
    `bleu4`: corpus BLEU-4, from 0 to 1 (Papineni et al. 2002).
    `spice`: mean over images of SPICE's F1, from 0 to 1 (Anderson et al. 2016), or None where its
    parser's models are absent; `notes` then says so.
    """

    cider: Mean
    bleu4: float
    spice: Mean | None
    notes: tuple[str, ...] = ()


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
