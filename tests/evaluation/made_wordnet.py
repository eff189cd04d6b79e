"""A tiny WordNet, in the form of the database files that wndb(5WN) specifies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

_LICENCE = "  1 This is a licence.  \n"


def make_wordnet(
    folder: Path,
    nouns: Mapping[Sequence[str], Sequence[str]],
    *,
    plurals: str = "",
    other_words: Sequence[str] = (),
) -> Path:
    """Write nouns, each by its synonyms with the first words of its hypernyms.

    `plurals` are lines of `noun.exc`; `other_words` become verbs.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # Ids have eight digits, so the length of a line does not depend on them.
    offsets: dict[str, int] = {}
    text = _LICENCE
    for words in nouns:
        offsets[words[0]] = len(text)
        text += _line(0, words, [0] * len(nouns[words]))
    text = _LICENCE + "".join(
        _line(offsets[words[0]], words, [offsets[above] for above in hypernyms])
        for words, hypernyms in nouns.items()
    )
    (folder / "data.noun").write_text(text)
    (folder / "noun.exc").write_text(plurals)
    (folder / "index.verb").write_text(_LICENCE + "".join(f"{w} v 1\n" for w in other_words))
    for part in ("adj", "adv"):
        (folder / f"index.{part}").write_text(_LICENCE)
    return folder


def _line(offset: int, words: Sequence[str], hypernyms: Sequence[int]) -> str:
    written = " ".join(f"{word} 0" for word in words)
    pointers = "".join(f" @ {above:08} n 0000" for above in hypernyms)
    return (
        f"{offset:08} 03 n {len(words):02x} {written} {len(hypernyms):03}{pointers} | a gloss  \n"
    )
