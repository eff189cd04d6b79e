"""Whether a text names what another text names, or a kind of it, by the nouns of WordNet 3.0.

A text names its head noun: the longest noun of WordNet at the end of the first phrase that has one.
Phrases end at punctuation marks and at function words other than "and" and "or". "A sliced lime."
names a lime, "A fire truck on a road." a fire truck, "A red and white anemone." an anemone. After
"of" the next phrase counts as well: "A bunch of grapes." names a bunch and grapes. Words that
WordNet knows, but not as nouns, are skipped at the end ("dead end ahead"). A phrase that ends with
a word unknown to WordNet hides what the text names.

A name with several meanings agrees with a reference if any of its meanings does.
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from pathlib import Path

from regard.core.errors import NotFound
from regard.core.words import is_function_word, split_words

# The twelve nouns with the most hyponyms, which say nothing of what a thing is: entity, physical
# entity, abstraction, object, whole, living thing, organism, psychological feature, causal agent,
# artifact, person, group.
_MOST_GENERAL = 12
_LONGEST = 4  # words of a noun
_JOINING = frozenset({"and", "or"})
_PREPOSITIONS = frozenset(
    split_words("across against along among around behind beneath beside inside near onto upon")
)
# Quotation marks do not end a phrase, as in: a “Stop” sign.
_PUNCTUATION = re.compile(r"[^\w\s'’\"“”„«»-]+")
# Endings of plurals, and of their singulars (morphy, in WordNet's manual).
_PLURALS = (("s", ""), ("ses", "s"), ("xes", "x"), ("zes", "z"), ("ches", "ch"), ("shes", "sh"),
            ("men", "man"), ("ies", "y"))  # fmt: skip


class Naming(StrEnum):
    """How what a text names relates to what a reference names."""

    SAME = "same"
    """A synonym, or the same word."""
    KIND = "kind"
    """A hypernym, such as "bird" of "heron"."""
    OTHER = "other"


class WordNet:
    """The nouns of WordNet, read from its database files (wndb(5WN)); 82,115 synsets in 0.7 s."""

    def __init__(self, folder: Path) -> None:
        """Read `data.noun`, `noun.exc`, and the words of the other parts of speech in `folder`.

        Raises NotFound when one of the files is not there.
        """
        try:
            self._read_nouns((folder / "data.noun").read_text("utf-8"))
            self._irregular: Mapping[str, Sequence[str]] = {
                plural: singulars
                for plural, *singulars in map(str.split, _lines(folder / "noun.exc"))
            }
            self._other_words = frozenset(
                line.split(" ", 1)[0]
                for part in ("verb", "adj", "adv")
                for line in _lines(folder / f"index.{part}")
            )
        except FileNotFoundError as error:
            raise NotFound(
                f"{error.filename} does not exist",
                remedy="name the folder of WordNet's database files; Debian's package "
                "wordnet-base has them in /usr/share/wordnet",
            ) from None

    def _read_nouns(self, content: str) -> None:
        """Fill the senses of nouns, hypernyms of senses, and counts of hyponyms."""
        senses: dict[str, list[int]] = {}
        self._hypernyms: dict[int, list[int]] = {}
        for line in content.splitlines():
            if line.startswith(" "):  # the licence
                continue
            fields = line.split(" | ", 1)[0].split()
            sense, words = int(fields[0]), int(fields[3], 16)
            for word in fields[4 : 4 + 2 * words : 2]:
                senses.setdefault(word.lower(), []).append(sense)
            # After the number of pointers: symbol, sense, part of speech, source and target.
            pointers = fields[5 + 2 * words :]
            self._hypernyms[sense] = [
                int(target)
                for symbol, target in zip(pointers[::4], pointers[1::4], strict=False)
                if symbol in ("@", "@i")
            ]
        self._senses: Mapping[str, Sequence[int]] = senses
        self._lineages: dict[int, frozenset[int]] = {}
        self._hyponyms = dict.fromkeys(self._hypernyms, 0)  # each counts as one of its own
        for sense in self._hypernyms:
            for ancestor in self._lineage(sense):
                self._hyponyms[ancestor] += 1
        ranked = sorted(self._hyponyms, key=lambda sense: (-self._hyponyms[sense], sense))
        self._most_general = frozenset(ranked[:_MOST_GENERAL])

    def compare(self, text: str, references: Sequence[str]) -> Naming | None:
        """How what the text names relates to what the references name; the best relation counts.

        None when no reference names anything that WordNet knows.
        """
        wanted = {sense for reference in references for sense in self._named(reference)}
        if not wanted:
            return None
        named = self._named(text) - self._most_general
        if named & wanted:
            return Naming.SAME
        kinds = {kind for sense in wanted for kind in self._lineage(sense)}
        return Naming.KIND if named & kinds else Naming.OTHER

    def specificity(self, text: str) -> float:
        """How much the name in a text says: from 0, for "entity", to 1, for a noun without hyponyms.

        1 - log(hyponyms + 1) / log(nouns), the intrinsic information content of Seco et al.
        (2004), of the most general meaning; 0 for a text that names nothing.
        """
        most = max((self._hyponyms[sense] for sense in self._named(text)), default=None)
        return 0.0 if most is None else 1 - math.log(most) / math.log(len(self._hypernyms))

    def names(self, text: str) -> tuple[str, ...]:
        """What the text names, as WordNet spells it: none, one, or one on each side of "of"."""
        found: list[str] = []
        for words, is_joined in _phrases(text):
            head = self._head(words)
            if head is None:
                break
            found += [head] if head else []
            if found and not is_joined:
                break
        return tuple(found)

    def _named(self, text: str) -> set[int]:
        return {sense for name in self.names(text) for sense in self._senses[name]}

    def _head(self, words: Sequence[str]) -> str | None:
        """The longest noun that ends the phrase; "" for none, None for an unknown word."""
        for end in range(len(words), 0, -1):
            for start in range(max(0, end - _LONGEST), end):
                if noun := self._noun(words[start:end]):
                    return noun
            if words[end - 1] not in self._other_words and words[end - 1] not in _JOINING:
                return None
        return ""

    def _noun(self, words: Sequence[str]) -> str | None:
        """The noun that the words spell, in the singular if WordNet lacks their plural."""
        for joint in ("_", "-", ""):
            written = joint.join(words)
            singulars = [
                written.removesuffix(plural) + ending
                for plural, ending in _PLURALS
                if written.endswith(plural)
            ]
            for form in (written, *self._irregular.get(written, ()), *singulars):
                if form in self._senses:
                    return form
        return None

    def _lineage(self, sense: int) -> frozenset[int]:
        """A sense with all its hypernyms."""
        if sense not in self._lineages:
            above = map(self._lineage, self._hypernyms[sense])
            self._lineages[sense] = frozenset({sense}).union(*above)
        return self._lineages[sense]


def half_of(text: str) -> int:
    """0 or 1, one half of all texts: by the last word of the first phrase, mostly the head noun.

    What was chosen to suit some things shows in one half more than in the other.
    """
    words, _ = next(_phrases(text), ([""], False))
    return zlib.crc32(words[-1].encode()) % 2


def _phrases(text: str) -> Iterator[tuple[list[str], bool]]:
    """The words of each phrase, and whether "of" joins the next one to it."""
    for clause in _PUNCTUATION.split(text):
        words: list[str] = []
        for word in [*split_words(clause), ""]:
            if word and not _ends_phrase(word):
                words.append(word)
            elif words:
                yield words, word == "of"
                words = []


def _ends_phrase(word: str) -> bool:
    return word not in _JOINING and (word in _PREPOSITIONS or is_function_word(word))


def _lines(path: Path) -> list[str]:
    return [line for line in path.read_text("utf-8").splitlines() if not line.startswith(" ")]
